/** Which steps of a plan a repair may do, and what stands beside them. */
import { describe, expect, test } from '@jest/globals';
import type { Action, Effect } from '../../src/reconcile/action.ts';
import type { Step } from '../../src/reconcile/plan.ts';
import { sideConditionsOf, partSteps } from '../../src/reconcile/policy.ts';
import { olderCopy, withholdGrants } from '../../src/reconcile/engine.ts';

function step(target: string, effect: Effect, object = 'it'): Step {
  return {
    ...{ target, effect, object, subject: 7, account: 'tools.x' },
    ...{ change: 'a → b', because: 'it differs' },
    action: { verb: 'db.dropUser', server: 'replica', user: 's7' },
  };
}

const STEPS = [
  step('sudo-rule', 'revoke'),
  step('unix-group', 'create'),
  step('unix-group', 'destroy'),
  step('unix-account', 'change'),
  step('unix-account', 'destroy'),
];

describe('partSteps', () => {
  /** target · destroy · the numbers of STEPS that are allowed · withheld; others are not meant */
  test.each<[string | undefined, boolean, number[], number[]]>([
    [undefined, false, [0, 1, 3], [2, 4]],
    [undefined, true, [0, 1, 2, 3, 4], []],
    ['unix-account', false, [3], [4]],
    ['unix-account', true, [3, 4], []],
    ['sudo-rule', false, [0], []],
    ['ssh-keys', true, [], []],
  ])('target %s, destroy %s', (target, destroy, allowed, withheld) => {
    const of = (numbers: number[]) => numbers.map((n) => STEPS[n]);
    expect(partSteps(STEPS, { target, destroy })).toEqual({
      allowed: of(allowed),
      withheld: of(withheld),
    });
  });
});

describe('at a place that is an older copy of itself', () => {
  const home = { area: 'toolHomes', name: 'x' } as const;
  const database = { user: 's7', account: 'tools.x', database: 's7__x', archival: 1 };
  const grant: Action = { verb: 'db.grant', server: 'old', user: 's7', grants: [] };
  const of = (target: string, effect: Effect, action: Action): Step => ({
    ...{ ...step(target, effect), action },
  });
  const surveyOf = (...steps: Step[]) => ({
    ...{ subject: 7, account: 'tools.x', steps, findings: [], waiting: [], unreadable: [] },
  });

  test.each<[string, boolean, Step]>([
    ['what takes away is done', true, of('database-account', 'revoke', grant)],
    ['what gives is not', false, of('database-account', 'change', grant)],
    ['elsewhere it is', true, of('database-account', 'change', { ...grant, server: 'new' })],
    ['an account is dropped', true, step('database-account', 'destroy')],
    [
      'data is not',
      false,
      of('database-archive', 'destroy', {
        ...{ verb: 'databases.drop', server: 'old', manifest: 'm', ...database },
      }),
    ],
    [
      'nothing is archived from it',
      false,
      of('database-archive', 'create', {
        ...{ verb: 'databases.archive', user: 's7', account: 'tools.x', uid: 7, archival: 1 },
        servers: ['new', 'old'],
      }),
    ],
    [
      'no home is made in it',
      false,
      of('home-directory', 'create', {
        ...{ verb: 'dir.create', home, uid: 7, gid: 7, mode: 0o700, folders: [], skeleton: false },
      }),
    ],
  ])('%s', (_, isDone, one) => {
    const found = surveyOf(one);
    const due = withholdGrants(
      found,
      ['old', 'replica', 'toolHomes'].map((place) => olderCopy(place, `the server ${place}`)),
    );
    expect(due.steps).toEqual(isDone ? [one] : []);
    expect(due.unreadable.map(({ target, code }) => [target, code])).toEqual(
      isDone ? [] : [[one.target, 'BACKEND_UNREADABLE']],
    );
    expect(withholdGrants(found, [])).toBe(found);
  });
});

describe('sideConditionsOf', () => {
  const FOUND = {
    findings: [
      { target: 'unix-group', object: 'cn=x' },
      { target: 'unix-account', object: 'uid=x', advisory: true as const },
    ],
    waiting: [{ target: 'database-account' }],
    unreadable: [{ target: 'ssh-keys' }],
  };

  test('names what is found, waited for and unreadable, but for advice', () => {
    expect(sideConditionsOf(FOUND, { target: undefined })).toEqual([
      'unix-group finding cn=x',
      'database-account waiting',
      'ssh-keys unreadable',
    ]);
  });

  test('of one target alone where that is meant', () => {
    expect(sideConditionsOf(FOUND, { target: 'database-account' })).toEqual([
      'database-account waiting',
    ]);
    expect(sideConditionsOf(FOUND, { target: 'sudo-rule' })).toEqual([]);
  });
});
