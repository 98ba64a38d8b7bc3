/** How long requests have waited for their verdict. Reads by the admin's account, and changes nothing. */
import { readOldTimes } from './queued-jobs.ts';
import { openQueue, requestsQueue } from './queue.ts';
import { connectProducer, guardRedis, type RedisPlace } from './redis-connection.ts';

/** A portal, and when the oldest of its requests without a verdict was sent, as the request itself says. */
export interface Waiting {
  portal: string;
  since: Date;
}

/**
 * The oldest request that waits, that intake holds, or that rests after intake has tried it; undefined if there is none.
 * Of each queue, only the next request and the next that are delayed are read. Throws BACKEND_UNAVAILABLE.
 */
export async function readOldestWaiting(
  config: RedisPlace,
  portals: readonly string[],
): Promise<Waiting | undefined> {
  const redis = connectProducer(config, 'admin');
  const oldestOf = async (portal: string, urgent: boolean): Promise<Waiting[]> => {
    const queue = openQueue(redis, requestsQueue(portal, urgent));
    const times = await readOldTimes(redis, queue, [{ parts: ['wait', 'active', 'prioritized'] }]);
    return times.flatMap((time) => {
      const since = new Date(Number(time ?? NaN));
      return Number.isNaN(since.getTime()) ? [] : [{ portal, since }];
    });
  };
  try {
    return await guardRedis(redis)('reading the requests that wait', async () => {
      const waiting = portals.flatMap((portal) =>
        [true, false].map((urgent) => oldestOf(portal, urgent)),
      );
      const all = (await Promise.all(waiting)).flat();
      return all.toSorted((a, b) => a.since.getTime() - b.since.getTime())[0];
    });
  } finally {
    redis.disconnect();
  }
}
