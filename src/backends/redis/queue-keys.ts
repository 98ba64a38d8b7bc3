/**
 * What is done to BullMQ's own keys of a queue without BullMQ. Its functions fail if a key is of another type, and
 * follow whatever a portal has written into a job. `Queue.remove` also searches the whole queue for each job: with
 * 100,000 invalid jobs, intake needed 107 ms for each look instead of 5.
 *
 * test/backends/redis/queue-keys.test.ts compares these keys with those that the library writes.
 */
import { isUtf8 } from 'node:buffer';
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

/** Wherever a job may be. */
export const JOB_PARTS: readonly string[] = [...JOB_LISTS, ...JOB_SETS];

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

/**
 * A longer id, in bytes, is never read. An entry of a list may be so long that Redis accepts no key that is made of it,
 * and ends the connection on which it is sent.
 */
const LONGEST_ID = 512;

/**
 * Reads ids of some parts of a queue in the order in which jobs are taken (the last of a list first), or from the other
 * end. Long ids are left out or removed with their jobs, here in Redis. Behind one that was removed, no more of its part
 * are read, so that Redis is not busy for long: whoever reads comes again.
 */
const READ_IDS = `
local longest, most, removes, backward = tonumber(ARGV[1]), tonumber(ARGV[2]), ARGV[3] == '1', ARGV[4] == '1'
local chunk = 16
local ids, removed = {}, 0
local function remove(part, isList, id)
  redis.call(isList and 'LREM' or 'ZREM', part, unpack(isList and {-1, id} or {id}))
  for n = 8, #ARGV do redis.call('UNLINK', KEYS[1] .. id .. ARGV[n]) end
  removed = removed + 1
end
for n = 2, #KEYS do
  local part, at, before = KEYS[n], 0, removed
  local isList = ARGV[7]:sub(n - 1, n - 1) == 'L'
  while at < most and removed == before do
    local last = math.min(at + chunk, most) - 1
    local found
    if not isList then found = redis.call('ZRANGEBYSCORE', part, ARGV[5], ARGV[6], 'LIMIT', at, last - at + 1)
    elseif backward then found = redis.call('LRANGE', part, at, last)
    else found = redis.call('LRANGE', part, -last - 1, -at - 1) end
    if #found == 0 then break end
    for each = 1, #found do
      local id = found[(isList and not backward) and #found + 1 - each or each]
      if #id <= longest then ids[#ids + 1] = id
      elseif removes then remove(part, isList, id) end
    end
    at = at + #found
  end
end
return {removed, ids}`;

/** What of the parts of a queue is read. */
export interface Reading {
  parts: readonly string[];
  /** of each part at most */
  most: number;
  /** of a sorted set only these scores, both included */
  scores?: readonly [number, number];
  /** from the end at which jobs are added */
  backward?: boolean;
}

/** Ids, and how many others were removed. */
export interface Cleaned {
  ids: string[];
  removed: number;
}

/**
 * The ids of jobs of a queue into which anyone may have written anything: only those that a key may be made of. Others
 * are left out. Throws WRONGTYPE if a part is of another type.
 */
export async function readIds(redis: Redis, queue: Queue, what: Reading): Promise<string[]> {
  return (await read(redis, queue, what, false)).ids;
}

/**
 * The same, and removes the others, with their jobs; also tells how many. If there were any, there may be more, and jobs
 * behind them that were not read.
 */
export async function cleanIds(redis: Redis, queue: Queue, what: Reading): Promise<Cleaned> {
  const { ids, removed, garbled } = await read(redis, queue, what, true);
  await removeJobs(redis, queue, garbled);
  return { ids, removed: removed + garbled.length };
}

async function read(
  redis: Redis,
  { toKey }: Queue,
  { parts, most, scores = [-Infinity, Infinity], backward = false }: Reading,
  removes: boolean,
) {
  const keys = [toKey(''), ...parts.map(toKey)];
  const words = [
    ...[LONGEST_ID, most, Number(removes), Number(backward)],
    ...scores.map((score) => (Number.isFinite(score) ? score : score > 0 ? '+inf' : '-inf')),
    parts.map((part) => (JOB_LISTS.includes(part) ? 'L' : 'Z')).join(''),
  ];
  const [removed, found] = (await redis.callBuffer(
    ...['EVAL', READ_IDS, keys.length, ...keys, ...words, ...JOB_SUFFIXES],
  )) as [number, Buffer[]];
  // an id whose bytes are not text would not be the same when it is sent back
  const { true: ids = [], false: garbled = [] } = Object.groupBy(found, (id) => `${isUtf8(id)}`);
  return { ids: ids.map(String), garbled, removed };
}

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

/**
 * Removes jobs wherever they are, locked or not, without reading them. An id is one that `cleanIds` lets through, or its
 * bytes.
 */
export async function removeJobs(
  redis: Redis,
  { toKey }: Queue,
  ids: readonly (string | Buffer)[],
): Promise<void> {
  if (ids.length === 0) return;
  const keyOf = (id: string | Buffer, part: string) =>
    Buffer.concat([toKey(''), id, part].map((piece) => Buffer.from(piece as string)));
  const removing = redis
    .multi()
    .unlink(...ids.flatMap((id) => JOB_SUFFIXES.map((part) => keyOf(id, part))));
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
  return results(
    (answers ?? []).map(([error, value]) =>
      isWrongType(error) ? [null, undefined] : [error, value],
    ),
  );
}

/** Whether Redis has said, to a command or in a script, that a key is of another type. */
export function isWrongType(error: unknown): boolean {
  return /\bWRONGTYPE\b/u.test((error as Error | null)?.message ?? '');
}
