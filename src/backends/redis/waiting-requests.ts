/** How long requests have waited for their verdict. Reads by the admin's account, and changes nothing. */
import { requestsQueue } from './queue.ts';
import { connectProducer, guardRedis, type RedisPlace } from './redis-connection.ts';

/** A portal, and when the oldest of its requests without a verdict was sent, as the request itself says. */
export interface Waiting {
  portal: string;
  since: Date;
}

/**
 * The oldest request that waits, or that intake holds; undefined if there is none. Of each queue, only the next
 * request is read. Throws BACKEND_UNAVAILABLE.
 */
export async function readOldestWaiting(
  config: RedisPlace,
  portals: readonly string[],
): Promise<Waiting | undefined> {
  const redis = connectProducer(config, 'admin');
  const ask = async (commands: (readonly [string, ...(string | number)[]])[]) => {
    const answers = (await redis.pipeline(commands.map((words) => [...words])).exec()) ?? [];
    const failed = answers.find(([error]) => error !== null && error.name !== 'ReplyError');
    if (failed?.[0]) throw failed[0];
    // the queue of a portal may contain anything: a value of another type is not a request
    return answers.map(([error, answer]) => (error === null ? answer : null));
  };
  try {
    return await guardRedis(redis)('reading the requests that wait', async () => {
      const queues = portals.flatMap((portal) =>
        [true, false].map((urgent) => ({ portal, key: `bull:${requestsQueue(portal, urgent)}` })),
      );
      const firsts = await ask(
        queues.flatMap(({ key }) => [
          ['lindex', `${key}:wait`, -1] as const,
          ['lindex', `${key}:active`, -1] as const,
          ['zrange', `${key}:prioritized`, 0, 0] as const,
        ]),
      );
      const jobs = queues.flatMap((queue, n) =>
        firsts
          .slice(3 * n, 3 * n + 3)
          .flat()
          .flatMap((id) => (typeof id === 'string' ? [{ ...queue, id }] : [])),
      );
      const times = await ask(jobs.map(({ key, id }) => ['hget', `${key}:${id}`, 'timestamp']));
      const waiting = jobs.flatMap(({ portal }, n): Waiting[] => {
        const since = new Date(Number(times[n] ?? NaN));
        return Number.isNaN(since.getTime()) ? [] : [{ portal, since }];
      });
      return waiting.toSorted((a, b) => a.since.getTime() - b.since.getTime())[0];
    });
  } finally {
    redis.disconnect();
  }
}
