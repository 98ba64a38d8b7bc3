/** What is remembered about unmanaged things, from look to look. */
import { afterAll, beforeAll, beforeEach, expect, test } from '@jest/globals';
import type { Looked, SeenThing } from '../../src/unmanaged/unmanaged.ts';
import { openPool, type Pool, withClient } from '../../src/database/connection.ts';
import {
  ignoreThings,
  readClock,
  readNumbers,
  readUnmanaged,
  recordLook,
} from '../../src/unmanaged/unmanaged-table.ts';
import { openWorld, type World } from '../stack.ts';

let world: World;
let owner: Pool;
let reader: Pool;
let admin: Pool;

beforeAll(async () => {
  world = await openWorld('unmanaged rows', { needs: ['postgres'] });
  const open = (role: Parameters<typeof openPool>[1]) =>
    openPool(world.config, role, { max: 2, durable: false });
  [owner, reader, admin] = [open('owner'), open('homes_reader'), open('admin')];
});
afterAll(async () => {
  await Promise.all([owner, reader, admin].map((pool) => pool?.end()));
  await world?.close();
});
beforeEach(async () => {
  await owner.query('DELETE FROM unmanaged');
});

const home = (name: string, rest: Partial<SeenThing> = {}): SeenThing => ({
  ...{ object: `/home/${name}`, kind: 'home', name, number: 77, identity: '1:2:3', ...rest },
});
async function look(things: SeenThing[], rest: Partial<Looked> & { began?: string } = {}) {
  const { began = await readClock(reader), ...of } = rest;
  await recordLook(
    reader,
    'homes',
    { place: 'personHomes', things, gone: 'the rest', ...of },
    began,
  );
}
const list = () => readUnmanaged(admin);
const ignore = async (reason = 'known') =>
  withClient(admin, async (client) => ignoreThings(client, await list(), 'unix:root', reason));

test('a thing keeps the time when it was first seen, and is dropped when a complete look does not see it', async () => {
  await look([home('eve'), home('mallory')]);
  const [first] = await list();
  await look([home('eve')]);
  expect(await list()).toEqual([first]);
  await look([]);
  expect(await list()).toEqual([]);
});

test('a look at a part drops what it did not find there, and nothing else', async () => {
  await look([home('eve'), home('mallory')]);
  await look([home('trent')], { gone: ['/home/eve'] });
  expect((await list()).map(({ object }) => object)).toEqual(['/home/mallory', '/home/trent']);
});

test('a look that began before a thing appeared does not drop it', async () => {
  const began = await readClock(reader);
  await look([home('eve')]);
  await look([], { began });
  expect(await list()).toHaveLength(1);
});

test('an ignored thing stays listed when it is gone, and is updated when it reappears', async () => {
  await look([home('eve')]);
  await ignore();
  await look([]);
  expect(await list()).toMatchObject([{ reason: 'known', ignoredBy: 'unix:root' }]);
  expect((await list())[0]?.goneAt).not.toBeNull();
  await look([home('eve')]);
  expect(await list()).toMatchObject([{ reason: 'known', goneAt: null }]);
});

test.each([
  ['another thing of its name', { identity: '1:9:9' }],
  ['the same with another owner', { number: 0 }],
  ['one of another kind', { kind: 'archive' as const }],
])('%s was not ignored', async (_, rest) => {
  await look([home('eve')]);
  await ignore();
  await look([home('eve', rest)]);
  expect(await list()).toMatchObject([{ ignoredAt: null, ignoredBy: null, reason: null }]);
});

test('hostile values are listed like any other', async () => {
  const long = `/home/${'x'.repeat(100_000)}`;
  const madeAt = new Date(8.64e15);
  await look([home('eve', { object: long, number: 4_294_967_295, madeAt }), home('nul\0')]);
  await look([home('eve', { object: long, number: 4_294_967_295, madeAt }), home('nul\0')]);
  expect((await list()).map(({ object, number, madeAt: made }) => [object, number, made])).toEqual([
    ['/home/nul\uFFFD', 77, null],
    [long, null, null],
  ]);
  expect(await readNumbers(reader, [9_999_999_999, -1])).toEqual(new Map());
});

test('readers write what their own role sees, and cannot decide', async () => {
  await look([home('eve')]);
  for (const sql of [
    `UPDATE unmanaged SET ignored_at = now()`,
    `INSERT INTO unmanaged (role, place, object, kind, ignored_at) VALUES ('homes', 'x', 'x', 'home', now())`,
    `INSERT INTO unmanaged (role, place, object, kind) VALUES ('directory', 'x', 'x', 'home')`,
    `INSERT INTO unmanaged_looks (role, place) VALUES ('databases', 'x')`,
  ]) {
    await expect(reader.query(sql)).rejects.toMatchObject({ code: '42501' });
  }
  for (const sql of [`DELETE FROM unmanaged`, `UPDATE unmanaged SET object = 'x'`]) {
    await expect(admin.query(sql)).rejects.toMatchObject({ code: '42501' });
  }
  const others = openPool(world.config, 'databases_reader', { max: 1, durable: false });
  expect((await others.query('SELECT FROM unmanaged')).rowCount).toBe(0);
  expect((await others.query('DELETE FROM unmanaged')).rowCount).toBe(0);
  await others.end();
});
