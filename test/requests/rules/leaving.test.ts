/** How people and tools leave by request: who may request it, what is refused, what follows, which events are sent. */
import { randomUUID } from 'node:crypto';
import { afterAll, beforeAll, describe, expect, test } from '@jest/globals';
import type { Config } from '../../../src/shared/config.ts';
import { doneEvents } from '../../../src/events/done.ts';
import { openPool, type Pool, withClient } from '../../../src/database/connection.ts';
import { findRequests } from '../../../src/requests/request-progress.ts';
import { settle } from '../../../src/reconcile/relay-queries.ts';
import { wantPerson, wantTool } from '../../laws-world.ts';
import {
  type AskOptions,
  type BootstrappedRealm,
  openBootstrappedRealm,
} from '../bootstrapped-realm.ts';

const NOW = new Date('2030-01-01T12:00:00Z');
const later = (days: number) => new Date(NOW.getTime() + days * 24 * 3600 * 1000).toISOString();
const SECOND: AskOptions = { as: 'second' };
/** The test sets the clock, as far as the lifetime of a token allows. */
const AT: AskOptions = { now: NOW };

let realm: BootstrappedRealm;
let world: BootstrappedRealm['world'];
let owner: Pool;
let relay: Pool;
/** suspensions do not wait, except where that is tested */
let config: Config;

beforeAll(async () => {
  realm = await openBootstrappedRealm('leaving');
  ({ world, owner } = realm);
  relay = openPool(world.config, 'relay', { max: 1, durable: false });
  config = { ...world.config, leaving: { ...world.config.leaving, mostSuspensionsPerHour: 1000 } };
  // the first numbers are for subjects that the test creates itself
  await owner.query('UPDATE id_ranges SET next = last - 10');
  await must('person.create', 'second', {
    shellName: 'second',
    displayName: 'Second',
    email: 'second@example.org',
  });
  await must('access.grant', 'steward', { person: 'second' });
  await must('maintainer.add', 'steward', { tool: 'admin', person: 'second' });
  await realm.ageAdmins();
});
afterAll(async () => {
  await relay.end();
  await realm.close();
});

type Rest = Record<string, unknown>;

/** The code of the refusal. Undefined if the request was accepted. */
async function ask(
  kind: string,
  requestedBy: string,
  rest: Rest,
  options: AskOptions = {},
): Promise<string | undefined> {
  return (await realm.ask({ kind, requestedBy, ...rest }, config, options)).code;
}
async function must(kind: string, requestedBy: string, rest: Rest, options?: AskOptions) {
  expect([kind, rest, await ask(kind, requestedBy, rest, options)]).toEqual([
    kind,
    rest,
    undefined,
  ]);
}

async function read<Row>(sql: string, values: unknown[] = []): Promise<Row[]> {
  return (await owner.query(sql, values)).rows as Row[];
}
async function person(): Promise<{ uid: number; name: string }> {
  const made = await wantPerson(owner, world, { keys: 0 });
  await owner.query(`SELECT touch_generation($1, r) FROM unnest($2::text[]) AS r`, [
    made.uid,
    ['directory', 'homes', 'databases'],
  ]);
  return made;
}
const tool = (...maintainers: { uid: number }[]) =>
  wantTool(
    owner,
    world,
    maintainers.map(({ uid }) => uid),
  );
async function epochOf({ uid }: { uid: number }): Promise<[number, number]> {
  const [row] = await read<{ epoch: number; overlap: number }>(
    'SELECT wanted_epoch AS epoch, overlap_seconds AS overlap FROM credentials WHERE account = $1',
    [uid],
  );
  return [row!.epoch, row!.overlap];
}
/** Does what the homes role does. */
async function record({ uid }: { uid: number }): Promise<void> {
  await owner.query(
    `INSERT INTO database_verifiers (account, epoch, verifier)
     SELECT account, wanted_epoch, '*' || repeat('0', 40) FROM credentials WHERE account = $1
     ON CONFLICT (account) DO UPDATE SET epoch = excluded.epoch`,
    [uid],
  );
}
async function stateOf({ uid }: { uid: number }): Promise<Record<string, unknown>> {
  const [row] = await read<Record<string, unknown>>(
    `SELECT state, suspended_at, suspended_by, suspension_reason, suspended_until, delete_after,
            delete_requested_by, days_warned, warned_at
     FROM people WHERE uid = $1`,
    [uid],
  );
  return row!;
}
async function toolOf({ uid }: { uid: number }): Promise<Record<string, unknown>> {
  const [row] = await read<Record<string, unknown>>(
    `SELECT state, disabled_at, disabled_by, disabled_reason, delete_requested_at, delete_after
     FROM tools WHERE uid = $1`,
    [uid],
  );
  return row!;
}
/** The events about a request that the portal received, in order. */
const eventsOf = (jti: string) =>
  read<{ portal: string; event: string; subject: number | null; data: Rest }>(
    'SELECT portal, event, subject, data FROM events WHERE request = $1 ORDER BY row_id',
    [jti],
  );
/** All roles apply everything, and the relay sends the events. */
async function apply(): Promise<void> {
  await owner.query(
    `UPDATE convergence SET applied = wanted, state = 'applied' WHERE applied < wanted`,
  );
  await settle(relay, (done) => doneEvents(config, done), undefined);
}
const isDone = async (jti: string) =>
  (
    await read<{ done: boolean }>(
      'SELECT done_at IS NOT NULL AS done FROM requests WHERE jti = $1',
      [jti],
    )
  )[0]?.done;
/** What a request touched, urgently or not. */
const touchedBy = (jti: string) =>
  read<{ subject: number; role: string; urgent: boolean }>(
    `SELECT r.subject, r.role, c.urgent FROM requests q JOIN request_touches r ON r.request = q.id
       JOIN convergence c ON c.subject = r.subject AND c.role = r.role
     WHERE q.jti = $1 ORDER BY r.subject, r.role`,
    [jti],
  );

/** Does what the calendar and the roles do. */
async function archiveAll({ uid }: { uid: number }): Promise<void> {
  await owner.query('INSERT INTO archivals (subject, archival, began_at) VALUES ($1, 1, $2)', [
    uid,
    NOW,
  ]);
  await owner.query(`UPDATE people SET state = 'archived' WHERE uid = $1`, [uid]);
  await owner.query(`UPDATE tools SET state = 'archived' WHERE uid = $1`, [uid]);
}
async function leave(subject: { uid: number }): Promise<void> {
  const { uid } = subject;
  await archiveAll(subject);
  await owner.query('UPDATE archivals SET left_at = now() WHERE subject = $1', [uid]);
  await owner.query(
    `INSERT INTO archives (subject, archival, role, manifest_sha256, path, bytes)
     SELECT $1, 1, role, repeat('0', 64), '/', 0 FROM unnest(ARRAY['homes', 'databases']) AS role`,
    [uid],
  );
  await owner.query(`UPDATE people SET state = 'deleted' WHERE uid = $1`, [uid]);
  await owner.query(`UPDATE tools SET state = 'deleted' WHERE uid = $1`, [uid]);
}

describe('a suspended person', () => {
  test('is recorded with who, when, why and until, and the account, the database account and the groups follow urgently', async () => {
    const [alice, bob] = [await person(), await person()];
    const one = await tool(alice, bob);
    const jti = randomUUID();
    await must(
      'person.suspend',
      'steward',
      { person: alice.name, reason: 'a lost laptop', until: later(3) },
      { ...AT, jti },
    );
    expect(await stateOf(alice)).toEqual({
      state: 'suspended',
      suspended_at: NOW,
      suspended_by: 'steward',
      suspension_reason: 'a lost laptop',
      suspended_until: new Date(later(3)),
      delete_after: null,
      delete_requested_by: null,
      days_warned: null,
      warned_at: null,
    });
    expect(await touchedBy(jti)).toEqual([
      { subject: alice.uid, role: 'databases', urgent: true },
      { subject: alice.uid, role: 'directory', urgent: true },
      { subject: one.uid, role: 'databases', urgent: true },
      { subject: one.uid, role: 'directory', urgent: true },
      { subject: one.uid, role: 'homes', urgent: true },
    ]);
  });

  test('no longer knows the password of any tool that they could reach, even through others; the remaining maintainers are named', async () => {
    const [alice, bob] = [await person(), await person()];
    const direct = await tool(alice, bob);
    const through = await tool(direct);
    const [disabled, gone] = [await tool(through), await tool(alice)];
    const behindGone = await tool(gone, bob);
    const [others, cycle] = [await tool(bob), await tool(disabled)];
    await owner.query('INSERT INTO maintainers VALUES ($1, $2)', [direct.uid, cycle.uid]);
    await must('tool.disable', 'steward', { tool: disabled.name, reason: 'x' });
    await leave(gone);
    const reached = [direct, through, disabled, cycle];
    for (const each of [...reached, behindGone, others]) await record(each);
    const jti = randomUUID();
    await must('person.suspend', 'steward', { person: alice.name, reason: 'x' }, { jti });
    for (const each of reached) expect(await epochOf(each)).toEqual([2, 0]);
    for (const each of [behindGone, others, alice]) expect(await epochOf(each)).toEqual([1, 0]);
    expect((await eventsOf(jti)).filter(({ event }) => event === 'credentials.revoked')).toEqual(
      reached
        .toSorted((a, b) => a.uid - b.uid)
        .map(({ uid, name }) => ({
          portal: 'portal',
          event: 'credentials.revoked',
          subject: uid,
          data: {
            tool: name,
            account: `tools.${name}`,
            epoch: 2,
            maintainers: uid === direct.uid ? [bob.name] : [],
            because: 'person.suspend',
          },
        })),
    );
  });

  test('gets every membership back when reinstated, and nothing is left of the suspension', async () => {
    const alice = await person();
    const one = await tool(alice);
    const memberships = () =>
      read('SELECT tool FROM maintainers WHERE maintainer = $1 AND tool = $2', [
        alice.uid,
        one.uid,
      ]);
    const before = [await memberships(), await stateOf(alice)];
    await must('person.suspend', 'steward', { person: alice.name, reason: 'x' });
    const jti = randomUUID();
    await must('person.reinstate', 'steward', { person: alice.name }, { jti });
    expect([await memberships(), await stateOf(alice)]).toEqual(before);
    expect((await touchedBy(jti)).map(({ subject, role }) => [subject, role])).toEqual([
      [alice.uid, 'databases'],
      [alice.uid, 'directory'],
      [one.uid, 'directory'],
    ]);
  });

  test('stays suspended for longer if that is requested, but never for a shorter time', async () => {
    const alice = await person();
    const suspend = (until?: string) =>
      ask('person.suspend', 'steward', { person: alice.name, reason: 'x', until }, AT);
    const until = async () => (await stateOf(alice))['suspended_until'];
    expect(await suspend(later(2))).toBeUndefined();
    expect(await suspend(later(1))).toBe('PERSON_ALREADY_SUSPENDED');
    expect(await suspend(later(2))).toBe('PERSON_ALREADY_SUSPENDED');
    expect(await suspend(later(3))).toBeUndefined();
    expect(await until()).toEqual(new Date(later(3)));
    expect(await suspend()).toBeUndefined();
    expect(await until()).toBeNull();
    expect(await suspend(later(9))).toBe('PERSON_ALREADY_SUSPENDED');
    expect(await suspend(later(-1))).toBe('REQUEST_INVALID');
    const bob = await person();
    const past = { person: bob.name, reason: 'x', until: later(0) };
    expect(await ask('person.suspend', 'steward', past, AT)).toBe('REQUEST_INVALID');
  });
});

test('is like a person whose access is revoked, who no longer knows the password of a tool either', async () => {
  const alice = await person();
  const one = await tool(alice);
  await record(one);
  await must('access.revoke', 'steward', { person: alice.name });
  expect(await epochOf(one)).toEqual([2, 0]);
  await must('access.grant', 'steward', { person: alice.name });
  await must('person.suspend', 'steward', { person: alice.name, reason: 'x' });
  await record(one);
  await must('access.revoke', 'steward', { person: alice.name });
  expect(await epochOf(one)).toEqual([3, 0]);
});

describe('several people in one request', () => {
  test('are all suspended, each with their own event and row in the audit', async () => {
    const people = [await person(), await person(), await person()];
    const [already, gone] = [await person(), await person()];
    await must('person.suspend', 'steward', { person: already.name, reason: 'before' });
    await leave(gone);
    const names = [...people, already, gone].map(({ name }) => name);
    const jti = randomUUID();
    await must('person.suspend', 'steward', { people: names, reason: 'x' }, { jti });
    for (const each of people) expect((await stateOf(each))['state']).toBe('suspended');
    expect(await stateOf(already)).toMatchObject({ suspension_reason: 'before' });
    expect((await stateOf(gone))['state']).toBe('deleted');
    const audit = `SELECT a.subject, a.account, a.fields FROM audit a JOIN requests q ON q.id = a.request
                   WHERE q.jti = $1 ORDER BY a.subject`;
    expect(await read(audit, [jti])).toEqual(
      people.map(({ uid, name }) => ({ subject: uid, account: name, fields: ['state'] })),
    );
    const [shown] = await withClient(owner, (client) => findRequests(client, jti));
    expect(shown).toMatchObject({ account: null, accounts: people.map(({ name }) => name) });
    const [{ on_done: onDone }] = (await read('SELECT on_done FROM requests WHERE jti = $1', [
      jti,
    ])) as [{ on_done: { each: unknown } }];
    expect(onDone.each).toEqual(
      people.map(({ uid, name }) => ({ subject: uid, data: { account: name } })),
    );
  });

  test('are all reinstated, each with their own event and row in the audit', async () => {
    const people = [await person(), await person()];
    const [never, gone] = [await person(), await person()];
    const names = people.map(({ name }) => name);
    await must('person.suspend', 'steward', { people: names, reason: 'a mistake' });
    await leave(gone);
    const all = [...names, never.name, gone.name];
    expect(await ask('person.reinstate', 'steward', { people: [...all, 'nobody-here'] })).toBe(
      'PERSON_UNKNOWN',
    );
    expect(await ask('person.reinstate', never.name, { people: names })).toBe('NOT_ALLOWED');
    const jti = randomUUID();
    await must('person.reinstate', 'steward', { people: all }, { jti });
    for (const each of people) expect((await stateOf(each))['state']).toBe('active');
    expect((await stateOf(gone))['state']).toBe('deleted');
    const audit = `SELECT a.subject, a.account, a.fields FROM audit a JOIN requests q ON q.id = a.request
                   WHERE q.jti = $1 ORDER BY a.subject`;
    expect(await read(audit, [jti])).toEqual(
      people.map(({ uid, name }) => ({ subject: uid, account: name, fields: ['state'] })),
    );
    const [shown] = await withClient(owner, (client) => findRequests(client, jti));
    expect(shown).toMatchObject({ account: null, accounts: names });
    const [{ on_done: onDone }] = (await read('SELECT on_done FROM requests WHERE jti = $1', [
      jti,
    ])) as [{ on_done: { each: unknown } }];
    expect(onDone.each).toEqual(
      people.map(({ uid, name }) => ({ subject: uid, data: { account: name } })),
    );
    // nobody of them is suspended any more
    await must('person.reinstate', 'steward', { people: names });
  });

  test('are all left alone if one of the names is unknown, and the refusal gives that name', async () => {
    const alice = await person();
    const people = [alice.name, 'nobody-here', 'nor-here'];
    const wish = { kind: 'person.suspend', requestedBy: 'steward', people, reason: 'x' };
    expect(await realm.ask(wish, config)).toMatchObject({
      code: 'PERSON_UNKNOWN',
      sentence: expect.stringContaining('nobody-here, nor-here'),
    });
    expect((await stateOf(alice))['state']).toBe('active');
  });

  test('must not be all the admins', async () => {
    const alice = await person();
    const people = ['steward', 'second', alice.name];
    expect(await ask('person.suspend', 'steward', { people, reason: 'x' })).toBe('ADMIN_TOOL');
    expect((await stateOf(alice))['state']).toBe('active');
  });

  test('take no more statements than few do', async () => {
    const count = async (people: string[]): Promise<number> => {
      const query = realm.intake.query.bind(realm.intake);
      let statements = 0;
      realm.intake.query = ((...args: Parameters<typeof query>) => {
        statements += 1;
        return query(...args);
      }) as typeof query;
      await must('person.suspend', 'steward', { people, reason: 'x' });
      realm.intake.query = query;
      return statements;
    };
    const makeMany = async (many: number) => {
      const people = await Promise.all(Array.from({ length: many }, () => person()));
      await tool(...people.slice(0, 2));
      for (const each of people.slice(2, 12)) await tool(each);
      return people.map(({ name }) => name);
    };
    const few = await count(await makeMany(3));
    expect(await count(await makeMany(60))).toBe(few);
  });
});

describe('more people suspended one by one in an hour than is allowed', () => {
  test('wait, each with a reason, until another admin approves; several in one request do not wait', async () => {
    const before = config;
    const done = `SELECT count(*)::int AS n FROM requests r WHERE kind = 'person.suspend'
      AND verdict = 'accepted' AND subject IS NOT NULL`;
    const [{ n }] = (await read(done)) as [{ n: number }];
    config = { ...config, leaving: { ...config.leaving, mostSuspensionsPerHour: n + 2 } };
    const people = await Promise.all(Array.from({ length: 6 }, () => person()));
    const [, , held, rejected, , last] = people;
    const jtis = people.map(() => randomUUID());
    for (const [i, { name }] of people.slice(0, 4).entries()) {
      await must('person.suspend', 'steward', { person: name, reason: 'x' }, { jti: jtis[i]! });
    }
    const states = async () =>
      Promise.all(people.map(async (each) => (await stateOf(each))['state']));
    const [s, a] = ['suspended', 'active'];
    expect(await states()).toEqual([s, s, a, a, a, a]);
    expect((await eventsOf(jtis[2]!)).map(({ event }) => event)).toEqual([
      'request.accepted',
      'request.waiting',
    ]);
    expect(await Promise.all(jtis.slice(0, 4).map(isDone))).toEqual([false, false, false, false]);
    await apply();
    expect(await Promise.all(jtis.slice(0, 4).map(isDone))).toEqual([true, true, false, false]);
    expect((await eventsOf(jtis[2]!))[1]).toMatchObject({
      subject: held!.uid,
      data: { kind: 'person.suspend', account: held!.name, why: expect.stringMatching(/admin/u) },
    });
    const wish = { person: held!.name, reason: 'x' };
    expect(await ask('person.suspend', 'steward', wish)).toBe('WAITS_ALREADY');
    expect(await ask('request.approve', 'steward', { request: jtis[2] }, { as: 'steward' })).toBe(
      'OWN_REQUEST',
    );
    await must('request.approve', 'second', { request: jtis[2] }, SECOND);
    expect(await stateOf(held!)).toMatchObject({ state: s, suspended_by: 'steward' });
    await must('request.reject', 'second', { request: jtis[3], reason: 'no' }, SECOND);
    expect(await stateOf(rejected!)).toMatchObject({ state: a });
    expect((await eventsOf(jtis[2]!)).at(-1)).toMatchObject({ event: 'request.approved' });
    expect((await eventsOf(jtis[3]!)).at(-1)).toMatchObject({
      event: 'request.rejected',
      data: { reason: 'no', by: 'second' },
    });
    expect(await Promise.all(jtis.slice(2, 4).map(isDone))).toEqual([false, true]);
    await apply();
    expect(await Promise.all(jtis.slice(2, 4).map(isDone))).toEqual([true, true]);
    expect((await eventsOf(jtis[2]!)).map(({ event }) => event).slice(2)).toEqual([
      'request.approved',
      'person.suspended',
      'request.done',
    ]);
    expect((await eventsOf(jtis[3]!)).at(-1)).toMatchObject({ event: 'request.rejected' });
    await must('person.suspend', 'steward', { people: [people[4]!.name, last!.name], reason: 'x' });
    expect(await states()).toEqual([s, s, s, a, s, s]);
    // requests that waited do not count
    config = { ...config, leaving: { ...config.leaving, mostSuspensionsPerHour: n + 3 } };
    await must('person.suspend', 'steward', { person: rejected!.name, reason: 'x' });
    expect(await states()).toEqual([s, s, s, s, s, s]);
    config = before;
  });
});

describe('a deletion of a person', () => {
  const approve = (jti: string, options = SECOND) =>
    ask('request.approve', options.as ?? 'steward', { request: jti }, options);

  test('waits, whoever requests it, until another admin approves it with their own key', async () => {
    const alice = await person();
    const one = await tool(alice);
    await record(one);
    const jti = randomUUID();
    await must('person.delete', alice.name, { person: alice.name, reason: 'I go' }, { jti });
    expect(await stateOf(alice)).toMatchObject({ state: 'active', delete_after: null });
    expect((await eventsOf(jti)).map(({ event }) => event)).toEqual([
      'request.accepted',
      'request.waiting',
    ]);
    expect(await ask('person.delete', 'steward', { person: alice.name })).toBe('WAITS_ALREADY');
    expect(await approve(jti, {})).toBe('NOT_ALLOWED'); // steward, but through a portal
    expect(await approve(randomUUID())).toBe('NOT_WAITING');
    const approval = randomUUID();
    await must('request.approve', 'second', { request: jti }, { ...SECOND, ...AT, jti: approval });
    expect(await stateOf(alice)).toMatchObject({
      state: 'suspended',
      suspended_by: alice.name,
      suspension_reason: 'I go',
      delete_after: new Date(later(30)),
    });
    expect(await epochOf(one)).toEqual([2, 0]);
    expect(
      await read('SELECT state, body, decided_by FROM approvals WHERE request = $1', [jti]),
    ).toEqual([{ state: 'approved', body: null, decided_by: 'second' }]);
    const touched = await touchedBy(approval);
    expect(touched.map(({ subject, role }) => `${subject} ${role}`)).toContain(
      `${alice.uid} directory`,
    );
    expect(touched.every(({ urgent }) => urgent)).toBe(true);
    expect((await eventsOf(jti)).slice(2)).toMatchObject([
      {
        portal: 'portal',
        event: 'request.approved',
        data: { kind: 'person.delete', by: 'second' },
      },
      {
        event: 'person.deleting',
        subject: alice.uid,
        data: { account: alice.name, days: 30, deleteAfter: later(30) },
      },
      { portal: 'portal', event: 'credentials.revoked', subject: one.uid },
    ]);
    // the request and the approval are done when access is closed
    expect([await isDone(jti), await isDone(approval)]).toEqual([false, false]);
    await apply();
    expect([await isDone(jti), await isDone(approval)]).toEqual([true, true]);
    expect((await eventsOf(jti)).slice(5)).toMatchObject([
      { portal: 'portal', event: 'person.suspended', subject: alice.uid },
      { portal: 'portal', event: 'request.done', data: { kind: 'person.delete' } },
    ]);
    expect(await eventsOf(approval)).toEqual([]);
    expect(await approve(jti)).toBe('NOT_WAITING');
    expect(await ask('person.delete', 'steward', { person: alice.name })).toBe('PERSON_LEAVING');
  });

  test('that an admin requests cannot be approved by the same admin', async () => {
    const alice = await person();
    const jti = randomUUID();
    await must('person.delete', 'steward', { person: alice.name }, { jti, as: 'steward' });
    expect(await eventsOf(jti)).toEqual([]);
    expect(await approve(jti, { as: 'steward' })).toBe('OWN_REQUEST');
    await must('request.reject', 'second', { request: jti, reason: 'no' }, SECOND);
    expect(await approve(jti)).toBe('NOT_WAITING');
  });

  test('waits beside one that another portal sent with the same id, and each is decided by portal and id', async () => {
    const [alice, bob] = [await person(), await person()];
    const jti = randomUUID();
    await must('person.delete', alice.name, { person: alice.name }, { jti });
    await must('person.delete', 'steward', { person: bob.name }, { jti, as: 'steward' });
    const decide = (kind: string, rest: Rest = {}) =>
      ask(kind, 'second', { request: jti, ...rest }, SECOND);
    const states = async () =>
      Object.fromEntries(
        (
          await read<{ portal: string; state: string }>(
            'SELECT portal, state FROM approvals WHERE request = $1',
            [jti],
          )
        ).map(({ portal, state }) => [portal, state]),
      );
    const [both, no] = ['WAITS_TWICE', { reason: 'no' }];
    expect([await decide('request.approve'), await decide('request.reject', no)]).toEqual([
      both,
      both,
    ]);
    expect(await decide('request.approve', { sentBy: 'nobody' })).toBe('NOT_WAITING');
    expect(await states()).toEqual({ portal: 'open', 'admin.steward': 'open' });
    expect(await decide('request.reject', { ...no, sentBy: 'portal' })).toBeUndefined();
    expect(await states()).toEqual({ portal: 'rejected', 'admin.steward': 'open' });
    expect(await decide('request.approve', { sentBy: 'portal' })).toBe('NOT_WAITING');
    // only that one is left
    expect(await decide('request.approve')).toBeUndefined();
    expect(await states()).toEqual({ portal: 'rejected', 'admin.steward': 'approved' });
    expect([(await stateOf(alice))['state'], (await stateOf(bob))['state']]).toEqual([
      'active',
      'suspended',
    ]);
  });

  test('is decided anew when it is approved', async () => {
    const alice = await person();
    await must('maintainer.add', 'steward', { tool: 'admin', person: alice.name });
    const jti = randomUUID();
    await must('person.delete', alice.name, { person: alice.name }, { jti });
    await must('person.suspend', 'second', { people: [alice.name], reason: 'x' });
    await apply();
    expect(await isDone(jti)).toBe(false);
    await approve(jti);
    // access was closed before
    expect(await isDone(jti)).toBe(true);
    expect((await eventsOf(jti)).map(({ event }) => event).slice(2)).toEqual([
      'request.approved',
      'person.deleting',
      'request.done',
    ]);
    expect(await stateOf(alice)).toMatchObject({
      state: 'suspended',
      suspended_by: 'second',
      suspension_reason: 'x',
      delete_after: expect.any(Date),
    });
    const bob = await person();
    const held = randomUUID();
    await must('person.delete', 'steward', { person: bob.name }, { jti: held });
    await archiveAll(bob);
    expect(await approve(held)).toBe('PERSON_LEAVING');
    expect(await read('SELECT state FROM approvals WHERE request = $1', [held])).toEqual([
      { state: 'open' },
    ]);
  });

  test('can be rejected by the requester, in the way in which it was sent, while it waits', async () => {
    const [alice, bob] = [await person(), await person()];
    const [jti, ofAdmin] = [randomUUID(), randomUUID()];
    await must('person.delete', alice.name, { person: alice.name }, { jti });
    await must('person.delete', 'steward', { person: bob.name }, { jti: ofAdmin, as: 'steward' });
    const reject = (request: string, by: string, options?: AskOptions) =>
      ask('request.reject', by, { request, reason: 'I stay' }, options);
    expect(await reject(jti, bob.name)).toBe('NOT_ALLOWED');
    // the portal did not send it
    expect(await reject(ofAdmin, 'steward')).toBe('NOT_ALLOWED');
    expect(await reject(jti, alice.name)).toBeUndefined();
    expect(await reject(ofAdmin, 'steward', { as: 'steward' })).toBeUndefined();
    expect((await eventsOf(jti)).slice(2)).toMatchObject([
      { event: 'request.rejected', data: { by: alice.name, reason: 'I stay' } },
    ]);
    for (const each of [jti, ofAdmin]) {
      expect(await isDone(each)).toBe(true);
      expect(await approve(each)).toBe('NOT_WAITING');
    }
    // it may be requested again
    await must('person.delete', alice.name, { person: alice.name });
  });

  const wantDeleted = async ({ name }: { name: string }, by: string) => {
    const jti = randomUUID();
    await must('person.delete', by, { person: name }, { jti });
    expect(await approve(jti)).toBeUndefined();
  };

  test('ends with a reinstatement before the person is archived', async () => {
    const alice = await person();
    const before = await stateOf(alice);
    await wantDeleted(alice, 'steward');
    await must('person.reinstate', 'steward', { person: alice.name });
    expect(await stateOf(alice)).toEqual(before);
  });

  test('can be cancelled by the person who requested it, and otherwise only by an admin', async () => {
    const [alice, bob] = [await person(), await person()];
    const one = await tool(alice);
    const before = await stateOf(alice);
    await wantDeleted(alice, alice.name);
    await wantDeleted(bob, 'steward');
    const withdraw = (of: { name: string }, by = of.name) =>
      ask('person.reinstate', by, { person: of.name });
    // somebody else requested it
    expect(await withdraw(bob)).toBe('PERSON_SUSPENDED');
    expect(await withdraw(bob, alice.name)).toBe('PERSON_SUSPENDED');
    const eve = await person();
    expect(await withdraw(alice, eve.name)).toBe('NOT_ALLOWED');
    // the person may do nothing else meanwhile
    expect(await ask('tool.update', alice.name, { tool: one.name, title: 'x' })).toBe(
      'PERSON_SUSPENDED',
    );
    expect(await withdraw(alice)).toBeUndefined();
    expect(await stateOf(alice)).toEqual(before);
    expect(await withdraw(alice)).toBe('NOT_ALLOWED');
  });

  test('cannot be cancelled by a person whom an admin suspended, before it or after', async () => {
    const [alice, bob] = [await person(), await person()];
    const jti = randomUUID();
    await must('person.delete', alice.name, { person: alice.name }, { jti });
    await must('person.suspend', 'steward', { person: alice.name, reason: 'spam' });
    expect(await approve(jti)).toBeUndefined();
    await wantDeleted(bob, bob.name);
    await must('person.suspend', 'steward', { person: bob.name, reason: 'spam' }, AT);
    for (const each of [alice, bob]) {
      expect(await ask('person.reinstate', each.name, { person: each.name })).toBe(
        'PERSON_SUSPENDED',
      );
      expect(await stateOf(each)).toMatchObject({
        ...{ state: 'suspended', suspended_by: 'steward', suspension_reason: 'spam' },
        delete_after: expect.any(Date),
      });
    }
  });
});

describe('a tool', () => {
  test('that is disabled records by whom and why, and can be enabled completely', async () => {
    const alice = await person();
    const one = await tool(alice);
    const before = await toolOf(one);
    const jti = randomUUID();
    const wish = { tool: one.name, reason: 'it burns' };
    await must('tool.disable', alice.name, wish, { ...AT, jti });
    expect(await toolOf(one)).toEqual({
      state: 'disabled',
      disabled_at: NOW,
      disabled_by: alice.name,
      disabled_reason: 'it burns',
      delete_requested_at: null,
      delete_after: null,
    });
    expect(await touchedBy(jti)).toEqual([
      { subject: one.uid, role: 'databases', urgent: true },
      { subject: one.uid, role: 'directory', urgent: true },
    ]);
    await must('tool.enable', alice.name, { tool: one.name });
    expect(await toolOf(one)).toEqual(before);
  });

  test('that is to be deleted is disabled at once, for the grace time, and can be kept', async () => {
    const alice = await person();
    const one = await tool(alice);
    const jti = randomUUID();
    await must('tool.delete', alice.name, { tool: one.name }, { ...AT, jti });
    const told = async (id: string) => (await eventsOf(id)).map(({ event }) => event);
    expect(await told(jti)).toEqual(['request.accepted', 'tool.deleting']);
    expect(await touchedBy(jti)).toEqual([
      { subject: one.uid, role: 'databases', urgent: true },
      { subject: one.uid, role: 'directory', urgent: true },
    ]);
    expect((await eventsOf(jti))[1]).toMatchObject({
      subject: one.uid,
      data: { tool: one.name, account: `tools.${one.name}`, days: 40, deleteAfter: later(40) },
    });
    await apply();
    expect((await told(jti)).slice(2)).toEqual(['tool.disabled', 'request.done']);
    expect((await eventsOf(jti))[2]).toMatchObject({
      data: { tool: one.name, account: `tools.${one.name}`, reason: 'to be deleted' },
    });
    expect(await toolOf(one)).toMatchObject({
      state: 'disabled',
      disabled_reason: 'to be deleted',
      delete_requested_at: NOW,
      delete_after: new Date(later(40)),
    });
    await must('tool.enable', alice.name, { tool: one.name });
    const kept = { state: 'active', delete_requested_at: null, delete_after: null };
    expect(await toolOf(one)).toMatchObject(kept);
    await must('tool.disable', 'steward', { tool: one.name, reason: 'it burns' });
    const again = randomUUID();
    await must('tool.delete', alice.name, { tool: one.name }, { jti: again });
    await apply();
    // it was disabled before
    expect(await told(again)).toEqual(['request.accepted', 'tool.deleting', 'request.done']);
    expect(await toolOf(one)).toMatchObject({
      disabled_by: 'steward',
      disabled_reason: 'it burns',
    });
  });

  test('that is being archived can be restored with tool.enable, and a deleted one by an admin', async () => {
    const alice = await person();
    const [one, two] = [await tool(alice), await tool(alice)];
    const held = await tool(two);
    for (const each of [one, two]) {
      await owner.query('UPDATE tools SET delete_requested_at = now() WHERE uid = $1', [each.uid]);
    }
    await archiveAll(one);
    await leave(two);
    const returning = () =>
      read(
        `SELECT subject, returning_at FROM archivals WHERE subject = ANY ($1) ORDER BY subject`,
        [[one.uid, two.uid]],
      );
    const back = { state: 'archived', delete_requested_at: null };
    const enabled = randomUUID();
    await must('tool.enable', alice.name, { tool: one.name }, { ...AT, jti: enabled });
    expect(await toolOf(one)).toMatchObject(back);
    // its account is no longer marked for deletion, even before everything is restored
    expect(await touchedBy(enabled)).toContainEqual(
      expect.objectContaining({ subject: one.uid, role: 'directory' }),
    );
    expect(await ask('tool.restore', alice.name, { tool: two.name })).toBe('NOT_ALLOWED');
    const jti = randomUUID();
    await must('tool.restore', 'steward', { tool: two.name }, { ...AT, jti });
    expect(await toolOf(two)).toMatchObject(back);
    expect(await returning()).toEqual([
      { subject: one.uid, returning_at: NOW },
      { subject: two.uid, returning_at: NOW },
    ]);
    expect((await touchedBy(jti)).map(({ subject, role }) => [subject, role])).toEqual([
      [alice.uid, 'directory'],
      [two.uid, 'databases'],
      [two.uid, 'directory'],
      [two.uid, 'homes'],
      [held.uid, 'directory'],
    ]);
  });
});

describe('what is refused', () => {
  const P: Record<string, { uid: number; name: string }> = {};
  const T: Record<string, { uid: number; name: string }> = {};

  beforeAll(async () => {
    for (const name of [
      ...['active', 'suspended', 'leaving', 'archived', 'returning', 'deleted', 'unkept'],
      'maintainer',
    ]) {
      P[name] = await person();
    }
    for (const name of [
      'active',
      'disabled',
      'leaving',
      'archived',
      'returning',
      'deleted',
      'unkept',
    ]) {
      T[name] = await tool(P['maintainer']!, P['archived']!);
    }
    const by = 'steward';
    for (const name of ['suspended', 'leaving']) {
      await must('person.suspend', by, { person: P[name]!.name, reason: 'x' });
    }
    await owner.query('UPDATE people SET delete_after = now() WHERE uid = $1', [P['leaving']!.uid]);
    await must('tool.disable', by, { tool: T['disabled']!.name, reason: 'x' });
    await must('tool.delete', by, { tool: T['leaving']!.name });
    await archiveAll(P['archived']!);
    await leave(P['deleted']!);
    await leave(P['unkept']!);
    await archiveAll(P['returning']!);
    await must('person.restore', by, { person: P['returning']!.name });
    await archiveAll(T['archived']!);
    await archiveAll(T['returning']!);
    await must('tool.enable', by, { tool: T['returning']!.name });
    await leave(T['deleted']!);
    await leave(T['unkept']!);
    await owner.query('UPDATE archivals SET expired_at = now() WHERE subject = ANY ($1)', [
      [T['unkept']!.uid, P['unkept']!.uid],
    ]);
  });

  test.each([
    ['person.suspend', 'suspended', 'PERSON_ALREADY_SUSPENDED'],
    ['person.suspend', 'leaving', 'PERSON_ALREADY_SUSPENDED'],
    ['person.suspend', 'archived', 'PERSON_LEAVING'],
    ['person.suspend', 'deleted', 'PERSON_DELETED'],
    ['person.reinstate', 'active', 'PERSON_NOT_SUSPENDED'],
    ['person.reinstate', 'archived', 'PERSON_LEAVING'],
    ['person.reinstate', 'deleted', 'PERSON_DELETED'],
    ['person.delete', 'leaving', 'PERSON_LEAVING'],
    ['person.delete', 'archived', 'PERSON_LEAVING'],
    ['person.delete', 'deleted', 'PERSON_DELETED'],
    ['person.update', 'archived', 'PERSON_LEAVING'],
    ['person.update', 'deleted', 'PERSON_DELETED'],
    ['access.grant', 'archived', 'PERSON_LEAVING'],
    ['access.grant', 'deleted', 'PERSON_DELETED'],
    ['access.revoke', 'archived', 'PERSON_LEAVING'],
    ['access.request', 'deleted', 'PERSON_DELETED'],
    ['key.add', 'archived', 'PERSON_LEAVING'],
    ['key.remove', 'deleted', 'PERSON_DELETED'],
    ['person.restore', 'active', 'PERSON_NOT_DELETED'],
    ['person.restore', 'leaving', 'PERSON_NOT_DELETED'],
    ['person.restore', 'deleted', 'REQUEST_INVALID'],
    ['person.restore', 'returning', 'PERSON_LEAVING'],
    ['person.restore', 'unkept', 'PERSON_NOT_KEPT'],
    ['person.suspend', 'returning', 'PERSON_LEAVING'],
    ['person.delete', 'returning', 'PERSON_LEAVING'],
    ['credentials.rotate', 'archived', 'PERSON_LEAVING'],
    ['credentials.rotate', 'deleted', 'PERSON_DELETED'],
  ])('%s of a person who is %s: %s', async (kind, state, code) => {
    const more: Record<string, Rest> = {
      'person.suspend': { reason: 'x' },
      'person.update': { displayName: 'Another' },
      'key.add': { key: 'x' },
      'key.remove': { key: 'x' },
    };
    expect(await ask(kind, 'steward', { person: P[state]!.name, ...more[kind] })).toBe(code);
  });

  test.each([
    ['tool.disable', 'disabled', 'TOOL_ALREADY_DISABLED'],
    ['tool.disable', 'leaving', 'TOOL_ALREADY_DISABLED'],
    ['tool.disable', 'archived', 'TOOL_LEAVING'],
    ['tool.disable', 'returning', 'TOOL_LEAVING'],
    ['tool.disable', 'deleted', 'TOOL_DELETED'],
    ['tool.enable', 'active', 'TOOL_NOT_DISABLED'],
    ['tool.enable', 'returning', 'TOOL_LEAVING'],
    ['tool.enable', 'deleted', 'TOOL_DELETED'],
    ['tool.delete', 'leaving', 'TOOL_LEAVING'],
    ['tool.delete', 'archived', 'TOOL_LEAVING'],
    ['tool.delete', 'deleted', 'TOOL_DELETED'],
    ['tool.restore', 'active', 'TOOL_NOT_DELETED'],
    ['tool.restore', 'disabled', 'TOOL_NOT_DELETED'],
    ['tool.restore', 'leaving', 'TOOL_NOT_DELETED'],
    ['tool.restore', 'returning', 'TOOL_LEAVING'],
    ['tool.restore', 'unkept', 'TOOL_NOT_KEPT'],
    ['tool.update', 'archived', 'TOOL_LEAVING'],
    ['tool.update', 'deleted', 'TOOL_DELETED'],
    ['maintainer.add', 'archived', 'TOOL_LEAVING'],
    ['maintainer.remove', 'archived', 'TOOL_LEAVING'],
    ['credentials.rotate', 'archived', 'TOOL_LEAVING'],
    ['credentials.rotate', 'deleted', 'TOOL_DELETED'],
  ])('%s of a tool that is %s: %s', async (kind, state, code) => {
    const more: Record<string, Rest> = {
      'tool.disable': { reason: 'x' },
      'tool.update': { title: 'x' },
      'maintainer.add': { person: 'steward' },
      'maintainer.remove': { person: P['maintainer']!.name },
    };
    expect(await ask(kind, 'steward', { tool: T[state]!.name, ...more[kind] })).toBe(code);
  });

  test.each([
    ['person.suspend', { person: 'active', reason: 'x' }],
    ['person.reinstate', { person: 'suspended' }],
    ['person.delete', { person: 'active' }],
    ['tool.disable', { tool: 'active', reason: 'x' }],
    ['tool.enable', { tool: 'disabled' }],
    ['tool.delete', { tool: 'active' }],
    ['tool.restore', { tool: 'deleted' }],
    ['person.restore', { person: 'deleted' }],
    ['subject.hold', { person: 'active', reason: 'x', until: later(9000) }],
    ['subject.release', { tool: 'active' }],
    ['credentials.rotate', { server: 'replica' }],
    ['request.approve', { request: randomUUID() }],
    ['request.reject', { request: randomUUID(), reason: 'x' }],
  ])('%s by somebody else', async (kind, rest: Rest) => {
    const wish = {
      ...rest,
      ...('person' in rest ? { person: P[String(rest['person'])]!.name } : {}),
      ...('tool' in rest ? { tool: T[String(rest['tool'])]!.name } : {}),
    };
    const eve = await person();
    expect(await ask(kind, eve.name, wish)).toBe('NOT_ALLOWED');
  });

  test.each([
    [
      'person.restore',
      () => ({ person: P['suspended']!.name }),
      /reinstate it \(person\.reinstate\)/u,
    ],
    ['tool.restore', () => ({ tool: T['disabled']!.name }), /enable it \(tool\.enable\)/u],
  ])('%s of what is not deleted names the kind that brings it back', async (kind, of, named) => {
    const verdict = await realm.ask({ kind, requestedBy: 'steward', ...of() }, config);
    expect(verdict.sentence).toMatch(named);
  });

  test('any request by a person who is suspended, being archived, or deleted', async () => {
    const wish = { tool: T['active']!.name, title: 'x' };
    expect(await ask('tool.update', P['suspended']!.name, wish)).toBe('PERSON_SUSPENDED');
    expect(await ask('tool.update', P['archived']!.name, wish)).toBe('PERSON_LEAVING');
    expect(await ask('tool.update', P['deleted']!.name, wish)).toBe('PERSON_DELETED');
    const self = { person: P['suspended']!.name };
    expect(await ask('person.delete', self.person, self)).toBe('PERSON_SUSPENDED');
  });

  test('deleted subjects as maintainers', async () => {
    const add = (maintainer: string) =>
      ask('maintainer.add', 'steward', { tool: T['active']!.name, maintainers: [maintainer] });
    expect(await add(P['suspended']!.name)).toBe('PERSON_SUSPENDED');
    expect(await add(P['archived']!.name)).toBe('PERSON_LEAVING');
    expect(await add(P['deleted']!.name)).toBe('PERSON_DELETED');
    expect(await add(`tools.${T['archived']!.name}`)).toBe('TOOL_LEAVING');
    expect(await add(`tools.${T['deleted']!.name}`)).toBe('TOOL_DELETED');
  });

  test('disabling or deleting the admin tool, and suspending or deleting the last admin', async () => {
    expect(await ask('tool.disable', 'steward', { tool: 'admin', reason: 'x' })).toBe('ADMIN_TOOL');
    expect(await ask('tool.delete', 'steward', { tool: 'admin' })).toBe('ADMIN_TOOL');
    await must('person.suspend', 'steward', { person: 'second', reason: 'x' });
    const last = { person: 'steward' };
    expect(await ask('person.suspend', 'steward', { ...last, reason: 'x' })).toBe('ADMIN_TOOL');
    expect(await ask('person.delete', 'steward', last)).toBe('ADMIN_TOOL');
    expect(await ask('access.revoke', 'steward', last)).toBe('ADMIN_TOOL');
    await must('person.reinstate', 'steward', { person: 'second' });
  });

  test('the name of a deleted person, requested again', async () => {
    const create = (shellName: string, requestedBy = shellName) =>
      ask('person.create', requestedBy, { shellName, displayName: 'N', email: 'n@example.org' });
    expect(await create(P['deleted']!.name)).toBe('NAME_TAKEN');
    expect(await create(P['deleted']!.name, 'steward')).toBe('NAME_TAKEN');
    expect(await create(P['deleted']!.name.toUpperCase(), 'steward')).toBe('NAME_TAKEN');
    for (const state of ['archived', 'deleted', 'unkept']) {
      const wish = { name: T[state]!.name, title: 'x' };
      expect(await ask('tool.create', 'steward', wish)).toBe('NAME_TAKEN');
    }
  });
});

describe('an archived person', () => {
  const restore = (of: { name: string }, rest: Rest = {}, options = AT) =>
    ask('person.restore', 'steward', { person: of.name, ...rest }, options);
  const key = {
    line: 'ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIHKUwH8v/5b4GYB8M7oRkUEjfDDPGJmKzYnxo5Cd2yqn',
  };

  test('is restored without keys, and with the name and mail of the request if these were erased', async () => {
    const [going, gone] = [await person(), await person()];
    await must('key.add', gone.name, { person: gone.name, key: key.line });
    await owner.query(
      `INSERT INTO ssh_keys (person, fingerprint, line, label) VALUES ($1, 'SHA256:going', 'x', '')`,
      [going.uid],
    );
    await archiveAll(going);
    await leave(gone);
    await owner.query('SELECT erase_person($1)', [gone.uid]);
    const jti = randomUUID();
    expect(await restore(going, {}, { ...AT, jti })).toBeUndefined();
    expect(await restore(gone, { displayName: 'Again' })).toBe('REQUEST_INVALID');
    const named = { displayName: `The ${going.name} again`, email: 'again@example.org' };
    const taken = await person();
    await must('person.update', 'steward', { person: taken.name, displayName: 'Taken by Another' });
    expect(await restore(gone, { ...named, displayName: 'taken by another' })).toBe('NAME_TAKEN');
    expect(await restore(gone, named)).toBeUndefined();
    for (const each of [going, gone]) {
      expect(await stateOf(each)).toMatchObject({ state: 'archived', delete_after: null });
    }
    expect(
      await read('SELECT subject FROM archivals WHERE returning_at = $1 AND subject = ANY ($2)', [
        NOW,
        [going.uid, gone.uid],
      ]),
    ).toHaveLength(2);
    expect((await touchedBy(jti)).map(({ subject, role }) => [subject, role])).toEqual([
      [going.uid, 'databases'],
      [going.uid, 'directory'],
      [going.uid, 'homes'],
    ]);
    expect(
      await read('SELECT FROM ssh_keys WHERE person = ANY ($1) AND removed_at IS NULL', [
        [going.uid, gone.uid],
      ]),
    ).toEqual([]);
    expect(
      await read('SELECT display_name AS "displayName", email FROM people WHERE uid = $1', [
        gone.uid,
      ]),
    ).toEqual([named]);
  });

  test('may add again the key that was erased with them', async () => {
    const [row] = await read<{ person: number }>(
      `SELECT person FROM ssh_keys k JOIN people p ON p.uid = k.person
       WHERE k.line = '' AND p.state = 'archived'`,
    );
    const [{ name }] = (await read<{ name: string }>(
      `UPDATE people SET state = 'active' WHERE uid = $1 RETURNING shell_name AS name`,
      [row!.person],
    )) as [{ name: string }];
    await must('key.add', name, { person: name, key: key.line });
    expect(
      await read('SELECT line, removed_at FROM ssh_keys WHERE person = $1', [row!.person]),
    ).toEqual([{ line: key.line, removed_at: null }]);
  });
});

describe('a hold', () => {
  const hold = (rest: Rest, options = AT) =>
    ask('subject.hold', 'steward', { reason: 'a dispute', until: later(30), ...rest }, options);

  test('prevents the deletion of a person and a tool, and every refusal says by whom and until when, but not why', async () => {
    const alice = await person();
    const one = await tool(alice);
    const jti = randomUUID();
    await must('person.delete', alice.name, { person: alice.name }, { ...AT, jti });
    const held = randomUUID();
    expect(await hold({ person: alice.name }, { ...AT, jti: held })).toBeUndefined();
    expect(await hold({ tool: one.name })).toBeUndefined();
    expect((await eventsOf(held)).slice(1)).toMatchObject([
      {
        event: 'subject.held',
        subject: alice.uid,
        data: { account: alice.name, by: 'steward', reason: 'a dispute', until: later(30) },
      },
      { event: 'request.done' },
    ]);
    const approval = { kind: 'request.approve', requestedBy: 'second', request: jti };
    expect(await realm.ask(approval, config, { ...SECOND, ...AT })).toMatchObject({
      code: 'SUBJECT_HELD',
      sentence: `steward has placed a hold on ${alice.name} until 2030-01-31 12:00:00Z. Ask steward for the reason.`,
    });
    const wish = { kind: 'tool.delete', requestedBy: alice.name, tool: one.name };
    expect(await realm.ask(wish, config, AT)).toMatchObject({
      code: 'SUBJECT_HELD',
      sentence: `steward has placed a hold on tools.${one.name} until 2030-01-31 12:00:00Z. Ask steward for the reason.`,
    });
    // nobody can ask a recovery
    const by = `UPDATE holds SET held_by = $1 WHERE subject = $2`;
    await owner.query(by, ['the recovery', one.uid]);
    expect(await realm.ask(wish, config, AT)).toMatchObject({
      sentence: `A recovery has placed a hold on tools.${one.name} until 2030-01-31 12:00:00Z. An admin must check it, and can lift it (subject.release).`,
    });
    await owner.query(by, ['steward', one.uid]);
    // it does not close or open access
    expect([(await stateOf(alice))['state'], (await toolOf(one))['state']]).toEqual([
      'active',
      'active',
    ]);
    await must('subject.release', 'steward', { person: alice.name, reason: 'settled' }, AT);
    await must('request.approve', 'second', { request: jti }, { ...SECOND, ...AT });
    // the other hold ends on its date
    const after = { now: new Date(later(30)) };
    expect(await ask('tool.delete', 'steward', { tool: one.name }, after)).toBeUndefined();
    expect(await ask('subject.release', 'steward', { tool: one.name }, after)).toBe('NOT_HELD');
  });

  test('replaces an earlier one, and is possible for a deleted subject while an archive is kept', async () => {
    const [alice, gone, unkept] = [await person(), await person(), await person()];
    expect(await hold({ person: alice.name, until: later(9) })).toBeUndefined();
    expect(await hold({ person: alice.name, reason: 'another' })).toBeUndefined();
    expect(await read('SELECT reason, until FROM holds WHERE subject = $1', [alice.uid])).toEqual([
      { reason: 'another', until: new Date(later(30)) },
    ]);
    expect(await hold({ person: alice.name, until: later(0) })).toBe('REQUEST_INVALID');
    expect(await hold({ person: alice.name, tool: 'x' })).toBe('REQUEST_INVALID');
    expect(await hold({ person: 'nobody-here' })).toBe('PERSON_UNKNOWN');
    expect(await hold({ tool: 'nothing-here' })).toBe('TOOL_UNKNOWN');
    for (const each of [gone, unkept]) await leave(each);
    await owner.query('UPDATE archivals SET expired_at = now() WHERE subject = $1', [unkept.uid]);
    expect(await hold({ person: gone.name })).toBeUndefined();
    expect(await hold({ person: unkept.name })).toBe('PERSON_DELETED');
  });
});

describe('credentials', () => {
  const rotate = (wish: Rest, by = 'steward') => ask('credentials.rotate', by, wish);

  test('overlap when they are rotated routinely, and not with atOnce', async () => {
    const alice = await person();
    const one = await tool(alice);
    await record(one);
    const { overlapSeconds } = config.credentials;
    expect(await rotate({ tool: one.name }, alice.name)).toBeUndefined();
    expect(await epochOf(one)).toEqual([2, overlapSeconds]);
    await record(one);
    expect(await rotate({ tool: one.name, atOnce: true }, alice.name)).toBeUndefined();
    expect(await epochOf(one)).toEqual([3, 0]);
    // the password that must end is not replaced yet; a later request must not keep it alive
    expect(await rotate({ tool: one.name }, alice.name)).toBeUndefined();
    expect(await epochOf(one)).toEqual([4, 0]);
    await record(one);
    expect(await rotate({ tool: one.name }, alice.name)).toBeUndefined();
    expect(await epochOf(one)).toEqual([5, overlapSeconds]);
  });

  test('of a server are those of every account that has a home', async () => {
    const [alice, bob] = [await person(), await person()];
    const [one, away] = [await tool(alice), await tool(alice)];
    for (const each of [alice, bob, one, away]) await record(each);
    await must('person.suspend', 'steward', { people: [bob.name], reason: 'x' });
    await archiveAll(away);
    expect(await rotate({ server: 'nowhere' })).toBe('SERVER_UNKNOWN');
    const epochs = async () =>
      Promise.all([alice, bob, one, away].map(async (each) => (await epochOf(each))[0]));
    const before = await epochs();
    const wish = { server: 'replica' };
    expect(await rotate(wish, 'second')).toBeUndefined();
    expect(await epochs()).toEqual([before[0]! + 1, before[1]! + 1, before[2]! + 1, before[3]]);
  });
});
