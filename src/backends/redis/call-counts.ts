/** Counts the calls of the API in Redis, so that all its processes count together. */
import { connectProducer, type RedisPlace } from './redis-connection.ts';

/** Calls are counted over this time. */
const WINDOW_SECONDS = 10;
/** Redis counts within this time, or the call is not counted: nobody waits for it. */
const PATIENCE_MS = 100;

export interface CallCounts {
  /**
   * Counts a call. Returns for how many seconds its caller must wait, or 0.
   *
   * If Redis is away or slow, the call is not counted, and may go on: reads need only PostgreSQL, and the count only
   * keeps one caller from using up what all share. Whoever sends a request needs Redis anyway.
   */
  count(who: string, mostPerMinute: number): Promise<number>;
  close(): void;
}

/** Calls of the same moment are counted by one command: one for each would take a good part of the time of a read. */
interface Batch {
  calls: number;
  /** how many calls of this window there were with these; undefined if Redis has not said so in time */
  counted: Promise<number | undefined>;
}

export function openCallCounts(config: RedisPlace): CallCounts {
  const redis = connectProducer(config, 'api');
  const batches = new Map<string, Batch>();

  async function add(key: string, calls: number): Promise<number | undefined> {
    try {
      const count = await redis.incrby(key, calls);
      // the first of a window says when it ends
      if (count === calls) redis.pexpire(key, 2000 * WINDOW_SECONDS).catch(() => {});
      return count;
    } catch (error) {
      // without this the counts that Redis does not answer would stay in the connection
      if (/timed out/u.test((error as Error).message)) redis.disconnect(true);
      return undefined;
    }
  }
  async function countSoon(key: string): Promise<number | undefined> {
    await new Promise(setImmediate);
    const { calls } = batches.get(key) as Batch;
    batches.delete(key);
    let timer: NodeJS.Timeout | undefined;
    const late = new Promise<undefined>((resolve) => {
      timer = setTimeout(() => resolve(undefined), PATIENCE_MS);
    });
    const count = await Promise.race([add(key, calls), late]);
    clearTimeout(timer);
    return count;
  }

  return {
    async count(who, mostPerMinute) {
      if (redis.status !== 'ready') return 0;
      const now = Date.now() / 1000;
      const window = Math.floor(now / WINDOW_SECONDS);
      const key = `api:calls:${who}:${window}`;
      const batch = batches.get(key) ?? { calls: 0, counted: countSoon(key) };
      batches.set(key, batch);
      batch.calls += 1;
      const nth = batch.calls;
      const counted = await batch.counted;
      if (counted === undefined) return 0;
      const calls = counted - batch.calls + nth;
      if (calls <= (mostPerMinute * WINDOW_SECONDS) / 60) return 0;
      return Math.ceil((window + 1) * WINDOW_SECONDS - now);
    },
    close: () => redis.disconnect(),
  };
}
