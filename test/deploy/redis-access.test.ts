/** What each user of deploy/redis may do in Redis: BullMQ as a portal, and what a portal is refused. */
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test } from '@jest/globals';
import { once } from 'node:events';
import { rmSync } from 'node:fs';
import { join } from 'node:path';
import * as bullmq from 'bullmq';
import * as bullmq5 from 'bullmq5';
import { Redis } from 'ioredis';
import { renderUsers } from '../../deploy/redis/render.ts';
import { runningPid, startServer, stopServer } from '../../dev/servers/daemon.ts';
import { makePlace } from '../../dev/servers/place.ts';
import { redisServer, type RedisServer } from '../../dev/servers/redis.ts';
import { openQueues, startConsumer } from '../../src/backends/redis/queue.ts';
import type { RedisAccount } from '../../src/backends/redis/redis-connection.ts';
import { expectGolden } from '../golden.ts';
import { makeTemporaryFolder } from '../shared-servers.ts';

const dir = makeTemporaryFolder();
let server: RedisServer;
let owner: Redis;
beforeAll(async () => {
  const { servers, secrets } = makePlace(dir);
  server = redisServer(join(servers, 'redis'), secrets);
  await startServer(server);
  await server.admitPortals(['bridge', 'other', 'admin.alice']);
  owner = new Redis(server.urlOf('owner'));
});
beforeEach(async () => {
  await owner.flushall();
  await owner.acl('LOG', 'RESET');
});
afterAll(async () => {
  owner?.disconnect();
  await stopServer(server);
  rmSync(dir, { recursive: true, force: true });
});

/** A connection of a user who knows a password. */
async function as<T>(
  user: Parameters<RedisServer['urlOf']>[0],
  act: (redis: Redis) => Promise<T>,
): Promise<T> {
  const redis = new Redis(server.urlOf(user), { maxRetriesPerRequest: 1 });
  try {
    return await act(redis);
  } finally {
    redis.disconnect();
  }
}

/** Redis's answer to a command: `ok`, or the first word of its refusal. */
async function answerTo(redis: Redis, words: readonly string[]): Promise<string> {
  const [command = '', ...args] = words;
  try {
    await redis.call(command, ...args);
    return 'ok';
  } catch (error) {
    return (error as Error).message.split(' ')[0] ?? '';
  }
}

/** The refusals in this test, as Redis has logged them. */
async function refusals(): Promise<string[]> {
  const log = (await owner.acl('LOG')) as string[][];
  return log.map((entry) => {
    const of = (name: string) => String(entry[entry.indexOf(name) + 1]);
    return `${of('username')}: ${of('reason')} ${of('object')}`;
  });
}

const HTTP = { name: 'added-http', byRequest: true } as const;
const QUEUE = { ...HTTP, name: 'added', redisPasswordSha256: 'ab'.repeat(32) };

test('the file of users has not changed', () => {
  expectGolden(
    'redis-users.acl',
    renderUsers([{ name: 'bridge' }, { name: 'admin.alice' }, HTTP, QUEUE], (user) => [
      `the password of ${user}`,
    ]),
  );
});

describe.each([
  ['6', bullmq as unknown as typeof bullmq5],
  ['5', bullmq5],
])('BullMQ %s, as the user of a portal,', (_, { Queue, QueueEvents, Worker }) => {
  const connect = () => ({
    connection: { url: server.urlOf('portal.bridge'), maxRetriesPerRequest: null },
  });

  test.each(['requests.bridge', 'requests.urgent.bridge'])(
    'sends into %s, one and many, and waits for the verdict',
    async (name) => {
      const [queue, events] = [
        new Queue(name, connect()),
        new QueueEvents(name, { ...connect(), lastEventId: '0-0' }),
      ];
      const answering = new Worker(name, async (job) => ({ verdict: job.data }), {
        ...connect(),
        connection: { url: server.urlOf('intake'), maxRetriesPerRequest: null },
      });
      try {
        const job = await queue.add('request', 'one', { attempts: 1 });
        const [second, third] = await queue.addBulk([
          { name: 'request', data: 'two' },
          { name: 'request', data: 'three', opts: { delay: 10, priority: 3 } },
        ]);
        for (const [each, data] of [
          [job, 'one'],
          [second, 'two'],
          [third, 'three'],
        ] as const) {
          expect(await each?.waitUntilFinished(events, 10_000)).toEqual({ verdict: data });
        }
        const seen = await queue.getJob(job.id ?? '');
        expect([await seen?.getState(), await queue.getWaitingCount()]).toEqual(['completed', 0]);
        expect(await queue.getJobCounts()).toMatchObject({ completed: 3 });
        await seen?.remove();
        await queue.clean(0, 10, 'completed');
        await queue.drain();
      } finally {
        await Promise.all([answering.close(), events.close(), queue.close()]);
      }
      expect(await refusals()).toEqual([]);
    },
  );

  test('works on its events, which the relay has put there, and fails one', async () => {
    const relay = new Queue('events.bridge', {
      connection: { url: server.urlOf('portal.bridge'), maxRetriesPerRequest: null },
    });
    const heard: string[] = [];
    const worker = new Worker(
      'events.bridge',
      async ({ data }) => {
        heard.push(data as string);
        if (heard.length === 2) throw new Error('not now');
      },
      { ...connect(), concurrency: 1, lockDuration: 1000, stalledInterval: 200 },
    );
    try {
      await relay.addBulk(['a', 'b', 'c'].map((data) => ({ name: 'event', data })));
      while ((await relay.getCompletedCount()) < 2) await new Promise(setImmediate);
      expect(heard).toEqual(['a', 'b', 'c']);
      await relay.retryJobs({ state: 'failed' });
      while ((await relay.getCompletedCount()) < 3) await new Promise(setImmediate);
      expect(heard).toEqual(['a', 'b', 'c', 'b']);
      await relay.clean(0, 10, 'completed');
    } finally {
      await Promise.all([worker.close(), relay.close()]);
    }
    expect(await refusals()).toEqual([]);
  });
});

const NO_PERMISSION = 'NOPERM';
const FOREIGN = [
  ...['bull:requests.other:wait', 'bull:requests.urgent.other:wait', 'bull:events.other:wait'],
  // a portal that has a part of its name
  ...['bull:requests.bridge2:wait', 'bull:requests.bridge', 'bull:events.bridge.x:wait'],
  ...['bull:directory:wait', 'bull:homes.urgent:wait', 'bull:databases.slow:wait', 'else'],
];
const ON_A_KEY = [
  ...[['GET'], ['TYPE'], ['LRANGE', '0', '-1'], ['LPUSH', 'x'], ['DEL'], ['PEXPIRE', '1']],
  ...[
    ['RENAME', 'bull:requests.bridge:x'],
    ['RPOPLPUSH', 'bull:requests.bridge:x'],
  ],
];

test.each(FOREIGN)('a portal can neither read nor write %s', async (key) => {
  await as('portal.bridge', async (redis) => {
    for (const [command = '', ...args] of ON_A_KEY) {
      expect([command, await answerTo(redis, [command, key, ...args])]).toEqual([
        command,
        NO_PERMISSION,
      ]);
    }
    const moves = ['RPOPLPUSH', 'bull:requests.bridge:x', key];
    expect(await answerTo(redis, moves)).toBe(NO_PERMISSION);
    // a script has the rights of its sender, whether it names the key beforehand or not
    expect(await answerTo(redis, ['EVAL', 'return 1', '1', key])).toBe(NO_PERMISSION);
    const hidden = `return redis.call('LPUSH', '${key}', 'x')`;
    expect(await answerTo(redis, ['EVAL', hidden, '0'])).toBe('ERR');
  });
  expect(await owner.dbsize()).toBe(0);
  expect((await refusals()).length).toBeGreaterThan(0);
});

const FORBIDDEN = [
  ...['FLUSHALL', 'FLUSHDB', 'KEYS *', 'SCAN 0', 'RANDOMKEY', 'DBSIZE', 'MONITOR', 'SAVE', 'ROLE'],
  ...['CONFIG GET *', 'CONFIG SET maxmemory 1', 'SHUTDOWN NOSAVE', 'SWAPDB 0 1'],
  ...['ACL LIST', 'ACL SETUSER portal.bridge +@all', 'ACL LOAD', 'CLIENT LIST', 'CLIENT KILL ID 1'],
  ...['CLIENT PAUSE 1', 'CLIENT NO-EVICT on', 'SCRIPT FLUSH', 'SCRIPT KILL', 'FUNCTION LIST'],
  ...[
    'REPLICAOF NO ONE',
    'MODULE LIST',
    'PUBLISH a b',
    'SUBSCRIBE a',
    'PSUBSCRIBE *',
    'SLOWLOG GET',
  ],
  ...[
    'SORT bull:requests.bridge:x BY *',
    'MIGRATE h 1 bull:requests.bridge:x 0 1',
    'LATENCY DOCTOR',
  ],
  ...['RESTORE bull:requests.bridge:x 0 y', 'OBJECT HELP', 'COMMAND COUNT', 'BGREWRITEAOF'],
];

test.each(FORBIDDEN)(
  'only the owner can do %s, neither a portal nor a program of ours',
  async (text) => {
    const users: readonly RedisAccount[] = ['portal.bridge', 'intake', 'relay', 'homes', 'sweep'];
    for (const user of users) {
      await as(user, async (redis) => {
        expect([user, await answerTo(redis, text.split(' '))]).toEqual([user, NO_PERMISSION]);
      });
    }
  },
);

test('nobody can log in without a password, with another one, or as an admin whose key is known', async () => {
  const { host } = new URL(server.url());
  for (const [user, refusal] of [
    ['', /NOAUTH/u],
    ['default:@', /NOAUTH|WRONGPASS/u],
    ['portal.bridge:guess@', /WRONGPASS/u],
    ['portal.admin.alice:guess@', /WRONGPASS/u],
  ] as const) {
    const redis = new Redis(`redis://${user}${host}/0`, { retryStrategy: null });
    const [error] = await once(redis, 'error');
    expect(String(error)).toMatch(refusal);
    redis.disconnect();
  }
});

test('each program of ours does its work by its own account, and is refused the work of another', async () => {
  const { secrets } = makePlace(dir);
  const config = { secrets, redis: { url: server.url() } };
  const open = (['relay', 'sweep', 'admin', 'intake'] as const).map((account) =>
    openQueues(config, account),
  );
  const [relay, sweep, admin, intake] = open;
  const done: string[] = [];
  const consumers = ['homes', 'homes.slow', 'homes.urgent'].map((queue) =>
    startConsumer({
      ...{ config, account: 'homes', queue, concurrency: 1 },
      handle: async ({ name }) => void done.push(`${queue}: ${name}`),
      tell: (sentence, error) => void done.push(`${sentence}: ${String(error)}`),
    }),
  );
  try {
    await relay?.addSubjects('homes', [{ subjects: [1], urgent: true }]);
    await relay?.addSlow('homes', [1]);
    await sweep?.addSurvey('homes', 'one');
    await relay?.addSubjects('homes', [{ subjects: [1], repair: true }]);
    expect(await admin?.settingsToMend()).toEqual([]);
    while (done.length < 4) await new Promise(setImmediate);
    expect(done.toSorted((a, b) => a.localeCompare(b))).toEqual([
      ...['homes: repair', 'homes: survey', 'homes.slow: converge', 'homes.urgent: converge'],
    ]);
    expect(await refusals()).toEqual([]);
    await expect(intake?.addSurvey('homes', 'one')).rejects.toMatchObject({
      code: 'BACKEND_UNAVAILABLE',
    });
  } finally {
    await Promise.all(consumers.map((consumer) => consumer.close(1000)));
    await Promise.all(open.map((queues) => queues.close()));
  }
});

describe('a job that names keys of others cannot move them with the rights of its portal:', () => {
  const opened: { close(): Promise<unknown> }[] = [];
  afterEach(async () => void (await Promise.all(opened.splice(0).map((each) => each.close()))));
  const connection = (user: RedisAccount) => ({
    connection: { url: server.urlOf(user), maxRetriesPerRequest: null },
  });
  const open = (name: string, user: RedisAccount) => {
    const queue = new bullmq.Queue(name, connection(user));
    opened.push(queue);
    return queue;
  };
  const theirs = async () =>
    (await owner.keys('*')).filter((key) => /other|homes/u.test(key)).toSorted();

  test('when intake ends it, and its end would add a job to the queue of another', async () => {
    await open('requests.bridge', 'portal.bridge').add('x', {}, { deduplication: { id: 'd' } });
    const parent = { pk: 'bull:requests.other:9', pd: '{}', pdk: 'bull:requests.other:wait' };
    const next = { name: 'request', data: '{}', opts: '{}', ...parent };
    await owner.hset('bull:requests.bridge:dn:d', next);
    const account = connection('portal.bridge');
    const worker = new bullmq.Worker('requests.bridge', async () => 'done', account);
    opened.push({ close: () => worker.close(true) });
    const error = await new Promise<Error>((resolve) => worker.on('error', resolve));
    expect(error.message).toMatch(/No permissions to access a key/u);
    expect(await theirs()).toEqual([]);
  });

  test('when the relay removes it, and its children are jobs of others', async () => {
    for (const [name, user] of [
      ['events.other', 'portal.other'],
      ['homes', 'relay'],
    ] as const) {
      await open(name, user).add('job', {}, { jobId: 'theirs' });
    }
    const before = await theirs();
    const queue = open('events.bridge', 'portal.bridge');
    await queue.add('events', {}, { jobId: 'mine' });
    const children = ['bull:events.other:theirs', 'bull:homes:theirs'];
    await owner.sadd('bull:events.bridge:mine:dependencies', ...children);
    await expect(queue.remove('mine')).rejects.toThrow(/No permissions to access a key/u);
    expect(await theirs()).toEqual(before);
  });
});

test('what scripts have written is still there after Redis was killed', async () => {
  await owner.config('SET', 'appendfsync', 'always');
  const connection = { url: server.urlOf('portal.bridge'), maxRetriesPerRequest: null };
  const queue = new bullmq.Queue('requests.bridge', { connection });
  await queue.addBulk(['a', 'b'].map((data) => ({ name: 'request', data })));
  await queue.close();
  const before = (await owner.keys('*')).toSorted();
  owner.disconnect();
  process.kill(runningPid(server) as number, 'SIGKILL');
  while (runningPid(server) !== undefined) await new Promise(setImmediate);
  await startServer(server);
  // it may have another port: another program may have taken the old one
  owner = new Redis(server.urlOf('owner'));
  expect((await owner.keys('*')).toSorted()).toEqual(before);
  expect(await owner.llen('bull:requests.bridge:wait')).toBe(2);
});

test('no job is longer than a MiB: Redis itself refuses it', async () => {
  await as('portal.bridge', async (redis) => {
    const most = Buffer.alloc(2 ** 20, 'x');
    expect(await answerTo(redis, ['SET', 'bull:requests.bridge:x', most.toString()])).toBe('ok');
  });
  await as('portal.bridge', async (redis) => {
    const more = Buffer.alloc(2 ** 20 + 1, 'x');
    // it says why, and ends the connection
    await expect(redis.set('bull:requests.bridge:x', more)).rejects.toThrow();
  });
  expect(await owner.strlen('bull:requests.bridge:x')).toBe(2 ** 20);
});

test('`dev/stack up` keeps the users that `chamberlain redis-users` has added', async () => {
  const listed = ['bridge', 'other', 'admin.alice'];
  await owner.acl('SETUSER', 'portal.outlet', 'on', '>a password');
  await owner.acl('SAVE');
  const portalUsers = async () =>
    (await owner.acl('LIST')).filter((each) => each.startsWith('user portal.'));
  const before = await portalUsers();
  await server.admitPortals(listed, 'kept');
  expect((await portalUsers()).toSorted()).toEqual(before.toSorted());
  await server.admitPortals(listed);
  expect((await portalUsers()).toSorted()).toEqual(
    before.filter((each) => !each.startsWith('user portal.outlet ')).toSorted(),
  );
});
