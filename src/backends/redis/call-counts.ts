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

export function openCallCounts(config: RedisPlace): CallCounts {
  const redis = connectProducer(config, 'api');
  return {
    async count(who, mostPerMinute) {
      if (redis.status !== 'ready') return 0;
      const now = Date.now() / 1000;
      const window = Math.floor(now / WINDOW_SECONDS);
      const key = `api:calls:${who}:${window}`;
      let timer: NodeJS.Timeout | undefined;
      const late = new Promise<void>((resolve) => (timer = setTimeout(resolve, PATIENCE_MS)));
      const counted = redis
        .multi()
        .incr(key)
        .pexpire(key, 2000 * WINDOW_SECONDS)
        .exec()
        .then(
          (answers) => answers?.[0]?.[1],
          (error: Error) => {
            // without this the calls that Redis does not answer would stay in the connection
            if (/timed out/u.test(error.message)) redis.disconnect(true);
          },
        );
      const calls = Number((await Promise.race([counted, late])) ?? 0);
      clearTimeout(timer);
      if (calls <= (mostPerMinute * WINDOW_SECONDS) / 60) return 0;
      return Math.ceil((window + 1) * WINDOW_SECONDS - now);
    },
    close: () => redis.disconnect(),
  };
}
