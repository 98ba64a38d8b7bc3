/**
 * What BullMQ keeps of a queue in Redis, and how that is read and removed without BullMQ: its scripts follow
 * whatever a portal has written into a job, and fail if a key is of another type.
 */
import type { Redis } from 'ioredis';

/** The key of a part of a queue, or of a job by its id (`Queue.toKey` of BullMQ). */
export type ToKey = (part: string) => string;

/** Parts of a queue, and the type of each (BullMQ 5 and 6). */
const TYPES: Record<string, string> = {
  ...{ wait: 'list', active: 'list', paused: 'list' },
  ...{ prioritized: 'zset', delayed: 'zset', completed: 'zset', failed: 'zset', marker: 'zset' },
  ...{ 'waiting-children': 'zset' },
  ...{ meta: 'hash', events: 'stream', stalled: 'set' },
  ...{ pc: 'string', limiter: 'string', id: 'string' },
};

/** The parts of a queue that hold ids of jobs. */
export const JOB_LISTS = ['wait', 'active', 'paused'];
export const JOB_SETS = ['prioritized', 'delayed', 'completed', 'failed', 'waiting-children'];

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

/** Removes the parts of a queue that are of another type than BullMQ's; returns how many. */
export async function mendTypes(redis: Redis, toKey: ToKey): Promise<number> {
  const parts = Object.keys(TYPES);
  const queries = redis.pipeline();
  for (const part of parts) queries.type(toKey(part));
  const types = results<string>(await queries.exec());
  const wrong = parts.filter((part, n) => types[n] !== 'none' && types[n] !== TYPES[part]);
  if (wrong.length > 0) await redis.unlink(...wrong.map(toKey));
  return wrong.length;
}

/** Removes jobs wherever they are, without reading them. */
export async function removeJobs(
  redis: Redis,
  toKey: ToKey,
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
