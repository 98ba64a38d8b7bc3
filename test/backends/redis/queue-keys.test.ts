/**
 * What src/backends/redis does to keys of BullMQ itself, against what the library writes: BullMQ 6, and BullMQ 5, which
 * portals may use. If this fails after an upgrade of BullMQ, the tables of queue-keys.ts and queued-jobs.ts are wrong.
 */
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test } from '@jest/globals';
import * as bullmq from 'bullmq';
import * as bullmq5 from 'bullmq5';
import { Redis } from 'ioredis';
import { openOutbox } from '../../../src/backends/redis/event-outbox.ts';
import {
  lockOf,
  mendTypes,
  pausedOf,
  removeJobs,
  TYPES,
} from '../../../src/backends/redis/queue-keys.ts';
import { findSound } from '../../../src/backends/redis/queued-jobs.ts';
import { readDepths } from '../../../src/backends/redis/queue-depths.ts';
import { openQueue } from '../../../src/backends/redis/queue.ts';
import { redisUser } from '../../../src/backends/redis/redis-connection.ts';
import { delayRequest, takeRequests } from '../../../src/backends/redis/request-inbox.ts';
import {
  closeInbox,
  countJobs,
  type Inbox,
  tidyInbox,
} from '../../../src/backends/redis/request-queues.ts';
import { readOldestWaiting } from '../../../src/backends/redis/waiting-requests.ts';
import { eventually } from '../../scenarios/eventually.ts';
import { openWorld, type World } from '../../stack.ts';
import { openReadyInbox } from './ready-inbox.ts';

const NAME = 'requests.one';
let world: World;
let redis: Redis;
let queue: bullmq.Queue;

beforeAll(async () => {
  world = await openWorld('queue-keys', { needs: ['redis'] });
  redis = new Redis(world.config.redis.url, { maxRetriesPerRequest: null });
  queue = openQueue(redis, NAME);
});
beforeEach(() => redis.flushall());
afterAll(async () => {
  redis.disconnect();
  await world.close();
});

describe.each([
  ['6', bullmq as unknown as typeof bullmq5],
  ['5', bullmq5],
])('BullMQ %s', (version, { FlowProducer, Queue, Worker }) => {
  const connect = () => ({
    connection: { url: world.config.redis.url, maxRetriesPerRequest: null },
  });

  const opened: { close(force?: boolean): Promise<unknown> }[] = [];
  afterEach(async () => void (await Promise.all(opened.splice(0).map((each) => each.close(true)))));

  async function open(): Promise<Inbox> {
    const inbox = await openReadyInbox(world.config, ['one']);
    opened.push({ close: () => closeInbox(inbox) });
    return inbox;
  }

  /** Brings jobs into every state, and returns their ids. */
  async function fill(): Promise<Map<string, string>> {
    const producer = new Queue(NAME, connect());
    const flows = new FlowProducer(connect());
    const worker = new Worker(NAME, undefined, { ...connect(), autorun: false });
    opened.push(producer, flows, worker);
    const ids = new Map<string, string>();
    const token = 'token';
    for (const state of ['completed', 'failed', 'active']) {
      const { id = '' } = await producer.add(state, {}, { attempts: 1 });
      const job = await worker.getNextJob(token, { block: false });
      expect(job?.id).toBe(id);
      await job?.log('line');
      if (state === 'completed') await job?.moveToCompleted({ have: 7 }, token, false);
      if (state === 'failed') await job?.moveToFailed(new Error('no'), token, false);
      ids.set(state, id);
    }
    const add = async (state: string, opts: object) =>
      ids.set(state, (await producer.add(state, {}, opts)).id ?? '');
    await add('wait', {});
    await add('delayed', { delay: 3_600_000 });
    await add('prioritized', { priority: 3 });
    const child = { name: 'child', queueName: 'events.one' };
    const { job } = await flows.add({ name: 'parent', queueName: NAME, children: [child] });
    ids.set('waiting-children', job.id ?? '');
    await producer.rateLimit(60_000);
    await worker.startStalledCheckTimer();
    return ids;
  }

  test('has the parts that are known, each of its type', async () => {
    await fill();
    if (version === '5') {
      const portal = new Queue(NAME, connect());
      opened.push(portal);
      await portal.pause();
    }
    const parts = (await redis.keys(queue.toKey('*'))).map((key) =>
      key.slice(queue.toKey('').length),
    );
    const known = parts.filter((part) => part in TYPES);
    const types = await Promise.all(
      known.map(async (part) => [part, await redis.type(queue.toKey(part))] as const),
    );
    expect(Object.fromEntries(types)).toEqual(
      Object.fromEntries(known.map((part) => [part, TYPES[part]])),
    );
    // a queue of BullMQ 5 that is paused has all its waiting jobs in another list, and wakes nobody
    const absent = version === '5' ? ['wait', 'marker'] : ['paused'];
    const expected = Object.keys(TYPES).filter((part) => !absent.includes(part));
    expect(known.toSorted()).toEqual(expected.toSorted());
    // what is left belongs to jobs, or expires by itself
    const others = parts.filter((part) => !(part in TYPES) && part !== 'stalled-check');
    expect(others.filter((part) => !/^([\da-f-]+)(:\w+)?$/u.test(part))).toEqual([]);
    expect(await mendTypes(redis, queue)).toBe(0);
  });

  test('leaves nothing of a job that is removed, whatever its state, nor of its lock', async () => {
    const ids = await fill();
    expect(await redis.pttl(lockOf(queue, ids.get('active') ?? ''))).toBeGreaterThan(0);
    await removeJobs(redis, queue, [...ids.values()]);
    const keys = await redis.keys(queue.toKey('*'));
    const left = keys.filter((key) =>
      [...ids.values()].some((id) => `${key}:`.startsWith(queue.toKey(`${id}:`))),
    );
    expect(left).toEqual([]);
    for (const id of ids.values()) expect(await queue.getJobState(id)).toBe('unknown');
    expect(await redis.llen(pausedOf(queue))).toBe(0);
  });

  test('adds jobs that intake takes: at once, in the order of priorities, and when they are due', async () => {
    const producer = new Queue(NAME, connect());
    opened.push(producer);
    const inbox = await open();
    const jobs = await Promise.all([
      producer.add('request', { token: 'a' }, { priority: 5, attempts: 3, backoff: 10 }),
      producer.add('request', { token: 'b' }, { removeOnComplete: true, lifo: true }),
      producer.add('request', { token: 'c' }, { delay: 3_600_000 }),
    ]);
    const ids = jobs.map(({ id = '' }) => id);
    expect([...(await findSound(redis, queue, ids))].toSorted()).toEqual(ids.toSorted());
    expect(await countJobs(inbox)).toEqual({
      counts: [0, 2],
      totals: [0, 3],
      active: false,
      rests: false,
    });
    const take = async () =>
      (await takeRequests(inbox, 8)).map(({ data }) => (data as { token: string }).token);
    expect(await take()).toEqual(['b', 'a']);
    expect(await countJobs(inbox)).toMatchObject({ active: true });
    await jobs[2].changeDelay(1);
    await eventually('a job to be due', async () => (await countJobs(inbox)).counts[1] === 1);
    await eventually('this job', async () => (await take()).includes('c'));
  });

  test('lets a job rest that intake has taken: it waits, and is taken again when its rest is over', async () => {
    const { timestamp } = await queue.add('request', { token: 'a' });
    const inbox = await open();
    const [taken] = await takeRequests(inbox, 8);
    expect(inbox.rests).toBe(false);
    await delayRequest(inbox, taken!, 30_000);
    // another process does not know what has failed in this one
    const next = await open();
    expect([await takeRequests(next, 8), next.rests]).toEqual([[], true]);
    // one that the portal delays hides none
    await queue.add('request', { token: 'b' }, { delay: 20_000 });
    const [depth] = await readDepths(world.config, 'intake', [NAME]);
    expect(depth).toMatchObject({
      jobs: 2,
      ageSeconds: expect.closeTo((Date.now() - timestamp) / 1000, 0),
    });
    expect(depth!.ageSeconds).toBeGreaterThan(0);
    expect(await readOldestWaiting(world.config, ['one'])).toEqual({
      portal: 'one',
      since: new Date(timestamp),
    });
    await (await queue.getJob(taken!.job.id!))?.changeDelay(1);
    await eventually('this job', async () => (await takeRequests(inbox, 8)).length === 1);
  });

  test('a job that a portal delays does not wait for intake', async () => {
    await queue.add('request', { token: 'a' }, { delay: 60_000 });
    expect(await readOldestWaiting(world.config, ['one'])).toBeUndefined();
    expect(await readDepths(world.config, 'intake', [NAME])).toMatchObject([
      { jobs: 1, ageSeconds: 0 },
    ]);
  });

  test('keeps the time, the end and the answer of a job where they are read', async () => {
    const ids = await fill();
    const of = async (state: string) => queue.getJob(ids.get(state) ?? '');
    expect(await readOldestWaiting(world.config, ['one'])).toEqual({
      portal: 'one',
      since: new Date((await of('active'))?.timestamp ?? 0),
    });
    const ended = ['completed', 'failed'];
    for (const state of ended) {
      const { finishedOn } = (await of(state)) ?? {};
      expect(Number(await redis.zscore(queue.toKey(state), ids.get(state) ?? ''))).toBe(finishedOn);
    }
    const key = queue.toKey(ids.get('completed') ?? '');
    expect(JSON.parse((await redis.hget(key, 'returnvalue')) ?? '')).toEqual({ have: 7 });
    const inbox = await open();
    await tidyInbox(inbox);
    expect(await queue.getJobCountByTypes('completed', 'failed')).toBe(2);
  });

  test('locks the job of the relay while a worker has it, and holds the answer when it has ended', async () => {
    const outbox = openOutbox(world.config, (portal) => `portal.${portal}`);
    const worker = new Worker('events.one', undefined, { ...connect(), autorun: false });
    opened.push(outbox, worker);
    await outbox.add('one', 'job', 'token');
    expect(await outbox.look('one', 'job')).toEqual({ state: 'waiting' });
    const job = await worker.getNextJob('mine', { block: false });
    expect(await outbox.look('one', 'job')).toEqual({ state: 'active' });
    expect(await outbox.remove('one', 'job')).toBe(false);
    expect(await outbox.removeOthers('one', null)).toBe(false);
    await job?.moveToCompleted({ have: 7 }, 'mine', false);
    expect(await outbox.look('one', 'job')).toEqual({ state: 'completed', have: 7 });
    expect(await outbox.removeOthers('one', null)).toBe(true);
    expect(await outbox.look('one', 'job')).toEqual({ state: 'missing' });
  });
});

test('neither a key of another type nor an odd id is a request that waits, and any other error says nothing', async () => {
  await redis.set(queue.toKey('wait'), 'of another type');
  const since = new Date(1000);
  await openQueue(redis, 'requests.two').add('request', {}, { timestamp: since.getTime() });
  const oldest = () => readOldestWaiting(world.config, ['one', 'two']);
  expect(await oldest()).toEqual({ portal: 'two', since });
  for (const id of ['x'.repeat(2 ** 20 - 6), Buffer.from([0xff, 0xfe])]) {
    await redis.rpush('bull:requests.two:active', id);
    await redis.zadd('bull:requests.two:delayed', 1, id);
    expect(await oldest()).toEqual({ portal: 'two', since });
    const [depth] = await readDepths(world.config, 'intake', ['requests.two']);
    expect(depth).toMatchObject({ queue: 'requests.two', ageSeconds: expect.any(Number) });
    expect(depth?.ageSeconds).toBeGreaterThan(1e9);
  }
  expect(await redis.llen('bull:requests.two:active')).toBe(2); // a look changes nothing
  try {
    await redis.call('ACL', 'SETUSER', redisUser('admin'), '-hmget');
    await expect(oldest()).rejects.toMatchObject({ code: 'BACKEND_UNAVAILABLE' });
  } finally {
    await redis.call('ACL', 'SETUSER', redisUser('admin'), '+hmget');
  }
});
