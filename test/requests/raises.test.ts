/**
 * Every kind raises what it changes: after each request the wants of all subjects and roles are
 * read again, and what differs from before must be due.
 */
import { afterAll, beforeAll, expect, test } from '@jest/globals';
import { REQUEST_KINDS } from '../../src/model/request.ts';
import { ROLES } from '../../src/model/wanted.ts';
import { type Pool } from '../../src/store/postgres.ts';
import { readSubjects, readWanted } from '../../src/store/wanted.ts';
import { type FoundedRealm, openFoundedRealm, type Wish } from './founded-realm.ts';

let realm: FoundedRealm;
let owner: Pool;

beforeAll(async () => {
  realm = await openFoundedRealm('raises');
  ({ owner } = realm);
});
afterAll(() => realm.close());

const KEY_1 = 'ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIHKUwH8v/5b4GYB8M7oRkUEjfDDPGJmKzYnxo5Cd2yqn';

async function ask(request: Wish): Promise<void> {
  expect(await realm.ask(request)).toEqual({ verdict: 'accepted' });
}

async function readEverything(): Promise<Map<string, string>> {
  const uids = await readSubjects(owner);
  const all = new Map<string, string>();
  for (const role of ROLES) {
    for (const wanted of await readWanted(owner, role, uids)) {
      all.set(`${wanted.uid} ${role}`, JSON.stringify(wanted));
    }
  }
  return all;
}

async function raised(): Promise<Map<string, string>> {
  const { rows } = await owner.query('SELECT subject, role, wanted FROM convergence');
  return new Map(
    rows.map((row: { subject: number; role: string; wanted: string }) => [
      `${row.subject} ${row.role}`,
      row.wanted,
    ]),
  );
}

/** Of each kind at least one, each on the ground that those before have laid. */
const REQUESTS: Wish[] = [
  {
    kind: 'person.create',
    requestedBy: 'alice',
    shellName: 'alice',
    displayName: 'Alice',
    email: 'a@example.org',
  },
  {
    kind: 'person.create',
    requestedBy: 'bob',
    shellName: 'bob',
    displayName: 'Bob',
    email: 'b@example.org',
  },
  { kind: 'access.request', requestedBy: 'alice', reason: 'bots' },
  { kind: 'access.grant', requestedBy: 'steward', person: 'alice' },
  { kind: 'access.request', requestedBy: 'bob' },
  { kind: 'access.refuse', requestedBy: 'steward', person: 'bob', reason: 'not now' },
  { kind: 'access.grant', requestedBy: 'steward', person: 'bob' },
  { kind: 'tool.create', requestedBy: 'alice', name: 'one', title: 'One', maintainers: ['bob'] },
  {
    kind: 'tool.create',
    requestedBy: 'bob',
    name: 'two',
    title: 'Two',
    maintainers: ['tools.one'],
  },
  { kind: 'tool.update', requestedBy: 'alice', tool: 'one', title: 'The one' },
  { kind: 'maintainer.add', requestedBy: 'alice', tool: 'one', maintainers: ['tools.two'] },
  { kind: 'maintainer.add', requestedBy: 'bob', tool: 'two', person: 'alice' },
  { kind: 'maintainer.remove', requestedBy: 'bob', tool: 'two', person: 'alice' },
  { kind: 'person.update', requestedBy: 'alice', person: 'alice', displayName: 'Alice B' },
  { kind: 'key.add', requestedBy: 'alice', person: 'alice', key: KEY_1 },
  { kind: 'key.remove', requestedBy: 'alice', person: 'alice', key: KEY_1 },
  { kind: 'credentials.rotate', requestedBy: 'alice', tool: 'one' },
  { kind: 'credentials.rotate', requestedBy: 'bob', person: 'bob' },
  { kind: 'access.revoke', requestedBy: 'steward', person: 'bob', reason: 'gone' },
  { kind: 'access.grant', requestedBy: 'steward', person: 'bob' },
];

test('there is a request of every kind', () => {
  expect(new Set(REQUESTS.map(({ kind }) => kind))).toEqual(new Set(REQUEST_KINDS));
});

test('no want changes without a raise', async () => {
  for (const request of REQUESTS) {
    const [before, raisedBefore] = [await readEverything(), await raised()];
    await ask(request);
    const [after, raisedAfter] = [await readEverything(), await raised()];
    const changed = [...after.keys()].filter((key) => before.get(key) !== after.get(key));
    const unraised = changed.filter((key) => {
      // what a person without access wants of homes and databases is nothing
      if (!before.has(key) && !raisedAfter.has(key)) return !/ (homes|databases)$/.test(key);
      return raisedBefore.get(key) === raisedAfter.get(key);
    });
    // homes do not look at membership once there was one
    const harmless = request.kind === 'access.revoke' ? / homes$/ : /^$/;
    expect([request.kind, unraised.filter((key) => !harmless.test(key))]).toEqual([
      request.kind,
      [],
    ]);
  }
});
