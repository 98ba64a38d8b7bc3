/** The parts of a repair, and its report at the end. */
import { describe, expect, test } from '@jest/globals';
import { draftParts } from '../../../../src/drift/repair-parts.ts';
import {
  failuresOf,
  type Repaired,
  renderRepaired,
  toJson,
} from '../../../../src/drift/repaired.ts';
import type { Role } from '../../../../src/reconcile/wanted.ts';
import type { Effect } from '../../../../src/reconcile/action.ts';
import type { Step } from '../../../../src/reconcile/plan.ts';
import { mergeReports, type Report } from '../../../../src/reconcile/report.ts';
import { expectGolden } from '../../../golden.ts';

function step(subject: number, target: string, effect: Effect = 'change'): Step {
  return {
    ...{ target, effect, subject, account: `tools.t${subject}`, object: `it ${subject}` },
    ...{ change: 'a → b', because: 'it differs' },
    action: { verb: 'db.dropUser', server: 'replica', user: `s${subject}` },
  };
}

const NOTHING: Report = { steps: [], findings: [], waiting: [], unreadable: [], subjects: 2 };

describe('draftParts', () => {
  const EVERYTHING = { target: undefined, destroy: false };
  const steps = [step(1, 'unix-group'), step(1, 'sudo-rule'), step(2, 'unix-group')];
  const reports = new Map<Role, Report>([
    ['directory', { ...NOTHING, steps }],
    ['homes', { ...NOTHING, steps: [step(2, 'home-directory')] }],
  ]);

  test('makes one part for each subject and role', () => {
    const { parts, withheld } = draftParts(reports, EVERYTHING, []);
    expect(parts.map((part) => [part.role, part.account, part.steps.length])).toEqual([
      ['directory', 'tools.t1', 2],
      ['directory', 'tools.t2', 1],
      ['homes', 'tools.t2', 1],
    ]);
    expect(withheld).toEqual([]);
  });

  test('makes none for steps that only destroy, unless --destroy is given', () => {
    const destroys = [step(1, 'unix-group', 'destroy')];
    const of = new Map<Role, Report>([['directory', { ...NOTHING, steps: destroys }]]);
    expect(draftParts(of, EVERYTHING, [])).toEqual({ parts: [], withheld: destroys });
    const { parts, withheld } = draftParts(of, { ...EVERYTHING, destroy: true }, []);
    expect([parts.map((part) => part.steps), withheld]).toEqual([[destroys], []]);
  });

  test('makes one without a step for a subject that a role has given up on', () => {
    const givenUp = [1, 3].map((subject) => ({
      ...{ subject, account: `tools.t${subject}`, role: 'directory' as const },
    }));
    const { parts } = draftParts(reports, EVERYTHING, givenUp);
    expect(parts.filter(({ role }) => role === 'directory')).toMatchObject([
      { subject: 1, steps: { length: 2 } },
      { subject: 2, steps: { length: 1 } },
      { subject: 3, steps: [] },
    ]);
  });

  test('gives each part the side conditions of its subject and of its whole role', () => {
    const finding = {
      ...{ target: 'unix-group', subject: 1, account: 'tools.t1', object: 'cn=x' },
      ...{ code: 'NAME_FOREIGN' as const, sentence: 'Look.' },
    };
    const unreadable = [{ target: 'ssh-keys', sentence: 'no answer' }];
    const of = new Map<Role, Report>([
      ['directory', { ...NOTHING, steps, findings: [finding], unreadable }],
    ]);
    const { parts } = draftParts(of, EVERYTHING, []);
    expect(parts.map(({ sideConditions }) => sideConditions)).toEqual([
      ['unix-group finding cn=x', 'ssh-keys unreadable'],
      ['ssh-keys unreadable'],
    ]);
  });
});

describe('the report at the end', () => {
  const part = (subject: number, role: Role, steps: number, rest = {}) => ({
    ...{ subject, account: `tools.t${subject}`, role, sideConditions: [], state: 'done' as const },
    ...{ steps: Array.from({ length: steps }, () => step(subject, 'unix-group')), ...rest },
  });
  const report = mergeReports([NOTHING]);
  const unread = { ...report, unreadable: [{ target: 'homes', sentence: 'no answer' }] };
  const done: Repaired = {
    ...{ id: '00000000-0000-4000-8000-000000000000', reports: new Map(), report, digest: 'd' },
    ...{ parts: [part(1, 'directory', 2)], owed: [], withheld: [] },
  };
  const moved = {
    ...{ state: 'refused' as const, code: 'PLAN_MOVED' },
    sentence: 'its plan has changed, and now has one step',
  };
  const mixed: Repaired = {
    ...done,
    parts: [
      part(1, 'directory', 2),
      ...[2, 3, 4, 5, 6, 7, 8].map((subject) => part(subject, 'directory', 1, moved)),
      part(1, 'homes', 1, {
        ...{ state: 'failed', code: 'STEP_FAILED' },
        sentence: 'home-directory: changing the mode of \u001b[2J/data/project/t1: EPERM',
      }),
      part(9, 'databases', 1, {
        ...{ state: 'asked', code: 'BACKEND_UNAVAILABLE' },
        sentence: 'no answer within 30 s; is `chamberlain work databases` running?',
      }),
      part(10, 'databases', 0),
      part(13, 'homes', 1, {
        ...{ state: 'asked', code: 'STILL_AT_WORK' },
        sentence: 'packing 1.2 GiB of 3.4 GiB',
      }),
    ],
    owed: [
      {
        ...{ subject: 11, account: 'tools.t11', code: 'BACKEND_UNAVAILABLE' },
        sentence: 'database-account: toolsdb does not answer',
      },
    ],
    withheld: [
      {
        ...step(12, 'unix-group', 'destroy'),
        ...{ object: 'cn=tools.t12,ou=servicegroups', change: 'present → absent' },
      },
    ],
  };
  const whole = (repaired: Repaired) =>
    [renderRepaired(repaired), '', ...failuresOf(repaired)].join('\n');

  test('for people', () => {
    expectGolden('repaired.txt', whole(mixed));
  });

  test.each<[string, Repaired, string]>([
    ['all done', done, '\n2 steps done\n'],
    ['one done', { ...done, parts: [part(1, 'homes', 1)] }, '\n1 step done\n'],
    ['nothing to do', { ...done, parts: [] }, '\nthere was nothing to do\n'],
    [
      'nothing known',
      { ...done, parts: [], report: unread },
      '\nnothing was done, something is UNREADABLE\n',
    ],
    ['not all known', { ...done, report: unread }, '\n2 steps done, something is UNREADABLE\n'],
    [
      'looked at again',
      { ...done, parts: [part(1, 'homes', 0)] },
      '\n0 steps done, 1 parked subject tried again\n',
    ],
  ])('%s: one line, and none on standard error', (_, repaired, text) => {
    expect(whole(repaired)).toBe(text);
    expect(failuresOf(repaired)).toEqual([]);
  });

  test('a long report is cut for people, and complete for programs', () => {
    const parts = Array.from({ length: 1000 }, (_, n) => part(n, 'homes', 1, moved));
    const text = renderRepaired({ ...done, parts });
    expect(text.split('\n').length).toBeLessThan(60);
    expect(text).toContain('… and 950 more');
    expect(text).toMatch(/\n0 steps done, 1000 refused$/u);
    expect(toJson({ ...done, parts }).parts).toHaveLength(1000);
  });

  test('for programs', () => {
    expect(toJson(mixed)).toMatchObject({
      ...{ repair: done.id, digest: 'd', findings: [], unreadable: [] },
      owed: mixed.owed,
      withheld: mixed.withheld,
    });
    const states = toJson(mixed).parts.map(({ state, code }) => `${state} ${code ?? ''}`.trim());
    expect([...new Set(states)]).toEqual([
      ...['done', 'refused PLAN_MOVED', 'failed STEP_FAILED', 'unanswered BACKEND_UNAVAILABLE'],
      'unfinished STILL_AT_WORK',
    ]);
    expect(toJson({ ...done, id: undefined, parts: [] }).repair).toBeNull();
  });
});
