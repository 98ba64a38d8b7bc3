/**
 * Connections to Redis, each by the account of the program that opens it.
 *
 * Where the secret of an account is missing, `redis.url` counts as it is: Redis then knows no users of ours.
 */
import { Redis, type RedisOptions } from 'ioredis';
import { adminOfPortal, findSecret, type Config } from '../../shared/config.ts';
import { ChamberlainError, describeError } from '../../shared/errors.ts';

/** What the connection of an account depends on. */
export type RedisPlace = Pick<Config, 'redis' | 'secrets'>;

/** The accounts of Chamberlain's own programs. */
export const REDIS_ACCOUNTS = [
  'intake',
  'relay',
  'directory',
  'homes',
  'databases',
  'sweep',
  'admin',
] as const;

/** Whose rights a connection has; the password is the file `redis-<account>` of the secrets folder. */
export type RedisAccount = (typeof REDIS_ACCOUNTS)[number] | `portal.${string}`;

/**
 * The account by which intake and the relay run BullMQ's scripts on what a portal has written. A job may name keys
 * of others (its parent, its children), and the script then follows them: with the rights of the portal it gets no
 * further than the portal itself. An admin's own key has no user: intake serves it.
 */
export function portalAccount(portal: string): RedisAccount {
  return adminOfPortal(portal) === undefined ? `portal.${portal}` : 'intake';
}

/** The name of an account in Redis: `chamberlain_relay`, or `portal.bridge` of the portal bridge. */
export function redisUser(account: RedisAccount | 'owner'): string {
  return account.startsWith('portal.') ? account : `chamberlain_${account}`;
}

/** A command to Redis that is not answered in this time has failed. */
const COMMAND_TIMEOUT_MS = 4000;
/** Longest pause between two tries to connect, so that work goes on soon after Redis is back. */
const RECONNECT_MS = 500;

/** A connection that fails fast: for adding and looking. Throws CONFIG_INVALID. */
export function connectProducer(config: RedisPlace, account: RedisAccount | 'owner'): Redis {
  return connect(config, account, { maxRetriesPerRequest: 1, commandTimeout: COMMAND_TIMEOUT_MS });
}

/** A connection that waits for Redis as long as it takes: for workers, which block on it. Throws CONFIG_INVALID. */
export function connectConsumer(config: RedisPlace, account: RedisAccount): Redis {
  return connect(config, account, { maxRetriesPerRequest: null });
}

function connect(
  config: RedisPlace,
  account: RedisAccount | 'owner',
  options: RedisOptions,
): Redis {
  const url = new URL(config.redis.url);
  const password = findSecret(config, 'redis', account);
  if (password !== undefined) {
    // ioredis prefers what the URL says
    url.username = '';
    url.password = '';
    Object.assign(options, { username: redisUser(account), password });
  }
  const redis = new Redis(url.href, {
    ...options,
    connectTimeout: 3000,
    // of this connection, or of one that BullMQ has copied from it: the secret may have been changed since
    retryStrategy(this: RedisOptions, times) {
      const now = findSecret(config, 'redis', account);
      if (now !== undefined) this.password = now;
      return Math.min(times * 50, RECONNECT_MS);
    },
  });
  redis.on('error', () => {}); // each command reports its own
  return redis;
}

/** Where Redis is: `host:port`. */
export function redisAddress({ redis }: Pick<Config, 'redis'>): string {
  const { hostname, port } = new URL(redis.url);
  return `${hostname}:${port || '6379'}`;
}

/** Its answers to whoever did not log in, or may not ask: it is there. */
const ANSWERS = /^(NOAUTH|NOPERM|WRONGPASS)\b/u;

/**
 * Why Redis does no work; undefined where it answers, whoever asks: no secret is needed.
 *
 * @param limitMs what is not answered by then is not answered
 */
export async function findRedisFault(
  { redis: { url } }: Pick<Config, 'redis'>,
  limitMs: number,
): Promise<string | undefined> {
  const redis = new Redis(url, {
    enableReadyCheck: false,
    connectTimeout: limitMs,
    commandTimeout: limitMs,
    retryStrategy: () => null,
  });
  let why: string | undefined;
  redis.on('error', (error) => (why = describeError(error)));
  try {
    await redis.ping();
    return undefined;
  } catch (error) {
    const { name, message } = error as Error;
    if (name === 'ReplyError') return ANSWERS.test(message) ? undefined : message;
    return why ?? `no answer within ${limitMs / 1000} s`;
  } finally {
    redis.disconnect();
  }
}

/** Runs what speaks to Redis by that connection; whatever goes wrong is BACKEND_UNAVAILABLE, with the act. */
export type Guard = <T>(act: string, run: () => Promise<T>) => Promise<T>;

export function guardRedis(redis: Redis): Guard {
  return async (act, run) => {
    try {
      return await run();
    } catch (cause) {
      const isLate = /timed out/.test((cause as Error).message);
      // what was not answered may lie in the connection still, and would be done by and by
      if (isLate) redis.disconnect(true);
      // ioredis says of it that it has tried as often as it was told to
      const isAway = isLate || (cause as Error).name === 'MaxRetriesPerRequestError';
      const { host, port } = redis.options;
      throw new ChamberlainError('BACKEND_UNAVAILABLE', act, {
        cause: isAway
          ? new Error(`Redis does not answer at ${host}:${port}`)
          : new Error(`Redis at ${host}:${port}`, { cause }),
      });
    }
  };
}
