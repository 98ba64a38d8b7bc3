/** The numbers of seals grow with the wanted state, and with nothing else. */
import { afterAll, beforeAll, beforeEach, expect, test } from '@jest/globals';
import { renewSeals } from '../../src/lifecycle/calendar-queries.ts';
import { openPool, type Pool, withClient } from '../../src/database/connection.ts';
import { readFloors } from '../../src/seals/heartbeat-table.ts';
import { openWorld, type World } from '../stack.ts';

let world: World;
let owner: Pool;
let intake: Pool;
let directory: Pool;
let first: number;

beforeAll(async () => {
  world = await openWorld('seals', { needs: ['postgres'] });
  owner = openPool(world.config, 'owner', { max: 2, durable: false });
  intake = openPool(world.config, 'intake', { max: 2, durable: false });
  directory = openPool(world.config, 'directory', { max: 2, durable: false });
  first = world.config.ids.people[0]!.first;
});
afterAll(async () => {
  await Promise.all([owner.end(), intake.end(), directory.end()]);
  await world.close();
});
beforeEach(async () => {
  // numbers are never given twice
  first += 2;
  await owner.query('DELETE FROM login_seals');
  for (const uid of [first, first + 1]) {
    await owner.query(`INSERT INTO posix_ids (id, kind) VALUES ($1, 'person')`, [uid]);
    await owner.query(
      `INSERT INTO people (uid, shell_name, display_name, display_name_key, email, state)
       VALUES ($1, $2, $2, $2, 'x@example.org', 'active')`,
      [uid, `p${uid}`],
    );
  }
});

const change = (uids: number[], roles: string[], urgent = false) =>
  intake.query('SELECT * FROM touch_generations($1, $2, $3, $4)', [
    uids,
    roles,
    urgent,
    uids.map(() => false),
  ]);
const apply = () =>
  owner.query(`UPDATE convergence SET applied = wanted, state = 'applied', targets = NULL`);
async function sealOf(uid: number) {
  const { rows } = await owner.query(
    `SELECT number::int, floor::int, floor_at IS NOT NULL AS lost, until::text, renew_at FROM login_seals WHERE subject = $1`,
    [uid],
  );
  return rows[0] as
    { number: number; floor: number; lost: boolean; until: string; renew_at: Date } | undefined;
}
async function rowOf(uid: number) {
  const { rows } = await owner.query(
    `SELECT (wanted - applied)::int AS behind, targets, state FROM convergence WHERE subject = $1 AND role = 'directory'`,
    [uid],
  );
  return rows[0] as { behind: number; targets: string[] | null; state: string };
}

test('each change of what the directory must have gives the next number, and seven days', async () => {
  await change([first], ['directory']);
  expect(await sealOf(first)).toMatchObject({ number: 1, floor: 0, lost: false });
  await change([first, first, first + 1], ['directory', 'homes', 'directory']);
  expect((await sealOf(first))?.number).toBe(2);
  expect((await sealOf(first + 1))?.number).toBe(1);
  const { until = '', renew_at: renewAt = new Date() } = (await sealOf(first)) ?? {};
  const hours = (ms: number) => (ms - Date.now()) / 3_600_000;
  expect(hours(Date.parse(until))).toBeCloseTo(7 * 24, 0);
  expect(hours(renewAt.getTime())).toBeGreaterThan(59);
  expect(hours(renewAt.getTime())).toBeLessThan(84.1);
});

test('what other roles must have changes no seal', async () => {
  await change([first, first], ['homes', 'databases']);
  expect(await sealOf(first)).toBeUndefined();
});

test('looking again at an unchanged wanted state gives no number', async () => {
  await change([first], ['directory']);
  await owner.query(`SELECT * FROM look_again($1, '{directory}', false, '{false}')`, [[first]]);
  expect((await sealOf(first))?.number).toBe(1);
  expect((await rowOf(first)).behind).toBe(2);
});

test('a subject that may lose something gets a floor: after urgent changes, and whenever it is not active', async () => {
  await change([first, first + 1], ['directory', 'directory']);
  await change([first], ['directory'], true);
  expect(await sealOf(first)).toMatchObject({ number: 2, floor: 2, lost: true });
  await change([first], ['directory']);
  expect(await sealOf(first)).toMatchObject({ number: 3, floor: 2, lost: true });
  await owner.query(`UPDATE people SET state = 'suspended' WHERE uid = $1`, [first + 1]);
  await change([first + 1], ['directory']);
  expect(await sealOf(first + 1)).toMatchObject({ number: 2, floor: 2, lost: true });
});

test('the heartbeat publishes a floor once the directory has the newer seal, or two seconds after it should', async () => {
  await change([first], ['directory']);
  await apply();
  await change([first], ['directory'], true);
  expect((await readFloors(directory)).floors).toEqual([]);
  await owner.query(`UPDATE convergence SET since = now() - interval '3 s'`);
  expect((await readFloors(directory)).floors).toEqual([[first, 2]]);
  await apply();
  expect((await readFloors(directory)).floors).toEqual([[first, 2]]);
  await owner.query(`UPDATE login_seals SET floor_at = now() - interval '8 days'`);
  expect((await readFloors(directory)).floors).toEqual([]);
});

test('a renewal makes only the seal again; a change meanwhile applies everything', async () => {
  await change([first, first + 1], ['directory', 'directory']);
  await apply();
  const later = new Date(Date.now() + 5 * 86_400_000);
  expect(await withClient(intake, (client) => renewSeals(client, later, 1))).toBe(1);
  expect(await withClient(intake, (client) => renewSeals(client, later, 10))).toBe(1);
  expect(await withClient(intake, (client) => renewSeals(client, later, 10))).toBe(0);
  for (const uid of [first, first + 1]) {
    expect((await sealOf(uid))?.number).toBe(2);
    expect(await rowOf(uid)).toEqual({ behind: 1, targets: ['seal'], state: 'due' });
  }
  await change([first], ['directory']);
  expect(await rowOf(first)).toEqual({ behind: 2, targets: null, state: 'due' });
});

test('a renewal of a subject that is already behind leaves out none of its work', async () => {
  await change([first], ['directory']);
  await intake.query('SELECT touch_seals($1)', [[first]]);
  expect(await rowOf(first)).toEqual({ behind: 2, targets: null, state: 'due' });
});

test('deleted subjects are not renewed', async () => {
  await change([first], ['directory']);
  await owner.query('ALTER TABLE people DISABLE TRIGGER people_deleted');
  await owner.query(`UPDATE people SET state = 'deleted' WHERE uid = $1`, [first]);
  await owner.query('ALTER TABLE people ENABLE TRIGGER people_deleted');
  await change([first], ['directory']);
  expect((await sealOf(first))?.until).toBe('infinity');
  const later = new Date(Date.now() + 500 * 86_400_000);
  expect(await withClient(intake, (client) => renewSeals(client, later, 10))).toBe(0);
});

test('64 simultaneous changes have 64 numbers', async () => {
  await change([first], ['directory']);
  await Promise.all(Array.from({ length: 63 }, () => change([first], ['directory'])));
  expect((await sealOf(first))?.number).toBe(64);
});

test('no worker may choose a number', async () => {
  await change([first], ['directory']);
  for (const pool of [directory]) {
    await expect(pool.query('UPDATE login_seals SET number = 9')).rejects.toThrow(
      /permission denied/,
    );
    await expect(pool.query(`SELECT number_seals('{${first}}', false)`)).rejects.toThrow(
      /permission denied/,
    );
  }
});
