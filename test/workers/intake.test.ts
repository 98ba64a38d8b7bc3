/** How many requests intake decides at a time, after the program itself has failed on one. */
import { fixedConfig } from '../../src/configuration/config-in-use.ts';
import { randomUUID } from 'node:crypto';
import { mock } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { afterAll, afterEach, beforeAll, expect, test } from '@jest/globals';
import { Queue } from 'bullmq';
import { Redis } from 'ioredis';
import { openLog } from '../../src/shared/log.ts';
import { openPool, type Pool, VERDICTS_LOCK } from '../../src/database/connection.ts';
import { startIntake } from '../../workers/intake.ts';
import type { Worker } from '../../src/shared/loop.ts';
import { eventually } from '../scenarios/eventually.ts';
import { openPortal, type Portal } from '../scenarios/portal.ts';
import { openWorld, startServer, stopServer, type World } from '../stack.ts';

const KEY = 'ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIND0k9UN/Drd9ADbQRf/x4MAWO3WcOIkixt20iCch4JR';

let world: World;
let owner: Pool;
let portal: Portal;
let redis: Redis;
let intake: Worker;
const log: string[] = [];
let made = 0;

beforeAll(async () => {
  world = await openWorld('intake', { needs: ['postgres', 'redis'] });
  owner = openPool(world.config, 'owner', { max: 1, durable: false });
  portal = openPortal(world);
  redis = new Redis(world.redis.urlOf('owner'));
  redis.on('error', () => {}); // that it is away
  start();
});
afterEach(() => {
  mock.restoreAll();
});
afterAll(async () => {
  await intake?.close();
  await portal?.close();
  redis?.disconnect();
  await owner?.end();
  await world?.close();
});

function start(): void {
  const write = (line: string) => void log.push(line);
  intake = startIntake(fixedConfig(world.config), openLog('trace', { write }));
}

const isFrozen = (frozen: boolean) =>
  owner.query('UPDATE frozen SET frozen_at = $1', [frozen ? new Date() : null]);

/** Sends eight requests while none is decided, and says in how many transactions they are then. */
async function transactionsOfEight(): Promise<number> {
  await isFrozen(true);
  const ids = await Promise.all(
    Array.from({ length: 8 }, () => {
      const name = `person-${(made += 1)}`;
      const mail = { displayName: name, email: `${name}@example.org` };
      return portal.send({ kind: 'person.create', requestedBy: name, shellName: name, ...mail });
    }),
  );
  await isFrozen(false);
  return eventually('verdicts', async () => {
    const { rows } = await owner.query('SELECT at::text FROM requests WHERE jti = ANY ($1)', [ids]);
    const times = (rows as { at: string }[]).map(({ at }) => at);
    return times.length === ids.length && new Set(times).size;
  });
}

test('one that failed and was lost with Redis is forgotten: requests share a transaction again', async () => {
  expect(await transactionsOfEight()).toBe(1);
  const id = randomUUID();
  await owner.query(
    `CREATE FUNCTION fail() RETURNS trigger LANGUAGE plpgsql AS $$
     BEGIN RAISE EXCEPTION 'a fault of the program' USING ERRCODE = 'XX000'; END $$`,
  );
  await owner.query(
    `CREATE TRIGGER fails BEFORE INSERT ON requests FOR EACH ROW WHEN (NEW.jti = '${id}')
     EXECUTE FUNCTION fail()`,
  );
  await portal.send({ kind: 'access.request', requestedBy: 'person-1' }, { id });
  await eventually('a failure', () => log.some((line) => line.includes('a fault of the program')));
  await redis.flushall();
  expect(await transactionsOfEight()).toBe(8);
  // a minute later
  const now = performance.now.bind(performance);
  mock.method(performance, 'now', () => now() + 61_000);
  expect(await transactionsOfEight()).toBe(1);
});

test('an urgent request for which a right is missing is tried until it is there, and others have their verdicts', async () => {
  // so that no pause after a failure takes long
  const now = Date.now.bind(Date);
  let later = 0;
  mock.method(Date, 'now', () => now() + later);
  const verdictOf = (id: string) =>
    eventually('a verdict', async () => {
      const { rows } = await owner.query('SELECT verdict FROM requests WHERE jti = $1', [id]);
      return rows[0]?.verdict as string | undefined;
    });
  const key = { requestedBy: 'person-1', person: 'person-1', key: KEY };
  expect(await verdictOf(await portal.send({ kind: 'key.add', ...key }))).toBe('accepted');
  const from = log.length;
  const tries = () => log.slice(from).filter((line) => line.includes('no verdict could be given'));
  await owner.query('REVOKE UPDATE ON ssh_keys FROM chamberlain_intake');
  const id = await portal.send({ kind: 'key.remove', ...key });
  for (let n = 1; n <= 7; n += 1) {
    await eventually('the next try', () => tries().length >= n);
    later += 30_000;
  }
  expect(tries()[6]).toContain('permission denied for table ssh_keys');
  expect(tries()[6]).toContain(`"portal":"portal","request":"${id}","kind":"key.remove"`);
  expect(log.slice(from).join('')).not.toContain('gave up the lease');
  expect(await transactionsOfEight()).toBe(8);
  await owner.query('GRANT UPDATE ON ssh_keys TO chamberlain_intake');
  later += 30_000;
  expect(await verdictOf(id)).toBe('accepted');
});

test('a request that cannot have a lock, or whose file cannot be read, keeps none from its verdict', async () => {
  const from = log.length;
  for (const state of ['55P03', '40P01', '58P01']) {
    const id = randomUUID();
    await owner.query(
      `CREATE OR REPLACE FUNCTION fail() RETURNS trigger LANGUAGE plpgsql AS $$
       BEGIN RAISE EXCEPTION 'fault ${state}' USING ERRCODE = '${state}'; END $$`,
    );
    await owner.query(
      `CREATE OR REPLACE TRIGGER fails BEFORE INSERT ON requests FOR EACH ROW WHEN (NEW.jti = '${id}')
       EXECUTE FUNCTION fail()`,
    );
    await portal.send({ kind: 'access.request', requestedBy: 'person-1' }, { id });
    await eventually('a failure', () => log.some((line) => line.includes(`fault ${state}`)));
    expect(await transactionsOfEight()).toBe(8);
  }
  expect(log.slice(from).join('')).not.toContain('gave up the lease');
  await owner.query('DROP TRIGGER fails ON requests');
});

test('while an import holds all verdicts, no request is to blame: each has its own soon after', async () => {
  const from = log.length;
  const importing = openPool(world.config, 'owner', { max: 1, durable: false });
  const client = await importing.connect();
  await client.query('BEGIN');
  await client.query('SELECT pg_advisory_xact_lock($1)', [VERDICTS_LOCK]);
  const decided = transactionsOfEight();
  await eventually('a failure', () =>
    log.slice(from).some((line) => line.includes('lock timeout')),
  );
  await client.query('COMMIT');
  client.release();
  await importing.end();
  await decided;
  expect(log.slice(from).join('')).toContain('gave up the lease');
});

test('a check is answered after the requests that were sent with it, and does nothing', async () => {
  const person = (name: string) => ({
    ...{ kind: 'person.create', requestedBy: name, shellName: name, displayName: name },
    email: `${name}@example.org`,
  });
  const requests = new Queue('requests.portal', {
    connection: { url: world.redis.urlOf('owner') },
  });
  await intake.close(); // so that it takes them together
  try {
    const token = portal.token(person('checked'), { claims: { check: true } });
    const { id } = await requests.add('request', { token });
    const first = await portal.send(person('first'));
    const second = await portal.send({ ...person('second'), email: 'first@example.org' });
    start();
    const job = await eventually('the answer', async () => {
      const found = await requests.getJob(id!);
      return found?.finishedOn !== undefined && found;
    });
    expect(job.returnvalue).toEqual({ verdict: 'accepted', check: true });
    const { rows } = await owner.query(
      'SELECT jti, at < $2 AS earlier FROM requests WHERE jti = ANY ($1)',
      [[first, second], new Date(job.finishedOn!)],
    );
    expect(rows).toHaveLength(2);
    expect(rows.every(({ earlier }) => earlier)).toBe(true);
    const { rowCount } = await owner.query(`SELECT FROM names WHERE name = 'checked'`);
    expect(rowCount).toBe(0);
  } finally {
    await requests.close();
  }
});

test('while Redis is away, the log says so once', async () => {
  const from = log.length;
  await stopServer(world.redis);
  try {
    await sleep(8000); // it is tried every 3 s
  } finally {
    await startServer(world.redis);
  }
  await transactionsOfEight();
  const said = log.slice(from).filter((line) => line.includes('cannot be used'));
  expect(said).toEqual([expect.stringContaining('nothing listens there (ECONNREFUSED)')]);
});
