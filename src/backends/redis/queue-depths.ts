/** How many jobs wait in queues, and for how long: for the metrics. Changes nothing. */
import type { Log } from '../../shared/log.ts';
import { newGauge, openSource, portalLabel, type Reading } from '../../shared/metrics.ts';
import { pausedOf, resultsOfType } from './queue-keys.ts';
import { readOldTimes } from './queued-jobs.ts';
import { openQueue } from './queue.ts';
import {
  connectProducer,
  guardRedis,
  type RedisAccount,
  type RedisPlace,
} from './redis-connection.ts';

const queueJobs = newGauge(
  'chamberlain_queue_jobs',
  'Jobs that wait in a queue, also delayed ones.',
  ['queue'],
);
const queueAge = newGauge(
  'chamberlain_queue_age_seconds',
  'How long the oldest job has waited in a queue. 0: none waits.',
  ['queue'],
);

/** Reads them for a work, by its account in Redis, whenever somebody reads the metrics. */
export function openQueueDepths(
  { config, work, log }: { config: RedisPlace; work: 'intake' | 'relay'; log: Log },
  queues: () => readonly string[],
): { close(): void } {
  const read = async (): Promise<Reading[]> => {
    const depths = await readDepths(config, work, queues());
    const byLabel = Map.groupBy(depths, ({ queue }) => queueLabel(queue));
    return [...byLabel].flatMap(([queue, of]) => [
      {
        ...{ gauge: queueJobs, labels: { queue } },
        value: of.reduce((sum, { jobs }) => sum + jobs, 0),
      },
      {
        ...{ gauge: queueAge, labels: { queue } },
        value: Math.max(...of.map(({ ageSeconds }) => ageSeconds)),
      },
    ]);
  };
  return openSource({ work, server: 'redis', read }, log);
}

/** The queues of admins' own keys, which have their names, count as one. */
function queueLabel(queue: string): string {
  const [, head, portal] = /^(requests\.(?:urgent\.)?)(.*)$/u.exec(queue) ?? [];
  return head === undefined || portal === undefined ? queue : `${head}${portalLabel(portal)}`;
}

interface Depth {
  queue: string;
  jobs: number;
  ageSeconds: number;
}

/**
 * How many jobs wait, also such as are delayed, and how old the oldest is: of those that come next, and of those that
 * intake has tried and lets rest. Opens a connection and ends it, so that there is none while nobody reads the metrics.
 */
export async function readDepths(
  config: RedisPlace,
  account: RedisAccount,
  names: readonly string[],
): Promise<Depth[]> {
  const redis = connectProducer(config, account);
  try {
    return await guardRedis(redis)('counting the jobs in queues', () =>
      Promise.all(
        names.map(async (name): Promise<Depth> => {
          const queue = openQueue(redis, name);
          const [wait, prioritized] = [queue.toKey('wait'), queue.toKey('prioritized')];
          const counts = redis.pipeline();
          counts.llen(wait).zcard(prioritized).llen(pausedOf(queue)).zcard(queue.toKey('delayed'));
          const [counted, times] = await Promise.all([
            counts.exec(),
            readOldTimes(redis, queue, [
              { parts: ['wait', 'prioritized'] },
              // an urgent job is taken first, and so added at the other end
              { parts: ['wait'], backward: true },
            ]),
          ]);
          return {
            queue: name,
            jobs: resultsOfType<number>(counted).reduce((sum: number, n) => sum + (n ?? 0), 0),
            ageSeconds: ageOf(times),
          };
        }),
      ),
    );
  } finally {
    redis.disconnect();
  }
}

/** The time in a job is what its sender says. */
function ageOf(timestamps: readonly (string | null)[]): number {
  const now = Date.now();
  const ages = timestamps.flatMap((time) => {
    const ms = Number(time ?? Number.NaN);
    return Number.isFinite(ms) && ms > 0 ? [(now - ms) / 1000] : [];
  });
  return Math.max(0, ...ages);
}
