/**
 * The queues: with redis-connection.ts the one place that speaks to Redis and BullMQ.
 *
 * The queues of the roles, and adding to any. Taking requests is src/backends/redis/request-inbox.ts, giving events
 * to portals src/backends/redis/event-outbox.ts.
 *
 * Nothing in Redis is the truth. Jobs of the roles say who, never what, and may be lost, doubled or
 * reordered; jobs of portals are requests without a verdict yet; jobs for portals are copies of
 * rows. So no job has attempts, backoff or BullMQ's deduplication (measured: a job that is added
 * during a backoff is swallowed by deduplication).
 */
import { Queue, WaitingError, Worker, type Job } from 'bullmq';
import type { Redis } from 'ioredis';
import type { RequestNews } from '../../requests/request-news.ts';
import {
  connectConsumer,
  connectProducer,
  guardRedis,
  type RedisAccount,
  type RedisPlace,
} from './redis-connection.ts';

/** The queues that a portal writes; the urgent one takes only what takes access away. */
export const requestsQueue = (portal: string, urgent: boolean): string =>
  urgent ? `requests.urgent.${portal}` : `requests.${portal}`;
/** The queue of a role for what may take hours, so that nothing else waits for it. */
export const slowQueue = (role: string): string => `${role}.slow`;
/** The queue of a role for what takes access away: however much of it there is, nothing else waits for it. */
export const urgentQueue = (role: string): string => `${role}.urgent`;
/** The queue that a portal reads. */
export const eventsQueue = (portal: string): string => `events.${portal}`;
/** Where the relay writes for a portal how a request of it stands; among the keys of its queue, which it may read. */
export const newsKey = (portal: string, request: string): string =>
  `bull:${requestsQueue(portal, false)}:news:${request}`;

const PASSING = { removeOnComplete: true, removeOnFail: true, attempts: 1 } as const;

/** What can be done with queues without working on them. Every call may throw BACKEND_UNAVAILABLE. */
export interface Queues {
  /** Puts a signed request into its portal's queue. Of what it throws, `mayHaveArrived` says whether it may lie there. */
  addRequest(portal: string, token: string, urgent: boolean): Promise<SentRequest>;
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
  /** What an operator should change about Redis, a sentence each: that it keeps what it is given. */
  settingsToMend(): Promise<string[]>;
  /** Throws where Redis does not answer. */
  ping(): Promise<unknown>;
  close(): Promise<void>;
}

/** A request that lies in its queue. */
export interface SentRequest {
  /** Why intake found the job invalid; undefined where it has a verdict, or was not looked at yet. */
  readRefusal(): Promise<{ code: string; sentence: string } | undefined>;
  /** The verdict, by the rights of the portal; undefined where there is none yet. */
  readVerdict(): Promise<{ verdict: string; code?: string; sentence?: string } | undefined>;
  /** How it stands since, by its id; undefined where nothing is told yet. */
  readNews(id: string): Promise<Pick<RequestNews, 'event' | 'code' | 'data'> | undefined>;
}

/** Opens the queues for adding and looking. */
export function openQueues(config: RedisPlace, account: RedisAccount): Queues {
  const redis = connectProducer(config, account);
  const queues = new Map<string, Queue>();
  const queue = (name: string): Queue => {
    let found = queues.get(name);
    if (found === undefined) {
      found = new Queue(name, {
        connection: redis,
        skipWaitingForReady: true,
        skipVersionCheck: true,
      });
      found.on('error', () => {});
      queues.set(name, found);
    }
    return found;
  };
  const guarded = guardRedis(redis);
  return {
    addRequest: (portal, token, urgent) =>
      noteArrival(redis, () =>
        guarded('putting a request into its queue', async () => {
          const requests = queue(requestsQueue(portal, urgent));
          const job = await requests.add('request', { token }, { attempts: 1 });
          const key = requests.toKey(job.id as string);
          return {
            readRefusal: () =>
              guarded('looking at a request in its queue', async () => {
                const [, code, sentence] =
                  /^([A-Z_]+): (.*)$/su.exec((await redis.hget(key, 'failedReason')) ?? '') ?? [];
                return code === undefined || sentence === undefined
                  ? undefined
                  : { code, sentence };
              }),
            readVerdict: () =>
              guarded('reading a verdict', async () =>
                parseOrNothing(await redis.hget(key, 'returnvalue')),
              ) as ReturnType<SentRequest['readVerdict']>,
            readNews: (id) =>
              guarded('reading how a request stands', async () =>
                parseOrNothing(await redis.get(newsKey(portal, id))),
              ) as ReturnType<SentRequest['readNews']>,
          };
        }),
      ),
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
    settingsToMend: () => guarded('reading the settings of Redis', () => readSettingsToMend(redis)),
    ping: () => guarded('looking at Redis', () => redis.ping()),
    async close() {
      await Promise.allSettled([...queues.values()].map((each) => each.close()));
      redis.disconnect();
    },
  };
}

const perhapsArrived = new WeakSet<object>();

/** Whether Redis may have done what ended in that error. */
export function mayHaveArrived(error: unknown): boolean {
  return perhapsArrived.has(error as object);
}

/** Until its connection is ready nothing is sent; and what Redis refuses it has not done. */
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

function parseOrNothing(text: string | null): unknown {
  return text === null ? undefined : JSON.parse(text);
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
    return await guardRedis(redis)('looking at Redis', async () => {
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
   * Does one job; what it returns is the job's return value. A job whose handler throws is dropped:
   * what it was about is known elsewhere. When `signal` aborts, throw `PutBack` to leave the job.
   */
  handle(job: QueueJob, signal: AbortSignal): Promise<unknown>;
  onError: (error: unknown) => void;
}

/** Pause after Redis has refused something. */
const AFTER_REFUSAL_MS = 500;

/** Thrown by a handler that leaves its job for another to do. */
class PutBack extends Error {}

export interface Consumer {
  /** Takes no more jobs, aborts the signal after `graceMs`, and returns when all are ended. */
  close(graceMs: number): Promise<void>;
}

/** Starts working on a queue. */
export function startConsumer(options: ConsumerOptions): Consumer {
  const redis = connectConsumer(options.config, options.account);
  const prefix = `bull:${options.queue}`;
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
      removeOnComplete: { count: 0 },
      removeOnFail: { count: 0 },
    },
  );
  worker.on('error', (error) => {
    if (/^(Syntax|Type)Error$/.test(error.name)) void quarantine();
    else {
      options.onError(error);
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
      await redis
        .multi()
        .lrem(`${prefix}:active`, 0, id)
        .del(`${prefix}:${id}`, `${prefix}:${id}:lock`)
        .srem(`${prefix}:stalled`, id)
        .exec();
    }
  }

  void worker.run().catch(options.onError);

  return {
    async close(graceMs) {
      const timer = setTimeout(() => abort.abort(), graceMs);
      clearTimeout(resting);
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
