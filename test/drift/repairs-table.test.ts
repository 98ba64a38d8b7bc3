/** Which parts of repairs the relay gives to the roles, and when. */
import { randomUUID } from 'node:crypto';
import { afterAll, beforeAll, beforeEach, expect, test } from '@jest/globals';
import type { Action } from '../../src/reconcile/action.ts';
import type { Role } from '../../src/reconcile/wanted.ts';
import { openPool, type Pool, withClient } from '../../src/database/connection.ts';
import type { AskedPart } from '../../src/drift/repair-parts.ts';
import { askParts, keepWaiting, leaseParts, recordRepair } from '../../src/drift/repairs-table.ts';
import { openWorld, type World } from '../stack.ts';

let world: World;
const pools = {} as Record<'owner' | 'admin' | 'relay', Pool>;

beforeAll(async () => {
  world = await openWorld('repairs', { needs: ['postgres'] });
  for (const role of ['owner', 'admin', 'relay'] as const) {
    pools[role] = openPool(world.config, role, { max: 1, durable: false });
  }
  await pools.owner.query(
    `INSERT INTO posix_ids (id, kind) SELECT i, 'tool' FROM generate_series(1, 100) AS i`,
  );
});
afterAll(async () => {
  await Promise.all(Object.values(pools).map((pool) => pool.end()));
  await world?.close();
});
beforeEach(async () => {
  await pools.owner.query('TRUNCATE repairs, repair_parts');
});

const part = (subject: number, role: Role, ...verbs: Action['verb'][]): AskedPart => ({
  ...{ subject, role, account: `tools.t${subject}`, sideConditions: [] },
  steps: verbs.map((verb) => ({ action: { verb } })) as never[],
});
const many = (count: number, role: Role, verb: Action['verb']) =>
  Array.from({ length: count }, (_, n) => part(n + 1, role, verb));

async function ask(parts: readonly AskedPart[]): Promise<string> {
  const id = randomUUID();
  const of = { id, by: 'a test', destroy: false, target: undefined, parts, acts: [] };
  await withClient(pools.admin, (client) => recordRepair(client, of));
  return id;
}
const lease = () => leaseParts(pools.relay, ['directory', 'homes', 'databases']);
const leased = async () => (await lease()).length;
const expire = () =>
  pools.owner.query(`UPDATE repair_parts SET leased_until = now() - interval '1 s'`);

test('each part is leased once, and again when its lease is over', async () => {
  await ask([part(1, 'directory', 'dir.create'), part(1, 'homes'), part(2, 'homes')]);
  expect(await lease()).toHaveLength(3);
  expect(await lease()).toEqual([]);
  await expire();
  expect(await lease()).toHaveLength(3);
});

test('what may take hours is leased apart: two of each role, and as many others as there is room for', async () => {
  await ask([
    ...many(70, 'directory', 'dir.create'),
    part(80, 'homes', 'home.withdraw', 'home.archive'),
    part(81, 'homes', 'home.restore'),
    part(82, 'homes', 'home.archive'),
    part(80, 'databases', 'databases.restore'),
    part(83, 'homes', 'home.withdraw'),
  ]);
  const parts = await lease();
  expect(parts.filter(({ role }) => role === 'directory')).toHaveLength(64);
  expect(parts.filter(({ role, slow }) => role === 'homes' && slow)).toHaveLength(2);
  expect(parts.filter(({ slow }) => !slow).map(({ subject }) => subject)).toContain(83);
  expect(parts).toContainEqual({ subject: 80, role: 'databases', slow: true });
  expect(await lease()).toEqual([]);
  // those that were not leased before come first
  await expire();
  expect((await lease()).map(({ subject }) => subject)).toEqual(
    expect.arrayContaining(
      Array.from({ length: 70 }, (_, n) => n + 1).filter((n) =>
        parts.every(({ subject }) => subject !== n),
      ),
    ),
  );
});

test('a part that has ended leaves its room to another', async () => {
  await ask(many(70, 'homes', 'home.withdraw'));
  expect(await leased()).toBe(64);
  await pools.owner.query(
    `UPDATE repair_parts SET state = 'done' WHERE ctid = ANY (ARRAY(
       SELECT ctid FROM repair_parts WHERE leased_until IS NOT NULL LIMIT 3))`,
  );
  expect(await leased()).toBe(3);
});

test('a repair does not wait for the room of another', async () => {
  await ask(many(100, 'homes', 'home.withdraw'));
  expect(await leased()).toBe(64);
  await ask([part(90, 'homes')]);
  expect((await lease()).map(({ subject }) => subject)).toEqual([90]);
});

test('none is leased while the realm is frozen, nor when nobody waits any more', async () => {
  const id = await ask([part(1, 'homes')]);
  await pools.owner.query('UPDATE frozen SET frozen_at = now()');
  expect(await lease()).toEqual([]);
  await pools.owner.query('UPDATE frozen SET frozen_at = NULL');
  await withClient(pools.admin, (client) => keepWaiting(client, id, 0));
  expect(await lease()).toEqual([]);
  // by a caller that was killed
  await ask([part(1, 'homes')]);
  await pools.owner.query(`UPDATE repairs SET waited_until = waited_until - interval '10 s'`);
  expect(await lease()).toEqual([]);
});

test('a part that is asked for twice stays as it is', async () => {
  const id = await ask([part(1, 'homes')]);
  await pools.owner.query(`UPDATE repair_parts SET state = 'done'`);
  await withClient(pools.admin, (client) =>
    askParts(client, id, [part(1, 'homes'), part(2, 'homes')]),
  );
  const { rows } = await pools.owner.query('SELECT subject, state FROM repair_parts ORDER BY 1');
  expect(rows).toEqual([
    { subject: 1, state: 'done' },
    { subject: 2, state: 'asked' },
  ]);
});
