/** The queues on a real Redis: what is fenced, what is kept, what is not JSON. */
import { afterAll, beforeAll, expect, test } from '@jest/globals';
import { Queue } from 'bullmq';
import { join } from 'node:path';
import { Redis } from 'ioredis';
import { openQueues, type Queues, startConsumer } from '../../src/edges/queue.ts';
import type { RedisPlace } from '../../src/edges/redis-connection.ts';
import { openWorld, type World } from '../stack.ts';

let world: World;
let redis: Redis;
let queues: Queues;
/** Without secrets: the owner's URL counts, for the queues here are nobody's. */
let config: RedisPlace;

beforeAll(async () => {
  world = await openWorld('queue', { needs: ['redis'] });
  config = { redis: world.config.redis, secrets: join(world.dir, 'no-secrets') };
  redis = new Redis(world.config.redis.url, { maxRetriesPerRequest: null });
  queues = openQueues(config, 'relay', 'mark-1');
});
afterAll(async () => {
  await queues.close();
  redis.disconnect();
  await world.close();
});

const event = (seq: number) => ({ seq, id: `id-${seq}`, event: 'tool.ready', data: { seq } });
const waiting = async (portal: string) =>
  (await redis.lrange(`bull:events.${portal}:wait`, 0, -1)).toReversed();

test('events go in only while Redis has kept what was put into it before', async () => {
  expect(await queues.hasKept()).toBe(false);
  expect(await queues.hasKept()).toBe(true);
  await queues.addEvents('one', [event(1), event(2)]);
  expect(await waiting('one')).toEqual(['e1-id-1', 'e2-id-2']);
  await redis.flushall();
  await expect(queues.addEvents('one', [event(3)])).rejects.toMatchObject({
    code: 'BACKEND_UNAVAILABLE',
  });
  expect(await waiting('one')).toEqual([]);
  expect(await queues.hasKept()).toBe(false);
  await queues.addEvents('one', [event(1), event(2), event(3)]);
  await queues.addEvents('one', [event(2), event(3)]);
  expect(await waiting('one')).toEqual(['e1-id-1', 'e2-id-2', 'e3-id-3']);
});

test('a flush between the look and the add lets none of the events in', async () => {
  await queues.hasKept();
  for (let round = 0; round < 50; round += 1) {
    const [added] = await Promise.allSettled([
      queues.addEvents('two', [event(round * 2 + 1), event(round * 2 + 2)]),
      redis.flushall(),
    ]);
    // either all came before the flush, and are gone, or none came after it
    expect([added.status, await waiting('two')]).toEqual([added.status, []]);
    await queues.hasKept();
  }
});

test('what lies uncompleted is found by its lowest number', async () => {
  await redis.flushall();
  await queues.hasKept();
  expect(await queues.lowestUncompleted('three')).toBeUndefined();
  await queues.addEvents('three', [event(7), event(8), event(9)]);
  const heard: unknown[] = [];
  const consumer = startConsumer({
    config,
    account: 'relay',
    queue: 'events.three',
    concurrency: 1,
    handle: ({ data }) => {
      heard.push((data as { seq: number }).seq);
      return heard.length < 3 ? Promise.resolve() : Promise.reject(new Error('not now'));
    },
    onError: () => {},
  });
  while (heard.length < 3) await new Promise((resolve) => setTimeout(resolve, 10));
  await consumer.close(1000);
  // the one that failed lies there still, and is put back
  expect(await queues.lowestUncompleted('three')).toBe(9);
  expect(await waiting('three')).toEqual(['e9-id-9']);
});

test('events that nobody takes are all uncompleted', async () => {
  await queues.addEvents(
    'four',
    Array.from({ length: 48 }, (_, index) => event(index + 1)),
  );
  expect(await queues.lowestUncompleted('four')).toBe(1);
});

test('a job whose data or options are not JSON is handed over as it is, and the next is done', async () => {
  const queue = new Queue('raw', { connection: redis });
  const bad = async (id: string, fields: Record<string, string>) => {
    await redis.hset(`bull:raw:${id}`, {
      name: 'x',
      timestamp: '1',
      delay: '0',
      priority: '0',
      ...fields,
    });
    await redis.lpush('bull:raw:wait', id);
  };
  await bad('bad-1', { data: '{not json', opts: '{}' });
  await bad('bad-2', { data: '{}', opts: 'neither' });
  await queue.add('good', { fine: true });
  const seen: unknown[] = [];
  const consumer = startConsumer({
    config,
    account: 'relay',
    queue: 'raw',
    concurrency: 1,
    handle: ({ data }) => {
      seen.push(data);
      return Promise.resolve();
    },
    handleUnreadable: (bytes) => {
      seen.push(bytes);
      return Promise.resolve();
    },
    onError: () => {},
  });
  while (seen.length < 3) await new Promise((resolve) => setTimeout(resolve, 10));
  await consumer.close(1000);
  expect(new Set(seen)).toEqual(new Set(['{not json', '{}', { fine: true }]));
  expect(await redis.lrange('bull:raw:active', 0, -1)).toEqual([]);
  await queue.close();
});

test('what a killed process left among the active jobs is taken at once by the one that has the queue to itself', async () => {
  const queue = new Queue('left', { connection: redis });
  await queue.add('one', { n: 1 });
  // as a worker would that was killed afterwards
  const id = await redis.lmove('bull:left:wait', 'bull:left:active', 'RIGHT', 'LEFT');
  await redis.set(`bull:left:${id}:lock`, 'gone', 'PX', 3_600_000);
  const seen: unknown[] = [];
  const consumer = startConsumer({
    config,
    account: 'relay',
    queue: 'left',
    concurrency: 1,
    exclusive: true,
    handle: ({ data }) => Promise.resolve(void seen.push(data)),
    onError: () => {},
  });
  while (seen.length < 1) await new Promise((resolve) => setTimeout(resolve, 10));
  await consumer.close(1000);
  expect(seen).toEqual([{ n: 1 }]);
  await queue.close();
});

test('settings by which Redis loses requests are told', async () => {
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
