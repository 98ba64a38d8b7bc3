/** How often somebody may call the API. */
import { afterAll, beforeAll, expect, test } from '@jest/globals';
import { Redis } from 'ioredis';
import { type CallCounts, openCallCounts } from '../../../src/backends/redis/call-counts.ts';
import { eventually } from '../../scenarios/eventually.ts';
import { openWorld, type World } from '../../stack.ts';

let world: World;
let counts: CallCounts;
let redis: Redis;
beforeAll(async () => {
  world = await openWorld('call counts', { needs: ['redis'] });
  counts = openCallCounts(world.config);
  redis = new Redis(world.redis.urlOf('owner'));
  // nothing is counted before there is a connection
  await eventually('a connection', async () => (await counts.count('nobody', 0)) > 0);
});
afterAll(async () => {
  redis.disconnect();
  counts.close();
  await world.close();
});

test('of calls at the same moment, as many as may go on do so, each caller for itself', async () => {
  const [of, other] = ['one', 'other'].map((who) =>
    Array.from({ length: 10 }, () => counts.count(who, 24)),
  ) as [Promise<number>[], Promise<number>[]];
  for (const calls of [await Promise.all(of), await Promise.all(other)]) {
    expect(calls.filter((seconds) => seconds === 0)).toHaveLength(4);
    expect(Math.max(...calls)).toBeLessThanOrEqual(10);
  }
});

test('what was counted ends by itself', async () => {
  await counts.count('somebody', 1);
  const [key = ''] = await redis.keys('api:calls:somebody:*');
  await eventually('an end', async () => (await redis.pttl(key)) > 0);
});
