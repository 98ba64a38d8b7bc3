/** The queues of the roles on a real Redis: jobs that are not JSON, and Redis's settings. */
import { afterAll, beforeAll, expect, test } from '@jest/globals';
import { Queue } from 'bullmq';
import { join } from 'node:path';
import { Redis } from 'ioredis';
import { setTimeout as sleep } from 'node:timers/promises';
import { startServer, stopServer } from '../../../dev/servers/daemon.ts';
import {
  type Consumer,
  openQueues,
  type Queues,
  startConsumer,
} from '../../../src/backends/redis/queue.ts';
import { eventually } from '../../scenarios/eventually.ts';
import type { RedisPlace } from '../../../src/backends/redis/redis-connection.ts';
import { openWorld, type World } from '../../stack.ts';

let world: World;
let redis: Redis;
let queues: Queues;
/** Without secrets: the owner's URL is used, because these queues belong to no role. */
let config: RedisPlace;

beforeAll(async () => {
  world = await openWorld('queue', { needs: ['redis'] });
  config = { redis: world.config.redis, secrets: join(world.dir, 'no-secrets') };
  redis = new Redis(world.config.redis.url, { maxRetriesPerRequest: null });
  queues = openQueues(config, 'relay');
});
afterAll(async () => {
  await queues.close();
  redis.disconnect();
  await world.close();
});

test('a job whose data or options are not JSON is removed, and the next is done', async () => {
  const queue = new Queue('homes', { connection: redis });
  const bad = async (id: string, fields: Record<string, string>) => {
    const bare = { name: 'x', timestamp: '1', delay: '0', priority: '0' };
    await redis.hset(`bull:homes:${id}`, { ...bare, ...fields });
    await redis.lpush('bull:homes:wait', id);
  };
  await bad('bad-1', { data: '{not json', opts: '{}' });
  await bad('bad-2', { data: '{}', opts: 'neither' });
  await queue.add('good', { fine: true });
  const seen: unknown[] = [];
  const told: string[] = [];
  const consumer = startConsumer({
    config,
    account: 'homes',
    queue: 'homes',
    concurrency: 1,
    handle: ({ data }) => Promise.resolve(void seen.push(data)),
    tell: (sentence) => told.push(sentence),
  });
  await eventually('the good job', () => seen.length > 0);
  await eventually(
    'the bad jobs to be removed',
    async () => (await redis.exists('bull:homes:bad-1', 'bull:homes:bad-2')) === 0,
  );
  await consumer.close(1000);
  expect(seen).toEqual([{ fine: true }]);
  expect(told).toEqual(['a job was dropped', 'a job was dropped']);
  expect(await redis.lrange('bull:homes:active', 0, -1)).toEqual([]);
  await queue.close();
});

/** A worker of that queue, with what it tells and the jobs that it does. */
function consume(queue: string): {
  told: { sentence: string; error: unknown }[];
  seen: unknown[];
  consumer: Consumer;
} {
  const told: { sentence: string; error: unknown }[] = [];
  const seen: unknown[] = [];
  const consumer = startConsumer({
    config,
    account: 'homes',
    queue,
    concurrency: 2,
    handle: ({ data }) => Promise.resolve(void seen.push(data)),
    tell: (sentence, error) => told.push({ sentence, error }),
  });
  return { told, seen, consumer };
}

test('while Redis refuses, a worker asks from time to time, says it once, and goes on when Redis no longer refuses', async () => {
  await redis.set('bull:refused:wait', 'of another type');
  const refusals = async () =>
    Number(/errorstat_WRONGTYPE:count=(\d+)/u.exec(await redis.info('errorstats'))?.[1] ?? 0);
  const { told, seen, consumer } = consume('refused');
  const queue = new Queue('refused', { connection: redis });
  try {
    const began = performance.now();
    await eventually('the third refusal', async () => (await refusals()) >= 3);
    const seconds = (performance.now() - began) / 1000;
    expect((await refusals()) / seconds).toBeLessThan(20);
    expect(told).toEqual([
      {
        sentence: 'Redis refuses commands; the queue refused waits',
        error: expect.objectContaining({ message: expect.stringContaining('WRONGTYPE') }),
      },
    ]);
    await redis.del('bull:refused:wait');
    await queue.add('good', { fine: true });
    await eventually('the job', () => seen.length > 0);
    await eventually('the end of the outage', () => told.length > 1);
    expect(told.slice(1)).toEqual([{ sentence: 'Redis serves the queue refused again' }]);
  } finally {
    await consumer.close(1000);
    await queue.close();
  }
});

test('while Redis is away, a worker says it once, and once that Redis is back', async () => {
  const { told, seen, consumer } = consume('away');
  const queue = new Queue('away', { connection: redis });
  queue.on('error', () => {}); // that Redis is away
  try {
    await queue.add('first', 1);
    await eventually('the first job', () => seen.length === 1);
    await stopServer(world.redis);
    await sleep(4000);
    const sentence = 'Redis cannot be reached; the queue away waits';
    expect(told).toEqual([{ sentence, error: expect.anything() }]);
    await startServer(world.redis);
    await queue.add('second', 2);
    await eventually('the second job', () => seen.length === 2);
    await eventually('the end of the outage', () => told.length > 1);
    expect(told.slice(1)).toEqual([{ sentence: 'Redis serves the queue away again' }]);
  } finally {
    await startServer(world.redis);
    await consumer.close(1000);
    await queue.close();
  }
});

test('settings with which Redis loses requests are reported', async () => {
  expect(await queues.settingsToMend()).toEqual([]);
  await redis.config('SET', 'maxmemory-policy', 'allkeys-lru', 'appendonly', 'no');
  await redis.config('SET', 'maxmemory', '0', 'proto-max-bulk-len', `${2 ** 20 + 1}`);
  expect(await queues.settingsToMend()).toEqual([
    expect.stringContaining('appendonly yes'),
    expect.stringContaining('noeviction'),
    expect.stringContaining('set `maxmemory`'),
    expect.stringContaining('proto-max-bulk-len 1mb'),
  ]);
});
