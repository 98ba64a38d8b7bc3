/**
 * No erasure begins while a request rests that might reject it. A portal that delays a job of its own again and again holds
 * none back.
 */
import { afterAll, beforeAll, expect, test } from '@jest/globals';
import { Queue } from 'bullmq';
import { Redis } from 'ioredis';
import { eventually } from '../eventually.ts';
import { admit } from '../running.ts';
import { approvedErasure, openLeavingWorld, type LeavingWorld, stateOf } from './leaving-world.ts';

/** As long as the delay of a job counts, by whomever, after intake has got its lease. */
const COUNTS_MS = 60_000;

let leaving: LeavingWorld;
let redis: Redis;
let queue: Queue;

beforeAll(async () => {
  leaving = await openLeavingWorld('erasure held', { own: true });
  redis = new Redis(leaving.world.redis.urlOf('owner'), { maxRetriesPerRequest: null });
  queue = new Queue('requests.portal', { connection: redis });
});
afterAll(async () => {
  await queue?.close();
  redis?.disconnect();
  await leaving?.close();
});

test('an erasure begins although a portal delays a job each second', async () => {
  const { world, portal } = leaving;
  await admit(portal, 'carol');
  const carol = await leaving.find({ person: 'carol' });
  const wish = { requestedBy: 'steward', person: 'carol' };
  await portal.get({ ...wish, kind: 'person.suspend', reason: 'to be erased' });
  const decoy = await queue.add('request', {}, { delay: COUNTS_MS / 2 });
  const renewing = setInterval(() => void decoy.changeDelay(COUNTS_MS / 2).catch(() => {}), 1000);
  try {
    await leaving.stopWork();
    await leaving.startWork();
    const began = performance.now();
    await approvedErasure(leaving, carol);
    const isErased = async () => (await stateOf(world, carol)) === 'deleted';
    await eventually('the erasure', isErased, 2 * COUNTS_MS);
    // before that, the job may be a request that failed in an earlier process
    expect(performance.now() - began).toBeGreaterThan(COUNTS_MS / 2);
    expect(await decoy.isDelayed()).toBe(true);
  } finally {
    clearInterval(renewing);
  }
}, 240_000);
