/**
 * How long records are kept: which are removed after their time, which stay whatever their age, and that all
 * others are left alone.
 */
import { fixedConfig } from '../../src/configuration/config-in-use.ts';
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test } from '@jest/globals';
import { startIntake } from '../../workers/intake.ts';
import { openLog } from '../../src/shared/log.ts';
import { numberEvents } from '../../src/events/deliveries.ts';
import { openPool, type Pool, type PostgresRole } from '../../src/database/connection.ts';
import { EXPIRY_BEGIN, removeExpired } from '../../src/database/retention.ts';
import { eventually } from '../scenarios/eventually.ts';
import { wantPerson } from '../laws-world.ts';
import { openWorld, type World } from '../stack.ts';

let world: World;
let owner: Pool;
let intake: Pool;
let person: number;

beforeAll(async () => {
  world = await openWorld('retention', { needs: ['postgres', 'redis'] });
  owner = openPool(world.config, 'owner', { max: 3, durable: false });
  intake = openPool(world.config, 'intake', { max: 2, durable: false });
  ({ uid: person } = await wantPerson(owner, world));
});
beforeEach(() =>
  owner.query(`TRUNCATE requests, request_touches, events, event_sequences, event_deliveries, approvals,
    access_requests, sweeps, sweep_releases, repairs, repair_parts, kept_surveys CASCADE`),
);
afterAll(async () => {
  await Promise.all([owner.end(), intake.end()]);
  await world.close();
});

/** Removes all records whose time is over, as the calendar does; returns how many each piece removed. */
async function expire(retention: Partial<World['config']['retention']> = {}): Promise<number[]> {
  const pieces: number[] = [];
  for (let run: typeof EXPIRY_BEGIN | undefined = EXPIRY_BEGIN; run !== undefined;) {
    const piece = await removeExpired(intake, { ...world.config.retention, ...retention }, run);
    if (piece.removed > 0) pieces.push(piece.removed);
    run = piece.next;
  }
  return pieces;
}

const namesIn = async (column: string, table: string): Promise<unknown[]> =>
  (await owner.query(`SELECT ${column} AS name FROM ${table} ORDER BY 1`)).rows.map(
    ({ name }: { name: unknown }) => name,
  );

/** Requests of that age, named by their properties. */
const request = (kind: string, days: number, columns: Record<string, string> = {}) => {
  const all = {
    at: `now() - interval '${days} days'`,
    done_at: `now() - interval '${days} days'`,
    verdict: `'accepted'`,
    body_sha256: `sha256('${kind}')`,
    kind: `'${kind}'`,
    ...columns,
  };
  return owner.query(
    `INSERT INTO requests (${Object.keys(all).join()}) SELECT ${Object.values(all).join()} RETURNING id`,
  );
};

test('the defaults are those that docs/operations.md names', () => {
  expect(world.config.retention).toEqual({
    eventsDays: 30,
    requestsDays: 730,
    sweepsDays: 90,
    repairsDays: 30,
    readsDays: 90,
  });
});

describe('requests', () => {
  test('are removed after their time, unless they are not done', async () => {
    await request('old', 731);
    await request('old, refused', 731, { verdict: `'refused'` });
    await request('old, not done', 900, { done_at: 'NULL' });
    await request('old, stuck', 900, { done_at: 'NULL', stuck_at: 'now()' });
    await request('old, done lately', 900, { done_at: 'now()' });
    const touched = await request('old, still touches something', 900);
    await owner.query(`SELECT touch_generation($1, 'directory')`, [person]);
    await owner.query(`INSERT INTO request_touches VALUES ($1, $2, 'directory', 1)`, [
      (touched.rows[0] as { id: string }).id,
      person,
    ]);
    await request('young', 729);
    expect(await expire()).toEqual([2]);
    const stay = [
      'old, done lately',
      'old, not done',
      'old, still touches something',
      'old, stuck',
      'young',
    ];
    expect(await namesIn('kind', 'requests')).toEqual(stay);
    expect(await expire()).toEqual([]);
  });

  test('stay as long as a token may live, whatever the caller asks for', async () => {
    await request('of a token that may live', 7.5);
    await request('of none', 8.5);
    expect(await expire({ requestsDays: 0 })).toEqual([1]);
    expect(await namesIn('kind', 'requests')).toEqual(['of a token that may live']);
  });

  test('stay as long as an event without a subject, which is erased with its requester', async () => {
    const jti = '00000000-0000-4000-8000-000000000001';
    await request('old, refused', 731, {
      ...{ verdict: `'refused'`, portal: `'portal'`, jti: `'${jti}'::uuid` },
    });
    await owner.query(
      `INSERT INTO events (portal, event, request, data) VALUES ('portal', 'request.refused', $1, '{}')`,
      [jti],
    );
    expect(await expire()).toEqual([]);
    await owner.query('DELETE FROM events');
    expect(await expire()).toEqual([1]);
  });

  test('leave their audit as it is', async () => {
    const { rows } = await request('old', 731);
    const [{ id }] = rows as [{ id: string }];
    await owner.query(`INSERT INTO audit (request, verdict) VALUES ($1, 'accepted')`, [id]);
    await expire();
    expect(await namesIn('id', 'requests')).toEqual([]);
    expect(await namesIn('request', `audit WHERE request = ${id}`)).toEqual([id]);
  });

  test('are removed 1,000 at most in a statement, past those that stay', async () => {
    await owner.query(
      `INSERT INTO requests (body_sha256, verdict, at, done_at)
       SELECT sha256(n::text::bytea), 'accepted', now() - interval '800 days',
              CASE WHEN n > 2000 OR n % 2 = 0 THEN now() - interval '800 days' END
       FROM generate_series(1, 4500) AS n`,
    );
    expect(await expire()).toEqual([500, 500, 1000, 1000, 500]);
    expect(await namesIn('count(*)::int', 'requests')).toEqual([1000]);
  });
});

describe('events', () => {
  const event = (portal: string | null, name: string, days: number) =>
    owner.query(
      `INSERT INTO events (portal, event, at) VALUES ($1, $2, now() - make_interval(days => $3))`,
      [portal, name, days],
    );
  let relay: Pool;
  beforeAll(() => {
    relay = openPool(world.config, 'relay', { max: 1, durable: false });
  });
  afterAll(() => relay.end());

  test('are removed after their time if the portal has them, and their numbers are never reused', async () => {
    await event('one', 'old', 31);
    await event('one', 'young', 29);
    await event('one', 'old again', 31);
    await event('one', 'old, not delivered', 900);
    await event('deaf', 'old, of a portal that has taken nothing', 900);
    await event(null, 'old, of nobody', 31);
    await numberEvents(relay);
    await event('one', 'old, not numbered', 900);
    await owner.query(`INSERT INTO event_deliveries (portal, completed) VALUES ('one', 3)`);
    expect(await expire()).toEqual([3]);
    const stay = [
      'old, not delivered',
      'old, not numbered',
      'old, of a portal that has taken nothing',
      'young',
    ];
    expect(await namesIn('event', 'events')).toEqual(stay);
    expect(await namesIn('removed', 'event_deliveries')).toEqual(['3']);
    await owner.query(`UPDATE event_deliveries SET completed = 4`);
    await owner.query(`UPDATE events SET at = now() - interval '40 days' WHERE seq IS NOT NULL`);
    expect(await expire()).toEqual([2]);
    await numberEvents(relay);
    await event('one', 'next', 0);
    await numberEvents(relay);
    expect(await namesIn('seq', `events WHERE portal = 'one'`)).toEqual(['5', '6']);
  });
});

test('requests that waited for an admin, and requests for access, are removed like requests, once they are decided', async () => {
  const decided = { closed: '731', 'closed lately': '10', open: 'NULL' };
  for (const [name, days] of Object.entries(decided)) {
    await owner.query(
      `INSERT INTO approvals (request, portal, kind, subject, requested_by, why, state, opened_at, decided_at)
       VALUES (gen_random_uuid(), 'portal', $1, $2, 'x', '', $3, now() - interval '900 days',
               now() - make_interval(days => $4))`,
      [name, person, name === 'open' ? 'open' : 'rejected', days === 'NULL' ? null : days],
    );
    await owner.query(
      `INSERT INTO access_requests (person, reason, state, opened_at, decided_at)
       VALUES ($2, $1, $3, now() - interval '900 days', now() - make_interval(days => $4))`,
      [name, person, name === 'open' ? 'open' : 'refused', days === 'NULL' ? null : days],
    );
  }
  expect(await expire()).toEqual([1, 1]);
  expect(await namesIn('kind', 'approvals')).toEqual(['closed lately', 'open']);
  expect(await namesIn('reason', 'access_requests')).toEqual(['closed lately', 'open']);
});

test('sweeps, their releases, and repairs are removed after their time; the last 1,000 sweeps stay', async () => {
  await owner.query(
    `INSERT INTO sweeps (id, began_at, state, sentence)
     SELECT gen_random_uuid(), now() - make_interval(days => 1200 - n), 'clean', n::text FROM generate_series(1, 1003) AS n`,
  );
  await owner.query(
    `INSERT INTO sweep_releases (by, at, sweep)
     SELECT sentence, began_at, id FROM sweeps WHERE sentence IN ('1', '1003') UNION ALL
     SELECT 'of late', now(), id FROM sweeps WHERE sentence = '3'`,
  );
  await owner.query(
    `INSERT INTO repairs (id, asked_by, at) SELECT gen_random_uuid(), 'old', now() - interval '31 days' UNION ALL
     SELECT gen_random_uuid(), 'young', now() - interval '29 days'`,
  );
  await owner.query(
    `INSERT INTO repair_parts (repair, subject, role, digest)
     SELECT id, $1, role, '' FROM repairs, unnest('{directory,homes}'::text[]) AS role`,
    [person],
  );
  await owner.query(
    `INSERT INTO kept_surveys (id, portal, kind, asked_by, state, ended_at)
     SELECT gen_random_uuid(), 'p', 'survey.run', n::text, CASE n WHEN 4 THEN 'asked' ELSE 'done' END,
       CASE WHEN n < 4 THEN now() - make_interval(days => 92 - n) END FROM generate_series(1, 4) AS n`,
  );
  await owner.query(
    `INSERT INTO kept_survey_items SELECT id, 'steps', 0, 1, '{}' FROM kept_surveys`,
  );
  expect(await expire()).toEqual([5, 1, 3]);
  expect(await namesIn('asked_by', 'kept_surveys')).toEqual(['3', '4']);
  expect(await namesIn('count(*)::int', 'kept_survey_items')).toEqual([2]);
  expect(await namesIn('by', 'sweep_releases')).toEqual(['of late']);
  expect(await namesIn('count(*)::int', 'sweeps')).toEqual([1001]);
  expect(await namesIn(`sentence`, `sweeps WHERE sentence IN ('1', '2', '3')`)).toEqual(['3']);
  expect(await namesIn('asked_by', 'repairs')).toEqual(['young']);
  expect(await namesIn('count(*)::int', 'repair_parts')).toEqual([2]);
});

test('the log of reads is removed after its time, however few days are asked for', async () => {
  const log = (days: number) =>
    owner.query(
      `INSERT INTO api_reads (caller, subject, what, at)
       SELECT $2::text, $1, '{mail}', now() - make_interval(days => $3) FROM generate_series(1, 1200)`,
      [person, `${days}`, days],
    );
  for (const days of [100, 91, 89, 9, 7]) await log(days);
  expect(await expire()).toEqual([1000, 1000, 400]);
  expect(await namesIn('DISTINCT caller', 'api_reads')).toEqual(['7', '89', '9']);
  expect(await expire({ readsDays: 0 })).toEqual([1000, 1000, 400]);
  expect(await namesIn('DISTINCT caller', 'api_reads')).toEqual(['7']);
});

test('names and numbers of others, and permanently assigned ones, stay forever', async () => {
  await owner.query(
    `INSERT INTO unmanaged_sightings (name, id, at) VALUES ('theirs', 77, now() - interval '3000 days')`,
  );
  const [names, ids] = [await namesIn('name', 'names'), await namesIn('id', 'posix_ids')];
  await expire();
  expect(await namesIn('name', 'unmanaged_sightings')).toEqual(['theirs']);
  expect([await namesIn('name', 'names'), await namesIn('id', 'posix_ids')]).toEqual([names, ids]);
});

test.each<PostgresRole>(['relay', 'sweep', 'admin', 'homes', 'homes_reader'])(
  '%s may not remove records, and no role may delete them itself',
  async (role) => {
    const pool = openPool(world.config, role, { max: 1, durable: false });
    await expect(pool.query(`SELECT remove_expired('events', 30, 0)`)).rejects.toMatchObject({
      code: '42501',
    });
    await pool.end();
    const { rows } = await owner.query(
      `SELECT r.rolname, t FROM pg_roles r, unnest('{requests,events,event_deliveries,approvals,access_requests,sweeps,
         sweep_releases,repairs,repair_parts,audit,audit_seals,audit_closings,api_reads}'::text[]) AS t
       WHERE r.rolname LIKE 'chamberlain\\_%' AND has_table_privilege(r.rolname, t, 'DELETE, TRUNCATE')`,
    );
    expect(rows).toEqual([]);
  },
);

describe('intake', () => {
  let worker: ReturnType<typeof startIntake> | undefined;
  afterEach(async () => {
    await worker?.close();
    await owner.query('UPDATE frozen SET frozen_at = NULL');
  });
  const start = () =>
    (worker = startIntake(fixedConfig(world.config), openLog('error', { write: () => {} })));
  const many = (count: number) =>
    owner.query(
      `INSERT INTO requests (body_sha256, verdict, at, done_at)
       SELECT sha256(n::text::bytea), 'accepted', now() - interval '800 days', now() - interval '800 days'
       FROM generate_series(1, $1) AS n`,
      [count],
    );
  const left = async () => (await namesIn('count(*)::int', 'requests'))[0] as number;

  test('removes them, piece by piece; after an interruption, it goes on', async () => {
    await many(3500);
    const session = await owner.connect();
    await session.query('BEGIN');
    await session.query(
      'SELECT FROM requests WHERE id = (SELECT min(id) + 1500 FROM requests) FOR UPDATE',
    );
    start();
    await eventually('a piece', async () => (await left()) === 2500);
    await eventually('the next piece to be interrupted', async () => {
      const { rowCount } = await owner.query(
        `SELECT pg_terminate_backend(pid) FROM pg_stat_activity
         WHERE usename = 'chamberlain_intake' AND datname = current_database() AND wait_event_type = 'Lock'`,
      );
      return rowCount === 1;
    });
    expect(await left()).toBe(2500);
    await session.query('ROLLBACK');
    session.release();
    await eventually('the rest', async () => (await left()) === 0);
  });

  test('removes nothing while the realm is frozen', async () => {
    await many(10);
    await owner.query('UPDATE frozen SET frozen_at = now()');
    start();
    await eventually('intake to wait for the thaw', async () => {
      const { rowCount } = await owner.query(
        `SELECT FROM pg_stat_activity WHERE usename = 'chamberlain_intake' AND datname = current_database()
           AND query = 'LISTEN chamberlain' AND state = 'idle'`,
      );
      return rowCount !== 0;
    });
    expect(await left()).toBe(10);
    await owner.query('UPDATE frozen SET frozen_at = NULL');
    await eventually('the thaw', async () => (await left()) === 0);
  });
});
