/** A suspended person has no access: what each role wants, and what intake refuses. */
import { afterAll, beforeAll, expect, test } from '@jest/globals';
import { realmOf } from '../../../src/shared/config.ts';
import type { WantedPerson, WantedTool } from '../../../src/reconcile/wanted.ts';
import { findPerson } from '../../../src/identity/people-table.ts';
import { type Pool } from '../../../src/database/connection.ts';
import { readWanted } from '../../../src/reconcile/wanted-queries.ts';
import { databaseAccount } from '../../../src/targets/database-account.ts';
import { realmMembership } from '../../../src/targets/realm-membership.ts';
import { sshKeys } from '../../../src/targets/ssh-keys.ts';
import { unixAccount } from '../../../src/targets/unix-account.ts';
import { type BootstrappedRealm, openBootstrappedRealm } from '../bootstrapped-realm.ts';

const KEY = 'ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIND0k9UN/Drd9ADbQRf/x4MAWO3WcOIkixt20iCch4JR';
const OTHER_KEY =
  'ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIHKUwH8v/5b4GYB8M7oRkUEjfDDPGJmKzYnxo5Cd2yqn';

let realm: BootstrappedRealm;
let world: BootstrappedRealm['world'];
let owner: Pool;
let alice: number;
let bridgebot: number;

beforeAll(async () => {
  realm = await openBootstrappedRealm('suspended');
  ({ world, owner } = realm);
  const steps: [string, string, Record<string, unknown>][] = [
    ...['alice', 'bob'].map((shellName): [string, string, Record<string, unknown>] => [
      'person.create',
      shellName,
      { shellName, displayName: shellName, email: `${shellName}@example.org` },
    ]),
    ['access.grant', 'steward', { person: 'alice' }],
    ['key.add', 'alice', { person: 'alice', key: KEY }],
    ['tool.create', 'alice', { name: 'bridgebot', title: 'Bridges' }],
    ['maintainer.add', 'steward', { tool: 'admin', person: 'alice' }],
  ];
  for (const [kind, requestedBy, rest] of steps) {
    expect(await ask(kind, { requestedBy, ...rest })).toBeUndefined();
  }
  const { rows } = await owner.query(
    `SELECT (SELECT uid FROM people WHERE shell_name = 'alice') AS alice,
            (SELECT uid FROM tools WHERE name = 'bridgebot') AS bridgebot`,
  );
  ({ alice, bridgebot } = rows[0] as { alice: number; bridgebot: number });
  const people = ['alice', 'bob'];
  expect(
    await ask('person.suspend', { requestedBy: 'steward', people, reason: 'x' }),
  ).toBeUndefined();
});
afterAll(() => realm.close());

/** The code of the refusal. Undefined if the request was accepted. */
async function ask(
  kind: string,
  rest: Record<string, unknown> & { requestedBy: string },
): Promise<string | undefined> {
  const { code } = await realm.ask({ kind, ...rest });
  return code;
}

test('has no keys, no open account and no access in the directory', async () => {
  const settings = realmOf(world.config);
  const [person] = (await readWanted(owner, 'directory', [alice])) as [WantedPerson];
  expect(person.realmMember).toBe(true);
  expect(sshKeys.want(person, settings).attributes['sshPublicKey']).toEqual([]);
  expect(realmMembership.want(person, settings).present).toBe(false);
  expect(unixAccount.want(person, settings).attributes['pwdAccountLockedTime']).toHaveLength(1);
});

test('is in no group', async () => {
  const [tool] = (await readWanted(owner, 'directory', [bridgebot])) as [WantedTool];
  expect(tool.members?.map(({ account }) => account)).toEqual(['tools.bridgebot']);
});

test('has a locked database account', async () => {
  const [person] = await readWanted(owner, 'databases', [alice]);
  expect(databaseAccount.want(person!, realmOf(world.config))).toMatchObject({
    presence: 'present',
    locked: true,
  });
});

test('is not an admin, and does not count as one', async () => {
  expect(await findPerson(realm.intake, 'alice', world.config.admin)).toMatchObject({
    admin: false,
  });
  const last = { requestedBy: 'steward', person: 'steward' };
  expect(await ask('maintainer.remove', { ...last, tool: 'admin' })).toBe('ADMIN_TOOL');
  expect(await ask('access.revoke', { ...last, reason: 'x' })).toBe('ADMIN_TOOL');
});

test('cannot be granted access, and may not request anything', async () => {
  expect(await ask('access.grant', { requestedBy: 'steward', person: 'bob' })).toBe(
    'PERSON_SUSPENDED',
  );
  expect(await ask('tool.update', { requestedBy: 'alice', tool: 'bridgebot', title: 'x' })).toBe(
    'PERSON_SUSPENDED',
  );
  expect(await ask('key.add', { requestedBy: 'alice', person: 'alice', key: OTHER_KEY })).toBe(
    'PERSON_SUSPENDED',
  );
  expect(
    await ask('maintainer.add', { requestedBy: 'steward', tool: 'admin', person: 'bob' }),
  ).toBe('PERSON_SUSPENDED');
});
