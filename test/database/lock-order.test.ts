/** Rows of `convergence` that several processes take at once: no two wait in a circle. */
import { afterAll, beforeAll, expect, test } from '@jest/globals';
import { lockSubjects, unlock, writeOutcomes } from '../../src/reconcile/convergence-table.ts';
import { touchRows } from '../../src/drift/drifts.ts';
import { holdThawed } from '../../src/database/freeze.ts';
import { openPool, type Client, type Pool } from '../../src/database/connection.ts';
import { releaseAllLeases } from '../../src/reconcile/relay-queries.ts';
import { eventually } from '../scenarios/eventually.ts';
import { query } from '../scenarios/outside.ts';
import { openWorld, type World } from '../stack.ts';

const [A, B] = [1, 2];

let world: World;
const pools: Pool[] = [];
let intake: Client;
let directory: Client;
let another: Client;
let sweep: Client;
let relay: Pool;

beforeAll(async () => {
  world = await openWorld('lock-order', { needs: ['postgres'] });
  const open = (role: 'intake' | 'directory' | 'sweep' | 'relay') => {
    const pool = openPool(world.config, role, { max: 1, durable: false });
    pools.push(pool);
    return pool;
  };
  relay = open('relay');
  intake = await open('intake').connect();
  directory = await open('directory').connect();
  another = await open('directory').connect();
  sweep = await open('sweep').connect();
  await query(world, `INSERT INTO posix_ids (id, kind) VALUES ($1, 'tool'), ($2, 'tool')`, [A, B]);
  await query(
    world,
    `INSERT INTO convergence (subject, role, leased_until) VALUES ($1, 'directory', now()), ($2, 'directory', now())`,
    [A, B],
  );
});
afterAll(async () => {
  for (const client of [directory, another]) if (client !== undefined) await unlock(client);
  for (const client of [intake, directory, another, sweep])
    (client as { release?: () => void }).release?.();
  await Promise.all(pools.map((pool) => pool.end()));
  await world.close();
});

const touch = (subject: number) =>
  intake.query(`SELECT touch_generation($1, 'directory')`, [subject]);
const whoWaits = async () =>
  (
    await query<{ waits: number }>(
      world,
      `SELECT count(*)::int AS waits FROM pg_stat_activity
       WHERE datname = current_database() AND wait_event_type = 'Lock'`,
    )
  )[0]?.waits;

/** A batch of verdicts that touches B, and then A, while something else takes both. */
async function beside(act: () => Promise<unknown>, waits: number): Promise<void> {
  await intake.query('BEGIN');
  await holdThawed(intake);
  await touch(B);
  const acted = act();
  if (waits === 0) await acted;
  else await eventually('the other to wait', async () => (await whoWaits()) === waits);
  await touch(A);
  await intake.query('COMMIT');
  await acted;
}

test('outcomes of a run are written during a batch of verdicts about the same subjects', async () => {
  const rows = [A, B].map((subject) => ({ subject, wanted: '1', attempts: 0 }));
  await beside(() => writeOutcomes(directory, 'directory', rows, new Map()), 1);
  expect(
    await query(
      world,
      'SELECT subject, wanted::int, applied::int FROM convergence ORDER BY subject',
    ),
  ).toEqual([
    { subject: A, wanted: 2, applied: 1 },
    { subject: B, wanted: 2, applied: 1 },
  ]);
});

test('outcomes of a run are written in one transaction', async () => {
  const rows = [A, B].map((subject) => ({ subject, wanted: '2', attempts: 0 }));
  await writeOutcomes(directory, 'directory', rows, new Map());
  expect(
    await query(
      world,
      `SELECT count(DISTINCT xmin::text)::int AS transactions, bool_and(applied = 2 AND state = 'applied') AS applied
       FROM convergence`,
    ),
  ).toEqual([{ transactions: 1, applied: true }]);
});

test('while a batch of verdicts holds one row, the others are written, and their subjects unlocked', async () => {
  expect(await lockSubjects(directory, [A, B])).toEqual([A, B]);
  await touch(A);
  await intake.query('BEGIN');
  await touch(B);
  const rows = [A, B].map((subject) => ({ subject, wanted: '3', attempts: 0 }));
  const written = writeOutcomes(directory, 'directory', rows, new Map());
  await eventually('one to wait', async () => (await whoWaits()) === 1);
  expect(await lockSubjects(another, [A, B])).toEqual([A]);
  await intake.query('COMMIT');
  await written;
  expect(await lockSubjects(another, [B])).toEqual([B]);
  await another.query('SELECT pg_advisory_unlock_all()');
  expect(
    await query(world, 'SELECT subject, wanted::int, applied::int FROM convergence ORDER BY 1'),
  ).toEqual([A, B].map((subject) => ({ subject, wanted: 3, applied: 3 })));
});

test('a sweep touches many rows meanwhile', async () => {
  await query(world, `UPDATE convergence SET applied = wanted, state = 'applied'`);
  const places = [A, B].map((subject) => ({ subject, role: 'directory' as const }));
  const [row] = await query<{ id: string }>(
    world,
    'INSERT INTO sweeps (id) VALUES (gen_random_uuid()) RETURNING id',
  );
  await beside(() => touchRows(sweep, row?.id ?? '', places), 1);
});

test('meanwhile all leases are given back, except of rows that are just being written', async () => {
  await query(world, `UPDATE convergence SET leased_until = now() + interval '1 h'`);
  await beside(() => releaseAllLeases(relay), 0);
  expect(
    await query(world, 'SELECT subject, leased_until IS NULL AS free FROM convergence ORDER BY 1'),
  ).toEqual([
    { subject: A, free: true },
    { subject: B, free: false },
  ]);
});
