/** Which failures are counted against a job, and which are not: with errors of a real PostgreSQL. */
import { createHash } from 'node:crypto';
import { mock } from 'node:test';
import { afterAll, afterEach, beforeAll, expect, test } from '@jest/globals';
import type pg from 'pg';
import { openPool, type Pool } from '../../src/database/connection.ts';
import { openFailures } from '../../src/intake/failures.ts';
import type { SignedJob } from '../../src/requests/verdict.ts';
import { openWorld, type World } from '../stack.ts';

let world: World;
let pool: Pool;
let client: pg.PoolClient;

beforeAll(async () => {
  world = await openWorld('failures', { needs: ['postgres'] });
  pool = openPool(world.config, 'owner', { max: 1, durable: false });
  client = await pool.connect();
});
afterEach(() => {
  mock.restoreAll();
});
afterAll(async () => {
  client?.release();
  await pool?.end();
  await world?.close();
});

function jobOf(request: Record<string, unknown>): SignedJob {
  const sha256 = createHash('sha256').update(JSON.stringify(request)).digest();
  return { sha256, signed: { claims: { request }, sha256 } } as unknown as SignedJob;
}

const raised = (state: string) =>
  client
    .query(`DO $$ BEGIN RAISE EXCEPTION 'what happens' USING ERRCODE = '${state}'; END $$`)
    .catch((error: unknown) => error);

const KEY = jobOf({ kind: 'key.add', person: 'alice' });
const peopleOf = (count: number) =>
  jobOf({ kind: 'person.suspend', people: Array.from({ length: count }, (_, n) => `p-${n}`) });

async function codeAfter(job: SignedJob, times: number, error: unknown) {
  const failures = openFailures();
  for (let n = 0; n < times; n += 1) failures.count([job], error);
  return failures.judge(job).signed.refusal?.code;
}

test.each([
  ...['XX001', 'XX000', 'F0000', '42501', '42P01', '42703', '42883', '3F000', '55P03', '53100'],
  'P0001',
])('no job is at fault for %s, however often it comes', async (state) => {
  expect(await codeAfter(KEY, 50, await raised(state))).toBeUndefined();
  expect(await codeAfter(peopleOf(1000), 50, await raised(state))).toBeUndefined();
});

test('nor if PostgreSQL does not answer in time', async () => {
  expect(await codeAfter(KEY, 50, new Error('Query read timeout'))).toBeUndefined();
});

test('a job on which the program fails, or whose data PostgreSQL refuses, is refused after five times', async () => {
  for (const error of [new TypeError('x is undefined'), await raised('23505')]) {
    expect(await codeAfter(KEY, 4, error)).toBeUndefined();
    expect(await codeAfter(KEY, 5, error)).toBe('INTERNAL');
  }
});

test('what PostgreSQL is at fault for is not added to it', async () => {
  const failures = openFailures();
  const missing = await raised('42P01');
  for (let n = 0; n < 4; n += 1) {
    failures.count([KEY], new TypeError('x is undefined'));
    failures.count([KEY], missing);
  }
  expect(failures.judge(KEY).signed.refusal).toBeUndefined();
});

test('a statement that took too long is the fault of a job that asks for much', async () => {
  const error = await raised('57014');
  for (const much of [peopleOf(101), jobOf({ kind: 'credentials.rotate', server: 'replica' })]) {
    expect(await codeAfter(much, 4, error)).toBeUndefined();
    expect(await codeAfter(much, 5, error)).toBe('TOO_MUCH_AT_ONCE');
  }
  for (const little of [peopleOf(2), peopleOf(100), KEY]) {
    expect(await codeAfter(little, 50, error)).toBeUndefined();
  }
});

test('a job is at fault only where it failed alone, however often it was sent', async () => {
  const failures = openFailures();
  const error = await raised('23505');
  for (let n = 0; n < 5; n += 1) failures.count([KEY, peopleOf(1), KEY], error);
  expect(failures.judge(KEY).signed.refusal).toBeUndefined();
});

test('its failures are remembered while it waits behind others that take long to fail', async () => {
  let now = 1_000_000;
  mock.method(performance, 'now', () => now);
  const failures = openFailures();
  const error = await raised('57014');
  const much = peopleOf(101);
  for (let n = 0; n < 5; n += 1) {
    failures.count([much], error);
    now += 1_000_000;
    expect(failures.any()).toBe(false);
  }
  expect(failures.judge(much).signed.refusal?.code).toBe('TOO_MUCH_AT_ONCE');
});

test('those that have failed alone take a fifth of the time at most, and others do not wait for them', async () => {
  let now = 1_000_000;
  mock.method(performance, 'now', () => now);
  const failures = openFailures();
  const error = await raised('57014');
  const [slow, beside] = [peopleOf(2), peopleOf(3)];
  failures.count([slow, beside], error, 5000);
  expect([slow, beside].map((job) => failures.restOf(job))).toEqual([0, 0]);
  failures.count([slow], error, 5000);
  expect([slow, beside, KEY].map((job) => failures.restOf(job))).toEqual([20_000, 0, 0]);
  now += 20_000;
  expect(failures.restOf(slow)).toBe(0);
  failures.count([slow], error, 60_000);
  expect(failures.restOf(slow)).toBe(30_000);
});

test('one that fails at once lets none come sooner that took long to fail', async () => {
  let now = 1_000_000;
  mock.method(performance, 'now', () => now);
  const failures = openFailures();
  failures.count([peopleOf(2)], await raised('57014'), 5000);
  now += 1000;
  failures.count([KEY], await raised('42501'), 3);
  expect(failures.restOf(peopleOf(2))).toBe(19_000);
});

test('of those that took long to fail, the one that failed first is tried first, whatever comes first in the queues', async () => {
  let now = 1_000_000;
  mock.method(performance, 'now', () => now);
  const failures = openFailures();
  const error = await raised('57014');
  const [other, urgent] = [KEY, peopleOf(2)];
  failures.count([other], error, 5000);
  now += 5000;
  failures.count([urgent], error, 5000);
  expect([urgent, other].map((job) => failures.restOf(job))).toEqual([20_000, 20_000]);
  now += 20_500; // both are due, and intake takes the urgent one
  expect(failures.restOf(urgent)).toBe(1000);
  expect(failures.restOf(other)).toBe(0);
  failures.count([other], error, 5000);
  now += 20_500;
  expect(failures.restOf(urgent)).toBe(0);
});

test('it is not awaited where Redis has lost it', async () => {
  let now = 1_000_000;
  mock.method(performance, 'now', () => now);
  const failures = openFailures();
  const error = await raised('57014');
  for (const job of [KEY, peopleOf(2)]) {
    failures.count([job], error, 5000);
    failures.restOf(job);
    now += 1000;
  }
  now += 19_500;
  expect(failures.restOf(peopleOf(2))).toBe(1000);
  now += 2000;
  expect(failures.restOf(peopleOf(2))).toBe(0);
});

test('a job that cannot even be refused rests longer after each failure, too', async () => {
  const failures = openFailures();
  const error = await raised('23505');
  const pauses = Array.from({ length: 8 }, () => failures.count([KEY], error));
  expect(pauses).toEqual([100, 100, 100, 100, 100, 3200, 6400, 12_800]);
});

test('a job rests longer after each failure, half a minute at most, and is forgotten a minute after its rest', async () => {
  let now = 1_000_000;
  mock.method(performance, 'now', () => now);
  const failures = openFailures();
  const error = await raised('42501');
  const pauses = Array.from({ length: 11 }, () => failures.count([KEY], error));
  expect(pauses).toEqual([
    ...[100, 200, 400, 800, 1600, 3200, 6400, 12_800, 25_600, 30_000, 30_000],
  ]);
  const fault = new TypeError('x is undefined');
  expect([failures.count([KEY], fault), failures.count([KEY], fault)]).toEqual([100, 100]);
  failures.count([KEY], error);
  now += 90_000;
  expect(failures.any()).toBe(true);
  now += 1;
  expect(failures.any()).toBe(false);
  failures.count([KEY], error);
  failures.forget([KEY]);
  expect(failures.any()).toBe(false);
});
