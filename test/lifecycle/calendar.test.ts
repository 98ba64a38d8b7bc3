/** The calendar's moves, each on its day. The test does the work of the roles. */
import { afterAll, beforeAll, beforeEach, describe, expect, test } from '@jest/globals';
import { ROLES } from '../../src/roles/index.ts';
import { CALENDAR, turnCalendar } from '../../src/lifecycle/calendar.ts';
import { doneEvents } from '../../src/events/done.ts';
import { type Client, openPool, type Pool } from '../../src/database/connection.ts';
import { settle } from '../../src/reconcile/relay-queries.ts';
import { readOverdue } from '../../src/lifecycle/calendar-queries.ts';
import { readLeaving } from '../../src/lifecycle/leaving-facts.ts';
import { readSubjects, readWanted } from '../../src/reconcile/wanted-queries.ts';
import { eventually } from '../scenarios/eventually.ts';
import {
  type AskOptions,
  type BootstrappedRealm,
  openBootstrappedRealm,
  type Wish,
} from '../requests/bootstrapped-realm.ts';

const DAY_MS = 86_400_000;
const HASH = 'a'.repeat(64);
const VERIFIER = `*${'0'.repeat(40)}`;

let realm: BootstrappedRealm;
let owner: Pool;
let relay: Pool;
let start: Date;
/** the last event that was read */
let heard = '0';
let number = 0;

beforeAll(async () => {
  realm = await openBootstrappedRealm('calendar');
  ({ owner } = realm);
  relay = openPool(realm.world.config, 'relay', { max: 1, durable: false });
  await person('second');
  await ask({ kind: 'maintainer.add', requestedBy: 'steward', tool: 'admin', person: 'second' });
  await realm.ageAdmins();
});
afterAll(async () => {
  await relay.end();
  await realm.close();
});
beforeEach(async () => {
  start = new Date();
  await apply();
  await turnAt(0);
  await events();
});

const at = (days: number) => new Date(start.getTime() + days * DAY_MS);

async function ask(wish: Wish, options?: AskOptions): Promise<void> {
  expect(await realm.ask(wish, undefined, options)).toEqual({ verdict: 'accepted' });
}

/** A realm member with that name. */
async function person(shellName: string): Promise<number> {
  await ask({
    kind: 'person.create',
    requestedBy: shellName,
    shellName,
    displayName: `The ${shellName}`,
    email: `${shellName}@example.org`,
  });
  await ask({ kind: 'access.grant', requestedBy: 'steward', person: shellName });
  return uidOf('people', 'shell_name', shellName);
}

/** A tool with a unique name. */
async function tool(maintainer = 'second'): Promise<{ name: string; uid: number }> {
  const name = `tool-${(number += 1)}`;
  await ask({ kind: 'tool.create', requestedBy: maintainer, name, title: name });
  await apply();
  return { name, uid: await uidOf('tools', 'name', name) };
}

const newName = () => `p${(number += 1)}`;

async function uidOf(table: string, column: string, name: string): Promise<number> {
  const { rows } = await owner.query(`SELECT uid FROM ${table} WHERE ${column} = $1`, [name]);
  return (rows[0] as { uid: number }).uid;
}

/** All roles apply everything, and the relay sends the events. */
async function apply(): Promise<void> {
  await owner.query(
    `UPDATE convergence SET applied = wanted, state = 'applied' WHERE applied < wanted`,
  );
  await settle(relay, (done) => doneEvents(realm.world.config, done), undefined);
}

/** Each role records an archive, as its own PostgreSQL role. */
async function archiveAll(
  uid: number,
  roles: readonly ('homes' | 'databases')[] = ['homes', 'databases'],
): Promise<void> {
  for (const role of roles) {
    const pool = openPool(realm.world.config, role, { max: 1, durable: false });
    await pool.query(
      `INSERT INTO archives (subject, archival, role, manifest_sha256, path, bytes)
       SELECT subject, archival, $2, $3, '/a', 1 FROM archivals WHERE subject = $1 AND back_at IS NULL`,
      [uid, role, HASH],
    );
    await pool.end();
  }
}

/** Turns until nothing is due, as intake does, and returns the moves. Checks that every changed want is touched. */
async function turnAt(days: number, client: Client = realm.intake): Promise<string[]> {
  const did: string[] = [];
  for (let more = true; more;) {
    const [before, touchedBefore] = [await readEverything(), await touched()];
    const turn = await turnCalendar(client, realm.world.config, at(days));
    expect(turn.failed).toEqual([]);
    const [after, touchedAfter] = [await readEverything(), await touched()];
    const untouched = [...after.keys()].filter(
      (key) =>
        before.get(key) !== after.get(key) && touchedBefore.get(key) === touchedAfter.get(key),
    );
    // a suspension does not open or close a home
    expect(untouched.filter((key) => !key.endsWith(' homes'))).toEqual([]);
    did.push(...turn.did.map(({ move, account }) => `${move} ${account}`.trim()));
    ({ more } = turn);
    expect(did.length).toBeLessThan(20);
  }
  return did;
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

async function touched(): Promise<Map<string, string>> {
  const { rows } = await owner.query('SELECT subject, role, wanted FROM convergence');
  return new Map(
    rows.map((row: { subject: number; role: string; wanted: string }) => [
      `${row.subject} ${row.role}`,
      row.wanted,
    ]),
  );
}

/** The events since the last call, without those of requests. */
async function events(): Promise<string[]> {
  const { rows } = await owner.query(
    `SELECT row_id, event, data FROM events
     WHERE row_id > $1 AND portal = 'portal' AND event !~ '^request' ORDER BY row_id`,
    [heard],
  );
  const found = rows as {
    row_id: string;
    event: string;
    data: { account: string; days?: number };
  }[];
  heard = found.at(-1)?.row_id ?? heard;
  return found.map(({ event, data: { account, days } }) =>
    days === undefined ? `${event} ${account}` : `${event} ${account} ${days}`,
  );
}

async function stateOf(uid: number): Promise<string> {
  const { rows } = await owner.query(
    'SELECT state FROM tools WHERE uid = $1 UNION ALL SELECT state FROM people WHERE uid = $1',
    [uid],
  );
  return (rows[0] as { state: string }).state;
}

/** A deletion that a person requests and an admin approves. */
async function deletePerson(
  name: string,
  {
    personGraceDays = 0,
    by = name,
    now = start,
  }: { personGraceDays?: number; by?: string; now?: Date } = {},
): Promise<void> {
  const jti = crypto.randomUUID();
  await ask({ kind: 'person.delete', requestedBy: by, person: name }, { jti, now });
  const { config } = realm.world;
  const verdict = await realm.ask(
    { kind: 'request.approve', requestedBy: 'steward', request: jti },
    { ...config, leaving: { ...config.leaving, personGraceDays } },
    { as: 'steward', now },
  );
  expect(verdict).toEqual({ verdict: 'accepted' });
}

describe('a tool that is to be deleted', () => {
  test('gets its warnings on their days, is archived on the last, and is deleted when both archives exist', async () => {
    const { name, uid } = await tool();
    await ask({ kind: 'tool.delete', requestedBy: 'second', tool: name }, { now: start });
    await apply();
    await events();
    const moves: string[] = [];
    for (let day = 0; day <= 40; day += 1) {
      moves.push(...(await turnAt(day)).map((move) => `day ${day}: ${move}`));
      moves.push(...(await events()).map((event) => `day ${day}: ${event}`));
    }
    const account = `tools.${name}`;
    expect(moves).toEqual([
      `day 10: tool.warn ${account}`,
      `day 10: tool.deleting ${account} 30`,
      `day 33: tool.warn ${account}`,
      `day 33: tool.deleting ${account} 7`,
      `day 39: tool.warn ${account}`,
      `day 39: tool.deleting ${account} 1`,
      `day 40: tool.archive ${account}`,
    ]);
    await apply();
    expect(await turnAt(41)).toEqual([]);
    await archiveAll(uid, ['databases']);
    expect(await turnAt(41)).toEqual([]);
    await archiveAll(uid, ['homes']);
    expect(await turnAt(41)).toEqual([`tool.delete ${account}`]);
    expect([await stateOf(uid), await events()]).toEqual(['deleted', [`tool.archived ${account}`]]);
    await apply();
    expect(await events()).toEqual([`tool.deleted ${account}`]);
    expect(await turnAt(41 + 364)).toEqual([]);
    expect(await turnAt(41 + 365)).toEqual([`tool.expire ${account}`]);
    expect(await turnAt(41 + 366)).toEqual([]);
    const { rows } = await owner.query(
      `SELECT kind, requested_by AS by, account, fields FROM audit
       WHERE subject = $1 AND requested_by = $2 ORDER BY id`,
      [uid, CALENDAR],
    );
    expect(rows).toEqual([
      { kind: 'tool.archive', by: CALENDAR, account, fields: ['state'] },
      { kind: 'tool.delete', by: CALENDAR, account, fields: ['state'] },
      { kind: 'tool.expire', by: CALENDAR, account, fields: ['archives'] },
    ]);
  });

  test('stays when it is enabled on the last day', async () => {
    const { name, uid } = await tool();
    await ask({ kind: 'tool.delete', requestedBy: 'second', tool: name }, { now: start });
    await apply();
    expect(await turnAt(39.9)).toHaveLength(1);
    await ask({ kind: 'tool.enable', requestedBy: 'second', tool: name }, { now: at(39.9) });
    expect(await turnAt(42)).toEqual([]);
    expect(await stateOf(uid)).toBe('active');
  });

  test.each<[string, number[], Record<number, string>]>([
    [
      'every day',
      [10, 33, 39, 39.99, 40],
      { 10: 'told 30', 33: 'told 7', 39: 'told 1', 40: 'away' },
    ],
    ['on day 36 first', [36, 38.9, 39, 39.9, 40], { 36: 'told 4', 39: 'told 1', 40: 'away' }],
    ['on day 39.5 first', [39.5, 40, 40.4, 40.5], { 39.5: 'told 1', 40.5: 'away' }],
    ['never after day 10', [10, 400, 400.9, 401], { 10: 'told 30', 400: 'told 1', 401: 'away' }],
    ['on day 400 first', [400, 400.9, 401], { 400: 'told 1', 401: 'away' }],
    [
      'with a clock that jumps ahead and goes back',
      [5, 400, 6, 10, 33, 39, 39.9, 40],
      { 400: 'told 1', 10: 'told 30', 33: 'told 7', 39: 'told 1', 40: 'away' },
    ],
    [
      'with a clock that is a little late after the warning',
      [39, 38.99, 39, 39.9, 40],
      { 39: 'told 1', 40: 'away' },
    ],
  ])(
    'gets a warning, and is archived a day later at the earliest: looked at %s',
    async (_, looks, expected) => {
      const { name, uid } = await tool();
      await ask({ kind: 'tool.delete', requestedBy: 'second', tool: name }, { now: start });
      await apply();
      await events();
      const seen: Record<number, string> = {};
      for (const day of looks) {
        const moves = await turnAt(day);
        const told = (await events()).map((event) => event.replace(/^.* /u, 'told '));
        if (moves.length > 0) seen[day] = [...told, ...(told.length > 0 ? [] : ['away'])].join(' ');
      }
      expect(seen).toEqual(expected);
      expect(await stateOf(uid)).toBe('archived');
      await ask({ kind: 'tool.enable', requestedBy: 'second', tool: name });
      await apply();
      expect(await turnAt(0)).toEqual([`tool.restore tools.${name}`]);
    },
  );

  test('gets a late warning with the real day, which people are shown too', async () => {
    const { name, uid } = await tool();
    await ask({ kind: 'tool.delete', requestedBy: 'second', tool: name }, { now: at(-39.5) });
    await apply();
    const shown = async () => {
      const [leaver] = await readLeaving(realm.intake, [uid]);
      return Date.parse(leaver!.leaving.next!.at!) - start.getTime();
    };
    // no warning yet, so a day from now, by PostgreSQL's clock
    expect((await shown()) / DAY_MS).toBeGreaterThan(0.99);
    expect(await turnAt(0)).toEqual([`tool.warn tools.${name}`]);
    const told = await owner.query(
      `SELECT data->>'days' AS days, data->>'deleteAfter' AS at FROM events
       WHERE subject = $1 AND event = 'tool.deleting' ORDER BY row_id DESC LIMIT 1`,
      [uid],
    );
    expect(told.rows).toEqual([{ days: '1', at: at(1).toISOString() }]);
    expect(await shown()).toBe(DAY_MS);
    const look = await turnCalendar(realm.intake, realm.world.config, at(0.75));
    expect(look).toMatchObject({ did: [], next: at(1) });
    await ask({ kind: 'tool.enable', requestedBy: 'second', tool: name });
    const { rows } = await owner.query('SELECT days_warned, warned_at FROM tools WHERE uid = $1', [
      uid,
    ]);
    expect(rows).toEqual([{ days_warned: null, warned_at: null }]);
  });

  test('with a short grace time does not get two warnings for the same days', async () => {
    const { name } = await tool();
    const { config } = realm.world;
    const short = { ...config, leaving: { ...config.leaving, graceDays: 1 } };
    const wish = { kind: 'tool.delete', requestedBy: 'second', tool: name };
    expect(await realm.ask(wish, short, { now: start })).toEqual({ verdict: 'accepted' });
    await apply();
    expect((await events()).slice(1)).toEqual([
      `tool.deleting tools.${name} 1`,
      `tool.disabled tools.${name}`,
    ]);
    expect(await turnAt(0.99)).toEqual([]);
    expect(await turnAt(1)).toEqual([`tool.archive tools.${name}`]);
    await ask({ kind: 'tool.enable', requestedBy: 'second', tool: name });
    await apply();
    expect(await turnAt(0)).toEqual([`tool.restore tools.${name}`]);
  });

  test('gets one warning after a week without intake, with the days that are left', async () => {
    const { name } = await tool();
    await ask({ kind: 'tool.delete', requestedBy: 'second', tool: name }, { now: start });
    await apply();
    await events();
    expect(await turnAt(36.5)).toEqual([`tool.warn tools.${name}`]);
    expect(await events()).toEqual([`tool.deleting tools.${name} 4`]);
    expect(await turnAt(38)).toEqual([]);
    await ask({ kind: 'tool.enable', requestedBy: 'second', tool: name }, { now: at(38) });
  });

  test('is not archived until every role has closed its access, for up to a minute', async () => {
    const { name } = await tool();
    await ask({ kind: 'tool.delete', requestedBy: 'second', tool: name }, { now: start });
    await turnAt(39);
    expect(await turnAt(40)).toEqual([]);
    expect(await turnAt(40 + 61 / 86_400)).toEqual([`tool.archive tools.${name}`]);
    await ask({ kind: 'tool.enable', requestedBy: 'second', tool: name }, { now: at(41) });
    await apply();
    await turnAt(41);
  });

  test('is restored while it is archived, and after it was deleted, with new credentials', async () => {
    const { name, uid } = await tool();
    const account = `tools.${name}`;
    // it is a member of this group until it is deleted
    const { name: other } = await tool();
    await ask({
      kind: 'maintainer.add',
      requestedBy: 'second',
      tool: other,
      maintainers: [account],
    });
    const epoch = async () =>
      (await owner.query('SELECT wanted_epoch FROM credentials WHERE account = $1', [uid])).rows[0];
    await ask({ kind: 'tool.delete', requestedBy: 'second', tool: name }, { now: start });
    await apply();
    await turnAt(39);
    await turnAt(40);
    const before = await epoch();
    await ask({ kind: 'tool.enable', requestedBy: 'second', tool: name }, { now: at(40) });
    // archives that are recorded meanwhile change nothing, because it is being restored
    await archiveAll(uid);
    expect(await turnAt(40)).toEqual([]);
    await events();
    await apply();
    expect(await turnAt(41)).toEqual([`tool.restore ${account}`]);
    await apply();
    expect(await events()).toEqual([`tool.returning ${account}`, `tool.restored ${account}`]);
    expect(await stateOf(uid)).toBe('active');
    expect(await epoch()).not.toEqual(before);

    await ask({ kind: 'tool.delete', requestedBy: 'second', tool: name }, { now: at(50) });
    await apply();
    await turnAt(89);
    await turnAt(90);
    await archiveAll(uid);
    expect(await turnAt(90)).toEqual([`tool.delete ${account}`]);
    await ask(
      { kind: 'tool.restore', requestedBy: 'steward', tool: name },
      { as: 'steward', now: at(90) },
    );
    // the archive that is being restored is kept, and the archive of the first time is not
    const late = await turnAt(90 + 400);
    expect(late.filter((move) => move.endsWith(` ${account}`))).toEqual([
      `archives.expire ${account}`,
    ]);
    expect(late.filter((move) => !move.startsWith('archives.expire '))).toEqual([]);
    await apply();
    expect(await turnAt(91)).toEqual([`tool.restore ${account}`]);
    expect(await stateOf(uid)).toBe('active');
    const { rows } = await owner.query(
      'SELECT archival, back_at IS NOT NULL AS back FROM archivals WHERE subject = $1 ORDER BY 1',
      [uid],
    );
    expect(rows).toEqual([
      { archival: 1, back: true },
      { archival: 2, back: true },
    ]);
  });
});

describe('a person', () => {
  test('who is to be deleted gets warnings on the days of their own grace time, like a tool, and is archived on the last', async () => {
    const name = newName();
    const uid = await person(name);
    await apply();
    await events();
    await deletePerson(name, { personGraceDays: 30 });
    await apply();
    expect(await events()).toEqual([`person.deleting ${name} 30`, `person.suspended ${name}`]);
    const moves: string[] = [];
    for (let day = 0; day <= 30; day += 1) {
      moves.push(...(await turnAt(day)).map((move) => `day ${day}: ${move}`));
      moves.push(...(await events()).map((event) => `day ${day}: ${event}`));
    }
    expect(moves).toEqual([
      `day 23: person.warn ${name}`,
      `day 23: person.deleting ${name} 7`,
      `day 29: person.warn ${name}`,
      `day 29: person.deleting ${name} 1`,
      `day 30: person.archive ${name}`,
    ]);
    await apply();
    await archiveAll(uid);
    expect(await turnAt(30)).toEqual([`person.delete ${name}`]);
  });

  test('who is to be deleted is not archived without a warning, or after the deletion was cancelled', async () => {
    const name = newName();
    const uid = await person(name);
    await deletePerson(name, { personGraceDays: 30 });
    await apply();
    await events();
    await owner.query(`UPDATE login_seals SET renew_at = 'infinity'`);
    const look = await turnCalendar(realm.intake, realm.world.config, at(0.5));
    expect(look.next).toEqual(at(23));
    expect(await turnAt(390)).toEqual([`person.warn ${name}`]);
    expect(await events()).toEqual([`person.deleting ${name} 1`]);
    expect(await turnAt(390.9)).toEqual([]);
    await ask({ kind: 'person.reinstate', requestedBy: name, person: name });
    expect(await turnAt(392)).toEqual([]);
    expect(await stateOf(uid)).toBe('active');
  });

  test('is reinstated, with the groups, when the time has come and not before', async () => {
    const name = newName();
    const uid = await person(name);
    await tool(name);
    const until = at(3).toISOString();
    await ask({ kind: 'person.suspend', requestedBy: 'steward', person: name, reason: 'x', until });
    await apply();
    await events();
    const held = `tools.tool-${number}`;
    expect(await turnAt(2.9)).toEqual([`credentials.again ${held}`, `orphans ${held}`]);
    await apply();
    expect(await turnAt(3)).toEqual([`person.reinstate ${name}`, `orphans tools.tool-${number}`]);
    expect(await stateOf(uid)).toBe('active');
    await apply();
    expect(await events()).toEqual([
      `credentials.revoked ${held}`,
      `tool.orphaned ${held}`,
      `person.reinstated ${name}`,
    ]);
  });

  test('is not reinstated if a deletion is approved, but archived and deleted', async () => {
    const name = newName();
    const uid = await person(name);
    const { uid: held } = await tool();
    await ask({
      kind: 'maintainer.add',
      requestedBy: 'steward',
      tool: `tool-${number}`,
      person: name,
    });
    await ask({
      kind: 'person.suspend',
      requestedBy: 'steward',
      person: name,
      reason: 'x',
      until: at(1).toISOString(),
    });
    await deletePerson(name, { by: 'second' });
    await owner.query('UPDATE people SET suspended_until = $2 WHERE uid = $1', [uid, start]);
    expect(await turnAt(0)).toEqual([]); // not applied yet
    await apply();
    await events();
    expect(await turnAt(0)).toEqual([`person.archive ${name}`]);
    await apply();
    expect(await turnAt(2)).toEqual([`credentials.again tools.tool-${number}`]);
    await archiveAll(uid);
    expect(await turnAt(2)).toEqual([`person.delete ${name}`]);
    await apply();
    expect(await events()).toEqual([
      `credentials.revoked tools.tool-${number}`,
      `person.archived ${name}`,
      `person.deleted ${name}`,
    ]);
    const { rows } = await owner.query(
      `SELECT (SELECT count(*)::int FROM maintainers WHERE maintainer = $1) AS maintained,
              (SELECT count(*)::int FROM maintainers WHERE tool = $2) AS left,
              (SELECT count(*)::int FROM realm_members WHERE person = $1) AS member`,
      [uid, held],
    );
    expect(rows).toEqual([{ maintained: 0, left: 1, member: 0 }]);
  });
});

test('requests that wait about an erased person are rejected, and pending events say no more than the account', async () => {
  const name = newName();
  const uid = await person(name);
  await ask({ kind: 'access.revoke', requestedBy: 'steward', person: name, reason: 'secret' });
  await expect(realm.intake.query('SELECT erase_person($1)', [uid])).rejects.toThrow(
    'is no person',
  );
  await deletePerson(name);
  await owner.query(
    `WITH waiting AS (
       INSERT INTO requests (portal, jti, body_sha256, kind, requested_by, subject, verdict)
       VALUES ('portal', gen_random_uuid(), '\\x00', 'person.suspend', 'steward', $1, 'accepted') RETURNING *)
     INSERT INTO approvals (request, portal, kind, subject, requested_by, body, why)
     SELECT jti, portal, kind, subject, requested_by, '{"reason": "secret"}', 'x' FROM waiting`,
    [uid],
  );
  const applied = `UPDATE convergence SET applied = wanted, state = 'applied'`;
  await owner.query(applied);
  await turnAt(1);
  await owner.query(applied);
  await archiveAll(uid);
  expect(await turnAt(1)).toEqual([`person.delete ${name}`]);
  const { rows } = await owner.query(
    `SELECT on_done FROM requests WHERE subject = $1 AND kind = 'access.revoke'`,
    [uid],
  );
  expect(rows).toEqual([{ on_done: { event: 'access.revoked', data: { account: name } } }]);
  const waiting = await owner.query(
    `SELECT a.state, a.body, r.done_at IS NOT NULL AS done FROM approvals a JOIN requests r ON r.jti = a.request
     WHERE a.subject = $1 AND a.kind = 'person.suspend'`,
    [uid],
  );
  expect(waiting.rows).toEqual([{ state: 'rejected', body: null, done: true }]);
  const told = await owner.query(
    `SELECT e.portal, e.event, e.data FROM events e JOIN requests r ON r.jti = e.request
     WHERE r.kind = 'person.suspend' AND e.subject = $1 ORDER BY e.row_id`,
    [uid],
  );
  expect(told.rows).toEqual([
    {
      portal: 'portal',
      event: 'request.rejected',
      data: {
        kind: 'person.suspend',
        account: name,
        by: CALENDAR,
        reason: 'The person was deleted.',
      },
    },
  ]);
});

test('an event that is erased while the relay sends it is not sent', async () => {
  const name = newName();
  const uid = await person(name);
  await apply();
  await ask({ kind: 'access.revoke', requestedBy: 'steward', person: name, reason: 'secret' });
  const erasing = await owner.connect();
  try {
    await erasing.query('BEGIN');
    await erasing.query(
      `UPDATE requests SET on_done = on_done || '{"data": {}}'
       WHERE subject = $1 AND kind = 'access.revoke'`,
      [uid],
    );
    const publishing = apply();
    await eventually('the relay to wait', async () => {
      const { rowCount } = await erasing.query(
        `SELECT FROM pg_locks JOIN pg_stat_activity USING (pid)
         WHERE NOT granted AND datname = current_database()`,
      );
      return rowCount !== 0;
    });
    await erasing.query('COMMIT');
    await publishing;
  } finally {
    erasing.release(true);
  }
  const { rows } = await owner.query(
    `SELECT data FROM events WHERE subject = $1 AND event = 'access.revoked'`,
    [uid],
  );
  expect(rows).toEqual([{ data: {} }]);
});

test('previous passwords end when their time is over, for many accounts at once', async () => {
  const tools = [await tool(), await tool()];
  for (const [i, { uid }] of tools.entries()) {
    await owner.query(
      `INSERT INTO database_verifiers (account, epoch, verifier, previous_verifier, previous_until)
       VALUES ($1, 2, $2, $2, $3)`,
      [uid, VERIFIER, at(1 - i / 100)],
    );
  }
  await apply();
  // rows are locked in the same order everywhere, whichever is due first
  await realm.intake.query('BEGIN');
  const ended = await realm.intake.query('SELECT e FROM end_overlaps($1, 10) AS e', [at(1)]);
  await realm.intake.query('ROLLBACK');
  expect(ended.rows).toEqual(tools.map(({ uid }) => ({ e: uid })));
  const look = await turnCalendar(realm.intake, realm.world.config, at(0));
  expect(look.next).toEqual(at(0.99));
  expect(await turnAt(0.9)).toEqual([]);
  expect(await turnAt(1)).toEqual(['overlaps.end']);
  const { rows } = await owner.query(
    `SELECT v.account FROM database_verifiers v JOIN convergence c ON c.subject = v.account
     WHERE c.role = 'databases' AND c.applied < c.wanted AND v.previous_until IS NULL ORDER BY 1`,
  );
  expect(rows).toEqual(tools.map(({ uid }) => ({ account: uid })));
});

describe('a person who is restored', () => {
  test('is active again, with a new password and everything that was not erased, and the archives are removed on their day', async () => {
    const name = newName();
    const uid = await person(name);
    const { uid: held, name: of } = await tool(name);
    await deletePerson(name);
    await apply();
    expect(await turnAt(0)).toContain(`person.archive ${name}`);
    const epoch = async () =>
      (await owner.query('SELECT wanted_epoch FROM credentials WHERE account = $1', [uid])).rows[0];
    const before = await epoch();
    // in the middle of it
    const restore = { kind: 'person.restore', requestedBy: 'steward', person: name };
    await ask(restore, { now: at(1) });
    await archiveAll(uid, ['homes']);
    await turnAt(1);
    await events();
    await apply();
    expect(await turnAt(1)).toContain(`person.restore ${name}`);
    await apply();
    expect(await events()).toEqual(
      expect.arrayContaining([`person.returning ${name}`, `person.restored ${name}`]),
    );
    expect(await stateOf(uid)).toBe('active');
    expect(await epoch()).not.toEqual(before);
    const [wanted] = await readWanted(owner, 'directory', [held]);
    expect(wanted).toMatchObject({
      members: expect.arrayContaining([{ kind: 'person', account: name, uid }]),
    });

    await deletePerson(name, { now: at(2) });
    await apply();
    await turnAt(2);
    await archiveAll(uid);
    expect(await turnAt(2)).toContain(`person.delete ${name}`);
    const named = { displayName: `The ${name} again`, email: 'again@example.org' };
    await ask({ ...restore, ...named }, { now: at(3) });
    await apply();
    expect(await turnAt(3)).toContain(`person.restore ${name}`);
    expect(await stateOf(uid)).toBe('active');
    await apply();
    const pastOf = async () => {
      const [homes] = await readWanted(owner, 'homes', [uid]);
      return homes?.pastArchives?.map(({ archival }) => archival);
    };
    expect([await turnAt(365.9), await pastOf()]).toEqual([expect.any(Array), undefined]);
    // counted from the restore if the person was not deleted
    expect(await turnAt(366)).toContain(`archives.expire ${name}`);
    expect(await pastOf()).toEqual([1]);
    expect(await turnAt(366.9)).not.toContain(`archives.expire ${name}`);
    // counted from the deletion
    expect(await turnAt(367)).toContain(`archives.expire ${name}`);
    expect(await pastOf()).toEqual([1, 2]);
    expect(await turnAt(400)).not.toContain(`archives.expire ${name}`);
    await ask({ kind: 'maintainer.add', requestedBy: 'steward', tool: of, person: 'second' });
  });
});

describe('a held subject', () => {
  const hold = (rest: Record<string, string>, until: number, now: number) =>
    ask(
      {
        ...{ kind: 'subject.hold', requestedBy: 'steward', reason: 'a dispute' },
        ...{ until: at(until).toISOString(), ...rest },
      },
      { now: at(now) },
    );

  test('gets no warning and is not archived, deleted or erased until the hold ends, and then gets new warnings', async () => {
    const { name, uid } = await tool();
    const account = `tools.${name}`;
    await ask({ kind: 'tool.delete', requestedBy: 'second', tool: name }, { now: start });
    await apply();
    await events();
    expect(await turnAt(39)).toEqual([`tool.warn ${account}`]);
    await hold({ tool: name }, 60, 39.5);
    await apply();
    await events();
    expect(await turnAt(59.9)).toEqual([]);
    // its last warning named a day that was not kept
    expect(await turnAt(60)).toEqual([`tool.warn ${account}`]);
    expect(await events()).toEqual([`tool.deleting ${account} 1`]);
    expect(await turnAt(60.9)).toEqual([]);
    expect(await turnAt(61)).toEqual([`tool.archive ${account}`]);
    await apply();
    await archiveAll(uid);
    await hold({ tool: name }, 70, 61);
    expect(await turnAt(69)).toEqual([]);
    expect(await turnAt(70)).toEqual([`tool.delete ${account}`]);
    await apply();
    await hold({ tool: name }, 500, 70);
    expect(await turnAt(499)).not.toContain(`tool.expire ${account}`);
    await ask({ kind: 'subject.release', requestedBy: 'steward', tool: name }, { now: at(499) });
    expect(await turnAt(499)).toEqual([`tool.expire ${account}`]);
    const { rowCount } = await owner.query('SELECT FROM holds WHERE subject = $1', [uid]);
    expect(rowCount).toBe(0);
  });

  test('who is a person is treated likewise, and the deletion can be cancelled meanwhile', async () => {
    const name = newName();
    const uid = await person(name);
    await deletePerson(name);
    await apply();
    await hold({ person: name }, 5, 0);
    await events();
    expect(await turnAt(4)).toEqual([]);
    const look = await readOverdue(realm.intake, at(4));
    expect(look).toEqual([]);
    await ask({ kind: 'person.reinstate', requestedBy: name, person: name }, { now: at(4) });
    expect(await turnAt(6)).toEqual([]);
    expect(await stateOf(uid)).toBe('active');
  });

  test('has the reason of the hold erased with the data', async () => {
    const name = newName();
    const uid = await person(name);
    await hold({ person: name }, 1, 0);
    await deletePerson(name, { now: at(2) });
    await apply();
    expect(await turnAt(2)).toEqual([`person.archive ${name}`]);
    await apply();
    await archiveAll(uid);
    expect(await turnAt(2)).toEqual([`person.delete ${name}`]);
    const { rowCount } = await owner.query('SELECT FROM holds WHERE subject = $1', [uid]);
    expect(rowCount).toBe(0);
    const { rows } = await owner.query(
      `SELECT data FROM events WHERE subject = $1 AND event = 'subject.held' AND portal = 'portal'`,
      [uid],
    );
    expect(rows).toEqual([{ data: { account: name } }]);
  });
});

describe('orphaned tools', () => {
  test('are tools that nobody who may log in can reach, through active tools and around cycles', async () => {
    const name = newName();
    await person(name);
    const [a, b, c] = [await tool(name), await tool(name), await tool(name)];
    const chain = async (from: { name: string }, to: { name: string }) => {
      const add = { kind: 'maintainer.add', requestedBy: 'steward', tool: to.name };
      await ask({ ...add, maintainers: [`tools.${from.name}`] });
    };
    await chain(a, b);
    await chain(b, c);
    await chain(c, b);
    for (const { name: of } of [b, c]) {
      await ask({ kind: 'maintainer.remove', requestedBy: 'steward', tool: of, person: name });
    }
    expect(await turnAt(0)).toEqual([]);
    await ask({ kind: 'tool.disable', requestedBy: name, tool: a.name, reason: 'x' });
    await apply();
    await events();
    expect(await turnAt(0)).toEqual([`orphans tools.${b.name}`, `orphans tools.${c.name}`]);
    expect(await events()).toEqual([
      `tool.orphaned tools.${b.name}`,
      `tool.orphaned tools.${c.name}`,
    ]);
    const [wanted] = await readWanted(owner, 'directory', [b.uid]);
    expect(wanted).toMatchObject({ orphaned: true });
    await ask({ kind: 'maintainer.add', requestedBy: 'steward', tool: c.name, person: 'second' });
    expect(await turnAt(0)).toEqual([`orphans tools.${b.name}`, `orphans tools.${c.name}`]);
    expect(await events()).not.toContain(`tool.orphaned tools.${b.name}`);
  });

  test('do not count while they leave, and count again when they are restored', async () => {
    const name = newName();
    await person(name);
    const [{ name: alone, uid }, { name: closed }] = [await tool(name), await tool(name)];
    const disable = { kind: 'tool.disable', requestedBy: name, tool: closed, reason: 'x' };
    await ask(disable);
    const orphans = (...names: string[]) => names.map((of) => `orphans tools.${of}`);
    const isMarked = async () => {
      const { rows } = await owner.query(
        'SELECT orphaned_at IS NOT NULL AS is FROM tools WHERE uid = $1',
        [uid],
      );
      return (rows[0] as { is: boolean }).is;
    };
    const steward = { requestedBy: 'steward', tool: alone };
    await ask({ kind: 'person.suspend', requestedBy: 'steward', person: name, reason: 'x' });
    expect(await turnAt(0)).toEqual(orphans(alone, closed));
    // an admin deletes it
    await ask({ kind: 'tool.delete', ...steward }, { now: start });
    await apply();
    await events();
    expect(await turnAt(0)).toEqual(orphans(alone));
    expect([await isMarked(), await events()]).toEqual([false, []]);
    await apply();
    expect(await turnAt(39)).toEqual([
      `credentials.again tools.${alone}`,
      `credentials.again tools.${closed}`,
      `tool.warn tools.${alone}`,
    ]);
    await apply();
    expect(await turnAt(40)).toEqual([`tool.archive tools.${alone}`]);
    await archiveAll(uid);
    expect(await turnAt(40)).toEqual([`tool.delete tools.${alone}`]);
    await apply();
    expect(await turnAt(40)).toEqual([]);
    await ask({ kind: 'tool.restore', ...steward }, { as: 'steward', now: start });
    await apply();
    await events();
    expect(await turnAt(41)).toEqual([`tool.restore tools.${alone}`, ...orphans(alone)]);
    expect([await isMarked(), await events()]).toEqual([true, [`tool.orphaned tools.${alone}`]]);
  });
});

test('nothing moves while the realm is frozen', async () => {
  const { name } = await tool();
  await ask({ kind: 'tool.delete', requestedBy: 'second', tool: name }, { now: start });
  await apply();
  await turnAt(39);
  await owner.query(`UPDATE frozen SET frozen_at = now(), frozen_by = 'test'`);
  const turn = await turnCalendar(realm.intake, realm.world.config, at(40));
  expect(turn).toMatchObject({ frozen: true, did: [] });
  await owner.query('UPDATE frozen SET frozen_at = NULL, frozen_by = NULL');
  expect(await turnAt(40)).toEqual([`tool.archive tools.${name}`]);
});

test('a failed move does not delay others', async () => {
  const [a, b] = [await tool(), await tool()];
  for (const { name } of [a, b]) {
    await ask({ kind: 'tool.delete', requestedBy: 'second', tool: name }, { now: start });
  }
  await apply();
  await turnAt(39);
  // an archival that has not ended makes the move fail
  await owner.query('INSERT INTO archivals (subject, archival) VALUES ($1, 1)', [a.uid]);
  const turn = await turnCalendar(realm.intake, realm.world.config, at(40));
  expect(turn.did.map(({ account }) => account)).toEqual([`tools.${b.name}`]);
  expect(turn.failed.map(({ key }) => key)).toEqual([`tool.archive ${a.uid}`]);
  const except = turn.failed.map(({ key }) => key);
  // by today's clock, the seal of the subject archived on day 40 must be renewed
  await owner.query(`UPDATE login_seals SET renew_at = 'infinity'`);
  const next = await turnCalendar(realm.intake, realm.world.config, at(40), { except });
  expect(next).toMatchObject({ did: [], failed: [], more: false });
  await owner.query('DELETE FROM archivals WHERE subject = $1', [a.uid]);
  expect(await turnAt(40)).toEqual([`tool.archive tools.${a.name}`]);
});

/** A connection whose n-th statement fails, as if it had been interrupted there. */
function cutAt(client: Client, n: number): Client {
  let count = 0;
  return new Proxy(client, {
    get(target, key) {
      const value = Reflect.get(target, key) as unknown;
      if (key !== 'query' || typeof value !== 'function') return value;
      return (...args: unknown[]) => {
        count += 1;
        if (count === n) return Promise.reject(new Error('cut'));
        return (value as (...of: unknown[]) => unknown).apply(target, args);
      };
    },
  });
}

test('a move that is interrupted at any statement changes nothing, and is made completely the next time', async () => {
  const name = newName();
  const uid = await person(name);
  await tool(name);
  await deletePerson(name);
  await apply();
  const tables = ['people', 'tools', 'archivals', 'maintainers', 'requests', 'events', 'audit'];
  const dump = async () =>
    Promise.all(
      tables.map(async (table) => (await owner.query(`SELECT * FROM ${table} ORDER BY 1`)).rows),
    );
  for (const move of ['person.archive', 'person.delete']) {
    const before = await dump();
    for (let n = 1; ; n += 1) {
      const turn = await turnCalendar(cutAt(realm.intake, n), realm.world.config, at(1), {
        orphans: false,
      }).catch(() => ({ did: [], failed: ['look'] }));
      if (turn.did.length > 0) break;
      expect(turn.failed).toHaveLength(1);
      expect(await dump()).toEqual(before);
      expect(n).toBeLessThan(40);
    }
    expect(await stateOf(uid)).toBe(move === 'person.archive' ? 'archived' : 'deleted');
    await apply();
    if (move === 'person.archive') await archiveAll(uid);
  }
});
