/**
 * The queues: with redis-connection.ts the one place that speaks to Redis and BullMQ.
 *
 * Nothing in Redis is the truth. Jobs of the roles say who, never what, and may be lost, doubled or
 * reordered; jobs of portals are requests without a verdict yet; jobs for portals are copies of
 * rows. So no job has attempts, backoff or BullMQ's deduplication (measured: a job that is added
 * during a backoff is swallowed by deduplication).
 */
import { Queue, WaitingError, Worker, type Job } from 'bullmq';
import type { Redis } from 'ioredis';
import { ChamberlainError } from '../errors.ts';
import {
  connectConsumer,
  connectProducer,
  type RedisAccount,
  type RedisPlace,
} from './redis-connection.ts';

/** Queue names. `requests.urgent` takes only what takes access away. */
export const REQUESTS = 'requests';
export const REQUESTS_URGENT = 'requests.urgent';
/** The queue of a role for what may take hours, so that nothing else waits for it. */
export const slowQueue = (role: string): string => `${role}.slow`;
/** The queue of a role for what takes access away: however much of it there is, nothing else waits for it. */
export const urgentQueue = (role: string): string => `${role}.urgent`;
/** The queue that a portal reads. */
export const eventsQueue = (portal: string): string => `events.${portal}`;

/** So long a job that has ended is kept, for whoever waits for it. */
const ENDED_AGE_SECONDS = 3600;

/** The key that is gone when Redis has lost its data. */
const MARK = 'chamberlain:mark';

const DURABLE = { removeOnComplete: false, removeOnFail: false, attempts: 1 } as const;
const PASSING = { removeOnComplete: true, removeOnFail: true, attempts: 1 } as const;

/** What can be done with queues without working on them. Every call may throw BACKEND_UNAVAILABLE. */
export interface Queues {
  /** Puts a signed request into its queue. */
  addRequest(token: string, urgent: boolean): Promise<void>;
  /**
   * Puts jobs into a role's queues, each for some subjects. Of what is urgent the last comes first, but for
   * what has failed before: that comes after whoever was not tried yet.
   */
  addSubjects(
    role: string,
    jobs: readonly { subjects: readonly number[]; urgent: boolean; failing?: boolean }[],
  ): Promise<void>;
  /**
   * Puts subjects whose turn may be hours away into a role's slow queue, or, so that they are shut out
   * meanwhile, into its urgent one: a job each; one that lies there already is not doubled.
   */
  addSlow(role: string, subjects: readonly number[], into?: 'slow' | 'urgent'): Promise<void>;
  /** Asks a role for its parts of a repair, some subjects a job; what is not of a repair comes before. */
  addRepair(role: string, repair: string, jobs: readonly (readonly number[])[]): Promise<void>;
  /** Asks a role for a survey: before all else, or, in the background, when its turn comes. */
  addSurvey(role: string, survey: string, pace?: 'prompt' | 'background'): Promise<void>;
  /**
   * Puts events into a portal's queue, in order, all or none: none where Redis has lost its data
   * since `hasKept` looked, so that no event comes before those that were lost. One that lies there
   * already is left as it is. One call at a time.
   */
  addEvents(
    portal: string,
    events: readonly { seq: number; id: string; event: string; data: Record<string, unknown> }[],
  ): Promise<void>;
  /** Writes events anew where they lie in a portal's queue; one that is not there is left out. */
  rewriteEvents(
    portal: string,
    events: readonly { seq: number; id: string; data: Record<string, unknown> }[],
  ): Promise<void>;
  /** Removes requests that ended an hour ago, and their tokens with them: by itself the next to end does it. */
  forgetRequests(): Promise<void>;
  /**
   * The lowest number among a portal's events in Redis that is not completed, or undefined where
   * every one is. Puts failed ones back into the queue, and removes completed ones.
   */
  lowestUncompleted(portal: string): Promise<number | undefined>;
  /**
   * Whether Redis has kept what was put into it since the last call: it still holds the mark that
   * this process has set, and has not been started anew (a crash may lose its last second). False
   * at the first call; the mark is then set.
   */
  hasKept(): Promise<boolean>;
  /** What an operator should change about Redis, a sentence each: that it keeps what it is given. */
  settingsToMend(): Promise<string[]>;
  close(): Promise<void>;
}

/** Opens the queues for adding and looking. `mark` is a text that no other process uses. */
export function openQueues(config: RedisPlace, account: RedisAccount, mark: string): Queues {
  const redis = connectProducer(config, account);
  // Of its own, since one at a time is added between WATCH and EXEC. BullMQ adds in a pipeline; as a
  // transaction it is refused whole where Redis has lost its data since it was looked at.
  const fenced = connectProducer(config, account);
  fenced.pipeline = fenced.multi.bind(fenced) as typeof fenced.pipeline;
  let startedBefore: string | undefined;
  const queues = new Map<string, Queue>();
  const queue = (name: string, connection = redis): Queue => {
    let found = queues.get(name);
    if (found === undefined) {
      found = new Queue(name, {
        connection,
        skipWaitingForReady: true,
        skipVersionCheck: true,
      });
      found.on('error', () => {});
      queues.set(name, found);
    }
    return found;
  };
  const guarded = async <T>(act: string, run: () => Promise<T>): Promise<T> => {
    try {
      return await run();
    } catch (cause) {
      // what was not answered may lie in the connection still, and would be done by and by
      if (/timed out/.test((cause as Error).message)) {
        redis.disconnect(true);
        fenced.disconnect(true);
      }
      throw new ChamberlainError('BACKEND_UNAVAILABLE', act, { cause });
    }
  };
  return {
    addRequest: (token, urgent) =>
      guarded('putting a request into its queue', async () => {
        await queue(urgent ? REQUESTS_URGENT : REQUESTS).add('request', { token }, { attempts: 1 });
      }),
    addSubjects: (role, jobs) =>
      guarded(`putting subjects into the queue ${role}`, async () => {
        for (const isUrgent of [true, false]) {
          const of = jobs.filter(({ urgent }) => urgent === isUrgent);
          if (of.length === 0) continue;
          await queue(isUrgent ? urgentQueue(role) : role).addBulk(
            of.map(({ subjects, failing = false }) => ({
              name: 'converge',
              data: { subjects },
              opts: isUrgent && !failing ? { ...PASSING, lifo: true } : PASSING,
            })),
          );
        }
      }),
    addSlow: (role, subjects, into = 'slow') =>
      guarded(`putting subjects into the queue ${role}.${into}`, async () => {
        await queue(into === 'slow' ? slowQueue(role) : urgentQueue(role)).addBulk(
          subjects.map((subject) => ({
            name: 'converge',
            data: { subjects: [subject] },
            // added again as long as it takes: BullMQ ignores the id of a job that it has
            opts: { ...PASSING, jobId: `subject-${subject}` },
          })),
        );
      }),
    addRepair: (role, repair, jobs) =>
      guarded(`putting a repair into the queue ${role}`, async () => {
        await queue(role).addBulk(
          jobs.map((subjects) => ({
            name: 'repair',
            data: { repair, subjects },
            // any priority comes after none (BullMQ)
            opts: { ...PASSING, priority: 1 },
          })),
        );
      }),
    addSurvey: (role, survey, pace = 'prompt') =>
      guarded(`putting a survey into the queue ${role}`, async () => {
        const options = { ...PASSING, ...(pace === 'prompt' ? { lifo: true } : {}) };
        await queue(role).add('survey', { survey }, options);
      }),
    addEvents: (portal, events) =>
      guarded(`putting events into the queue of ${portal}`, async () => {
        await fenced.watch(MARK);
        if ((await fenced.get(MARK)) !== mark) {
          await fenced.unwatch();
          throw new Error('Redis has lost its data');
        }
        await queue(eventsQueue(portal), fenced).addBulk(
          events.map(({ seq, id, event, data }) => ({
            name: event,
            data: { seq, ...data },
            // its own id too: after a restored backup a number may be given once more
            opts: { ...DURABLE, jobId: `e${seq}-${id}` },
          })),
        );
      }),
    rewriteEvents: (portal, events) =>
      guarded(`rewriting events of ${portal}`, async () => {
        for (const { seq, id, data } of events) {
          const job = await queue(eventsQueue(portal)).getJob(`e${seq}-${id}`);
          await job?.updateData({ seq, ...data });
        }
      }),
    forgetRequests: () =>
      guarded('removing requests that ended long ago', async () => {
        for (const name of [REQUESTS, REQUESTS_URGENT]) {
          await queue(name).clean(ENDED_AGE_SECONDS * 1000, 5000, 'completed');
          await queue(name).clean(ENDED_AGE_SECONDS * 1000, 5000, 'failed');
        }
      }),
    lowestUncompleted: (portal) =>
      guarded(`looking at the queue of ${portal}`, async () => {
        const events = queue(eventsQueue(portal), fenced);
        const open = await events.getRanges(
          ['wait', 'active', 'delayed', 'prioritized', 'failed'],
          0,
          -1,
        );
        const lowest = Math.min(...open.map(seqOfJobId));
        await events.retryJobs({ state: 'failed', count: 1000 });
        await events.clean(0, 2000, 'completed');
        return Number.isFinite(lowest) ? lowest : undefined;
      }),
    hasKept: () =>
      guarded('looking whether Redis has kept its data', async () => {
        const before = await redis.set(MARK, mark, 'GET');
        const started = /^run_id:(.*)$/m.exec(await redis.info('server'))?.[1];
        const kept = before === mark && started === startedBefore;
        startedBefore = started;
        return kept;
      }),
    settingsToMend: () => guarded('reading the settings of Redis', () => readSettingsToMend(redis)),
    async close() {
      await Promise.allSettled([...queues.values()].map((each) => each.close()));
      redis.disconnect();
      fenced.disconnect();
    },
  };
}

/** The least that Redis can be told; no job of ours is as long. */
const LONGEST_VALUE_BYTES = 2 ** 20;

async function readSettingsToMend(redis: Redis): Promise<string[]> {
  const settings = await redis.config(
    ...(['GET', 'appendonly', 'maxmemory-policy', 'maxmemory', 'proto-max-bulk-len'] as const),
  );
  const value = (name: string) => settings[settings.indexOf(name) + 1];
  return [
    ...(value('appendonly') === 'yes'
      ? []
      : ['Redis forgets requests without a verdict when it ends: set `appendonly yes`']),
    ...(value('maxmemory-policy') === 'noeviction'
      ? []
      : ['Redis may drop requests when it is full: set `maxmemory-policy noeviction`']),
    ...(value('maxmemory') !== '0'
      ? []
      : ['Redis takes all the memory of its machine: set `maxmemory`, such as `maxmemory 1gb`']),
    ...(Number(value('proto-max-bulk-len')) <= LONGEST_VALUE_BYTES
      ? []
      : ['Redis takes values of any size, of a portal too: set `proto-max-bulk-len 1mb`']),
  ];
}

/** How a Redis stands, and what waits in it. */
export interface RedisHealth {
  version: string;
  /** by its clock, milliseconds since the epoch */
  clock: number;
  /** what an operator should change; undefined where it does not let us see its settings */
  toMend: string[] | undefined;
  usedBytes: number;
  /** 0: no bound */
  mostBytes: number;
  /** jobs that wait, by queue */
  waiting: Map<string, number>;
}

/** Looks at a Redis, and changes nothing. Throws BACKEND_UNAVAILABLE. */
export async function readRedisHealth(
  config: RedisPlace,
  account: RedisAccount,
  queues: readonly string[],
): Promise<RedisHealth> {
  const redis = connectProducer(config, account);
  try {
    const [seconds, microseconds] = (await redis.time()).map(Number) as [number, number];
    const clock = seconds * 1000 + microseconds / 1000;
    const info = `${await redis.info('server')}\n${await redis.info('memory')}`;
    const field = (name: string) => new RegExp(`^${name}:(.*?)\\r?$`, 'm').exec(info)?.[1] ?? '';
    const depths = queues.map(async (queue) => {
      const waits = await redis.llen(`bull:${queue}:wait`);
      return [queue, waits + (await redis.zcard(`bull:${queue}:prioritized`))] as const;
    });
    return {
      version: field('redis_version'),
      clock,
      toMend: await readSettingsToMend(redis).catch(() => undefined),
      usedBytes: Number(field('used_memory')),
      mostBytes: Number(field('maxmemory')),
      waiting: new Map(await Promise.all(depths)),
    };
  } catch (cause) {
    throw new ChamberlainError('BACKEND_UNAVAILABLE', 'looking at Redis', { cause });
  } finally {
    redis.disconnect();
  }
}

function seqOfJobId(id: string): number {
  const seq = /^e(\d+)-/.exec(id)?.[1];
  return seq === undefined ? Number.POSITIVE_INFINITY : Number(seq);
}

/** One job as handlers see it. */
export interface QueueJob {
  name: string;
  data: unknown;
}

export interface ConsumerOptions {
  config: RedisPlace;
  account: RedisAccount;
  queue: string;
  concurrency: number;
  /**
   * Does one job; what it returns is the job's return value. A job whose handler throws is dropped:
   * what it was about is known elsewhere. When `signal` aborts, throw `PutBack` to leave the job.
   */
  handle(job: QueueJob, signal: AbortSignal): Promise<unknown>;
  /** Does a job whose data or options are not JSON; its data is given as it is. Afterwards it is removed. */
  handleUnreadable?(bytes: string): Promise<void>;
  onError: (error: unknown) => void;
  /**
   * No other process works on this queue. What lies among its active jobs was left by one that was
   * killed, and goes back at once; BullMQ would wait until its lock has run out, up to 20 s.
   */
  exclusive?: boolean;
}

/** Thrown by a handler that leaves its job for another to do. */
export class PutBack extends Error {}

export interface Consumer {
  /** Takes no more jobs, aborts the signal after `graceMs`, and returns when all are ended. */
  close(graceMs: number): Promise<void>;
}

/** Starts working on a queue. */
export function startConsumer(options: ConsumerOptions): Consumer {
  const redis = connectConsumer(options.config, options.account);
  const prefix = `bull:${options.queue}`;
  const reclaimed = options.exclusive === true ? reclaimActive() : Promise.resolve();
  async function reclaimActive(): Promise<void> {
    for (const id of await redis.lrange(`${prefix}:active`, 0, -1)) {
      await redis
        .multi()
        .lrem(`${prefix}:active`, 0, id)
        .del(`${prefix}:${id}:lock`)
        .srem(`${prefix}:stalled`, id)
        .rpush(`${prefix}:wait`, id)
        .zadd(`${prefix}:marker`, 0, '0')
        .exec();
    }
  }
  const abort = new AbortController();
  const worker: Worker = new Worker(
    options.queue,
    async (job: Job) => {
      try {
        return await options.handle({ name: job.name, data: job.data as unknown }, abort.signal);
      } catch (error) {
        if (error instanceof PutBack) {
          await job.moveToWait(job.token);
          throw new WaitingError();
        }
        options.onError(error);
        throw error;
      }
    },
    {
      connection: redis,
      autorun: false,
      concurrency: options.concurrency,
      lockDuration: 10_000,
      stalledInterval: 5000,
      maxStalledCount: 20,
      skipVersionCheck: true,
      runRetryDelay: 500,
      // a portal that waits for its job finds the verdict as the return value
      removeOnComplete: { age: ENDED_AGE_SECONDS, count: 5000 },
      removeOnFail: { age: ENDED_AGE_SECONDS, count: 1000 },
    },
  );
  worker.on('error', (error) => {
    if (/^(Syntax|Type)Error$/.test(error.name)) void quarantine();
    else options.onError(error);
  });

  // BullMQ parses a job's bytes as it takes it, and gives up on it when they are not JSON: the job
  // then lies among the active ones, and nobody works on it.
  let asked = false;
  let quarantining = false;
  async function quarantine(): Promise<void> {
    asked = true;
    if (quarantining) return;
    quarantining = true;
    try {
      while (asked) {
        asked = false; // one that is taken meanwhile asks again
        await removeUnreadable();
      }
    } catch (error) {
      options.onError(error);
    } finally {
      quarantining = false;
    }
  }

  async function removeUnreadable(): Promise<void> {
    for (const id of await redis.lrange(`${prefix}:active`, 0, -1)) {
      const fields = await redis.hgetall(`${prefix}:${id}`);
      if (isReadable(fields)) continue;
      await options.handleUnreadable?.(fields.data ?? '');
      await redis
        .multi()
        .lrem(`${prefix}:active`, 0, id)
        .del(`${prefix}:${id}`, `${prefix}:${id}:lock`)
        .srem(`${prefix}:stalled`, id)
        .exec();
    }
  }

  void reclaimed
    .catch(options.onError)
    .then(() => worker.run())
    .catch(options.onError);

  return {
    async close(graceMs) {
      const timer = setTimeout(() => abort.abort(), graceMs);
      // closing waits for the jobs in hand; while Redis is away it would wait for that too
      const closed = worker.close();
      await Promise.race([
        closed,
        new Promise((resolve) => setTimeout(resolve, graceMs + 1000).unref()),
      ]);
      clearTimeout(timer);
      void closed.catch(() => {});
      redis.disconnect();
    },
  };
}

/** Whether BullMQ can take a job, and it is none of its own repeated ones, which we never make. */
function isReadable({ data, opts, parent, progress, rjk }: Record<string, string>): boolean {
  try {
    for (const text of [data, parent, progress]) JSON.parse(text || '{}');
    const options: unknown = JSON.parse(opts || '{}');
    return typeof options === 'object' && options !== null && rjk === undefined;
  } catch {
    return false;
  }
}
