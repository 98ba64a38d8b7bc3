/**
 * The queues of events of portals that take their events over HTTP. The API works on them in the portals' place: it
 * looks at the job that the relay has added (event-outbox.ts), and ends it when the portal says what it has. Nobody
 * outside has the Redis password of such a portal, so what is in the queue is the relay's.
 *
 * A job is fetched without a lock (BullMQ's token `0`) at the moment at which it ends. So a job that waits for its
 * portal needs no renewal, and if the API dies, the job is still there for the next look.
 */
import { setTimeout as sleep } from 'node:timers/promises';
import { ErrorCode, Job, type Queue } from 'bullmq';
import type { Redis } from 'ioredis';
import { cleanIds, isWrongType, mendTypes, NO_LOCK } from './queue-keys.ts';
import { eventsQueue, openQueue, positionKey } from './queue.ts';
import {
  connectConsumer,
  connectProducer,
  type Guard,
  guardRedis,
  type RedisPlace,
} from './redis-connection.ts';

/** The relay's largest job is far smaller: somebody else has written a larger one, and it is not read. */
const MOST_JOB_BYTES = 8 * 1024 * 1024;
/** The longest wait for a job: notices may be lost with a connection. */
const WAIT_SECONDS = 1;
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

/** The queues, on two connections that they share: a connection of each portal's own would take 300 KiB. */
interface Opened {
  redis: Redis;
  guarded: Guard;
  /** waits for a job of any portal */
  waiting: Redis;
  queues: Map<string, PortalQueue>;
  /** looks at the queues for which somebody waits; undefined: nobody does */
  looking: NodeJS.Timeout | undefined;
}

interface PortalQueue {
  queue: Queue;
  redis: Redis;
  /** how often a job may have come */
  round: number;
  /** of this round: all who listen look together */
  looking: Promise<Look> | undefined;
  /** all who listen confirm the same together */
  confirming: Map<string, Promise<void>>;
  /** wakes all who listen */
  waiters: Set<() => void>;
}

/** Opens its connections when it is first asked, and the queue of a portal when that is first asked for. */
export function openEventInbox(config: RedisPlace): EventInbox {
  let opened: Opened | undefined;
  const open = (): Opened => (opened ??= openAll(config));
  const queueOf = (portal: string): PortalQueue => {
    const { redis, queues } = open();
    const found = queues.get(portal) ?? openPortal(redis, portal);
    queues.set(portal, found);
    return found;
  };
  return {
    look: (portal) => look(open(), queueOf(portal)),
    confirm(portal, job, have) {
      const [{ guarded, redis }, found] = [open(), queueOf(portal)];
      const what = `${job} ${have}`;
      const confirming =
        found.confirming.get(what) ??
        guarded(`confirming events of ${portal}`, async () => {
          // the answer to the job is newer
          await redis.del(positionKey(portal));
          await endJob(found, job, { have });
        }).finally(() => found.confirming.delete(what));
      found.confirming.set(what, confirming);
      return confirming;
    },
    async tellPosition(portal, have) {
      const { guarded, redis } = open();
      await guarded(`telling what ${portal} has`, () =>
        redis.set(positionKey(portal), have, 'EX', POSITION_SECONDS),
      );
    },
    async untilSomething(portal, since, signal) {
      const { round, waiters } = queueOf(portal);
      if (round !== since.round || signal.aborted) return;
      const woken = Promise.withResolvers<void>();
      const wake = () => woken.resolve();
      waiters.add(wake);
      signal.addEventListener('abort', wake);
      watch(open());
      await woken.promise;
      signal.removeEventListener('abort', wake);
      waiters.delete(wake);
    },
    async close() {
      if (opened === undefined) return;
      clearInterval(opened.looking);
      opened.redis.disconnect();
      opened.waiting.disconnect();
      await Promise.allSettled([...opened.queues.values()].map(({ queue }) => queue.close()));
    },
  };
}

function openAll(config: RedisPlace): Opened {
  const redis = connectProducer(config, 'api');
  return {
    ...{ redis, guarded: guardRedis(redis), waiting: connectConsumer(config, 'api') },
    ...{ queues: new Map(), looking: undefined },
  };
}

function openPortal(redis: Redis, portal: string): PortalQueue {
  return {
    ...{ queue: openQueue(redis, eventsQueue(portal)), redis },
    ...{ round: 0, looking: undefined, confirming: new Map(), waiters: new Set() },
  };
}

function look({ guarded }: Opened, of: PortalQueue): Promise<Look> {
  if (of.looking !== undefined) return of.looking;
  const { round } = of;
  const looking: Promise<Look> = guarded(`reading the queue ${of.queue.name}`, () => readNext(of))
    .then((events) => ({ events, round }))
    .finally(() => {
      if (of.looking === looking) of.looking = undefined;
    });
  of.looking = looking;
  return looking;
}

/** The first job: one that was fetched and has not ended, or the one that waits. */
async function readNext(of: PortalQueue): Promise<WaitingEvents | undefined> {
  const { queue, redis } = of;
  const next = { parts: ['active', 'wait'], most: 1 };
  const { ids } = await cleanIds(redis, queue, next).catch(async (error: Error) => {
    // a key that somebody has made of another type would block the queue for ever
    if (isWrongType(error)) await mendTypes(redis, queue);
    throw error;
  });
  const [job] = ids;
  if (job === undefined) return undefined;
  const key = queue.toKey(job);
  const isReadable = (await redis.hstrlen(key, 'data')) <= MOST_JOB_BYTES;
  const token = isReadable ? tokenIn(await redis.hget(key, 'data')) : undefined;
  if (token !== undefined) return { job, token };
  // not the relay's: it sends its own again
  await endJob(of, job, null);
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

async function endJob({ queue }: PortalQueue, id: string, answer: unknown): Promise<void> {
  await queue.getBackend().moveToActive(NO_LOCK);
  // not read: its content may be anything. It is kept, as the relay has said
  const job = new Job(queue, 'events', {}, { removeOnComplete: false }, id);
  try {
    await job.moveToCompleted(answer, NO_LOCK, false);
  } catch (error) {
    const { code } = error as { code?: unknown };
    // it has ended, or the relay has removed it
    if (code !== ErrorCode.JobNotInState && code !== ErrorCode.JobNotExist) throw error;
  }
}

/**
 * Wakes those who listen when a job may have come, as long as somebody does. A notice may be lost, so it also looks each
 * second, and wakes nobody in vain.
 */
function watch(all: Opened): void {
  if (all.looking !== undefined) return;
  all.looking = setInterval(() => {
    for (const of of all.queues.values()) {
      if (of.waiters.size === 0) continue;
      void look(all, of).then(
        ({ events }) => events !== undefined && wakeAll(of),
        () => wakeAll(of), // whoever listens finds out what is wrong
      );
    }
  }, WAIT_SECONDS * 1000);
  void popMarkers(all);
}

function wakeAll({ waiters }: PortalQueue): void {
  for (const wake of waiters) wake();
}

async function popMarkers(all: Opened): Promise<void> {
  for (;;) {
    // a portal that has come since, such as by a reload, is looked at each second until the next turn
    const queues = [...all.queues.values()];
    if (!queues.some(({ waiters }) => waiters.size > 0)) break;
    const markers = new Map(queues.map((of) => [of.queue.toKey('marker'), of]));
    try {
      const popped = await all.waiting.bzpopmin(...markers.keys(), WAIT_SECONDS);
      const of = markers.get(popped?.[0] ?? '');
      if (of === undefined) continue;
      of.round += 1;
      of.looking = undefined; // it may have begun before the job came
      wakeAll(of);
    } catch (error) {
      if (isWrongType(error)) {
        for (const { redis, queue } of queues) await mendTypes(redis, queue).catch(() => {});
      }
      await sleep(AFTER_FAILURE_MS);
    }
  }
  clearInterval(all.looking);
  all.looking = undefined;
}
