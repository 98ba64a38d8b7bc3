import { execFileSync } from 'node:child_process';
import { afterAll, beforeAll, expect, test } from '@jest/globals';
import type { Action } from '../../src/reconcile/action.ts';
import { lockSubjects, unlock } from '../../src/reconcile/convergence-table.ts';
import {
  isLost,
  openPool,
  type Pool,
  SILENT_MS,
  withClient,
} from '../../src/database/connection.ts';
import { type Holders, whileHeld } from '../../src/reconcile/held-writer.ts';
import { eventually } from '../scenarios/eventually.ts';
import { query } from '../scenarios/outside.ts';
import { openWorld, type World } from '../stack.ts';

let world: World;
let pool: Pool;

beforeAll(async () => {
  world = await openWorld('held writer', { needs: ['postgres'] });
  pool = openPool(world.config, 'homes', { max: 1, durable: false });
});

afterAll(async () => {
  await pool?.end();
  await world?.close();
});

test('no step is begun once the connection that holds the lock has ended', async () => {
  const done: Action[] = [];
  const writer = { do: async (action: Action) => void done.push(action) };
  const action = {} as Action;
  await withClient(pool, async (client) => {
    await whileHeld(new Map(), { subject: 1, client, writer }, async (held) => {
      await held.do(action);
      expect(done).toHaveLength(1);
      const { rows } = await client.query<{ pid: number }>('SELECT pg_backend_pid() AS pid');
      await query(world, 'SELECT pg_terminate_backend($1)', [rows[0]?.pid]);
      await eventually('the end of the connection', () => isLost(client));
      await expect(held.do(action)).rejects.toMatchObject({ code: 'BACKEND_UNAVAILABLE' });
      expect(done).toHaveLength(1);
    });
  });
  // and the next one holds again
  await withClient(pool, (client) =>
    whileHeld(new Map(), { subject: 1, client, writer }, (held) => held.do(action)),
  );
  expect(done).toHaveLength(2);
});

test('a process that wakes up begins no step: PostgreSQL may have ended the connection', async () => {
  const writer = { do: async () => {} };
  const action = {} as Action;
  await withClient(pool, async (client) => {
    await lockSubjects(client, [1]);
    await whileHeld(new Map(), { subject: 1, client, writer }, async (held) => {
      await held.do(action);
      execFileSync('sleep', [String(SILENT_MS.isLost / 1000 + 1)]); // nothing else runs here meanwhile
      await expect(held.do(action)).rejects.toMatchObject({ code: 'BACKEND_UNAVAILABLE' });
      // heard of once more, it still has its locks
      await eventually('PostgreSQL to be heard', () => !isLost(client));
      await held.do(action);
    });
    await unlock(client);
  });
});

test('two runs of one subject are never at it together, whoever holds the lock now', async () => {
  const holders: Holders = new Map();
  const writer = { do: async () => {} };
  await withClient(pool, async (client) => {
    const one = { subject: 1, client, writer };
    let end = () => {};
    const first = whileHeld(
      holders,
      one,
      () => new Promise<string>((resolve) => (end = () => resolve('first'))),
    );
    expect(await whileHeld(holders, one, async () => 'second')).toBeUndefined();
    expect(await whileHeld(holders, { ...one, subject: 2 }, async () => 'other')).toBe('other');
    expect(holders.has(1)).toBe(true);
    end();
    expect(await first).toBe('first');
    expect(await whileHeld(holders, one, async () => 'third')).toBe('third');
    expect(holders.size).toBe(0);
  });
});
