/**
 * Every kind of request touches what it changes: after each request the wanted state of all subjects and roles is read
 * again, and whatever differs must be due.
 */
import { afterAll, beforeAll, expect, test } from '@jest/globals';
import { realmOf } from '../../../src/shared/config.ts';
import { REQUEST_KINDS } from '../../../src/requests/kinds.ts';
import type { Role, Wanted } from '../../../src/reconcile/wanted.ts';
import { ROLES } from '../../../src/roles/index.ts';
import { type Pool } from '../../../src/database/connection.ts';
import { readSubjects, readWanted } from '../../../src/reconcile/wanted-queries.ts';
import { HOMES_TARGETS } from '../../../src/roles/homes/role.ts';
import {
  type AskOptions,
  type BootstrappedRealm,
  openBootstrappedRealm,
  type Wish,
} from '../bootstrapped-realm.ts';

let realm: BootstrappedRealm;
let owner: Pool;

beforeAll(async () => {
  realm = await openBootstrappedRealm('touches');
  ({ owner } = realm);
});
afterAll(() => realm.close());

const KEY_OF_PORTAL =
  'ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIND0k9UN/Drd9ADbQRf/x4MAWO3WcOIkixt20iCch4JR';
const KEY_1 = 'ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIHKUwH8v/5b4GYB8M7oRkUEjfDDPGJmKzYnxo5Cd2yqn';

const FINGERPRINT_1 = 'SHA256:Uodq9cL5P3FqIA58lUSkTCw26piUJdwWROEAx/0jrBY';

async function ask(request: Wish, options: AskOptions): Promise<void> {
  expect([request, await realm.ask(request, undefined, options)]).toEqual([
    request,
    { verdict: 'accepted' },
  ]);
}

async function readEverything(): Promise<Map<string, string>> {
  const uids = await readSubjects(owner);
  const all = new Map<string, string>();
  for (const role of ROLES) {
    for (const wanted of await readWanted(owner, role, uids)) {
      all.set(`${wanted.uid} ${role}`, JSON.stringify(wantsOf(wanted, role)));
    }
  }
  return all;
}

/** Everything that a role may read. For homes, which a lock does not change, what the targets make of it. */
function wantsOf(given: Wanted, role: Role): unknown {
  const wanted = { ...given };
  delete wanted.ignored; // an ignored finding changes what is reported, and nothing that is wanted
  if (role !== 'homes') return wanted;
  const settings = realmOf(realm.world.config);
  const wants = HOMES_TARGETS.map((target) => target.want(wanted, settings) ?? null);
  return [wants, wanted.archive ?? null];
}

async function touched(): Promise<Map<string, string>> {
  const { rows } = await owner.query('SELECT subject, role, wanted FROM convergence');
  return new Map(
    rows.map((row: { subject: number; role: string; wanted: string }) => [
      `${row.subject} ${row.role}`,
      row.wanted,
    ]),
  );
}

/** With the own key of the second admin, once they are an admin. */
const SECOND: AskOptions = { as: 'second' };
const [WAITS, WAITS_TOO, WAITS_FIRST, PORTAL_WAITS] = [
  { jti: '3e0a4b0c-8c1d-4b8e-9a51-6f3a1a3d0001' },
  { jti: '3e0a4b0c-8c1d-4b8e-9a51-6f3a1a3d0002' },
  { jti: '3e0a4b0c-8c1d-4b8e-9a51-6f3a1a3d0003' },
  { jti: '3e0a4b0c-8c1d-4b8e-9a51-6f3a1a3d0004' },
];
/** Does what the calendar and the roles do in between: `one` is archived. */
const ARCHIVE = `
  UPDATE tools SET state = 'archived' WHERE name = 'one';
  INSERT INTO archivals (subject, archival)
    SELECT uid, (SELECT 1 + count(*) FROM archivals) FROM tools WHERE name = 'one'`;
const BACK = `UPDATE archivals SET back_at = now();
  UPDATE tools SET state = 'active', delete_after = NULL WHERE name = 'one'`;
const LEFT = `
  UPDATE archivals SET left_at = now() WHERE back_at IS NULL;
  INSERT INTO archives (subject, archival, role, manifest_sha256, path, bytes)
    SELECT subject, archival, r, repeat('0', 64), '/', 0 FROM archivals, unnest(ARRAY['homes', 'databases']) AS r
    WHERE back_at IS NULL;
  UPDATE tools SET state = 'deleted' WHERE name = 'one'`;

const DIGEST = 'ab'.repeat(32);
const HELD = `
  INSERT INTO sweeps (id, state, ended_at, subjects, drifted, steps, findings, unreadable, digest)
  VALUES (gen_random_uuid(), 'held', clock_timestamp(), 9, 9, 9, 0, 0, '${DIGEST}')`;
const SEEN = `
  INSERT INTO drifts (subject, role, target, object, what, sentence)
  SELECT uid, 'homes', 'home-directory', '/data/project/one', 'PATH_FOREIGN', 'x' FROM tools WHERE name = 'one'`;

/** At least one request of each kind. Each depends on those before. */
const REQUESTS: (Wish | [Wish, AskOptions & { before?: string }])[] = [
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
  [{ kind: 'survey.run', requestedBy: 'steward' }, { as: 'steward' }],
  [{ kind: 'repair.run', requestedBy: 'steward', digest: DIGEST }, { as: 'steward' }],
  [
    { kind: 'sweep.release', requestedBy: 'steward', digest: DIGEST },
    { as: 'steward', before: HELD },
  ],
  [
    {
      ...{ kind: 'finding.ignore', requestedBy: 'steward', tool: 'one', reason: 'known' },
      ...{ target: 'home-directory', code: 'PATH_FOREIGN' },
    },
    { as: 'steward', before: SEEN },
  ],
  { kind: 'tool.update', requestedBy: 'alice', tool: 'one', title: 'The one' },
  { kind: 'maintainer.add', requestedBy: 'alice', tool: 'one', maintainers: ['tools.two'] },
  { kind: 'maintainer.add', requestedBy: 'bob', tool: 'two', person: 'alice' },
  { kind: 'maintainer.remove', requestedBy: 'bob', tool: 'two', person: 'alice' },
  { kind: 'person.update', requestedBy: 'alice', person: 'alice', displayName: 'Alice B' },
  { kind: 'key.add', requestedBy: 'alice', person: 'alice', key: KEY_1 },
  { kind: 'key.remove', requestedBy: 'alice', person: 'alice', key: KEY_1 },
  { kind: 'credentials.rotate', requestedBy: 'alice', tool: 'one' },
  { kind: 'credentials.rotate', requestedBy: 'bob', person: 'bob' },
  { kind: 'credentials.rotate', requestedBy: 'steward', server: 'replica', atOnce: true },
  { kind: 'access.revoke', requestedBy: 'steward', person: 'bob', reason: 'gone' },
  { kind: 'access.grant', requestedBy: 'steward', person: 'bob' },
  {
    kind: 'person.create',
    requestedBy: 'second',
    shellName: 'second',
    displayName: 'Second',
    email: 's2@example.org',
  },
  { kind: 'access.grant', requestedBy: 'steward', person: 'second' },
  { kind: 'maintainer.add', requestedBy: 'steward', tool: 'admin', person: 'second' },
  { kind: 'person.suspend', requestedBy: 'steward', person: 'alice', reason: 'x' },
  { kind: 'person.reinstate', requestedBy: 'steward', person: 'alice' },
  { kind: 'person.suspend', requestedBy: 'steward', people: ['alice', 'bob'], reason: 'x' },
  { kind: 'access.revoke', requestedBy: 'steward', person: 'bob' },
  { kind: 'person.reinstate', requestedBy: 'steward', person: 'bob' },
  { kind: 'person.reinstate', requestedBy: 'steward', person: 'alice' },
  { kind: 'tool.disable', requestedBy: 'alice', tool: 'one', reason: 'broken' },
  { kind: 'tool.enable', requestedBy: 'alice', tool: 'one' },
  { kind: 'tool.delete', requestedBy: 'alice', tool: 'one', reason: 'done with it' },
  { kind: 'tool.enable', requestedBy: 'alice', tool: 'one' },
  { kind: 'tool.disable', requestedBy: 'alice', tool: 'one', reason: 'broken' },
  { kind: 'tool.delete', requestedBy: 'alice', tool: 'one', reason: 'done with it' },
  [{ kind: 'tool.enable', requestedBy: 'alice', tool: 'one' }, { before: ARCHIVE }],
  [
    { kind: 'tool.restore', requestedBy: 'steward', tool: 'one' },
    { before: `${BACK};${ARCHIVE};${LEFT}` },
  ],
  {
    kind: 'subject.hold',
    requestedBy: 'steward',
    person: 'alice',
    reason: 'a dispute',
    until: '2100-01-01T00:00:00Z',
  },
  { kind: 'subject.release', requestedBy: 'steward', person: 'alice' },
  [
    {
      kind: 'admin-key.add',
      requestedBy: 'steward',
      publicKey: KEY_1,
      label: 'laptop',
      expiresAt: '2100-01-01T00:00:00Z',
    },
    { ...WAITS_FIRST, before: `UPDATE admin_additions SET at = at - interval '8 days'` },
  ],
  [{ kind: 'request.approve', requestedBy: 'second', request: WAITS_FIRST.jti }, SECOND],
  [
    { kind: 'admin-key.revoke', requestedBy: 'steward', fingerprint: FINGERPRINT_1 },
    { before: `UPDATE admin_additions SET at = at - interval '8 days'` },
  ],
  [
    {
      ...{ kind: 'portal.add', requestedBy: 'steward', name: 'bridge', kinds: 'all' },
      keys: [{ kid: 'bridge-1', publicKey: KEY_OF_PORTAL }],
    },
    {
      ...PORTAL_WAITS,
      as: 'steward',
      before: `UPDATE admin_additions SET at = at - interval '8 days'`,
    },
  ],
  [{ kind: 'request.approve', requestedBy: 'second', request: PORTAL_WAITS.jti }, SECOND],
  [
    { kind: 'portal.update', requestedBy: 'steward', name: 'bridge', kinds: ['tool.create'] },
    { as: 'steward' },
  ],
  [{ kind: 'portal.remove', requestedBy: 'steward', name: 'bridge' }, { as: 'steward' }],
  [
    { kind: 'portal.hand-over', requestedBy: 'steward', name: 'bridge', to: 'portal' },
    {
      as: 'steward',
      before: `INSERT INTO events (portal, event) VALUES ('bridge', 'person.created')`,
    },
  ],
  [{ kind: 'person.delete', requestedBy: 'alice', person: 'alice' }, WAITS],
  [{ kind: 'request.reject', requestedBy: 'second', request: WAITS.jti, reason: 'no' }, SECOND],
  [{ kind: 'person.delete', requestedBy: 'steward', person: 'alice' }, WAITS_TOO],
  [{ kind: 'request.approve', requestedBy: 'second', request: WAITS_TOO.jti }, SECOND],
  [{ kind: 'person.erase', requestedBy: 'steward', person: 'alice' }, { as: 'steward' }],
  [
    { kind: 'person.restore', requestedBy: 'steward', person: 'alice' },
    {
      before: `UPDATE people SET state = 'archived' WHERE shell_name = 'alice';
        INSERT INTO archivals (subject, archival) SELECT uid, 1 FROM people WHERE shell_name = 'alice'`,
    },
  ],
];

test('there is a request of every kind', () => {
  expect(new Set(REQUESTS.map((of) => (Array.isArray(of) ? of[0] : of).kind))).toEqual(
    new Set(REQUEST_KINDS),
  );
});

test('no wanted state changes without a touch', async () => {
  for (const each of REQUESTS) {
    const [request, options] = Array.isArray(each) ? each : [each, {}];
    if ('before' in options && options.before !== undefined) await owner.query(options.before);
    const [before, touchedBefore] = [await readEverything(), await touched()];
    await ask(request, options);
    const [after, touchedAfter] = [await readEverything(), await touched()];
    const changed = [...after.keys()].filter((key) => before.get(key) !== after.get(key));
    const untouched = changed.filter((key) => {
      // a person without access has no wanted state in homes and databases
      if (!before.has(key) && !touchedAfter.has(key)) return !/ (homes|databases)$/.test(key);
      return touchedBefore.get(key) === touchedAfter.get(key);
    });
    expect([request, untouched]).toEqual([request, []]);
  }
});
