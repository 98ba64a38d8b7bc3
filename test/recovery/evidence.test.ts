/** What a server lacks is evidence, unless it is empty or older. What it has beyond the backup is not. */
import { expect, test } from '@jest/globals';
import type { AccountName, ShellName } from '../../src/identity/names.ts';
import type { WantedPerson } from '../../src/reconcile/wanted.ts';
import type { Action } from '../../src/reconcile/action.ts';
import type { Step } from '../../src/reconcile/plan.ts';
import {
  emptyServers,
  evidenceOf,
  EVERYWHERE,
  isBorneOut,
  moreOf,
  openOfDeleted,
  openOfDirectory,
} from '../../src/recovery/evidence.ts';

const alice: WantedPerson = {
  ...{ kind: 'person', uid: 1, account: 'alice' as AccountName, shellName: 'alice' as ShellName },
  ...{ state: 'active', realmMember: true, everAdmitted: true },
};
const step = (target: string, action: Action): Step => ({
  ...{ target, subject: 1, account: 'alice', object: 'u1 on replica', effect: 'change' },
  ...{ change: '', because: '', action },
});
const modify = (target: string, attribute: string, remove: string[], add: string[]): Step =>
  step(target, {
    ...{ verb: 'ldap.modify', entry: 'people/uid=alice', expect: {} },
    changes: [{ attribute, remove, add }],
  });
const on = { server: 'replica', user: 'u1' };
const create: Action = {
  ...{ verb: 'db.createUser', ...on, uid: 1, epoch: 1, overlaps: false, maxUserConnections: 10 },
  ...{ locked: false, grants: [] },
};
const setLocked = (locked: boolean): Action => ({
  ...{ verb: 'db.setLocked', ...on, locked, maxUserConnections: 10, withoutEventsOn: [] },
});

const shown = (
  role: 'directory' | 'databases',
  each: Step,
  rest: { state?: WantedPerson['state']; there?: boolean; servers?: string[] } = {},
) => {
  const { state = 'active', there = true, servers = ['replica'] } = rest;
  const wanted = new Map([[1, { ...alice, state }]]);
  return evidenceOf(role, [each], wanted, () => there, servers).map(
    ({ closed, isNoMember, withoutKeys, withoutMembers }) => ({
      ...{ closed, isNoMember, withoutKeys, withoutMembers },
    }),
  );
};

test.each([
  ['a missing account', 'unix-account', { closed: 'directory' }],
  ['a missing group', 'unix-group', { closed: 'directory' }],
  ['a missing sudo rule', 'sudo-rule', { closed: 'directory' }],
])('%s', (_, target, expected) => {
  const add: Action = { verb: 'ldap.add', entry: 'people/uid=alice', attributes: {} };
  expect(shown('directory', step(target, add))).toEqual([expected]);
  // never made there, or deleted in the backup, so it is not missing
  expect(shown('directory', step(target, add), { there: false })).toEqual([]);
  expect(shown('directory', step(target, add), { state: 'deleted' })).toEqual([]);
});

test.each<[string, Step, object[]]>([
  [
    'a lock',
    modify('unix-account', 'pwdAccountLockedTime', ['000001010000Z'], []),
    [{ closed: 'directory' }],
  ],
  ['another shell', modify('unix-account', 'loginShell', ['/bin/zsh'], ['/bin/bash']), []],
  ['one key less', modify('ssh-keys', 'sshPublicKey', [], ['a key']), [{ withoutKeys: ['a key'] }]],
  ['one key more', modify('ssh-keys', 'sshPublicKey', ['a key'], []), []],
  ['one member more', modify('unix-group', 'member', ['people/uid=eve'], []), []],
  [
    'one member less',
    modify('unix-group', 'member', [], ['people/uid=alice']),
    [{ withoutMembers: ['alice'] }],
  ],
  [
    'no access',
    modify('realm-membership', 'member', [], ['people/uid=alice']),
    [{ isNoMember: true }],
  ],
])('%s', (_, each, expected) => {
  expect(shown('directory', each)).toEqual(expected);
});

test('a locked or missing database account counts, except on a server that does not count', () => {
  for (const action of [create, setLocked(false)]) {
    const each = step('database-account', action);
    expect(shown('databases', each)).toEqual([{ closed: 'databases' }]);
    expect(shown('databases', each, { servers: ['toolsdb'] })).toEqual([]);
  }
  expect(shown('databases', step('database-account', setLocked(true)))).toEqual([]);
});

test('an account that another server has is not missing on any', () => {
  const each = step('database-account', create);
  expect(shown('databases', each, { servers: ['replica', 'toolsdb'] })).toEqual([]);
  // a locked account counts as locked
  const locked = step('database-account', setLocked(false));
  expect(shown('databases', locked, { servers: ['replica', 'toolsdb'] })).toHaveLength(1);
});

test('what servers show beyond the backup is read from the steps that would take it away', () => {
  const revoke = (each: Step): Step => ({ ...each, effect: 'revoke' });
  const lock = step('unix-account', {
    ...{ verb: 'ldap.modify', entry: 'people/uid=alice', expect: {} },
    changes: [
      { attribute: 'pwdAccountLockedTime', remove: [], add: ['000001010000Z'] },
      { attribute: 'pwdPolicySubentry', remove: [], add: ['policies/cn=disabled'] },
    ],
  });
  const steps = [
    lock,
    modify('ssh-keys', 'sshPublicKey', ['a key'], []),
    modify('realm-membership', 'member', ['people/uid=alice'], []),
    step('database-account', setLocked(true)),
  ].map(revoke);
  expect(moreOf(steps, ['replica']).get(1)).toEqual({
    open: new Set(['directory', 'replica', EVERYWHERE]),
    ...{ isMember: true, keys: new Set(['a key']), members: new Set() },
  });
  expect(moreOf(steps, ['replica', 'toolsdb']).get(1)?.open.has(EVERYWHERE)).toBe(false);
});

test('a deleted person in the directory is listed with a command that gives what was erased again', () => {
  const gone = step('unix-account', { verb: 'ldap.delete', entry: 'people/uid=alice', expect: {} });
  expect(openOfDeleted([gone], [{ ...alice, state: 'deleted' }])).toEqual([
    expect.objectContaining({
      command: 'submit person.restore --person alice --displayName NAME --email ADDRESS --wait',
    }),
  ]);
});

test('a server that lacks more than half of all accounts is empty', () => {
  const lacks = Array.from({ length: 3 }, () => step('database-account', create));
  expect(emptyServers(lacks, 5)).toEqual(['replica']);
  expect(emptyServers(lacks, 6)).toEqual([]);
});

test('a directory counts only if a server or an area has a marker of about its time, and none has a later one', () => {
  const at = (seconds: number) => ({
    markedAt: new Date(1_000_000_000_000 + seconds * 1000).toISOString(),
  });
  const none = { markedAt: null };
  const unread = { markersUnread: 'reading the marker of the area /srv/homes: EIO' };
  expect(isBorneOut(at(20), [at(0), none])).toBe(true);
  expect(isBorneOut(at(20), [at(-4000), at(20)])).toBe(true);
  // it is an older copy itself
  expect(isBorneOut(at(20), [at(0), at(21)])).toBe(false);
  // the unread one may be later; a worker of an older version does not say whether it could read its markers
  expect(isBorneOut(at(20), [at(0), unread])).toBe(false);
  expect(isBorneOut(at(20), [at(0), {}])).toBe(false);
  // everything was restored, each from another time; or everything was lost
  expect(isBorneOut(at(200), [at(0)])).toBe(false);
  expect(isBorneOut(at(20), [none, none])).toBe(false);
  expect(isBorneOut(none, [at(0)])).toBe(false);
  expect(isBorneOut({}, [at(0)])).toBe(false);
});

test('the message that it does not count names the marker that could not be read, and what to do', () => {
  const marked = { markedAt: '2026-01-01T00:00:00.000Z' };
  const { sentence } = openOfDirectory([
    marked,
    { markersUnread: 'reading the marker of replica' },
  ]);
  expect(sentence).toMatch(/\(reading the marker of replica\).*Before you confirm, correct this/);
  expect(openOfDirectory([marked, {}]).sentence).toContain(
    'a worker of homes or databases is of an',
  );
  expect(openOfDirectory([marked]).sentence).toMatch(/agrees with no marker .* are not restored$/);
});
