import { afterAll, beforeAll, describe, expect, test } from '@jest/globals';
import {
  allocateId,
  reserveIds,
  syncRanges,
  useIds,
} from '../../src/identity/id-allocation-table.ts';
import { inTransaction, openPool, type Pool, withClient } from '../../src/database/connection.ts';
import { openWorld, type World } from '../stack.ts';

let world: World;
let pool: Pool;

beforeAll(async () => {
  world = await openWorld('ids', { needs: ['postgres'] });
  pool = openPool(world.config, 'intake', { max: 16, durable: false });
  await withClient(pool, (client) => syncRanges(client, world.config));
});
afterAll(async () => {
  await pool.end();
  await world.close();
});

test('16 concurrent allocators never get a number twice, and skip none', async () => {
  const rounds = 5;
  const ids = await Promise.all(
    Array.from({ length: 16 }, async () => {
      const mine: number[] = [];
      for (let round = 0; round < rounds; round += 1) {
        mine.push(await inTransaction(pool, (client) => allocateId(client, 'tool')));
      }
      return mine;
    }),
  );
  const first = world.config.ids.tools[0]!.first;
  expect(ids.flat().sort((a, b) => a - b)).toEqual(
    Array.from({ length: 16 * rounds }, (_, index) => first + index),
  );
});

test('an allocated number is never allocated again, whatever becomes of its owner', async () => {
  const id = await inTransaction(pool, (client) => allocateId(client, 'tool'));
  await expect(
    withClient(pool, (client) => client.query('DELETE FROM posix_ids WHERE id = $1', [id])),
  ).rejects.toMatchObject({ code: '42501' });
  // even if somebody set the range back
  await withClient(pool, (client) =>
    client.query(`UPDATE id_ranges SET next = first WHERE kind = 'tool'`),
  );
  expect(await inTransaction(pool, (client) => allocateId(client, 'tool'))).toBe(id + 1);
});

test('a request that is rolled back leaves no gap', async () => {
  const fault = new Error('refused');
  let lost = 0;
  await expect(
    inTransaction(pool, async (client) => {
      lost = await allocateId(client, 'tool');
      throw fault;
    }),
  ).rejects.toBe(fault);
  expect(await inTransaction(pool, (client) => allocateId(client, 'tool'))).toBe(lost);
});

test('of the numbers that a transaction reserves, only those that it uses are allocated', async () => {
  const reserve = () =>
    inTransaction(pool, async (client) => {
      const ids = await reserveIds(client, 'tool', 3);
      await useIds(client, 'tool', ids.slice(0, 2));
      return ids;
    });
  const [one = [], other = []] = (await Promise.all([reserve(), reserve()])).toSorted(
    ([a = 0], [b = 0]) => a - b,
  );
  const [first = 0] = one;
  expect(one).toEqual([first, first + 1, first + 2]);
  expect(other).toEqual([first + 2, first + 3, first + 4]);
  expect(await inTransaction(pool, (client) => allocateId(client, 'tool'))).toBe(first + 4);
});

test('numbers that the directory role has seen on unmanaged entries are skipped', async () => {
  const before = await inTransaction(pool, (client) => allocateId(client, 'tool'));
  const directory = openPool(world.config, 'directory', { max: 1, durable: false });
  await directory.query('INSERT INTO unmanaged_sightings (name, id) VALUES ($1, $2), ($3, $4)', [
    'unmanaged',
    before + 1,
    '',
    before + 2,
  ]);
  await directory.end();
  expect(await inTransaction(pool, (client) => allocateId(client, 'tool'))).toBe(before + 3);
});

test('the ranges are used in order, and their end is an error', async () => {
  const ranges = [...world.config.ids.people].sort((a, b) => a.first - b.first);
  await withClient(pool, async (client) => {
    for (const { first, last } of ranges) {
      await client.query(`UPDATE id_ranges SET next = $1 WHERE kind = 'person' AND first = $2`, [
        last,
        first,
      ]);
    }
  });
  for (const { last } of ranges) {
    expect(await inTransaction(pool, (client) => allocateId(client, 'person'))).toBe(last);
  }
  await expect(inTransaction(pool, (client) => allocateId(client, 'person'))).rejects.toMatchObject(
    { code: 'IDS_EXHAUSTED' },
  );
});

test('a range that overlaps another is refused', async () => {
  const [range] = world.config.ids.tools;
  const config = {
    ...world.config,
    ids: { ...world.config.ids, people: [{ first: range!.first + 1, last: range!.first + 2 }] },
  };
  await expect(withClient(pool, (client) => syncRanges(client, config))).rejects.toMatchObject({
    code: 'CONFIG_INVALID',
  });
});

test('the numbers of nobody and of (uint16_t)-1 are skipped', async () => {
  await withClient(pool, (client) =>
    client.query(
      `INSERT INTO id_ranges (kind, first, last, next) VALUES ('tool', 65533, 65537, 65533)`,
    ),
  );
  const given: number[] = [];
  for (let each = 0; each < 3; each += 1) {
    given.push(await inTransaction(pool, (client) => allocateId(client, 'tool')));
  }
  expect(given).toEqual([65533, 65536, 65537]);
});

describe('the database itself refuses', () => {
  test.each([0, -1, 65534, 65535])('the number %d', async (id) => {
    await expect(
      withClient(pool, (client) =>
        client.query(`INSERT INTO posix_ids (id, kind) VALUES ($1, 'person')`, [id]),
      ),
    ).rejects.toMatchObject({ code: '23514' });
  });

  test('a name, and a display name in normal form, for a second one', async () => {
    const insert = (id: number, name: string, shellName: string, displayNameKey: string) =>
      inTransaction(pool, async (client) => {
        await client.query(`INSERT INTO posix_ids (id, kind) VALUES ($1, 'person')`, [id]);
        await client.query('INSERT INTO names (name, subject) VALUES ($1, $2)', [name, id]);
        await client.query(
          `INSERT INTO people (uid, shell_name, display_name, display_name_key, email)
           VALUES ($1, $2, $3, $3, 'x@example.org')`,
          [id, shellName, displayNameKey],
        );
      });
    await insert(3_000_001, 'one', 'one', 'the one');
    const twice = { code: '23505' };
    await expect(insert(3_000_001, 'two', 'two', 'two')).rejects.toMatchObject(twice);
    await expect(insert(3_000_002, 'one', 'two', 'two')).rejects.toMatchObject(twice);
    await expect(insert(3_000_002, 'two', 'one', 'two')).rejects.toMatchObject(twice);
    await expect(insert(3_000_002, 'two', 'two', 'the one')).rejects.toMatchObject(twice);
    await insert(3_000_002, 'two', 'two', 'two');
  });
});
