/** Whose statements are planned once, as PostgreSQL itself says. */
import { afterAll, beforeAll, expect, test } from '@jest/globals';
import { openPool, type PostgresRole } from '../../src/store/postgres.ts';
import { openWorld, type World } from '../stack.ts';

let world: World;

beforeAll(async () => {
  world = await openWorld('plans', { needs: ['postgres'] });
});
afterAll(() => world.close());

test.each<[PostgresRole, string]>([
  ['relay', 'force_generic_plan'],
  ['directory', 'force_generic_plan'],
  ['directory_eyes', 'force_generic_plan'],
  ['homes', 'force_generic_plan'],
  ['databases_eyes', 'force_generic_plan'],
  // what these ask for at a time differs too much
  ['intake', 'auto'],
  ['sweep', 'auto'],
  ['admin', 'auto'],
])('%s: %s', async (role, mode) => {
  const pool = openPool(world.config, role, { max: 1, durable: false });
  try {
    const { rows } = await pool.query('SHOW plan_cache_mode');
    expect(rows).toEqual([{ plan_cache_mode: mode }]);
    const commit = await pool.query('SHOW synchronous_commit');
    expect(commit.rows).toEqual([{ synchronous_commit: 'off' }]);
  } finally {
    await pool.end();
  }
});
