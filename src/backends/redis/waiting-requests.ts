/** How long requests have waited for their verdict. Reads by the admin's account, and changes nothing. */
import { openQueue, requestsQueue } from './queue.ts';
import { connectProducer, guardRedis, type RedisPlace } from './redis-connection.ts';

/** So many delayed jobs of a queue are looked at: those that come next. */
const MOST_DELAYED = 16;

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
    const [next, delayed] = await Promise.all([
      queue.getRanges(['wait', 'active', 'prioritized'], 0, 0, true),
      queue.getRanges(['delayed'], 0, MOST_DELAYED - 1, true),
    ]);
    const times = [...next, ...delayed].map(async (id) => {
      // not the whole job: it may be of any size
      const [time, tried] = await Promise.all([
        redis.hget(queue.toKey(id), 'timestamp'),
        redis.hget(queue.toKey(id), 'processedOn'),
      ]);
      // a portal may delay a job, too
      return delayed.includes(id) && tried === null ? undefined : time;
    });
    return (await Promise.all(times)).flatMap((time) => {
      const since = new Date(Number(time ?? NaN));
      return Number.isNaN(since.getTime()) ? [] : [{ portal, since }];
    });
  };
  try {
    return await guardRedis(redis)('reading the requests that wait', async () => {
      const waiting = portals.flatMap((portal) =>
        [true, false].map((urgent) =>
          oldestOf(portal, urgent).catch((error: Error) => {
            // the queue of a portal may contain anything: a value of another type is not a request
            if (error.message.startsWith('WRONGTYPE')) return [];
            throw error;
          }),
        ),
      );
      const all = (await Promise.all(waiting)).flat();
      return all.toSorted((a, b) => a.since.getTime() - b.since.getTime())[0];
    });
  } finally {
    redis.disconnect();
  }
}
