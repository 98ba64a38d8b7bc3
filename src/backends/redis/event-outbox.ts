/**
 * Portals' queues of events, as the relay sees them: one job at a time in each.
 *
 * Anyone who has the Redis password of a portal may write anything into its queue. So only two things are read
 * there: the state of a job that we know by its id, and a short answer.
 */
import type { Queue } from 'bullmq';
import type { Redis } from 'ioredis';
import type { RequestNews } from '../../events/deliveries.ts';
import {
  cleanIds,
  isWrongType,
  JOB_PARTS,
  lockOf,
  mendTypes,
  removeJobs,
  results,
} from './queue-keys.ts';
import { eventsQueue, newsKey, openQueue, positionKey } from './queue.ts';
import {
  connectProducer,
  type Guard,
  guardRedis,
  type RedisAccount,
  type RedisPlace,
} from './redis-connection.ts';

/** How many entries of a queue's stream are kept, in which BullMQ reports what happened to jobs. */
const MOST_ENTRIES = 1000;
/** A longer answer is not read: `{"have":9007199254740991}` has 25 bytes. */
const MOST_ANSWER_BYTES = 200;

/** How many jobs of each part of a queue are examined in one go, besides the relay's own. */
const MOST_OTHERS = 1000;

/** As long as a verdict is kept. */
const NEWS_SECONDS = 3600;

/** What has become of a job. */
export type JobState =
  /** it waits for the portal, or the portal has paused its queue */
  | { state: 'waiting' }
  /** the portal's worker has taken it */
  | { state: 'active' }
  /** the portal's worker has returned something: `have` is undefined if that is not the number of an event */
  | { state: 'completed'; have: number | undefined }
  /** the portal's worker has thrown, or has died too often */
  | { state: 'failed' }
  /** it does not exist: Redis has lost it, or somebody has removed it */
  | { state: 'missing' };

/** Every call may throw BACKEND_UNAVAILABLE. */
export interface Outbox {
  add(portal: string, job: string, token: string): Promise<void>;
  look(portal: string, job: string): Promise<JobState>;
  /** Takes what a portal has said over HTTP that it has, while nothing waited for it; undefined if it said nothing. */
  takePosition(portal: string): Promise<number | undefined>;
  /** Removes a job. Returns false if a worker has locked it. */
  remove(portal: string, job: string): Promise<boolean>;
  /**
   * Removes every job of a portal's queue but this one, such as one that was added and never recorded. Returns
   * false if a worker has locked one of them.
   */
  removeOthers(portal: string, job: string | null): Promise<boolean>;
  /** Writes, for an hour, the status of requests next to their queues. What cannot be written is left out. */
  tellNews(news: readonly RequestNews[]): Promise<void>;
  /** Ends the connection of a portal that was removed, until it is needed again. */
  forget(portal: string): Promise<void>;
  close(): Promise<void>;
}

/** The queue of one portal, by its rights. */
interface PortalQueue {
  account: RedisAccount;
  queue: Queue;
  redis: Redis;
  guarded: Guard;
}

/** @param accountOf by whose rights the queue of a portal is handled now */
export function openOutbox(
  config: RedisPlace,
  accountOf: (portal: string) => RedisAccount,
): Outbox {
  const opened = new Map<string, PortalQueue>();
  const open = (portal: string): PortalQueue => {
    const account = accountOf(portal);
    const last = opened.get(portal);
    if (last?.account === account) return last;
    if (last !== undefined) void closeAll([last]);
    const found = openPortalQueue(config, portal, account);
    opened.set(portal, found);
    return found;
  };
  return {
    add(portal, job, token) {
      const { queue, guarded } = open(portal);
      return guarded(`adding events to the queue of ${portal}`, async () => {
        await queue.add(
          'events',
          { token },
          // kept when it ends, whatever the portal's worker says: the relay reads the outcome
          { jobId: job, attempts: 1, removeOnComplete: false, removeOnFail: false },
        );
      });
    },
    look(portal, job) {
      const found = open(portal);
      return found.guarded(`reading the queue of ${portal}`, () => readState(found, job));
    },
    takePosition(portal) {
      const { redis, guarded } = open(portal);
      return guarded(`reading what ${portal} has`, async () => {
        const text = await redis.getdel(positionKey(portal));
        return text !== null && /^[0-9]{1,15}$/u.test(text) ? Number(text) : undefined;
      });
    },
    remove(portal, job) {
      const { queue, redis, guarded } = open(portal);
      return guarded(`removing events from the queue of ${portal}`, async () => {
        if (isHeld(await redis.pttl(lockOf(queue, job)))) return false;
        await removeJobs(redis, queue, [job]);
        return true;
      });
    },
    removeOthers(portal, job) {
      const found = open(portal);
      return found.guarded(`tidying the queue of ${portal}`, () => removeAllBut(found, job));
    },
    async tellNews(news) {
      const written = [...Map.groupBy(news, ({ portal }) => portal)].map(async ([portal, of]) => {
        const pipeline = open(portal).redis.pipeline();
        for (const { request, event, code, data } of of) {
          const text = JSON.stringify({ event, code, data });
          pipeline.set(newsKey(portal, request), text, 'EX', NEWS_SECONDS);
        }
        await pipeline.exec();
      });
      await Promise.allSettled(written);
    },
    async forget(portal) {
      const found = opened.get(portal);
      opened.delete(portal);
      if (found !== undefined) await closeAll([found]);
    },
    close: () => closeAll([...opened.values()]),
  };
}

async function closeAll(queues: readonly PortalQueue[]): Promise<void> {
  await Promise.allSettled(queues.map(({ queue }) => queue.close()));
  for (const { redis } of queues) redis.disconnect();
}

function openPortalQueue(config: RedisPlace, portal: string, account: RedisAccount): PortalQueue {
  const redis = connectProducer(config, account);
  const queue = openQueue(redis, eventsQueue(portal), {
    skipMetasUpdate: false,
    streams: { events: { maxLen: MOST_ENTRIES } },
  });
  const guarded = guardRedis(redis);
  return {
    account,
    queue,
    redis,
    // a key that somebody has made of another type would block the queue forever
    guarded: (act, run) =>
      guarded(act, () =>
        run().catch(async (error: Error) => {
          if (isWrongType(error)) await mendTypes(redis, queue);
          throw error;
        }),
      ),
  };
}

async function readState({ queue, redis }: PortalQueue, job: string): Promise<JobState> {
  const state = await queue.getJobState(job);
  const key = queue.toKey(job);
  if ((await redis.type(key)) !== 'hash') {
    await removeJobs(redis, queue, [job]);
    return { state: 'missing' };
  }
  if (state === 'completed') {
    // not the whole job: the answer may be of any size
    const length = await redis.hstrlen(key, 'returnvalue');
    const answer = length > MOST_ANSWER_BYTES ? null : await redis.hget(key, 'returnvalue');
    return { state, have: readAnswer(answer) };
  }
  if (state === 'failed' || state === 'active' || state === 'waiting') return { state };
  // if no worker will find it soon: BullMQ 5 leaves a job in no list when it ends a pause
  await removeJobs(redis, queue, [job]);
  return { state: 'missing' };
}

async function removeAllBut({ queue, redis }: PortalQueue, job: string | null): Promise<boolean> {
  const found = await cleanIds(redis, queue, { parts: JOB_PARTS, most: MOST_OTHERS });
  const ids = new Set(found.ids);
  const others = [...ids].filter((id) => id !== job);
  const locks = redis.pipeline();
  for (const id of others) locks.pttl(lockOf(queue, id));
  const left = results<number>(await locks.exec());
  const free = others.filter((_, n) => !isHeld(left[n]));
  await removeJobs(redis, queue, free);
  await queue.trimEvents(MOST_ENTRIES);
  return free.length === others.length && ids.size < MOST_OTHERS && found.removed === 0;
}

/**
 * Whether a worker has a job, by PTTL of its lock. A lock of BullMQ expires by itself: one that does not (-1)
 * was written by somebody else, and does not count.
 */
function isHeld(pttl: number | undefined): boolean {
  return pttl !== undefined && pttl > 0;
}

function readAnswer(text: string | null): number | undefined {
  try {
    const { have } = JSON.parse(text ?? '') as { have?: unknown };
    return Number.isSafeInteger(have) && (have as number) >= 0 ? (have as number) : undefined;
  } catch {
    return undefined;
  }
}
