/**
 * The queues of requests as Redis keeps them: how many jobs there are, what is removed because no intake could take it,
 * and what is put back. src/backends/redis/request-inbox.ts takes and ends jobs, and says what becomes of each.
 */
import type { Job, Queue } from 'bullmq';
import type { Redis } from 'ioredis';
import type { Config } from '../../shared/config.ts';
import type { Code } from '../../shared/errors.ts';
import { findSound, removeSurplus } from './queued-jobs.ts';
import { type Cleaned, cleanIds, mendTypes, type Reading, removeJobs } from './queue-keys.ts';
import { openQueue, requestsQueue } from './queue.ts';
import {
  connectConsumer,
  connectProducer,
  type Guard,
  guardRedis,
  portalAccount,
  type RedisAccount,
  type RedisPlace,
} from './redis-connection.ts';

/** Intake holds at most this many; whatever else is active was put there by somebody else. */
const MOST_ACTIVE = 64;
/** A verdict is kept for an hour, for clients that wait for it. */
export const KEPT_SECONDS = 3600;
/** Longer than a job that has failed rests, whichever process has let it rest. */
export const LONGEST_REST_MS = 60_000;
/** A delayed job has its time, in milliseconds, in the upper bits of its score (BullMQ). */
const SCORE_OF_MS = 0x1000;

/** One of the two queues to which a portal writes requests. */
export interface RequestQueue {
  portal: string;
  urgent: boolean;
  /** by the rights of intake: for what does not depend on the content of a job */
  asIntake: Queue;
  /** by the rights of that account: the portal's */
  asPortal: Queue;
  account: RedisAccount;
  connection: Redis;
}

/** A job that intake holds. */
export interface Taken {
  queue: RequestQueue;
  data: unknown;
  job: Job;
}

/** Invalid jobs of a portal's queues, counted. */
interface Junk {
  portal: string;
  code: Code | 'QUEUE_FULL';
  count: number;
}

/** The requests that wait. Every call that is awaited may throw BACKEND_UNAVAILABLE. */
export interface Inbox {
  readonly redis: Redis;
  readonly guarded: Guard;
  /** waits for a job */
  readonly waiting: Redis;
  portals: readonly string[];
  /** of each portal in their order: the urgent one, and the other */
  queues: readonly RequestQueue[];
  readonly junk: Map<string, Junk>;
  /** why jobs of a portal could not be fetched */
  readonly troubles: Map<string, string>;
  /** the portal that is served first */
  turn: number;
  /** ends when a job may have come */
  came: Promise<unknown> | undefined;
  /** a job may have come since the last look began */
  noticed: boolean;
  /** at the last look, a job was delayed that comes soon: intake lets jobs rest, and the one before it may have */
  rests: boolean;
  /** the last look has removed something, so there may be more of it */
  removed: boolean;
  /** an answer of Redis made no sense */
  odd: boolean;
}

/** What the connections of portals depend on. */
type PortalsPlace = RedisPlace & Pick<Config, 'portals'>;

export function openInbox(config: PortalsPlace, portals: readonly string[]): Inbox {
  const redis = connectProducer(config, 'intake');
  const queues = portals.flatMap((portal) => openPortal(config, redis, portal));
  return {
    ...{ redis, guarded: guardRedis(redis), waiting: connectConsumer(config, 'intake') },
    ...{ portals, queues, junk: new Map(), troubles: new Map() },
    ...{ turn: 0, came: undefined, noticed: false, removed: false, odd: true },
    rests: false,
  };
}

function openPortal(config: PortalsPlace, redis: Redis, portal: string): RequestQueue[] {
  const account = portalAccount(portal, config, 'intake');
  const connection = connectConsumer(config, account);
  return [true, false].map((urgent) => {
    const [asPortal, asIntake] = [connection, redis].map((each) =>
      openQueue(each, requestsQueue(portal, urgent)),
    ) as [Queue, Queue];
    return { portal, urgent, asIntake, asPortal, account, connection };
  });
}

/**
 * Opens the queues of portals that are new, and closes those of portals that are gone, with the jobs that wait in them.
 * Nothing of these may be in hand. What a portal had when it was removed is put back when it comes again.
 */
export async function changePortals(
  inbox: Inbox,
  config: PortalsPlace,
  portals: readonly string[],
): Promise<void> {
  const stays = ({ portal, account }: RequestQueue) =>
    portals.includes(portal) && account === portalAccount(portal, config, 'intake');
  const known = Map.groupBy(inbox.queues.filter(stays), ({ portal }) => portal);
  const gone = inbox.queues.filter((queue) => !stays(queue));
  inbox.portals = portals;
  inbox.queues = portals.flatMap(
    (portal) => known.get(portal) ?? openPortal(config, inbox.redis, portal),
  );
  // an active job of a portal that has come again, and jobs that came before anybody waited for them
  inbox.odd = true;
  for (const { portal } of gone) inbox.troubles.delete(portal);
  await closeQueues(gone);
}

export async function closeInbox({ redis, waiting, queues }: Inbox): Promise<void> {
  redis.disconnect();
  waiting.disconnect();
  await closeQueues(queues);
}

async function closeQueues(queues: readonly RequestQueue[]): Promise<void> {
  for (const { connection } of queues) connection.disconnect();
  await Promise.allSettled(queues.map(({ asPortal }) => asPortal.close()));
}

/** Portals whose requests cannot be fetched, and why. */
export function shutOutPortals({ redis, queues, troubles }: Inbox): Map<string, string> {
  const why = new Map(troubles);
  if (redis.status !== 'ready') return why;
  for (const { portal, connection } of queues) {
    if (connection.status !== 'ready') why.set(portal, 'its Redis account cannot log in');
  }
  return why;
}

/** The invalid jobs since the last call. */
export function takeJunk({ junk }: Inbox): Junk[] {
  const counted = [...junk.values()];
  junk.clear();
  return counted;
}

export function countJunk(
  { junk }: Inbox,
  portal: string,
  code: Junk['code'],
  count: number,
): void {
  if (count === 0) return;
  const key = `${portal} ${code}`;
  junk.set(key, { portal, code, count: (junk.get(key)?.count ?? 0) + count });
}

/**
 * Takes the marker of each queue away: a job that comes from here on sets it again. Returns for each how many jobs wait,
 * have a priority, are delayed until then at most, are delayed, are paused, are active, and are delayed until soon; nothing
 * for a queue in which a key is of another type, because then no other portal must wait.
 */
const COUNT = `
local counts = {}
for n, queue in ipairs(KEYS) do
  redis.call('UNLINK', queue .. 'marker')
  local of = {
    redis.pcall('LLEN', queue .. 'wait'),
    redis.pcall('ZCARD', queue .. 'prioritized'),
    redis.pcall('ZCOUNT', queue .. 'delayed', 0, ARGV[1]),
    redis.pcall('ZCARD', queue .. 'delayed'),
    redis.pcall('LLEN', queue .. 'paused'),
    redis.pcall('LLEN', queue .. 'active'),
    redis.pcall('ZCOUNT', queue .. 'delayed', 0, ARGV[2]),
  }
  for _, count in ipairs(of) do
    if type(count) == 'table' then of = {} break end
  end
  counts[n] = of
end
return counts`;

/**
 * How many jobs of each queue can be taken now, and how many there are in all; whether any is active, and whether any is
 * delayed that comes within a minute. All in one script: with 73 portals, a command for each count took 5 to 10 ms of the
 * processor for each look. BullMQ's own counts are a script for each queue and kind, and know no paused jobs of BullMQ 5.
 */
export async function countJobs(
  inbox: Inbox,
): Promise<{ counts: number[]; totals: number[]; active: boolean; rests: boolean }> {
  const { redis, queues } = inbox;
  const keys = queues.map(({ asIntake }) => asIntake.toKey(''));
  const [due, soon] = [1, LONGEST_REST_MS].map((ms) => (Date.now() + ms) * SCORE_OF_MS) as [
    number,
    number,
  ];
  const of = (await redis.eval(COUNT, keys.length, ...keys, due, soon)) as number[][];
  if (of.some((counts) => counts.length === 0)) await mendAll(inbox);
  return {
    // a portal whose account cannot log in delays no other
    counts: of.map(([wait = 0, prioritized = 0, isDue = 0], n) =>
      queues[n]?.connection.status === 'ready' ? wait + prioritized + isDue : 0,
    ),
    totals: of.map(
      ([wait = 0, prioritized = 0, , delayed = 0, paused = 0]) =>
        wait + prioritized + delayed + paused,
    ),
    active: of.some(([, , , , , active = 0]) => active > 0),
    rests: of.some(([, , isDue = 0, , , , isSoon = 0]) => isSoon > isDue),
  };
}

/** Before BullMQ takes a job, it moves up to this many delayed jobs that are due among those that wait. One may come first. */
const MOST_PROMOTED = 1000;
/** It does this within this time after we have looked at them. */
const PROMOTED_MS = 100;

/** Removes those of the next jobs that no intake could take, and returns how many are left of them. */
export async function inspect(inbox: Inbox, queue: RequestQueue, most: number): Promise<number> {
  const { portal, asIntake } = queue;
  const due = (Date.now() + PROMOTED_MS) * SCORE_OF_MS;
  const read = await Promise.all([
    readOwn(inbox, queue, { parts: ['wait', 'prioritized'], most }),
    readOwn(inbox, queue, { parts: ['delayed'], most: MOST_PROMOTED, scores: [0, due] }),
  ]);
  // jobs behind such an id are not read yet, and BullMQ might take them
  if (read.some(({ removed }) => removed > 0)) return 0;
  const ids = [...new Set(read.flatMap((each) => each.ids))];
  const sound = await findSound(inbox.redis, asIntake, ids);
  const unsound = ids.filter((id) => !sound.has(id));
  for (const id of unsound) {
    countJunk(inbox, portal, sound.tooLarge.has(id) ? 'REQUEST_TOO_LARGE' : 'REQUEST_MALFORMED', 1);
  }
  await discard(inbox, queue, unsound);
  inbox.removed ||= unsound.length > 0;
  return sound.size;
}

/** The ids of jobs. What is no id is removed, and counted. */
async function readOwn(
  inbox: Inbox,
  { portal, asIntake }: RequestQueue,
  what: Reading,
): Promise<Cleaned> {
  const read = await cleanIds(inbox.redis, asIntake, what);
  countJunk(inbox, portal, 'REQUEST_MALFORMED', read.removed);
  inbox.removed ||= read.removed > 0;
  return read;
}

/** The active jobs, the last one that was taken first. */
export async function readActive(inbox: Inbox, queue: RequestQueue): Promise<string[]> {
  const what = { parts: ['active'], most: MOST_ACTIVE, backward: true };
  return (await readOwn(inbox, queue, what)).ids;
}

/** Removes the newest jobs of queues that are longer than they may be. */
export async function shortenAll(inbox: Inbox, totals: readonly number[]): Promise<void> {
  const { redis, queues } = inbox;
  const busy = new Set(queues.filter((_, n) => (totals[n] ?? 0) > 0).map((q) => q.portal));
  for (const [n, { portal, asIntake }] of queues.entries()) {
    const surplus = await removeSurplus(redis, asIntake, totals[n] ?? 0, busy.size);
    countJunk(inbox, portal, 'QUEUE_FULL', surplus);
    inbox.removed ||= surplus > 0;
  }
}

/** Puts back active jobs, and removes those that nobody could take. */
export async function reclaim(inbox: Inbox, where: 'first' | 'last'): Promise<void> {
  for (const queue of inbox.queues) {
    const { asIntake } = queue;
    const sound = await discardUnsound(inbox, queue, await readActive(inbox, queue));
    const backend = asIntake.getBackend();
    const moving =
      where === 'first'
        ? [...sound].map((id) => backend.moveJobFromActiveToWait(id))
        : [...sound].toReversed().map((id) => backend.retryJob(id, false));
    for (const each of await Promise.allSettled(moving)) {
      // somebody has moved or removed it
      if (each.status === 'rejected' && !isAnswer(each.reason)) throw each.reason;
    }
  }
}

/** Removes those of these jobs that nobody could take, and returns the others. */
export async function discardUnsound(
  inbox: Inbox,
  queue: RequestQueue,
  ids: readonly string[],
): Promise<ReadonlySet<string>> {
  const sound = await findSound(inbox.redis, queue.asIntake, ids);
  const unsound = ids.filter((id) => !sound.has(id));
  countJunk(inbox, queue.portal, 'REQUEST_MALFORMED', unsound.length);
  await discard(inbox, queue, unsound);
  return sound;
}

/** Removes what ended more than an hour ago, and jobs beyond the number that may wait, the newest first. */
export function tidyInbox(inbox: Inbox): Promise<void> {
  const { redis, guarded, queues } = inbox;
  return guarded('removing requests that ended long ago', async () => {
    const since = Date.now() - KEPT_SECONDS * 1000;
    for (const queue of queues) {
      for (const ended of ['completed', 'failed']) {
        // `clean` of BullMQ would follow a job's links, and add an event each time
        const what = { parts: [ended], most: 1000, scores: [-Infinity, since] } as const;
        await removeJobs(redis, queue.asIntake, (await readOwn(inbox, queue, what)).ids);
      }
    }
    await shortenAll(inbox, (await countJobs(inbox)).totals);
    inbox.noticed = true; // counting has taken the notices of what came since the last look
  });
}

/** Removes jobs, whatever was done to the queue. */
export async function discard(
  inbox: Inbox,
  { portal, asIntake }: RequestQueue,
  ids: readonly string[],
): Promise<void> {
  const { redis } = inbox;
  try {
    await removeJobs(redis, asIntake, ids);
  } catch (error) {
    if (!isAnswer(error)) throw error;
    countJunk(inbox, portal, 'REQUEST_MALFORMED', await mendTypes(redis, asIntake));
    await removeJobs(redis, asIntake, ids);
  }
}

/** A key of another type than BullMQ's would break every look at all queues. */
export async function mendAll(inbox: Inbox): Promise<void> {
  const { redis, queues } = inbox;
  for (const { asIntake, portal } of queues) {
    countJunk(inbox, portal, 'REQUEST_MALFORMED', await mendTypes(redis, asIntake));
  }
}

/**
 * Whether a job, or a key of its queue, is why BullMQ could not end it; as opposed to a lost connection, and to what
 * Redis says of itself or of an account (LOADING, NOPERM, OOM, READONLY, WRONGPASS, …).
 */
export function isOfJob(error: unknown): boolean {
  return isAnswer(error) && !/^(?!ERR\b|WRONGTYPE\b)[A-Z]+ /u.test((error as Error).message);
}

/** An answer of Redis, or of a script of BullMQ, as opposed to a lost connection. */
function isAnswer(error: unknown): boolean {
  const { name, code } = (error ?? {}) as { name?: unknown; code?: unknown };
  return name === 'ReplyError' || typeof code === 'number';
}
