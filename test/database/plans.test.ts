/** Which roles' statements are planned once, as PostgreSQL itself says. */
import { afterAll, beforeAll, expect, test } from '@jest/globals';
import { readAhead, readDueMoves } from '../../src/lifecycle/calendar-queries.ts';
import { findSubjects } from '../../src/identity/names-table.ts';
import { findPerson } from '../../src/identity/people-table.ts';
import { openPool, type PostgresRole, withClient } from '../../src/database/connection.ts';
import { asSuperuser, openWorld, type World } from '../stack.ts';

let world: World;

beforeAll(async () => {
  world = await openWorld('plans', { needs: ['postgres'] });
});
afterAll(() => world.close());

test.each<[PostgresRole, string]>([
  ['relay', 'force_generic_plan'],
  ['directory', 'force_generic_plan'],
  ['directory_reader', 'force_generic_plan'],
  ['homes', 'force_generic_plan'],
  ['databases_reader', 'force_generic_plan'],
  // these ask for too different numbers of rows at a time
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

test('no statement is compiled, although a server does that by default', async () => {
  const { database } = world.config.postgres;
  await asSuperuser(world.postgres, database, (client) =>
    client.query(`ALTER DATABASE "${database}" SET jit = on`),
  );
  const pool = openPool(world.config, 'relay', { max: 1, durable: true });
  try {
    expect((await pool.query('SHOW jit')).rows).toEqual([{ jit: 'off' }]);
  } finally {
    await pool.end();
  }
});

test('the requester, and everybody whom a request names, are found by a plan that is kept', async () => {
  const pool = openPool(world.config, 'intake', { max: 1, durable: false });
  try {
    await withClient(pool, async (client) => {
      // PostgreSQL compares plans from the sixth time on
      for (let time = 0; time < 10; time++) {
        await findPerson(client, 'alice', world.config.admin);
        await findSubjects(client, ['alice']);
      }
      const { rows } = await client.query(
        'SELECT name, generic_plans::int > 0 AS kept FROM pg_prepared_statements ORDER BY name',
      );
      expect(rows).toEqual([
        { name: 'find-person', kept: true },
        { name: 'find-subjects', kept: true },
      ]);
    });
  } finally {
    await pool.end();
  }
});

test('the calendar, which looks every second, is planned once; the rest of intake is not', async () => {
  const pool = openPool(world.config, 'intake', { max: 1, durable: false });
  try {
    await withClient(pool, async (client) => {
      await readDueMoves(client, new Date(), { except: [], most: 1 });
      await readAhead(client, new Date());
      const { rows } = await client.query(
        'SELECT name, generic_plans::int, custom_plans::int FROM pg_prepared_statements ORDER BY name',
      );
      expect(rows).toEqual(
        ['awaited', 'due-moves', 'next-date'].map((name) => {
          return { name, generic_plans: 1, custom_plans: 0 };
        }),
      );
      const mode = await client.query('SHOW plan_cache_mode');
      expect(mode.rows).toEqual([{ plan_cache_mode: 'auto' }]);
    });
  } finally {
    await pool.end();
  }
});
