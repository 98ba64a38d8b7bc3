/** The API in the place of a portal's worker: the relay's queue (event-outbox.ts) at its other end. */
import { afterAll, beforeAll, beforeEach, expect, test } from '@jest/globals';
import { Redis } from 'ioredis';
import { type EventInbox, openEventInbox } from '../../../src/backends/redis/event-inbox.ts';
import { openOutbox, type Outbox } from '../../../src/backends/redis/event-outbox.ts';
import { openWorld, type World } from '../../stack.ts';

let world: World;
let outbox: Outbox;
let inbox: EventInbox;
let redis: Redis;

beforeAll(async () => {
  world = await openWorld('event inbox', { needs: ['redis'] });
  outbox = openOutbox(world.config, (portal) => `portal.${portal}`);
  inbox = openEventInbox(world.config);
  redis = new Redis(world.redis.urlOf('owner'));
});
beforeEach(async () => void (await redis.flushall()));
afterAll(async () => {
  redis.disconnect();
  await Promise.all([outbox.close(), inbox.close()]);
  await world.close();
});

const eventsOf = async (portal: string) => (await inbox.look(portal)).events;

test('a job waits unchanged until it is confirmed, and the relay reads what the portal has', async () => {
  expect(await eventsOf('portal')).toBeUndefined();
  await outbox.add('portal', '0-3', 'a token');
  expect(await eventsOf('portal')).toEqual({ job: '0-3', token: 'a token' });
  expect(await eventsOf('portal')).toEqual({ job: '0-3', token: 'a token' });
  expect(await outbox.look('portal', '0-3')).toEqual({ state: 'waiting' });
  await inbox.confirm('portal', '0-3', 2);
  expect(await outbox.look('portal', '0-3')).toEqual({ state: 'completed', have: 2 });
  expect(await eventsOf('portal')).toBeUndefined();
});

test('a job that ended, was removed or is another is not confirmed, and the one that waits stays', async () => {
  await outbox.add('portal', 'one', 'a token');
  await inbox.confirm('portal', 'one', 1);
  await inbox.confirm('portal', 'one', 5);
  expect(await outbox.look('portal', 'one')).toEqual({ state: 'completed', have: 1 });
  await outbox.remove('portal', 'one');
  await inbox.confirm('portal', 'one', 5);
  await outbox.add('portal', 'two', 'another token');
  await inbox.confirm('portal', 'one', 5);
  expect(await eventsOf('portal')).toEqual({ job: 'two', token: 'another token' });
  await inbox.confirm('portal', 'two', 7);
  expect(await outbox.look('portal', 'two')).toEqual({ state: 'completed', have: 7 });
});

test('a job that was fetched by an API that died is found again', async () => {
  await outbox.add('portal', 'one', 'a token');
  const other = openEventInbox(world.config);
  // fetches `one`, and ends nothing
  await other.confirm('portal', 'zero', 1);
  await other.close();
  expect(await eventsOf('portal')).toEqual({ job: 'one', token: 'a token' });
  await inbox.confirm('portal', 'one', 3);
  expect(await outbox.look('portal', 'one')).toEqual({ state: 'completed', have: 3 });
});

test('what the relay did not write is ended, so that the relay sends its own again', async () => {
  await outbox.add('portal', 'one', 'a token');
  await redis.hset('bull:events.portal:one', 'data', '{"no": "token"}');
  expect(await eventsOf('portal')).toBeUndefined();
  expect(await outbox.look('portal', 'one')).toEqual({ state: 'completed', have: undefined });
});

test.each([
  ['longer than a key may be', 'x'.repeat(2 ** 20 - 6)],
  ['not UTF-8', Buffer.from([0xff, 0xfe])],
])('an id that is %s hides no events, and the relay removes it unread', async (_what, id) => {
  await outbox.add('portal', 'one', 'a token');
  await redis.rpush('bull:events.portal:active', id);
  expect(await eventsOf('portal')).toEqual({ job: 'one', token: 'a token' });
  for (const part of ['wait', 'active', 'paused'])
    await redis.rpush(`bull:events.portal:${part}`, id);
  const others = ['prioritized', 'delayed', 'completed', 'failed', 'waiting-children'];
  for (const part of others) await redis.zadd(`bull:events.portal:${part}`, 1, id);
  expect(await outbox.removeOthers('portal', 'one')).toBe(false); // there may be more
  expect(await outbox.removeOthers('portal', 'one')).toBe(true);
  expect(await redis.keys('bull:events.portal:*')).not.toEqual(
    expect.arrayContaining([
      expect.stringMatching(/:(active|paused|prioritized|delayed|failed)$/u),
    ]),
  );
  expect(await eventsOf('portal')).toEqual({ job: 'one', token: 'a token' });
});

test('a list that somebody has made a set is removed, and hides the events only once', async () => {
  await redis.zadd('bull:events.portal:wait', 1, 'one');
  await expect(eventsOf('portal')).rejects.toMatchObject({ code: 'BACKEND_UNAVAILABLE' });
  await outbox.add('portal', 'one', 'a token');
  expect(await eventsOf('portal')).toEqual({ job: 'one', token: 'a token' });
});

test('whoever waits is woken by a job, and by the signal', async () => {
  const never = new AbortController().signal;
  const look = await inbox.look('portal');
  const begin = performance.now();
  const woken = Promise.all([
    inbox.untilSomething('portal', look, never),
    inbox.untilSomething('portal', look, never),
  ]);
  await outbox.add('portal', 'one', 'a token');
  await woken;
  expect(performance.now() - begin).toBeLessThan(900);
  await inbox.untilSomething('portal', await inbox.look('portal'), AbortSignal.abort());
});

test('whoever looked before a job came does not wait, although another was woken by it', async () => {
  const never = new AbortController().signal;
  const early = await inbox.look('portal');
  const woken = inbox.untilSomething('portal', early, never);
  await outbox.add('portal', 'one', 'a token');
  await woken;
  const begin = performance.now();
  await inbox.untilSomething('portal', early, never);
  expect(performance.now() - begin).toBeLessThan(900);
  expect(await eventsOf('portal')).toEqual({ job: 'one', token: 'a token' });
});

test('a portal that comes while others are listened for, as by a reload, is woken by its job too', async () => {
  const never = new AbortController();
  const first = inbox.untilSomething('portal', await inbox.look('portal'), never.signal);
  await outbox.add('later', 'one', 'a token');
  expect(await eventsOf('later')).toEqual({ job: 'one', token: 'a token' });
  await inbox.confirm('later', 'one', 1);
  await outbox.remove('later', 'one');
  const woken = inbox.untilSomething('later', await inbox.look('later'), never.signal);
  await outbox.add('later', 'two', 'another token');
  await woken;
  never.abort();
  await first;
});
