/**
 * The queues: with redis-connection.ts, the only place that speaks to Redis and BullMQ.
 *
 * This file has the queues of the roles, and adds to any queue. src/backends/redis/request-inbox.ts takes
 * requests, src/backends/redis/event-outbox.ts delivers events to portals.
 *
 * Nothing in Redis is the source of truth. Jobs of the roles name subjects, never what to do, and may be lost,
 * doubled or reordered. Jobs of portals are requests without a verdict yet. Jobs for portals are copies of
 * rows. So no job uses attempts, backoff or BullMQ's deduplication (measured: deduplication swallows a job that
 * is added during a backoff).
 */
import { type Job, Queue, type QueueOptions, WaitingError, Worker } from 'bullmq';
import type { Redis } from 'ioredis';
import type { RequestNews } from '../../events/deliveries.ts';
import { type Outage, openOutage } from './outage.ts';
import { removeJobs } from './queue-keys.ts';
import {
  connectConsumer,
  connectProducer,
  guardRedis,
  type RedisAccount,
  type RedisPlace,
  type Guard,
} from './redis-connection.ts';

/** The queues that a portal writes; the urgent one accepts only requests that take access away. */
export const requestsQueue = (portal: string, urgent: boolean): string =>
  urgent ? `requests.urgent.${portal}` : `requests.${portal}`;
/** The queue of a role for work that may take hours, so that nothing else waits for it. */
export const slowQueue = (role: string): string => `${role}.slow`;
/**
 * The queue of a role for work that takes access away: however much of it there is, nothing else waits for it.
 */
export const urgentQueue = (role: string): string => `${role}.urgent`;
/** The queue that a portal reads. */
export const eventsQueue = (portal: string): string => `events.${portal}`;
/** Where the API writes which event a portal has that finds none waiting: the relay may have to go back to it. */
export const positionKey = (portal: string): string => `bull:${eventsQueue(portal)}:position`;
/**
 * Where the relay writes the status of a request for its portal, among the keys of the portal's queue, which it
 * may read.
 */
export const newsKey = (portal: string, request: string): string =>
  `bull:${requestsQueue(portal, false)}:news:${request}`;

const PASSING = { removeOnComplete: true, removeOnFail: true, attempts: 1 } as const;
/** A job with a priority comes after all without one (BullMQ). */
const LAST = { ...PASSING, priority: 1 } as const;

/** What can be done with queues without working on them. Every call may throw BACKEND_UNAVAILABLE. */
export interface Queues {
  /**
   * Adds a signed request to its portal's queue. If it throws, `mayHaveArrived` says whether the request may be
   * in the queue.
   */
  addRequest(portal: string, token: string, urgent: boolean): Promise<SentRequest>;
  /**
   * Adds jobs to a role's queues, each for some subjects. In the urgent queue the last one comes first, except
   * what has failed before: that comes after everything that was not tried yet. Parts of repairs come last.
   */
  addSubjects(
    role: string,
    jobs: readonly {
      subjects: readonly number[];
      urgent?: boolean;
      failing?: boolean;
      repair?: boolean;
    }[],
  ): Promise<void>;
  /**
   * Adds subjects to a role's slow queue, where they may wait for hours, or to its urgent one, so that they
   * lose access meanwhile. Each is a job of its own; one that is already in the queue is not doubled. Parts of
   * repairs come last.
   */
  addSlow(
    role: string,
    subjects: readonly number[],
    into?: 'slow' | 'urgent',
    options?: { repair: boolean },
  ): Promise<void>;
  /** Asks a role for a survey: before everything else, or, in the background, when its turn comes. */
  addSurvey(role: string, survey: string, pace?: 'prompt' | 'background'): Promise<void>;
  /** What an operator should change in Redis so that it keeps its data, one sentence each. */
  settingsToMend(): Promise<string[]>;
  /** Throws if Redis does not answer. */
  ping(): Promise<unknown>;
  close(): Promise<void>;
}

/** Neither, if intake has not examined the job yet. */
export interface Answer {
  verdict?: { verdict: string; code?: string; sentence?: string };
  /** why the job is invalid */
  refusal?: { code: string; sentence: string };
}

/** A request in its queue. */
export interface SentRequest {
  /** What intake has said, by the rights of the portal. */
  readAnswer(): Promise<Answer>;
  /** Its status since then, by its id; undefined if none was reported yet. */
  readNews(id: string): Promise<Pick<RequestNews, 'event' | 'code' | 'data'> | undefined>;
}

/** A queue on a connection that is there already. Opening it writes nothing. */
export function openQueue(redis: Redis, name: string, options?: Partial<QueueOptions>): Queue {
  const skip = { skipWaitingForReady: true, skipVersionCheck: true, skipMetasUpdate: true };
  const queue = new Queue(name, { connection: redis, ...skip, ...options });
  queue.on('error', () => {});
  return queue;
}

/** Opens the queues for adding and reading. */
export function openQueues(config: RedisPlace, account: RedisAccount): Queues {
  const redis = connectProducer(config, account);
  const queues = new Map<string, Queue>();
  const queue = (name: string): Queue => {
    const found = queues.get(name) ?? openQueue(redis, name);
    queues.set(name, found);
    return found;
  };
  const guarded = guardRedis(redis);
  return {
    addRequest: (portal, token, urgent) =>
      noteArrival(redis, () =>
        guarded('adding a request to its queue', async () => {
          const requests = queue(requestsQueue(portal, urgent));
          const job = await requests.add('request', { token }, { attempts: 1 });
          return sentRequest({ redis, guarded, requests }, job.id as string, portal);
        }),
      ),
    addSubjects: (role, jobs) =>
      guarded(`adding subjects to the queue of the role ${role}`, async () => {
        for (const isUrgent of [true, false]) {
          const of = jobs.filter(({ urgent = false }) => urgent === isUrgent);
          if (of.length === 0) continue;
          await queue(isUrgent ? urgentQueue(role) : role).addBulk(
            of.map(({ subjects, failing = false, repair = false }) => ({
              name: repair ? 'repair' : 'converge',
              data: { subjects },
              opts: repair ? LAST : isUrgent && !failing ? { ...PASSING, lifo: true } : PASSING,
            })),
          );
        }
      }),
    addSlow: (role, subjects, into = 'slow', { repair } = { repair: false }) =>
      guarded(`adding subjects to the ${into} queue of the role ${role}`, async () => {
        await queue(into === 'slow' ? slowQueue(role) : urgentQueue(role)).addBulk(
          subjects.map((subject) => ({
            name: repair ? 'repair' : 'converge',
            data: { subjects: [subject] },
            // added again and again while it takes: BullMQ ignores the id of a job that it has
            opts: repair
              ? { ...LAST, jobId: `repair-${subject}` }
              : { ...PASSING, jobId: `subject-${subject}` },
          })),
        );
      }),
    addSurvey: (role, survey, pace = 'prompt') =>
      guarded(`adding a survey to the queue of the role ${role}`, async () => {
        const options = { ...PASSING, ...(pace === 'prompt' ? { lifo: true } : {}) };
        await queue(role).add('survey', { survey }, options);
      }),
    settingsToMend: () => guarded('reading the settings of Redis', () => readSettingsToMend(redis)),
    ping: () => guarded('reaching Redis', () => redis.ping()),
    async close() {
      await Promise.allSettled([...queues.values()].map((each) => each.close()));
      redis.disconnect();
    },
  };
}

function sentRequest(
  { redis, guarded, requests }: { redis: Redis; guarded: Guard; requests: Queue },
  job: string,
  portal: string,
): SentRequest {
  return {
    readAnswer: () =>
      guarded('reading a request in its queue', async () => {
        const { failedReason = '', returnvalue: verdict } = (await requests.getJob(job)) ?? {};
        if (verdict) return { verdict };
        const [, code, sentence] = /^([A-Z_]+): (.*)$/su.exec(failedReason) ?? [];
        return code === undefined || sentence === undefined ? {} : { refusal: { code, sentence } };
      }),
    readNews: (id) =>
      guarded('reading the status of a request', async () => {
        const text = await redis.get(newsKey(portal, id));
        return text === null ? undefined : JSON.parse(text);
      }) as ReturnType<SentRequest['readNews']>,
  };
}

const perhapsArrived = new WeakSet<object>();

/** Whether Redis may have done what ended in that error. */
export function mayHaveArrived(error: unknown): boolean {
  return perhapsArrived.has(error as object);
}

/** Nothing is sent until the connection is ready, and a command that Redis refuses has not been done. */
async function noteArrival<T>(redis: Redis, send: () => Promise<T>): Promise<T> {
  let isSent = redis.status === 'ready';
  const onReady = () => (isSent = true);
  redis.on('ready', onReady);
  try {
    return await send();
  } catch (error) {
    const { cause } = error as { cause?: { name?: string } };
    if (isSent && cause?.name !== 'ReplyError') perhapsArrived.add(error as object);
    throw error;
  } finally {
    redis.off('ready', onReady);
  }
}

/** The lowest value that Redis accepts for this; none of our jobs is as long. */
const LONGEST_VALUE_BYTES = 2 ** 20;

async function readSettingsToMend(redis: Redis): Promise<string[]> {
  const settings = await redis.config(
    ...(['GET', 'appendonly', 'maxmemory-policy', 'maxmemory', 'proto-max-bulk-len'] as const),
  );
  const value = (name: string) => settings[settings.indexOf(name) + 1];
  return [
    ...(value('appendonly') === 'yes'
      ? []
      : ['Redis loses requests without a verdict when it restarts: set `appendonly yes`']),
    ...(value('maxmemory-policy') === 'noeviction'
      ? []
      : ['Redis may drop requests when it is full: set `maxmemory-policy noeviction`']),
    ...(value('maxmemory') !== '0'
      ? []
      : ['Redis may use all the memory of its machine: set `maxmemory`, such as `maxmemory 1gb`']),
    ...(Number(value('proto-max-bulk-len')) <= LONGEST_VALUE_BYTES
      ? []
      : ['Redis accepts values of any size, from portals, too: set `proto-max-bulk-len 1mb`']),
  ];
}

/** The state of a Redis, and what waits in it. */
export interface RedisHealth {
  version: string;
  /** by its clock, in milliseconds since the epoch */
  clock: number;
  /** what an operator should change; undefined if this account may not read the settings */
  toMend: string[] | undefined;
  usedBytes: number;
  /** 0: no limit */
  mostBytes: number;
  /** waiting jobs, by queue */
  waiting: Map<string, number>;
}

/** Reads the state of a Redis, and changes nothing. Throws BACKEND_UNAVAILABLE. */
export async function readRedisHealth(
  config: RedisPlace,
  account: RedisAccount,
  queues: readonly string[],
): Promise<RedisHealth> {
  const redis = connectProducer(config, account);
  try {
    return await guardRedis(redis)('reading the state of Redis', async () => {
      const [seconds, microseconds] = (await redis.time()).map(Number) as [number, number];
      const clock = seconds * 1000 + microseconds / 1000;
      const info = `${await redis.info('server')}\n${await redis.info('memory')}`;
      const field = (name: string) => new RegExp(`^${name}:(.*?)\\r?$`, 'm').exec(info)?.[1] ?? '';
      const depths = queues.map(async (queue) => {
        const waiting = await openQueue(redis, queue).getJobCountByTypes('wait', 'prioritized');
        return [queue, waiting] as const;
      });
      return {
        version: field('redis_version'),
        clock,
        toMend: await readSettingsToMend(redis).catch(() => undefined),
        usedBytes: Number(field('used_memory')),
        mostBytes: Number(field('maxmemory')),
        waiting: new Map(await Promise.all(depths)),
      };
    });
  } finally {
    redis.disconnect();
  }
}

/** One job as handlers see it. */
interface QueueJob {
  name: string;
  data: unknown;
}

export interface ConsumerOptions {
  config: RedisPlace;
  account: RedisAccount;
  queue: string;
  concurrency: number;
  /**
   * Does one job; its result is the job's return value. A job whose handler throws is dropped, because its
   * subject is recorded elsewhere. When `signal` aborts, throw `PutBack` to leave the job.
   */
  handle(job: QueueJob, signal: AbortSignal): Promise<unknown>;
  /** Hears what an operator should know, with the error; without one, that an outage is over. */
  tell: (sentence: string, error?: unknown) => void;
}

/** Pause after Redis has refused something. */
const AFTER_REFUSAL_MS = 500;

/** Thrown by a handler that leaves its job to another worker. */
class PutBack extends Error {}

export interface Consumer {
  /** Takes no more jobs, aborts the signal after `graceMs`, and returns when all are ended. */
  close(graceMs: number): Promise<void>;
}

/** Starts working on a queue. */
export function startConsumer(options: ConsumerOptions): Consumer {
  const redis = connectConsumer(options.config, options.account);
  const abort = new AbortController();
  const outage = openOutage(redis, options);
  const quarantine = openQuarantine(redis, options, outage);
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
        options.tell('a job was dropped', error);
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
      removeOnComplete: { count: 0 },
      removeOnFail: { count: 0 },
    },
  );
  worker.on('error', (error) => {
    if (isUnreadable(error)) quarantine();
    else {
      outage.note(error);
      rest();
    }
  });

  // BullMQ asks again at once when Redis refuses, as it does while its disk is full: 2,900 times a second
  let resting: NodeJS.Timeout | undefined;
  function rest(): void {
    if (resting !== undefined) return;
    void worker.pause(true);
    resting = setTimeout(() => {
      resting = undefined;
      void worker.resume();
    }, AFTER_REFUSAL_MS);
  }

  void worker.run().catch(outage.note);

  return {
    async close(graceMs) {
      const timer = setTimeout(() => abort.abort(), graceMs);
      clearTimeout(resting);
      outage.close();
      // closing waits for the jobs in progress; while Redis is away it would wait for Redis, too
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

/**
 * BullMQ parses a job's bytes as it takes it, and gives up if they are not JSON: the job is then among the active ones,
 * and nobody works on it. The function that is returned removes such jobs.
 */
function openQuarantine(
  redis: Redis,
  { queue: name, tell }: Pick<ConsumerOptions, 'queue' | 'tell'>,
  outage: Outage,
): () => void {
  const queue = openQueue(redis, name);
  let last = Promise.resolve();
  return () => {
    last = last.then(() => removeUnreadable(redis, queue, tell)).catch(outage.note);
  };
}

async function removeUnreadable(
  redis: Redis,
  queue: Queue,
  tell: ConsumerOptions['tell'],
): Promise<void> {
  for (const id of await queue.getRanges(['active'], 0, -1)) {
    try {
      await queue.getJob(id);
    } catch (error) {
      if (!isUnreadable(error as Error)) throw error;
      await removeJobs(redis, queue, [id]);
      tell('a job was dropped', error);
    }
  }
}

/** Whether BullMQ failed because a job is not JSON, or not of its options. */
function isUnreadable({ name }: Error): boolean {
  return name === 'SyntaxError' || name === 'TypeError';
}
