/**
 * Every case of drift of drift-cases.ts, on real servers: the damage is done by hand, `survey` names it, `plan`
 * shows these steps and findings, `repair` repairs it or leaves it to an admin, and once that is decided,
 * another repair leaves nothing to do.
 *
 * Each case has a subject of its own, so that one survey, plan and repair serve them all. Before that, what such a world
 * is good for besides: drift-untouched.ts, drift-bulk.ts.
 */
import { afterAll, beforeAll, describe, expect, test } from '@jest/globals';
import { realmOf } from '../../../src/shared/config.ts';
import { DATABASES_TARGETS } from '../../../src/roles/databases/role.ts';
import { HOMES_TARGETS } from '../../../src/roles/homes/role.ts';
import { expectGolden } from '../../golden.ts';
import { person, tool } from '../../targets/directory-cases.ts';
import { ENTRY_TARGETS, wantedAttributes } from './drift-attributes.ts';
import type { DriftCase, Subject } from './drift-case.ts';
import { DRIFT_CASES } from './drift-cases.ts';
import { lookOutside, type Outside, ownIn, passwordFaults } from './drift-look.ts';
import { describeBulk } from './drift-bulk.ts';
import { describeUntouched } from './drift-untouched.ts';
import { type DriftWorld, openDriftWorld, type PlanSeen, type RepairSeen } from './drift-world.ts';

let drift: DriftWorld;
let subjects: Map<DriftCase, Subject>;
let clean: PlanSeen;
let before: Outside;
/** damage that the directory did not allow */
const refused = new Set<DriftCase>();
let surveyed: PlanSeen;
let damaged: PlanSeen;
let repair: RepairSeen;
let repaired: PlanSeen;
let decided: PlanSeen;
let after: Outside;

beforeAll(async () => {
  drift = await openDriftWorld('drift', { own: true });
  const { hand, world } = drift;
  subjects = await drift.populate(DRIFT_CASES);
  clean = await drift.ask('plan', '--all');
  before = await lookOutside(world, subjects.values());
  for (const [one, subject] of subjects) {
    try {
      await one.damage(subject, hand);
    } catch (error) {
      if (one.shows !== 'refused') throw new Error(`damaging: ${one.what}`, { cause: error });
      refused.add(one);
    }
  }
}, 600_000);

afterAll(async () => {
  await drift?.close();
});

/** Surveys, repairs, decides what is left to an admin, and repairs again. */
async function mend(): Promise<void> {
  const { hand, world } = drift;
  surveyed = await drift.ask('survey', '--all');
  damaged = await drift.ask('plan', '--all');
  repair = await drift.repair('--all', '--expect', damaged.digest);
  repaired = await drift.ask('plan', '--all');
  for (const [one, subject] of subjects) await one.decide?.(subject, hand);
  await drift.repair('--all', '--yes');
  decided = await drift.ask('plan', '--all');
  after = await lookOutside(world, subjects.values());
}

/** The plan of one subject, in the form of the table. */
function shown(plan: PlanSeen, { uid }: Subject): string[] {
  return [
    ...plan.steps
      .filter(({ subject }) => subject === uid)
      .map(({ effect, target }) => `${effect} ${target}`),
    ...plan.findings
      .filter(({ subject }) => subject === uid)
      .map(({ code, target, advisory }) => `${code} ${target}${advisory ? ' (advisory)' : ''}`),
  ];
}

/** The same for people: in full, without the numbers and names of this run. */
function told(plan: PlanSeen, { uid, name, kind }: Subject): string[] {
  const plain = (text: string) =>
    text
      .replaceAll(name, kind)
      .replaceAll(name.toUpperCase(), kind.toUpperCase())
      .replaceAll(String(uid), '<uid>')
      .replaceAll(/\b\d{7}\b/g, '<another>')
      .replaceAll(/(AAAA|SHA256:|ssh-ed2551…)[\w+/…]+/g, '$1…');
  return [
    ...plan.steps
      .filter(({ subject }) => subject === uid)
      .flatMap(({ effect, target, object, change, because }) => [
        `${effect} ${target} ${object}`,
        `  ${change}`,
        `  because ${because}`,
      ]),
    ...plan.findings
      .filter(({ subject }) => subject === uid)
      .flatMap(({ code, advisory, target, object, sentence }) => [
        `${code}${advisory ? ' (advisory)' : ''} ${target} ${object}`,
        `  ${sentence}`,
      ]),
  ].map(plain);
}

describe('while it stands', () => describeUntouched(() => ({ drift, subjects })));

describe('read in bulk', () => describeBulk(() => drift));

describe('mended', () => {
  beforeAll(mend, 600_000);

  test('the world was clean before', () => {
    expect(clean).toMatchObject({ exit: 0, steps: [], findings: [], waiting: [], unreadable: [] });
  });

  describe.each(DRIFT_CASES.map((one) => [one.what, one] as const))('%s', (_, one) => {
    const subject = () => subjects.get(one) as Subject;
    const shows = one.shows === 'refused' ? [] : one.shows;
    const findings = shows.filter((line) => /^[A-Z]/.test(line));

    test('is named by a survey, and shown by a plan', () => {
      expect(refused.has(one)).toBe(one.shows === 'refused');
      expect(shown(surveyed, subject())).toEqual(shows);
      expect(shown(damaged, subject())).toEqual(shows);
    });

    test('is repaired, except for what an admin must decide', () => {
      expect(shown(repaired, subject())).toEqual(findings);
    });

    test('is gone in the end, and nothing else has changed', () => {
      expect(shown(decided, subject())).toEqual([]);
      // what was left alone is as the hand left it
      if (shows.length > 0) expect(ownIn(after, subject())).toEqual(ownIn(before, subject()));
    });
  });

  test('the repair did every step, and reports that', () => {
    expect(repair).toMatchObject({ exit: 0, err: '' });
    expect(repaired).toMatchObject({ steps: [], waiting: [], unreadable: [], exit: 3 });
    expect(decided).toMatchObject({ steps: [], findings: [], unreadable: [], exit: 3 });
    // homes that were moved away have names that belong to nobody
    expect(new Set(decided.unmanaged?.map(({ kind }) => kind))).toEqual(new Set(['home']));
  });

  test('the servers know the passwords in all files', async () => {
    const cases = [...subjects].filter(([one]) => one.is !== 'without access');
    const faults = await passwordFaults(
      drift.world,
      cases.map(([, subject]) => subject),
    );
    expect([...faults].map(([{ account }, fault]) => `${account}: ${fault}`)).toEqual([]);
  });

  test('what an admin reads of each', () => {
    const text = [...subjects].map(([one, subject]) => {
      const lines = refused.has(one) ? ['refused by the directory'] : told(damaged, subject);
      return [one.what, ...(lines.length === 0 ? ['nothing'] : lines).map((line) => `  ${line}`)];
    });
    expectGolden('drift.txt', text.map((lines) => lines.join('\n')).join('\n\n'));
  });

  describe('no attribute that is wanted is without a case', () => {
    const covered = new Set(DRIFT_CASES.map(({ covers }) => covers));

    test.each(
      ENTRY_TARGETS.flatMap(({ target, kind, sample }) =>
        wantedAttributes(target, sample as never).names.map((name) => [target.name, kind, name]),
      ),
    )('%s of a %s: %s', (target, kind, attribute) => {
      expect(covered).toContain(`${target} ${kind} ${attribute}`);
      const uids = new Set(
        [...subjects].filter(([{ of }]) => of === kind).map(([, { uid }]) => uid),
      );
      const isChanged = damaged.steps.some(
        ({ action, ...step }) =>
          step.target === target &&
          uids.has(step.subject) &&
          action.verb === 'ldap.modify' &&
          action.changes.some((each) => each.attribute === attribute),
      );
      const isFound = DRIFT_CASES.some(
        ({ covers, shows }) =>
          covers === `${target} ${kind} ${attribute}` &&
          shows !== 'refused' &&
          shows.some((line) => line.includes('_FOREIGN') || line.startsWith('create')),
      );
      expect({ attribute, isChanged: isChanged || isFound }).toEqual({
        attribute,
        isChanged: true,
      });
    });

    /** What a want needs to find the thing, or to name it: it cannot differ. */
    const NOT_SEEN = ['home', 'path', 'skeleton', 'user', 'epoch', 'current', 'lockedOut'];

    /** A subject that stays has no archive, so nothing can differ. test/scenarios/leaving/leaving.test.ts has the others. */
    const OF_WHO_STAYS = [...HOMES_TARGETS, ...DATABASES_TARGETS].filter(
      ({ name }) => !name.endsWith('-archive'),
    );

    test.each(
      OF_WHO_STAYS.flatMap((target) =>
        ([person(), tool()] as const).map((sample) => [target.name, sample.kind, target, sample]),
      ) as [string, string, (typeof HOMES_TARGETS)[number], ReturnType<typeof person>][],
    )('%s of a %s', (name, kind, target, sample) => {
      const credentials = { wantedEpoch: 1, recorded: undefined };
      const want = target.want({ ...sample, credentials }, realmOf(drift.world.config)) ?? {};
      const isSeen = (field: string) =>
        !NOT_SEEN.includes(field) || covered.has(`${name} ${kind} ${field}`);
      for (const field of Object.keys(want).filter(isSeen)) {
        // people have no folders in their homes; servers of a file are those that follow it
        if (`${name} ${field}` === 'credentials-file servers') continue;
        if (`${name} ${kind} ${field}` === 'home-directory person folders') continue;
        expect(covered).toContain(`${name} ${kind} ${field}`);
      }
    });
  });
});
