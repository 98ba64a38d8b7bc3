/** Jobs that wait in a queue that anyone may have written: what they are, and how many there may be. */
import { randomInt } from 'node:crypto';
import type { Queue } from 'bullmq';
import type { Redis } from 'ioredis';
import { isWrongType, type Reading, readIds, results, resultsOfType } from './queue-keys.ts';

/**
 * A job that takes more memory of Redis than this is removed unread: at most 64 KiB of data, and what surrounds
 * it.
 */
const MOST_BYTES = 160 * 1024;
/** This many jobs may wait in one queue, if they fit into its share of this memory, which all portals share. */
const MOST_WAITING = 10_000;
const MOST_WAITING_BYTES = 64 * 2 ** 20;
/** How many are removed in one go from a queue that is too long: Redis is busy with it for 10 ms. */
const MOST_REMOVED = 1000;
/** The size of this many jobs is taken as that of all jobs in the queue. */
const SAMPLE = 16;

/** Fields that BullMQ's `add`, versions 5 and 6, writes into a waiting job that nothing else depends on. */
const FIELDS: ReadonlySet<string> = new Set(
  (
    'name data opts timestamp delay priority atm ats stc processedOn progress pb tm omc ' +
    'failedReason stacktrace returnvalue finishedOn'
  ) // of a job that was put back after it had ended
    .split(' '),
);

/** Those of them that are numbers. */
const NUMBERS = [
  'timestamp',
  'delay',
  'priority',
  'atm',
  'ats',
  'stc',
  'processedOn',
  'finishedOn',
];

/** The parts of a queue in which jobs wait. */
const LISTS = ['wait', 'paused'];
const SETS = ['prioritized', 'delayed'];
/** The ids of jobs that intake can take, and those of jobs that are too large to be read. */
interface Sound extends Set<string> {
  tooLarge: ReadonlySet<string>;
}

/**
 * Finds the jobs that BullMQ can take and end, without reading one that is too large. BullMQ cannot tell the size of a
 * job, and does not show fields that it does not know. Throws if Redis does not say what a job is: whoever removes the
 * others would remove requests.
 */
export async function findSound(
  redis: Redis,
  { toKey }: Queue,
  ids: readonly string[],
): Promise<Sound> {
  // first how many fields there are, because measuring a job takes longer the more it has
  const counting = redis.pipeline();
  for (const id of ids) counting.hlen(toKey(id));
  const lengths = resultsOfType<number>(await counting.exec());
  const hashes = ids.filter((_, n) => {
    const length = lengths[n] ?? 0;
    return length > 0 && length <= FIELDS.size;
  });
  const measuring = redis.pipeline();
  for (const id of hashes) measuring.memory('USAGE', toKey(id), 'SAMPLES', 0);
  const sizes = results<number | null>(await measuring.exec());
  const small = hashes.filter((_, n) => (sizes[n] ?? MOST_BYTES) < MOST_BYTES);
  const reading = redis.pipeline();
  for (const id of small) reading.hgetall(toKey(id));
  const fields = resultsOfType<Record<string, string>>(await reading.exec());
  const sound = new Set(small.filter((_, n) => isSound(fields[n])));
  const tooLarge = new Set(hashes.filter((_, n) => (sizes[n] ?? 0) >= MOST_BYTES));
  return Object.assign(sound, { tooLarge });
}

/**
 * Whether BullMQ can take and end a job, and nothing else depends on it: no parent, no schedule, no
 * deduplication.
 */
function isSound(job: Readonly<Record<string, string>> | undefined): boolean {
  if (job === undefined) return false;
  if (!Object.keys(job).every((field) => FIELDS.has(field))) return false;
  if (!NUMBERS.every((field) => /^\d{1,16}$/u.test(job[field] ?? '0'))) return false;
  try {
    JSON.parse(job.data ?? '');
    JSON.parse(job['progress'] ?? '0');
    const options: unknown = JSON.parse(job.opts ?? '');
    return typeof options === 'object' && options !== null && !Array.isArray(options);
  } catch {
    return false;
  }
}

/**
 * Removes the newest jobs of a queue until it has as many as it may have, or that many are removed; returns how many. How
 * large its jobs are, it estimates from some of each part: the size of each over all its fields (by default, Redis measures
 * the first five and extrapolates), and of its id. It counts the jobs itself: ioredis sends a command again whose answer was
 * lost with its connection.
 */
const SHORTEN = `
local mostJobs, mostBytes, mostRemoved = tonumber(ARGV[1]), tonumber(ARGV[2]), tonumber(ARGV[3])
local fields, sample = ARGV[4], tonumber(ARGV[5])
math.randomseed(tonumber(ARGV[6]))
local total, bytes = 0, 0
local function add(length, ids)
  local sampled = 0
  for _, id in ipairs(ids) do
    sampled = sampled + #id + (redis.call('MEMORY', 'USAGE', KEYS[1] .. id, 'SAMPLES', fields) or 0)
  end
  total = total + length
  bytes = bytes + length * sampled / math.max(1, #ids)
end
for n = 2, 3 do
  local length, ids = redis.call('LLEN', KEYS[n]), {}
  for at = 1, math.min(sample, length) do ids[at] = redis.call('LINDEX', KEYS[n], math.random(0, length - 1)) end
  add(length, ids)
end
for n = 4, 5 do add(redis.call('ZCARD', KEYS[n]), redis.call('ZRANDMEMBER', KEYS[n], sample)) end
local most = math.min(mostJobs, math.floor(mostBytes * total / math.max(1, bytes)))
local surplus = math.min(total - most, mostRemoved)
local removed = 0
local function remove(id)
  redis.call('UNLINK', KEYS[1] .. id)
  removed = removed + 1
end
for n = 2, 3 do
  if removed < surplus then
    for _, id in ipairs(redis.call('LPOP', KEYS[n], surplus - removed) or {}) do remove(id) end
  end
end
for n = 4, 5 do
  if removed < surplus then
    local popped = redis.call('ZPOPMAX', KEYS[n], surplus - removed)
    for at = 1, #popped, 2 do remove(popped[at]) end
  end
end
return removed`;

/**
 * Removes the newest jobs of a queue that is longer than it may be, some at a time; returns how many. With BullMQ's own
 * functions (`getRanges`, `remove`), a flood of 100,000 jobs took 9.6 s instead of 1.4, and each look 100 ms.
 *
 * @param total how many jobs it has
 * @param sharers how many portals have jobs, and so share the memory
 */
export async function removeSurplus(
  redis: Redis,
  { toKey }: Queue,
  total: number,
  sharers: number,
): Promise<number> {
  if (total <= SAMPLE) return 0;
  const share = Math.floor(MOST_WAITING_BYTES / Math.max(1, sharers));
  const keys = ['', ...LISTS, ...SETS].map(toKey);
  const words = [MOST_WAITING, share, MOST_REMOVED, FIELDS.size, SAMPLE, randomInt(2 ** 31)];
  return (await redis.eval(SHORTEN, keys.length, ...keys, ...words)) as number;
}

/** So many delayed jobs of a queue are looked at: those that come next. */
const MOST_DELAYED = 16;

/**
 * When the jobs that come next were added, as their senders say: of each of these ends of a queue the first, and those
 * that intake has tried and lets rest. A job that its sender has delayed is not late. Of each job only two fields are
 * read: it may be of any size.
 */
export async function readOldTimes(
  redis: Redis,
  queue: Queue,
  ends: readonly Omit<Reading, 'most'>[],
): Promise<(string | null)[]> {
  const [delayed = [], ...next] = await Promise.all(
    [{ parts: ['delayed'], most: MOST_DELAYED }, ...ends.map((end) => ({ ...end, most: 1 }))].map(
      async (what) => {
        try {
          return await readIds(redis, queue, what);
        } catch (error) {
          // a portal may have written a value of another type, which is no job
          if (isWrongType(error)) return [];
          throw error;
        }
      },
    ),
  );
  const rested = new Set(delayed);
  const ids = [...new Set([...delayed, ...next.flat()])];
  const reading = redis.pipeline();
  for (const id of ids) reading.hmget(queue.toKey(id), 'timestamp', 'processedOn');
  const fields = resultsOfType<(string | null)[]>(await reading.exec());
  return fields.flatMap(([time = null, tried = null] = [], n) =>
    rested.has(ids[n] as string) && tried === null ? [] : [time],
  );
}
