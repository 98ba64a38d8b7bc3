/**
 * What is done to BullMQ's own keys of a queue without BullMQ. Its functions fail if a key is of another type, and
 * follow whatever a portal has written into a job. `Queue.remove` also searches the whole queue for each job: with
 * 100,000 invalid jobs, intake needed 107 ms for each look instead of 5.
 *
 * test/backends/redis/queue-keys.test.ts compares these keys with those that the library writes.
 */
import type { Queue } from 'bullmq';
import type { Redis } from 'ioredis';

/** Parts of a queue, and the type of each (BullMQ 5 and 6). */
export const TYPES: Readonly<Record<string, string>> = {
  ...{ wait: 'list', active: 'list', paused: 'list' },
  ...{ prioritized: 'zset', delayed: 'zset', completed: 'zset', failed: 'zset', marker: 'zset' },
  ...{ 'waiting-children': 'zset' },
  ...{ meta: 'hash', events: 'stream', stalled: 'set' },
  ...{ pc: 'string', limiter: 'string', id: 'string' },
};

/** The parts of a queue that hold ids of jobs. */
const JOB_LISTS = ['wait', 'active', 'paused'];
const JOB_SETS = ['prioritized', 'delayed', 'completed', 'failed', 'waiting-children'];

/** The suffixes of a job's keys: the job itself, and what BullMQ keeps with it. */
const JOB_SUFFIXES = [
  '',
  ':lock',
  ':logs',
  ':dependencies',
  ':processed',
  ':failed',
  ':unsuccessful',
];

/** Token of a job that is fetched without a lock (BullMQ). */
export const NO_LOCK = '0';

/** The key of the lock that a worker has on a job. */
export function lockOf(queue: Queue, id: string): string {
  return queue.toKey(`${id}:lock`);
}

/** The list to which BullMQ 5 moves the jobs of a paused queue. The functions of BullMQ 6 do not list or count them. */
export function pausedOf(queue: Queue): string {
  return queue.toKey('paused');
}

/** Removes the parts of a queue that are of another type than BullMQ's; returns how many. */
export async function mendTypes(redis: Redis, { toKey }: Queue): Promise<number> {
  const parts = Object.keys(TYPES);
  const queries = redis.pipeline();
  for (const part of parts) queries.type(toKey(part));
  const types = results<string>(await queries.exec());
  const wrong = parts.filter((part, n) => types[n] !== 'none' && types[n] !== TYPES[part]);
  if (wrong.length > 0) await redis.unlink(...wrong.map(toKey));
  return wrong.length;
}

/** Removes jobs wherever they are, locked or not, without reading them. */
export async function removeJobs(
  redis: Redis,
  { toKey }: Queue,
  ids: readonly string[],
): Promise<void> {
  if (ids.length === 0) return;
  const removing = redis
    .multi()
    .unlink(...ids.flatMap((id) => JOB_SUFFIXES.map((part) => toKey(`${id}${part}`))));
  for (const id of ids) {
    // most are at the end from which the next is taken: searching from there is short
    for (const part of JOB_LISTS) removing.lrem(toKey(part), -1, id);
  }
  for (const part of JOB_SETS) removing.zrem(toKey(part), ...ids);
  results(await removing.exec());
}

/** The answers to the commands of a pipeline. Throws the first error. */
export function results<T>(answers: [Error | null, unknown][] | null): T[] {
  return (answers ?? []).map(([error, value]) => {
    if (error !== null) throw error;
    return value as T;
  });
}

/**
 * The same, of keys that a portal may have written: undefined where the key is of another type. Throws any other error,
 * so that a command without an answer says nothing about its key.
 */
export function resultsOfType<T>(answers: [Error | null, unknown][] | null): (T | undefined)[] {
  const isOther = (error: Error | null) => error?.message.startsWith('WRONGTYPE') === true;
  return results(
    (answers ?? []).map(([error, value]) => (isOther(error) ? [null, undefined] : [error, value])),
  );
}
