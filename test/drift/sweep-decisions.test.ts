/** What a sweep decides on the reports: the tables of src/drift/sweep-decisions.ts. Pure. */
import { describe, expect, test } from '@jest/globals';
import type { Role } from '../../src/reconcile/wanted.ts';
import type { Effect } from '../../src/reconcile/action.ts';
import type { Finding, Step } from '../../src/reconcile/plan.ts';
import type { Report, Unreadable } from '../../src/reconcile/report.ts';
import { judgeSweep, type Seen } from '../../src/drift/sweep-decisions.ts';

const step = (subject: number, effect: Effect = 'change', target = 'home-directory'): Step => ({
  target,
  subject,
  account: `tools.t${subject}`,
  object: `/data/project/t${subject}`,
  effect,
  change: 'mode 0777 → 2775',
  because: 'the mode is 0777',
  action: { verb: 'ldap.delete', entry: 'people/uid=x', expect: {} },
});
const finding = (subject: number, advisory?: true): Finding => ({
  target: 'home-directory',
  subject,
  account: `tools.t${subject}`,
  object: `/data/project/t${subject}`,
  code: 'PATH_FOREIGN',
  sentence: 'another owns it',
  ...(advisory && { advisory }),
});
const report = (parts: Partial<Report> = {}): Report => ({
  steps: [],
  findings: [],
  waiting: [],
  unreadable: [],
  subjects: 1000,
  ...parts,
});
const unreadable = (subject?: number): Unreadable => ({
  target: 'home-directory',
  sentence: 'no answer',
  ...(subject === undefined ? {} : { subject, account: `tools.t${subject}` }),
});

function judge(homes: Partial<Report>, seen: Partial<Seen> = {}) {
  return judgeSweep({
    reports: new Map<Role, Report>([
      ['directory', report({ subjects: homes.subjects ?? 1000 })],
      ['homes', report(homes)],
      ['databases', report({ subjects: homes.subjects ?? 1000 })],
    ]),
    moving: [],
    parked: [],
    frozen: false,
    doubt: undefined,
    held: false,
    undecided: [],
    realm: { realm: 'tools', base: 'dc=example,dc=org' },
    released: [],
    settings: { mostShare: 0.05, atLeast: 10 },
    ...seen,
  });
}
const many = (count: number) => Array.from({ length: count }, (_, index) => step(index + 1));
const at = (subject: number, role: Role = 'homes') => ({ subject, role });

describe('for a subject and role:', () => {
  test.each<[string, Partial<Report>, Partial<Seen>, string, number, number[]]>([
    ['nothing is clean', {}, {}, 'clean', 0, []],
    ['a step has drifted, and is touched', { steps: [step(1)] }, {}, 'touched', 1, [1]],
    ['two steps are one drift', { steps: [step(1), step(1, 'revoke')] }, {}, 'touched', 1, [1]],
    ['a step that destroys is reported', { steps: [step(1, 'destroy')] }, {}, 'clean', 0, []],
    [
      'beside it other steps are reported too: whoever is touched would do both',
      { steps: [step(1), step(1, 'destroy'), step(2)] },
      {},
      'touched',
      1,
      [2],
    ],
    [
      'what is parked with a step that destroys stays so',
      { steps: [step(1), step(1, 'destroy')] },
      { parked: [at(1)] },
      'clean',
      0,
      [],
    ],
    ['a finding is reported', { findings: [finding(1)] }, {}, 'clean', 0, []],
    [
      'steps beside a finding are touched, parked or not',
      { steps: [step(1), step(2)], findings: [finding(1), finding(2)] },
      { parked: [at(2)] },
      'touched',
      1,
      [1, 2],
    ],
    ['what is in motion is left', { steps: [step(1)] }, { moving: [at(1)] }, 'moving', 0, []],
    ['what is in motion and as wanted is clean', {}, { moving: [at(1)] }, 'clean', 0, []],
    [
      'so is what is in motion and would be destroyed',
      { steps: [step(1, 'destroy')] },
      { moving: [at(1)] },
      'clean',
      0,
      [],
    ],
    [
      'in motion beside what cannot be read is unreadable',
      { steps: [step(1)], unreadable: [unreadable(2)] },
      { moving: [at(1)] },
      'unreadable',
      0,
      [],
    ],
    [
      'what is in motion elsewhere is not',
      { steps: [step(1)] },
      { moving: [at(1, 'directory'), at(2)] },
      'touched',
      1,
      [1],
    ],
    [
      'what is parked and has a step is touched again',
      { steps: [step(1)] },
      { parked: [at(1)] },
      'touched',
      0,
      [1],
    ],
    ['what is parked and as wanted is touched again', {}, { parked: [at(1)] }, 'touched', 0, [1]],
    ['so with an advice', { findings: [finding(1, true)] }, { parked: [at(1)] }, 'touched', 0, [1]],
    [
      'what is parked in another role has drifted',
      { steps: [step(1)] },
      { parked: [at(1, 'directory')] },
      'touched',
      1,
      [1, 1],
    ],
    [
      'what is parked by a finding stays so',
      { findings: [finding(1)] },
      { parked: [at(1)] },
      'clean',
      0,
      [],
    ],
    [
      'what is parked and cannot be read stays so',
      { unreadable: [unreadable(1)] },
      { parked: [at(1)] },
      'unreadable',
      0,
      [],
    ],
    [
      'steps beside what of another subject cannot be read are touched',
      { steps: [step(1)], unreadable: [unreadable(2)] },
      {},
      'touched',
      1,
      [1],
    ],
    [
      'of a role that is unreadable as a whole nothing is touched, not even what is parked',
      { steps: [step(1)], unreadable: [unreadable()] },
      { parked: [at(2)] },
      'unreadable',
      0,
      [],
    ],
    ['while frozen nothing is touched', { steps: [step(1)] }, { frozen: true }, 'frozen', 1, []],
    [
      'while frozen nothing is touched again',
      {},
      { frozen: true, parked: [at(1)] },
      'frozen',
      0,
      [],
    ],
    ['frozen and clean is clean', {}, { frozen: true }, 'clean', 0, []],
  ])('%s', (_, homes, seen, state, drifted, touched) => {
    const { ending, touch } = judge(homes, seen);
    expect({ state: ending.state, drifted: ending.drifted }).toEqual({ state, drifted });
    expect(touch.map(({ subject }) => subject)).toEqual(touched);
  });

  test('nothing is touched in a directory in doubt, but everything in the other roles', () => {
    const reports = new Map<Role, Report>([
      ['directory', report({ steps: [step(1)] })],
      ['homes', report({ steps: [step(2)] })],
      ['databases', report()],
    ]);
    const { ending, touch, unseen } = judge({}, { reports, doubt: 'an older copy' });
    expect(touch).toEqual([at(2)]);
    expect(ending).toMatchObject({
      state: 'touched',
      drifted: 1,
      unreadable: 1,
      sentence: 'nothing was concluded about the directory: an older copy',
    });
    expect(unseen.roles).toEqual(['directory']);
  });

  test('a role without a report is unseen', () => {
    const { touch, unseen, ending } = judge(
      {},
      {
        reports: new Map([['homes', report({ steps: [step(1)] })]]),
        parked: [at(2, 'databases')],
      },
    );
    expect(touch).toEqual([at(1)]);
    expect(unseen.roles).toEqual(['directory', 'databases']);
    expect(ending).toMatchObject({ state: 'touched', unreadable: 2 });
  });
});

describe('for a sweep:', () => {
  test.each([
    ['5 % may be touched', 50, 1000, 'touched'],
    ['one more is held', 51, 1000, 'held'],
    ['ten may always', 10, 12, 'touched'],
    ['eleven of few may not', 11, 12, 'held'],
  ])('%s', (_, drifted, subjects, state) => {
    const { ending, touch } = judge({ steps: many(drifted), subjects });
    expect(ending).toMatchObject({ state, drifted, steps: drifted });
    expect(touch).toHaveLength(state === 'held' ? 0 : drifted);
  });

  test('subjects count, not roles', () => {
    const steps = many(10);
    const reports = new Map<Role, Report>([
      ['directory', report({ steps, subjects: 12 })],
      ['homes', report({ steps, subjects: 12 })],
      ['databases', report({ steps, subjects: 12 })],
    ]);
    expect(judge({}, { reports }).touch).toHaveLength(30);
  });

  test('a held sweep is released by its own digest, and by no other', () => {
    const steps = many(60);
    const { digest, sentence } = judge({ steps }).ending;
    expect(sentence).toContain(`chamberlain sweep release --expect ${digest}`);
    const released = [digest ?? ''];
    expect(judge({ steps }, { released }).touch).toHaveLength(60);
    expect(judge({ steps: [...steps, step(61)] }, { released }).ending.state).toBe('held');
    expect(judge({ steps: steps.slice(1) }, { released }).ending.state).toBe('held');
    // the digest does not cover what is in motion, or what is only reported
    const beside = { steps: [...steps, step(99), step(98, 'destroy')], findings: [finding(97)] };
    expect(judge(beside, { released, moving: [at(99)] }).ending.state).toBe('touched');
  });

  test('a held sweep does not even touch parked rows, whose steps its digest covers', () => {
    const steps = [...many(60), step(99)];
    const parked = [at(99), at(98)];
    const { ending, touch } = judge({ steps }, { parked });
    expect(touch).toEqual([]);
    expect(ending).toMatchObject({ state: 'held', drifted: 60, steps: 61 });
    expect(ending.digest).toBe(judge({ steps }).ending.digest);
    const released = [ending.digest ?? ''];
    expect(judge({ steps }, { parked, released }).touch).toHaveLength(62);
  });

  test('after a held sweep nothing is touched without a release, however little it is', () => {
    const steps = [step(1)];
    const held = judge({ steps }, { held: true });
    expect(held).toMatchObject({ ending: { state: 'held', drifted: 1 }, touch: [] });
    expect(judge({}, { held: true, parked: [at(9)] })).toMatchObject({
      ending: { state: 'held', drifted: 0 },
      touch: [],
    });
    const released = [held.ending.digest ?? ''];
    expect(judge({ steps }, { held: true, released }).touch).toEqual([at(1)]);
    expect(judge({}, { held: true }).ending.state).toBe('clean');
    // a worker is busy with it, and the outcome is not known, so the hold continues
    const worked = judge({ steps: [step(1), step(2)] }, { held: true, moving: [at(1), at(2)] });
    expect(worked.ending).toMatchObject({
      ...{ state: 'moving', drifted: 0, digest: null },
      sentence: '2 subjects are being worked on',
    });
  });

  test('a release does not override a freeze', () => {
    const steps = many(60);
    const released = [judge({ steps }).ending.digest ?? ''];
    expect(judge({ steps }, { released, frozen: true })).toMatchObject({
      ending: { state: 'frozen' },
      touch: [],
    });
  });

  test('what could not be read is reported together with what is touched', () => {
    const unseen = [unreadable(1), unreadable(2)];
    expect(judge({ unreadable: unseen, steps: [step(3)] }).ending).toMatchObject({
      state: 'touched',
      unreadable: 2,
      sentence: 'home-directory: no answer; and 1 more',
    });
  });

  test.each<[string, Partial<Seen['settings']>, number, string]>([
    ['a share of nothing touches nothing', { mostShare: 0, atLeast: 0 }, 1, 'held'],
    ['a share of all touches all', { mostShare: 1, atLeast: 0 }, 1000, 'touched'],
  ])('%s', (_, settings, drifted, state) => {
    const { ending } = judge(
      { steps: many(drifted) },
      { settings: { mostShare: 0.05, atLeast: 10, ...settings } },
    );
    expect(ending.state).toBe(state);
  });

  test('drifts are recorded for rows at rest, and unchanged for others', () => {
    const { drifts, unseen } = judge(
      { steps: [step(1), step(2)], findings: [finding(3)], unreadable: [unreadable(4)] },
      { moving: [at(2)] },
    );
    expect(drifts.map(({ subject, what }) => [subject, what])).toEqual([
      [1, 'mode 0777 → 2775'],
      [3, 'PATH_FOREIGN'],
    ]);
    expect(unseen).toEqual({
      roles: [],
      places: [at(2)],
      targets: [{ subject: 4, target: 'home-directory' }],
    });
  });
});
