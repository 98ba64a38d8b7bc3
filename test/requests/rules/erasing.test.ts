/** person.erase: who may request it, when it begins, what stops it, and that the database itself enforces this. */
import { randomUUID } from 'node:crypto';
import { afterAll, beforeAll, beforeEach, describe, expect, test } from '@jest/globals';
import { turnCalendar } from '../../../src/lifecycle/calendar.ts';
import { doneEvents } from '../../../src/events/done.ts';
import { beginErasure } from '../../../src/lifecycle/archivals-table.ts';
import { readLeaving } from '../../../src/lifecycle/leaving-facts.ts';
import { openPool, type Pool, transact } from '../../../src/database/connection.ts';
import { settle } from '../../../src/reconcile/relay-queries.ts';
import { readWanted } from '../../../src/reconcile/wanted-queries.ts';
import {
  type AskOptions,
  type BootstrappedRealm,
  openBootstrappedRealm,
  type Wish,
} from '../bootstrapped-realm.ts';

let realm: BootstrappedRealm;
let owner: Pool;
let relay: Pool;
let number = 0;
/** suspended; each test has its own */
let name: string;
let uid: number;

beforeAll(async () => {
  realm = await openBootstrappedRealm('erasing');
  ({ owner } = realm);
  relay = openPool(realm.world.config, 'relay', { max: 1, durable: false });
  await makePerson('second');
  await must({ kind: 'maintainer.add', requestedBy: 'steward', tool: 'admin', person: 'second' });
  await realm.ageAdmins();
});
afterAll(async () => {
  await relay?.end();
  await realm?.close();
});
beforeEach(async () => {
  name = `p${(number += 1)}`;
  uid = await makePerson(name);
  await must({ kind: 'person.suspend', requestedBy: 'steward', person: name, reason: 'the law' });
});

const ask = (wish: Wish, options?: AskOptions) => realm.ask(wish, undefined, options);
async function must(wish: Wish, options?: AskOptions): Promise<void> {
  expect(await ask(wish, options)).toEqual({ verdict: 'accepted' });
}

async function makePerson(shellName: string): Promise<number> {
  await must({
    ...{ kind: 'person.create', requestedBy: shellName, shellName },
    ...{ displayName: `The ${shellName}`, email: `${shellName}@example.org` },
  });
  await must({ kind: 'access.grant', requestedBy: 'steward', person: shellName });
  const { rows } = await owner.query('SELECT uid FROM people WHERE shell_name = $1', [shellName]);
  return (rows[0] as { uid: number }).uid;
}

/** Requests the erasure with the steward's own key. Returns the id of the request. */
async function askForErasure(): Promise<string> {
  const jti = randomUUID();
  await must(
    { kind: 'person.erase', requestedBy: 'steward', person: name },
    { jti, as: 'steward' },
  );
  return jti;
}

const approve = (request: string, by = 'second') =>
  ask({ kind: 'request.approve', requestedBy: by, request }, { as: by });

/** Requested and approved so many hours ago. */
async function approvedAgo(hours: number): Promise<string> {
  const request = await askForErasure();
  expect(await approve(request)).toEqual({ verdict: 'accepted' });
  await owner.query(
    `UPDATE approvals SET decided_at = decided_at - $2::float8 * interval '1 hour' WHERE request = $1`,
    [request, hours],
  );
  return request;
}

async function turn(): Promise<string[]> {
  const { did, failed } = await turnCalendar(realm.intake, realm.world.config, new Date());
  expect(failed).toEqual([]);
  return did.filter(({ subject }) => subject === uid).map(({ move }) => move);
}

async function stateOf(): Promise<string> {
  const { rows } = await owner.query('SELECT state FROM people WHERE uid = $1', [uid]);
  return (rows[0] as { state: string }).state;
}

async function isDone(request: string): Promise<boolean> {
  const { rows } = await owner.query('SELECT done_at FROM requests WHERE jti = $1', [request]);
  return (rows[0] as { done_at: Date | null }).done_at !== null;
}

async function told(): Promise<string[]> {
  const { rows } = await owner.query(
    `SELECT event FROM events WHERE subject = $1 AND portal = 'portal' ORDER BY row_id`,
    [uid],
  );
  return (rows as { event: string }[]).map(({ event }) => event);
}

/** Does what all roles do, and the relay. */
async function apply(): Promise<void> {
  await owner.query(
    `UPDATE convergence SET applied = wanted, state = 'applied' WHERE applied < wanted`,
  );
  await settle(relay, (done) => doneEvents(realm.world.config, done), undefined);
}

describe('an erasure', () => {
  test('begins a day after the approval and sends its event at once; its request is done when everything is applied', async () => {
    const early = await approvedAgo(23.9);
    expect([await turn(), await stateOf(), await isDone(early)]).toEqual([[], 'suspended', false]);
    const [leaver] = await readLeaving(realm.intake, [uid]);
    expect(leaver?.leaving.next).toMatchObject({ move: 'erase' });
    await owner.query(
      `UPDATE approvals SET decided_at = now() - interval '25 hours' WHERE request = $1`,
      [early],
    );
    expect(await turn()).toEqual(['person.erase']);
    expect([await stateOf(), await isDone(early)]).toEqual(['deleted', false]);
    expect(await told()).toContain('person.erased');
    const { rows } = await owner.query(
      'SELECT display_name, email, shell_name FROM people WHERE uid = $1',
      [uid],
    );
    expect(rows).toEqual([{ display_name: null, email: null, shell_name: name }]);
    for (const role of ['homes', 'databases'] as const) {
      const [wanted] = await readWanted(owner, role, [uid]);
      expect(wanted?.archive).toMatchObject({
        ...{ archival: 1, manifest: undefined, expired: true },
        erasure: { request: early, requestedBy: 'steward', approvedBy: 'second' },
      });
    }
    await apply();
    expect(await isDone(early)).toBe(true);
    expect((await told()).filter((event) => event === 'person.erased')).toHaveLength(1);
    expect(await turn()).toEqual([]);
    expect(
      await ask({
        kind: 'person.restore',
        requestedBy: 'steward',
        person: name,
        displayName: 'A',
        email: 'a@example.org',
      }),
    ).toMatchObject({
      code: 'PERSON_NOT_KEPT',
    });
  });

  test('removes existing archives too', async () => {
    await owner.query(
      `INSERT INTO archivals (subject, archival, left_at, keep_until, returning_at, back_at)
       VALUES ($1, 1, now(), now() + interval '1 year', now(), now())`,
      [uid],
    );
    await owner.query(
      `INSERT INTO archives (subject, archival, role, manifest_sha256, path, bytes)
       SELECT $1, 1, r, $2, '/a', 1 FROM unnest(ARRAY['homes', 'databases']) AS r`,
      [uid, 'a'.repeat(64)],
    );
    await approvedAgo(24.1);
    expect(await turn()).toEqual(['person.erase']);
    const [wanted] = await readWanted(owner, 'homes', [uid]);
    expect(wanted).toMatchObject({ archive: { archival: 2 }, pastArchives: [{ archival: 1 }] });
  });

  test('is only for suspended people, requested by an admin and approved by another', async () => {
    expect(
      await ask(
        { kind: 'person.erase', requestedBy: 'second', person: 'steward' },
        { as: 'second' },
      ),
    ).toMatchObject({ code: 'PERSON_NOT_SUSPENDED' });
    const active = `a${number}`;
    await makePerson(active);
    expect(await ask({ kind: 'person.erase', requestedBy: active, person: active })).toMatchObject({
      code: 'NOT_ALLOWED',
    });
    const request = await askForErasure();
    expect(await approve(request, 'steward')).toMatchObject({ code: 'OWN_REQUEST' });
    expect(await approve(request)).toEqual({ verdict: 'accepted' });
    const again = { kind: 'person.erase', requestedBy: 'steward', person: name };
    // both with their own keys, because a portal that speaks for admins could be one of the two
    const speaking = {
      ...realm.world.config,
      portals: realm.world.config.portals.map((each) => ({ ...each, speaksForAdmins: true })),
    };
    expect(await realm.ask(again, speaking)).toMatchObject({
      code: 'NOT_ALLOWED',
      sentence: expect.stringContaining('own key'),
    });
    expect(await ask(again, { as: 'steward' })).toMatchObject({ code: 'PERSON_LEAVING' });
  });

  test.each(['steward', 'second'])('can be stopped by %s until it begins', async (by) => {
    const request = await approvedAgo(23.9);
    await must(
      { kind: 'request.reject', requestedBy: by, request, reason: 'A mistake' },
      { as: by },
    );
    await owner.query(
      `UPDATE approvals SET decided_at = now() - interval '9 days' WHERE request = $1`,
      [request],
    );
    expect([await turn(), await stateOf(), await isDone(request)]).toEqual([[], 'suspended', true]);
    // and may be requested again
    await approvedAgo(24.1);
    expect(await turn()).toEqual(['person.erase']);
  });

  test('cannot be stopped once it has begun', async () => {
    const request = await approvedAgo(24.1);
    await turn();
    expect(
      await ask(
        { kind: 'request.reject', requestedBy: 'second', request, reason: 'Too late' },
        { as: 'second' },
      ),
    ).toMatchObject({ code: 'NOT_WAITING' });
  });

  test('ends with a reinstatement, and does not reappear with the next suspension', async () => {
    const request = await approvedAgo(24.1);
    await must({ kind: 'person.reinstate', requestedBy: 'second', person: name });
    await must({ kind: 'person.suspend', requestedBy: 'steward', person: name, reason: 'again' });
    expect([await turn(), await isDone(request)]).toEqual([[], true]);
  });

  test('waits for the end of a hold, and makes a deletion and a reinstatement wait', async () => {
    await owner.query(
      `UPDATE people SET delete_after = now() - interval '1 day', days_warned = 0, warned_at = now() WHERE uid = $1`,
      [uid],
    );
    await approvedAgo(24.1);
    const until = new Date(Date.now() + 3_600_000).toISOString();
    await must({
      kind: 'subject.hold',
      requestedBy: 'steward',
      person: name,
      reason: 'a court',
      until,
    });
    expect([await turn(), await stateOf()]).toEqual([[], 'suspended']);
    const [held] = await readLeaving(realm.intake, [uid]);
    expect(held?.leaving.next).toMatchObject({ move: 'erase' });
    expect(Date.parse(held?.leaving.next?.at ?? '')).toBeGreaterThan(Date.parse(until));
    await must({ kind: 'subject.release', requestedBy: 'steward', person: name });
    // and begins a day after the end of the hold, so that it can still be stopped
    expect([await turn(), await stateOf()]).toEqual([[], 'suspended']);
    await owner.query(`UPDATE holds SET until = now() - interval '24.1 hours' WHERE subject = $1`, [
      uid,
    ]);
    expect(await turn()).toEqual(['person.erase']);
  });

  test('does not begin while requests that may stop it are waiting', async () => {
    await approvedAgo(24.1);
    const { did } = await turnCalendar(realm.intake, realm.world.config, new Date(), {
      canBeStopped: false,
    });
    expect([did, await stateOf()]).toEqual([[], 'suspended']);
    expect(await turn()).toEqual(['person.erase']);
  });

  test('is rejected by a reinstatement even before it was approved', async () => {
    const request = await askForErasure();
    await must({ kind: 'person.reinstate', requestedBy: 'second', person: name });
    expect(await approve(request)).toMatchObject({ code: 'NOT_WAITING' });
  });

  test('is refused with the name of the hold’s owner but without the reason, because refusals are kept', async () => {
    const until = new Date(Date.now() + 3_600_000).toISOString();
    const hold = { kind: 'subject.hold', requestedBy: 'steward', person: name, until };
    await must({ ...hold, reason: 'a-secret-reason' });
    const refused = await ask(
      { kind: 'person.erase', requestedBy: 'steward', person: name },
      { as: 'steward' },
    );
    expect(refused).toMatchObject({ code: 'SUBJECT_HELD' });
    expect(refused.sentence).not.toContain('a-secret-reason');
  });
});

describe('the database', () => {
  const begin = () => transact(realm.intake, () => beginErasure(realm.intake, uid, new Date()));
  const REFUSED = /may not be erased/;

  test('refuses an erasure without a request approved at least a day ago', async () => {
    await expect(begin()).rejects.toThrow(REFUSED);
    const request = await askForErasure();
    await expect(begin()).rejects.toThrow(REFUSED);
    await approve(request);
    await expect(begin()).rejects.toThrow(REFUSED);
    expect(await stateOf()).toBe('suspended');
  });

  test('uses its own clock, whatever time intake gives', async () => {
    const request = await askForErasure();
    await must(
      { kind: 'request.approve', requestedBy: 'second', request },
      { as: 'second', now: new Date(Date.now() - 30_000) },
    );
    await realm.intake.query(
      `UPDATE approvals SET decided_at = now() - interval '2 days' WHERE request = $1`,
      [request],
    );
    await expect(begin()).rejects.toThrow(REFUSED);
    expect(await turn()).toEqual([]);
  });

  test('requires two admins, a suspended person, and no hold', async () => {
    const request = await approvedAgo(24.1);
    await owner.query('UPDATE approvals SET decided_by = requested_by WHERE request = $1', [
      request,
    ]);
    await expect(begin()).rejects.toThrow(REFUSED);
    await owner.query(`UPDATE approvals SET decided_by = 'second' WHERE request = $1`, [request]);
    await owner.query(
      `INSERT INTO holds (subject, held_by, held_at, reason, until) VALUES ($1, 'steward', now(), 'r', now() + interval '1 hour')`,
      [uid],
    );
    await expect(begin()).rejects.toThrow(REFUSED);
    await owner.query('DELETE FROM holds WHERE subject = $1', [uid]);
    await owner.query(`UPDATE people SET state = 'active' WHERE uid = $1`, [uid]);
    await expect(begin()).rejects.toThrow(REFUSED);
  });

  test('does not let an erasure be moved to another person or a tool', async () => {
    await approvedAgo(24.1);
    await turn();
    const other = await makePerson(`o${number}`);
    for (const sql of [
      'UPDATE archivals SET subject = $2 WHERE subject = $1',
      `UPDATE archivals SET erasure = NULL WHERE subject = $1 AND $2::int > 0`,
    ]) {
      await expect(realm.intake.query(sql, [uid, other])).rejects.toThrow(/never changed/);
    }
  });

  test('allows no other deletion without archives', async () => {
    await expect(
      transact(realm.intake, async () => {
        await realm.intake.query(
          `INSERT INTO archivals (subject, archival, left_at, expired_at) VALUES ($1, 1, now(), now())`,
          [uid],
        );
        await realm.intake.query(`UPDATE people SET state = 'deleted' WHERE uid = $1`, [uid]);
      }),
    ).rejects.toThrow(/no archive of it is recorded/);
  });

  test('keeps an approved erasure until it has begun, however old it is', async () => {
    const request = await approvedAgo(24 * 4000);
    const isKept = async () =>
      (await owner.query('SELECT FROM approvals WHERE request = $1', [request])).rowCount === 1;
    const expire = () => owner.query(`SELECT remove_expired('approvals', 30, 0)`);
    await expire();
    expect(await isKept()).toBe(true);
    await turn();
    await expire();
    expect(await isKept()).toBe(false);
  });
});
