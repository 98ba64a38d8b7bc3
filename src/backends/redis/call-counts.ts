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
   * A caller with few calls does not wait for Redis: several processes may together let pass what comes in the same
   * moment.
   *
   * If Redis is away or slow, the call is not counted, and may go on: reads need only PostgreSQL, and the count only
   * keeps one caller from using up what all share. Whoever sends a request needs Redis anyway.
   */
  count(who: string, mostPerMinute: number): Promise<number>;
  close(): void;
}

/** While a caller is below this share of what it may do, its calls are counted afterwards, and do not wait for it. */
const TRUSTED_SHARE = 0.5;
/** How long such calls are gathered: one command for each would take a good part of the time of a read. */
const GATHER_MS = 10;

/** A caller in a window of time. */
interface Counted {
  /** how many calls of others there were when Redis said it last; undefined: it has not said so yet */
  others: number | undefined;
  ours: number;
  /** calls that are counted by the next command */
  batch: Batch | undefined;
}

interface Batch {
  calls: number;
  send(): void;
  /** how many calls of this window there were with these; undefined if Redis has not said so in time */
  counted: Promise<number | undefined>;
}

export function openCallCounts(config: RedisPlace): CallCounts {
  const redis = connectProducer(config, 'api');
  let window = 0;
  let callers = new Map<string, Counted>();

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
  async function addInTime(key: string, calls: number): Promise<number | undefined> {
    let timer: NodeJS.Timeout | undefined;
    const late = new Promise<undefined>((resolve) => {
      timer = setTimeout(() => resolve(undefined), PATIENCE_MS);
    });
    const count = await Promise.race([add(key, calls), late]);
    clearTimeout(timer);
    return count;
  }
  function openBatch(key: string, caller: Counted): Batch {
    const sent = Promise.withResolvers<void>();
    const timer = setTimeout(sent.resolve, GATHER_MS);
    const batch: Batch = {
      calls: 0,
      send: () => setImmediate(sent.resolve),
      counted: sent.promise.then(async () => {
        clearTimeout(timer);
        caller.batch = undefined;
        const { ours } = caller;
        const count = await addInTime(key, batch.calls);
        if (count !== undefined) caller.others = Math.max(0, count - ours);
        return count;
      }),
    };
    return batch;
  }

  return {
    async count(who, mostPerMinute) {
      if (redis.status !== 'ready') return 0;
      const now = Date.now() / 1000;
      const present = Math.floor(now / WINDOW_SECONDS);
      if (present !== window) [window, callers] = [present, new Map()];
      const caller = callers.get(who) ?? { others: undefined, ours: 0, batch: undefined };
      callers.set(who, caller);
      const most = Math.max(1, (mostPerMinute * WINDOW_SECONDS) / 60);
      const batch = (caller.batch ??= openBatch(`api:calls:${who}:${window}`, caller));
      caller.ours += 1;
      batch.calls += 1;
      const isTrusted = (caller.others ?? Infinity) + caller.ours <= most * TRUSTED_SHARE;
      if (isTrusted) return 0;
      batch.send();
      const nth = batch.calls;
      const counted = await batch.counted;
      if (counted === undefined) return 0;
      const calls = counted - batch.calls + nth;
      if (calls <= most) return 0;
      return Math.ceil((present + 1) * WINDOW_SECONDS - now);
    },
    close: () => redis.disconnect(),
  };
}
