/**
 * The queues of events of portals that take their events over HTTP. The API works on them in the portals' place: it
 * looks at the job that the relay has added (event-outbox.ts), and ends it when the portal says what it has. Nobody
 * outside has the Redis password of such a portal, so what is in the queue is the relay's.
 *
 * A job is fetched without a lock (BullMQ's token `0`) at the moment at which it ends. So a job that waits for its
 * portal needs no renewal, and if the API dies, the job is still there for the next look.
 */
import { setTimeout as sleep } from 'node:timers/promises';
import { ErrorCode, Job, type Queue, Worker } from 'bullmq';
import type { Redis } from 'ioredis';
import { mendTypes, NO_LOCK } from './queue-keys.ts';
import { eventsQueue, openQueue, positionKey } from './queue.ts';
import {
  connectConsumer,
  connectProducer,
  type Guard,
  guardRedis,
  inCommandTime,
  type RedisPlace,
} from './redis-connection.ts';

/** The relay's largest job is far smaller: somebody else has written a larger one, and it is not read. */
const MOST_JOB_BYTES = 8 * 1024 * 1024;
/** The longest wait for a job: notices may be lost with a connection. */
const WAIT_SECONDS = 1;
const MOST_WAIT_MS = 1500;
const AFTER_FAILURE_MS = 500;
/** The relay reads it within a second, if it runs. */
const POSITION_SECONDS = 60;

/** Events for a portal that waits for them. */
interface WaitingEvents {
  /** the id of the job */
  job: string;
  /** signed by the relay */
  token: string;
}

/** What a look has found. */
interface Look {
  /** undefined: none are there */
  events: WaitingEvents | undefined;
  /** when it began, for `untilSomething` */
  round: number;
}

export interface EventInbox {
  /** The events that are next. May throw BACKEND_UNAVAILABLE. */
  look(portal: string): Promise<Look>;
  /**
   * Ends that job: the portal has every event up to `have`. Does nothing if the job has ended meanwhile. May throw
   * BACKEND_UNAVAILABLE.
   */
  confirm(portal: string, job: string, have: number): Promise<void>;
  /** Tells the relay what the portal has, for when nothing waits. May throw BACKEND_UNAVAILABLE. */
  tellPosition(portal: string, have: number): Promise<void>;
  /** Returns when events may have come for the portal since a look, or when the signal aborts. */
  untilSomething(portal: string, since: Look, signal: AbortSignal): Promise<void>;
  close(): Promise<void>;
}

/** The connections that all portals share. */
interface Shared {
  redis: Redis;
  guarded: Guard;
  /** of the workers */
  fetching: Redis;
}

interface PortalQueue {
  queue: Queue;
  redis: Redis;
  guarded: Guard;
  worker: Worker;
  /** waits for a job */
  waiting: Redis;
  /** how often a job may have come */
  round: number;
  /** of this round: all who listen look together */
  looking: Promise<Look> | undefined;
  /** all who listen confirm the same together */
  confirming: Map<string, Promise<void>>;
  /** a wait in Redis */
  popping: Promise<void> | undefined;
  /** of all who listen; ends when a job may have come */
  came: Promise<void> | undefined;
  waiters: number;
}

/** Opens a portal's connections when it is first asked about. */
export function openEventInbox(config: RedisPlace): EventInbox {
  let shared: Shared | undefined;
  const opened = new Map<string, PortalQueue>();
  const open = (portal: string): PortalQueue => {
    shared ??= openShared(config);
    const found = opened.get(portal) ?? openPortalQueue(config, shared, portal);
    opened.set(portal, found);
    return found;
  };
  return {
    look(portal) {
      const found = open(portal);
      if (found.looking !== undefined) return found.looking;
      const { round } = found;
      const look: Promise<Look> = found
        .guarded(`reading the queue of ${portal}`, () => readNext(found))
        .then((events) => ({ events, round }))
        .finally(() => {
          if (found.looking === look) found.looking = undefined;
        });
      found.looking = look;
      return look;
    },
    confirm(portal, job, have) {
      const found = open(portal);
      const what = `${job} ${have}`;
      const confirming =
        found.confirming.get(what) ??
        found
          .guarded(`confirming events of ${portal}`, () =>
            inCommandTime(async () => {
              // the answer to the job is newer
              await found.redis.del(positionKey(portal));
              await endJob(found, job, { have });
            }),
          )
          .finally(() => found.confirming.delete(what));
      found.confirming.set(what, confirming);
      return confirming;
    },
    async tellPosition(portal, have) {
      const { guarded, redis } = open(portal);
      await guarded(`telling what ${portal} has`, () =>
        redis.set(positionKey(portal), have, 'EX', POSITION_SECONDS),
      );
    },
    untilSomething: (portal, since, signal) => untilMarked(open(portal), since, signal),
    async close() {
      shared?.redis.disconnect();
      shared?.fetching.disconnect();
      const all = [...opened.values()];
      for (const { waiting } of all) waiting.disconnect();
      await Promise.allSettled(all.map(({ worker }) => worker.close(true)));
    },
  };
}

function openShared(config: RedisPlace): Shared {
  const redis = connectProducer(config, 'api');
  return { redis, guarded: guardRedis(redis), fetching: connectConsumer(config, 'api') };
}

function openPortalQueue(
  config: RedisPlace,
  { redis, guarded, fetching }: Shared,
  portal: string,
): PortalQueue {
  const name = eventsQueue(portal);
  const worker = new Worker(name, undefined, {
    connection: fetching,
    autorun: false,
    skipVersionCheck: true,
  });
  worker.on('error', () => {}); // each call reports its own
  return {
    ...{ queue: openQueue(redis, name), redis, guarded },
    ...{ worker, waiting: connectConsumer(config, 'api') },
    ...{ round: 0, looking: undefined, confirming: new Map() },
    ...{ popping: undefined, came: undefined, waiters: 0 },
  };
}

/** The first job: one that was fetched and has not ended, or the one that waits. */
async function readNext(of: PortalQueue): Promise<WaitingEvents | undefined> {
  const { queue, redis } = of;
  const [job] = await queue.getRanges(['active', 'waiting'], 0, 0).catch(async (error: Error) => {
    // a key that somebody has made of another type would block the queue for ever
    if (/\bWRONGTYPE\b/u.test(error.message)) await mendTypes(redis, queue);
    throw error;
  });
  if (job === undefined) return undefined;
  const key = queue.toKey(job);
  const isReadable = (await redis.hstrlen(key, 'data')) <= MOST_JOB_BYTES;
  const token = isReadable ? tokenIn(await redis.hget(key, 'data')) : undefined;
  if (token !== undefined) return { job, token };
  // not the relay's: it sends its own again
  await inCommandTime(() => endJob(of, job, null));
  return undefined;
}

function tokenIn(data: string | null): string | undefined {
  try {
    const { token } = JSON.parse(data ?? '') as { token?: unknown };
    return typeof token === 'string' ? token : undefined;
  } catch {
    return undefined;
  }
}

async function endJob({ queue, worker }: PortalQueue, id: string, answer: unknown): Promise<void> {
  const fetched = await worker.getNextJob(NO_LOCK, { block: false });
  const job = fetched?.id === id ? fetched : await Job.fromId(queue, id);
  try {
    await job?.moveToCompleted(answer, NO_LOCK, false);
  } catch (error) {
    const { code } = error as { code?: unknown };
    // it has ended, or the relay has removed it
    if (code !== ErrorCode.JobNotInState && code !== ErrorCode.JobNotExist) throw error;
  }
}

async function untilMarked(of: PortalQueue, since: Look, signal: AbortSignal): Promise<void> {
  if (of.round !== since.round || signal.aborted) return;
  of.waiters += 1;
  of.came ??= untilThere(of).finally(() => (of.came = undefined));
  const aborted = Promise.withResolvers<void>();
  const onAbort = () => aborted.resolve();
  signal.addEventListener('abort', onAbort);
  await Promise.race([of.came, aborted.promise]);
  signal.removeEventListener('abort', onAbort);
  of.waiters -= 1;
}

/** Waits for all who listen. A notice may be lost, so it also looks each second, and wakes nobody in vain. */
async function untilThere(of: PortalQueue): Promise<void> {
  const { round } = of;
  do {
    // it may take longer than it should if Redis is away; there is one at a time
    of.popping ??= popMarker(of).finally(() => (of.popping = undefined));
    await Promise.race([of.popping, sleep(MOST_WAIT_MS)]);
    if (of.round !== round) return;
    // whoever listens finds out what is wrong
    if ((await readNext(of).catch(() => 'unknown')) !== undefined) return;
  } while (of.waiters > 0);
}

async function popMarker(of: PortalQueue): Promise<void> {
  try {
    const marker = await of.waiting.bzpopmin(of.queue.toKey('marker'), WAIT_SECONDS);
    if (marker === null) return;
    of.round += 1;
    of.looking = undefined; // it may have begun before the job came
  } catch {
    await sleep(AFTER_FAILURE_MS);
  }
}
