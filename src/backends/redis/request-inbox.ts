/**
 * The queues of requests, as intake sees them: every portal's two, taken from in turn.
 *
 * Their content was written by portals, or by anyone who has a portal's Redis password: it can be anything. So
 * Redis measures a job before it is read, and whatever is not a job that intake could take is removed:
 *
 * | what                                                | what becomes of it              | counted as          |
 * | --------------------------------------------------- | ------------------------------- | ------------------- |
 * | more than 160 KiB in Redis                          | removed unread                  | `REQUEST_TOO_LARGE` |
 * | no hash, fields that BullMQ's `add` does not write, | removed                         | `REQUEST_MALFORMED` |
 * | data or options that are not JSON                   |                                 |                     |
 * | newer than what may wait (see MOST_WAITING)         | removed unread                  | `QUEUE_FULL`        |
 * | a job that is not a valid request of its portal     | fails, with the code and why    | its code            |
 * | a request                                           | completes: the verdict is its   | not at all          |
 * |                                                     | return value, kept for an hour  |                     |
 *
 * Only one intake works at a time, so a job that is active but that it does not hold was left by an intake that died. Jobs
 * are fetched without locks (BullMQ's token `0`), because nobody else fetches them.
 */
import { setTimeout as sleep } from 'node:timers/promises';
import { type Job, UnrecoverableError, Worker } from 'bullmq';
import type { Redis } from 'ioredis';
import type { Code } from '../../shared/errors.ts';
import { allot, type Share } from '../../requests/turns.ts';
import { findSound, removeSurplus } from './queued-jobs.ts';
import { mendTypes, removeJobs, results } from './queue-keys.ts';
import { requestsQueue } from './queue.ts';
import {
  connectConsumer,
  connectProducer,
  type Guard,
  guardRedis,
  portalAccount,
  type RedisPlace,
} from './redis-connection.ts';

/** Intake holds at most this many; whatever else is active was put there by somebody else. */
const MOST_ACTIVE = 64;
/** A verdict is kept for an hour, for clients that wait for it; at most this many of a queue. */
const KEPT_SECONDS = 3600;
const MOST_KEPT = 10_000;
/** How many invalid jobs of a queue are kept, with the reason. */
const MOST_REFUSALS_KEPT = 100;

/** A command that is not answered within this time has failed. */
const FETCH_TIMEOUT_MS = 4000;
/** The longest wait for a job: notices may be lost with a connection. */
const WAIT_SECONDS = 1;
const AFTER_FAILURE_MS = 500;
/** BullMQ's code for a job that should end and is not active. */
const NOT_ACTIVE = -3;
/** Token of a job that is fetched without a lock (BullMQ). */
const NO_LOCK = '0';

/** One of the two queues to which a portal writes requests. */
interface RequestQueue {
  portal: string;
  urgent: boolean;
  /** by the rights of the portal */
  connection: Redis;
  worker: Worker;
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
  /** Takes jobs, one from each portal in turn, urgent ones first, until there are `most`. */
  take(most: number): Promise<Taken[]>;
  /** Ends jobs, each with the verdict as its return value. */
  end(jobs: readonly { taken: Taken; verdict: unknown }[]): Promise<void>;
  /** Ends invalid jobs: each fails, with the reason `CODE: sentence`. */
  refuse(jobs: readonly { taken: Taken; code: Code; sentence: string }[]): Promise<void>;
  /**
   * Puts back what was taken and has not ended: to the end from which the next is taken, as `take` does too, or
   * behind all others.
   */
  putBack(where: 'first' | 'last'): Promise<void>;
  /** Returns when something may have come, or after a second. */
  untilSomething(signal: AbortSignal): Promise<void>;
  /** Removes what ended more than an hour ago, and jobs beyond the number that may wait, the newest first. */
  tidy(): Promise<void>;
  /** The invalid jobs since the last call. */
  countJunk(): Junk[];
  /** Portals whose requests cannot be fetched, and why. */
  shutOut(): Map<string, string>;
  close(): Promise<void>;
}

export function openInbox(config: RedisPlace, portals: readonly string[]): Inbox {
  const redis = connectProducer(config, 'intake');
  const waiting = connectConsumer(config, 'intake');
  const guarded = guardRedis(redis);
  const queues = portals.flatMap((portal) => {
    const connection = connectConsumer(config, portalAccount(portal));
    return [true, false].map((urgent): RequestQueue => {
      const worker = new Worker(requestsQueue(portal, urgent), undefined, {
        connection,
        autorun: false,
        skipVersionCheck: true,
      });
      worker.on('error', () => {}); // each call reports its own
      return { portal, urgent, connection, worker };
    });
  });
  const junk = new Map<string, Junk>();
  let turn = 0;
  let came: Promise<unknown> | undefined;
  /** the last look has removed something, so there may be more of it */
  let removed = false;
  /** an answer of Redis made no sense */
  let odd = true;
  /** why jobs of a portal could not be fetched */
  const troubles = new Map<string, string>();

  function countJunk(portal: string, code: Junk['code'], count: number): void {
    if (count === 0) return;
    const key = `${portal} ${code}`;
    junk.set(key, { portal, code, count: (junk.get(key)?.count ?? 0) + count });
  }

  /** Runs it in bounded time. If it is done later nevertheless, the next `take` puts it back. */
  const bounded: Guard = (act, run) =>
    guarded(act, async () => {
      const ended = new AbortController();
      const late = sleep(FETCH_TIMEOUT_MS, undefined, { signal: ended.signal }).then(() => {
        throw new Error('Command timed out');
      });
      late.catch(() => {});
      try {
        return await Promise.race([run(), late]);
      } finally {
        ended.abort();
      }
    });

  /**
   * Ends jobs by BullMQ, and removes those that cannot be ended because somebody has changed them or the queue.
   */
  async function endEach(
    jobs: readonly Taken[],
    end: (taken: Taken, n: number) => Promise<unknown>,
  ): Promise<void> {
    const ended = await Promise.allSettled(jobs.map(end));
    for (const [n, each] of ended.entries()) {
      if (each.status === 'fulfilled') continue;
      if (!isAnswer(each.reason)) throw each.reason;
      // somebody has put it back, or another intake has it: it comes again, and has the same verdict
      if ((each.reason as { code?: unknown }).code === NOT_ACTIVE) continue;
      const { job, queue } = jobs[n] as Taken;
      await discard(queue, [job.id as string]);
    }
  }

  /** Removes jobs, whatever was done to the queue. */
  async function discard(queue: RequestQueue, ids: readonly string[]): Promise<void> {
    const { toKey } = queue.worker;
    try {
      await removeJobs(redis, toKey, ids);
    } catch (error) {
      if (!isAnswer(error)) throw error;
      countJunk(queue.portal, 'REQUEST_MALFORMED', await mendTypes(redis, toKey));
      await removeJobs(redis, toKey, ids);
    }
  }

  /** How many jobs of each queue can be taken now, and how many there are in all; and whether any is active. */
  async function countJobs(): Promise<{ counts: number[]; totals: number[]; active: boolean }> {
    const pipeline = redis.pipeline();
    // a job that comes from here on sets its marker again
    pipeline.unlink(...queues.map(({ worker }) => worker.toKey('marker')));
    // a delayed job has its time, in milliseconds, in the upper bits of its score (BullMQ)
    const due = (Date.now() + 1) * 0x1000;
    for (const { worker } of queues) {
      pipeline.llen(worker.toKey('wait'));
      pipeline.zcard(worker.toKey('prioritized'));
      pipeline.zcount(worker.toKey('delayed'), 0, due);
      pipeline.zcard(worker.toKey('delayed'));
      pipeline.llen(worker.toKey('paused'));
      pipeline.llen(worker.toKey('active'));
    }
    const answers = (await pipeline.exec()) ?? [];
    if (answers.some(([error]) => error !== null)) {
      await mendAll();
      const none = queues.map(() => 0);
      return { counts: none, totals: none, active: false };
    }
    const [, ...lengths] = results<number>(answers);
    const of = queues.map((_, n) => lengths.slice(6 * n, 6 * n + 6));
    return {
      // a portal whose account cannot log in delays no other
      counts: of.map(([wait = 0, prioritized = 0, isDue = 0], n) =>
        queues[n]?.connection.status === 'ready' ? wait + prioritized + isDue : 0,
      ),
      totals: of.map(
        ([wait = 0, prioritized = 0, , delayed = 0, paused = 0]) =>
          wait + prioritized + delayed + paused,
      ),
      active: of.some((each) => each[5] !== 0),
    };
  }

  /** Removes those of the next jobs that no intake could take, and returns how many are left of them. */
  async function inspect(queue: RequestQueue, most: number): Promise<number> {
    const { portal, worker } = queue;
    const lists = results<string[]>(
      await redis
        .pipeline()
        .lrange(worker.toKey('wait'), -most, -1)
        .zrange(worker.toKey('prioritized'), 0, `${most - 1}`)
        .zrange(worker.toKey('delayed'), 0, `${most - 1}`)
        .exec(),
    );
    const ids = lists.flat();
    const sound = await findSound(redis, worker.toKey, ids);
    const unsound = ids.filter((id) => !sound.has(id));
    for (const id of unsound) {
      countJunk(portal, sound.tooLarge.has(id) ? 'REQUEST_TOO_LARGE' : 'REQUEST_MALFORMED', 1);
    }
    await discard(queue, unsound);
    removed ||= unsound.length > 0;
    return sound.size;
  }

  /** Removes the newest jobs of queues that are longer than they may be. */
  async function shortenAll(totals: readonly number[]): Promise<void> {
    const busy = new Set(queues.filter((_, n) => (totals[n] ?? 0) > 0).map((q) => q.portal));
    for (const [n, { portal, worker }] of queues.entries()) {
      const surplus = await removeSurplus(redis, worker.toKey, totals[n] ?? 0, busy.size);
      countJunk(portal, 'QUEUE_FULL', surplus);
      removed ||= surplus > 0;
    }
  }

  /** Puts back active jobs, and removes those that nobody could take. */
  async function reclaim(where: 'first' | 'last' = 'first'): Promise<void> {
    for (const queue of queues) {
      const { worker, portal } = queue;
      const active = worker.toKey('active');
      const ids = await redis.lrange(active, 0, MOST_ACTIVE - 1);
      await redis.ltrim(active, 0, MOST_ACTIVE - 1);
      const sound = await findSound(redis, worker.toKey, ids);
      const unsound = ids.filter((id) => !sound.has(id));
      countJunk(portal, 'REQUEST_MALFORMED', unsound.length);
      await discard(queue, unsound);
      // the last one that was taken is the first in the list
      for (const id of where === 'first' ? sound : [...sound].toReversed()) {
        const wait = worker.toKey('wait');
        const moving = redis.multi().lrem(active, 0, id);
        if (where === 'first') moving.rpush(wait, id);
        else moving.lpush(wait, id);
        await moving.zadd(worker.toKey('marker'), 0, '0').exec();
      }
    }
  }

  /** Takes this many jobs of one queue, or fewer. */
  async function fetchFrom(queue: RequestQueue, wanted: number): Promise<Taken[]> {
    if (wanted === 0) return [];
    const left = Math.min(wanted, await inspect(queue, wanted));
    const fetched = await Promise.allSettled(
      Array.from({ length: left }, () => queue.worker.getNextJob(NO_LOCK, { block: false })),
    );
    const taken = fetched.flatMap((each): Taken[] =>
      each.status === 'fulfilled' && each.value !== undefined
        ? [{ queue, job: each.value, data: each.value.data as unknown }]
        : [],
    );
    const failed = fetched.find((each) => each.status === 'rejected');
    if (failed === undefined) troubles.delete(queue.portal);
    else await mendFetch(queue, taken, failed.reason as Error);
    return taken;
  }

  /**
   * A job that BullMQ could not read is active now, and nobody works on it. If the job was not at fault, the
   * next look puts it back.
   */
  async function mendFetch(queue: RequestQueue, taken: readonly Taken[], error: Error) {
    odd = true;
    troubles.set(queue.portal, error.message);
    if (
      !/^(Syntax|Type|Range)Error$/u.test(error.name) &&
      !/WRONGTYPE|integer/u.test(error.message)
    )
      return;
    const inHand = new Set(taken.map(({ job }) => job.id));
    const active = await redis.lrange(queue.worker.toKey('active'), 0, MOST_ACTIVE - 1);
    const unheld = active.filter((id) => !inHand.has(id));
    countJunk(queue.portal, 'REQUEST_MALFORMED', unheld.length);
    await discard(queue, unheld);
  }

  /** A key of another type than BullMQ's would break every look at all queues. */
  async function mendAll(): Promise<void> {
    for (const { worker, portal } of queues) {
      countJunk(portal, 'REQUEST_MALFORMED', await mendTypes(redis, worker.toKey));
    }
  }

  return {
    take: (most) =>
      bounded('taking requests from their queues', async () => {
        if (odd) await mendAll();
        odd = removed = false;
        let jobs = await countJobs();
        if (jobs.active) {
          await reclaim();
          jobs = await countJobs();
        }
        const { counts, totals } = jobs;
        await shortenAll(totals);
        const shares = allot(
          portals.map((_, n) => ({ urgent: counts[2 * n] ?? 0, other: counts[2 * n + 1] ?? 0 })),
          most,
          turn,
        );
        turn = (turn + 1) % Math.max(1, portals.length);
        const taken = await Promise.all(
          queues.map((queue, n) => {
            const { urgent, other } = shares[Math.floor(n / 2)] as Share;
            return fetchFrom(queue, queue.urgent ? urgent : other);
          }),
        );
        return taken.flat();
      }),
    end: (jobs) =>
      bounded('reporting verdicts', () =>
        endEach(
          jobs.map(({ taken }) => taken),
          ({ job }, n) => {
            job.opts.removeOnComplete = { age: KEPT_SECONDS, count: MOST_KEPT };
            return job.moveToCompleted(jobs[n]?.verdict, NO_LOCK, false);
          },
        ),
      ),
    refuse: (jobs) =>
      bounded('refusing invalid jobs', () =>
        endEach(
          jobs.map(({ taken }) => taken),
          ({ job, queue }, n) => {
            const { code, sentence } = jobs[n] as (typeof jobs)[number];
            countJunk(queue.portal, code, 1);
            job.opts.removeOnFail = { age: KEPT_SECONDS, count: MOST_REFUSALS_KEPT };
            job.opts.stackTraceLimit = 0;
            return job.moveToFailed(new UnrecoverableError(`${code}: ${sentence}`), NO_LOCK);
          },
        ),
      ),
    putBack: (where) => bounded('returning requests to their queues', () => reclaim(where)),
    async untilSomething(signal) {
      if (removed) return;
      const markers = queues.map(({ worker }) => worker.toKey('marker'));
      // one at a time: while Redis is away, none is answered
      came ??= waiting
        .bzpopmin(...markers, WAIT_SECONDS)
        .catch(async () => {
          odd = true;
          await sleep(AFTER_FAILURE_MS);
        })
        .finally(() => (came = undefined));
      const closed = new AbortController();
      try {
        await Promise.race([
          came,
          sleep(WAIT_SECONDS * 1000, undefined, {
            signal: AbortSignal.any([signal, closed.signal]),
          }),
        ]);
      } catch {
        // the signal
      } finally {
        closed.abort();
      }
    },
    tidy: () =>
      guarded('removing requests that ended long ago', async () => {
        const since = Date.now() - KEPT_SECONDS * 1000;
        for (const { worker } of queues) {
          for (const ended of ['completed', 'failed']) {
            const old = await redis.zrangebyscore(worker.toKey(ended), 0, since, 'LIMIT', 0, 1000);
            await removeJobs(redis, worker.toKey, old);
          }
        }
        await shortenAll((await countJobs()).totals);
      }),
    countJunk() {
      const counted = [...junk.values()];
      junk.clear();
      return counted;
    },
    shutOut() {
      const why = new Map(troubles);
      if (redis.status !== 'ready') return why;
      for (const { portal, connection } of queues) {
        if (connection.status !== 'ready') why.set(portal, 'its account of Redis does not log in');
      }
      return why;
    },
    async close() {
      redis.disconnect();
      waiting.disconnect();
      for (const { connection } of queues) connection.disconnect();
      await Promise.allSettled(queues.map(({ worker }) => worker.close(true)));
    },
  };
}

/** An answer of Redis, or of a script of BullMQ, as opposed to a lost connection. */
function isAnswer(error: unknown): boolean {
  const { name, code } = (error ?? {}) as { name?: unknown; code?: unknown };
  return name === 'ReplyError' || typeof code === 'number';
}
