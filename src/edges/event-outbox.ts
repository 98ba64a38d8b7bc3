/**
 * Portals' queues of events, as the relay sees them: one job at a time in each.
 *
 * Whoever has the Redis password of a portal may write anything into its queue. So nothing is read there but the
 * state of a job that we know by its id, and a short answer.
 */
import { Queue } from 'bullmq';
import type { Redis } from 'ioredis';
import { mendTypes, removeJobs } from './queue-keys.ts';
import { eventsQueue } from './queue.ts';
import {
  connectProducer,
  type Guard,
  guardRedis,
  portalAccount,
  type RedisPlace,
} from './redis-connection.ts';

/** So many entries of a queue's stream are kept, in which BullMQ tells what happened to jobs. */
const MOST_ENTRIES = 1000;
/** A longer answer than this is none: `{"have":9007199254740991}` has 25 bytes. */
const MOST_ANSWER_BYTES = 200;

/** What has become of a job. */
export type JobState =
  /** it waits for the portal, or the portal has paused its queue */
  | { state: 'waiting' }
  /** the portal's worker has taken it */
  | { state: 'active' }
  /** the portal's worker has returned something: `have` is undefined where that is no number of an event */
  | { state: 'completed'; have: number | undefined }
  /** the portal's worker has thrown, or has died too often */
  | { state: 'failed' }
  /** it is not there: Redis has lost it, or somebody has removed it */
  | { state: 'missing' };

/** Every call may throw BACKEND_UNAVAILABLE. */
export interface Outbox {
  add(portal: string, job: string, token: string): Promise<void>;
  look(portal: string, job: string): Promise<JobState>;
  /** Removes a job, unless a worker has it under its lock: false. */
  remove(portal: string, job: string): Promise<boolean>;
  /** Removes what ended in a portal's queue and is not of the relay: by itself nothing else does. */
  tidy(portal: string): Promise<void>;
  close(): Promise<void>;
}

export function openOutbox(config: RedisPlace): Outbox {
  const opened = new Map<string, { queue: Queue; redis: Redis; guarded: Guard }>();
  function open(portal: string) {
    let found = opened.get(portal);
    if (found === undefined) {
      const redis = connectProducer(config, portalAccount(portal));
      const queue = new Queue(eventsQueue(portal), {
        connection: redis,
        skipWaitingForReady: true,
        skipVersionCheck: true,
        streams: { events: { maxLen: MOST_ENTRIES } },
      });
      queue.on('error', () => {});
      const guarded = guardRedis(redis);
      found = {
        queue,
        redis,
        // what somebody has made of another type would be in the way for ever
        guarded: (act, run) =>
          guarded(act, () =>
            run().catch(async (error: Error) => {
              if (/\bWRONGTYPE\b/u.test(error.message)) await mendTypes(redis, queue.toKey);
              throw error;
            }),
          ),
      };
      opened.set(portal, found);
    }
    return found;
  }
  return {
    add(portal, job, token) {
      const { queue, guarded } = open(portal);
      return guarded(`putting events into the queue of ${portal}`, async () => {
        await queue.add(
          'events',
          { token },
          // kept when it ends, whatever the portal's worker says: the relay reads how
          { jobId: job, attempts: 1, removeOnComplete: false, removeOnFail: false },
        );
      });
    },
    look(portal, job) {
      const { queue, redis, guarded } = open(portal);
      return guarded(`looking at the queue of ${portal}`, async () => {
        const state = await queue.getJobState(job);
        if (state === 'completed') {
          const key = queue.toKey(job);
          const length = await redis.hstrlen(key, 'returnvalue');
          const answer = length > MOST_ANSWER_BYTES ? null : await redis.hget(key, 'returnvalue');
          return { state, have: readAnswer(answer) };
        }
        if (state === 'failed' || state === 'active') return { state };
        if (state !== 'unknown') return { state: 'waiting' };
        // in no list, so that no worker will find it: BullMQ 5 drops such, as it ends a pause
        await removeJobs(redis, queue.toKey, [job]);
        return { state: 'missing' };
      });
    },
    remove(portal, job) {
      const { queue, redis, guarded } = open(portal);
      return guarded(`removing events from the queue of ${portal}`, async () => {
        if ((await redis.exists(`${queue.toKey(job)}:lock`)) > 0) return false;
        await removeJobs(redis, queue.toKey, [job]);
        return true;
      });
    },
    tidy(portal) {
      const { queue, redis, guarded } = open(portal);
      return guarded(`tidying the queue of ${portal}`, async () => {
        for (const state of ['completed', 'failed'] as const) {
          if ((await redis.zcard(queue.toKey(state))) > 1) await queue.clean(60_000, 1000, state);
        }
        await queue.trimEvents(MOST_ENTRIES);
      });
    },
    async close() {
      const all = [...opened.values()];
      await Promise.allSettled(all.map(({ queue }) => queue.close()));
      for (const { redis } of all) redis.disconnect();
    },
  };
}

function readAnswer(text: string | null): number | undefined {
  try {
    const { have } = JSON.parse(text ?? '') as { have?: unknown };
    return Number.isSafeInteger(have) && (have as number) >= 0 ? (have as number) : undefined;
  } catch {
    return undefined;
  }
}
