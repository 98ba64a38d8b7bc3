/**
 * Connections to Redis, each by the account of the program that opens it.
 *
 * If the secret of an account is missing, `redis.url` is used as it is: Redis then does not have our users.
 */
import { setTimeout as sleep } from 'node:timers/promises';
import { Redis, type RedisOptions } from 'ioredis';
import { adminOfPortal, findSecret, type Config, type Portal } from '../../shared/config.ts';
import { passwordForPortal } from '../../secrets/secret.ts';
import type { Role } from '../../reconcile/wanted.ts';
import { ROLES } from '../../roles/index.ts';
import { ChamberlainError, describeError } from '../../shared/errors.ts';
import { hostOf, tlsOptions } from '../../shared/tls.ts';

/** What the connection of an account depends on. */
export type RedisPlace = Pick<Config, 'redis' | 'secrets'>;

/** The accounts of Chamberlain's own programs. */
export const REDIS_ACCOUNTS: readonly RedisProgram[] = [
  'intake',
  'relay',
  ...ROLES,
  'sweep',
  'api',
  'admin',
];
type RedisProgram = 'intake' | 'relay' | Role | 'sweep' | 'api' | 'admin';

/**
 * The account whose rights a connection has; its password is in the file `redis-<account>` of the secrets folder. The
 * account `added.bridge` is the user `portal.bridge` of a portal that was added by request, who makes its own password:
 * our programs have another one there, which follows from the secret `redis-portals`.
 */
export type RedisAccount = RedisProgram | `portal.${string}` | `added.${string}`;

/**
 * The account by which intake and the relay run BullMQ's scripts on what a portal has written. A job may name
 * keys that belong to others (its parent, its children), and the script then follows them: with the rights of
 * the portal it can reach only what the portal can reach. An admin's own key, and a portal over HTTP that was added by
 * request, have no user, and only our own programs write to their queues: theirs is the program's own account. So is that
 * of the relay for a portal that was removed: it runs no script there.
 */
export function portalAccount(
  portal: string,
  { portals }: Pick<Config, 'portals'>,
  own: 'intake' | 'relay',
): RedisAccount {
  const found =
    portals.find(({ name }) => name === portal) ??
    (own === 'intake' ? { name: portal } : undefined);
  return (found && accountOfPortal(found)) ?? own;
}

/** The account of a portal that has a user of Redis. */
export function accountOfPortal({
  name,
  byRequest,
  redisPasswordSha256,
}: Pick<Portal, 'name' | 'byRequest' | 'redisPasswordSha256'>): RedisAccount | undefined {
  if (adminOfPortal(name) !== undefined) return undefined;
  if (byRequest !== true) return `portal.${name}`;
  return redisPasswordSha256 === undefined ? undefined : `added.${name}`;
}

/** The name of an account in Redis: `chamberlain_relay`, or `portal.bridge` for the portal bridge. */
export function redisUser(account: RedisAccount | 'owner'): string {
  return /^(portal|added)\./u.test(account)
    ? account.replace(/^added/u, 'portal')
    : `chamberlain_${account}`;
}

/** Undefined if its secret is not on this machine. */
export function findRedisPassword(
  config: Pick<Config, 'secrets'>,
  account: RedisAccount | 'owner',
): string | undefined {
  if (!account.startsWith('added.')) return findSecret(config, 'redis', account);
  const secret = findSecret(config, 'redis', 'portals');
  return secret === undefined ? undefined : passwordForPortal(secret, redisUser(account));
}

/** A command to Redis that is not answered within this time has failed. */
const COMMAND_TIMEOUT_MS = 4000;
/** The longest pause between two attempts to connect, so that work goes on soon after Redis is back. */
const RECONNECT_MS = 500;

/** A connection that fails fast: for adding and reading. Throws CONFIG_INVALID. */
export function connectProducer(config: RedisPlace, account: RedisAccount | 'owner'): Redis {
  return connect(config, account, { maxRetriesPerRequest: 1, commandTimeout: COMMAND_TIMEOUT_MS });
}

/**
 * A connection that waits for Redis as long as it takes: for workers, which block on it. Throws CONFIG_INVALID.
 */
export function connectConsumer(config: RedisPlace, account: RedisAccount): Redis {
  return connect(config, account, { maxRetriesPerRequest: null });
}

function connect(
  config: RedisPlace,
  account: RedisAccount | 'owner',
  options: RedisOptions,
): Redis {
  const login = () => {
    const password = findRedisPassword(config, account);
    return password === undefined ? {} : { username: redisUser(account), password };
  };
  const redis = new Redis({
    ...placeOf(config),
    ...login(),
    ...options,
    connectTimeout: 3000,
    // `this` is the options of this connection, or of BullMQ's copy of it. The secret may have changed since. That is not
    // documented, so redis-connection.test.ts tests it; a subclass would change the same options.
    retryStrategy(this: RedisOptions, times) {
      Object.assign(this, login());
      return Math.min(times * 50, RECONNECT_MS);
    },
  });
  // each command reports its own, of which ioredis does not say why there is no connection
  redis.on('error', (error) => void disconnections.set(redis, error));
  redis.on('ready', () => void disconnections.delete(redis));
  return redis;
}

/** Where it is, and how it is reached; with the user and the password that the URL may contain. */
function placeOf({ redis: { url: text, caFile } }: Pick<Config, 'redis'>): RedisOptions {
  const url = new URL(text);
  if (url.protocol === 'unix:') {
    return { path: decodeURIComponent(url.pathname), db: Number(url.searchParams.get('db') ?? 0) };
  }
  const host = hostOf(url);
  return {
    host,
    port: Number(url.port || '6379'),
    db: Number(url.pathname.slice(1)),
    ...(url.username === '' ? {} : { username: decodeURIComponent(url.username) }),
    ...(url.password === '' ? {} : { password: decodeURIComponent(url.password) }),
    ...(url.protocol === 'rediss:' ? { tls: tlsOptions({ host, caFile }) } : {}),
  };
}

/**
 * Waits for commands on a consumer's connection no longer than a producer waits for a command. They may still be done
 * later.
 */
export async function inCommandTime<T>(run: () => Promise<T>): Promise<T> {
  const ended = new AbortController();
  const late = sleep(COMMAND_TIMEOUT_MS, undefined, { signal: ended.signal }).then(() => {
    throw new Error('Command timed out');
  });
  late.catch(() => {});
  try {
    return await Promise.race([run(), late]);
  } finally {
    ended.abort();
  }
}

/** Why a connection could not be opened, until it is. */
const disconnections = new WeakMap<Redis, Error>();

/** The address of Redis: `host:port`, or the path of its socket. */
export function redisAddress({ redis }: Pick<Config, 'redis'>): string {
  const { protocol, hostname, port, pathname } = new URL(redis.url);
  return protocol === 'unix:' ? decodeURIComponent(pathname) : `${hostname}:${port || '6379'}`;
}

/** Its answers to a client that did not log in, or has no right to ask: they show that it is running. */
const ANSWERS = /^(NOAUTH|NOPERM|WRONGPASS)\b/u;

/**
 * Why Redis does not work; undefined if it answers. Anyone may ask: no secret is needed.
 *
 * @param limitMs an answer after this time does not count
 */
export async function findRedisFault(
  config: Pick<Config, 'redis'>,
  limitMs: number,
): Promise<string | undefined> {
  const redis = new Redis({
    ...placeOf(config),
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

/** Runs commands on that connection; any error is BACKEND_UNAVAILABLE, with the act. */
export type Guard = <T>(act: string, run: () => Promise<T>) => Promise<T>;

export function guardRedis(redis: Redis): Guard {
  return async (act, run) => {
    try {
      return await run();
    } catch (cause) {
      throw redisFailure(redis, act, cause);
    }
  };
}

/** What a command on that connection has thrown, as BACKEND_UNAVAILABLE with the act, the address, and why it is away. */
export function redisFailure(redis: Redis, act: string, cause: unknown): ChamberlainError {
  const isLate = /timed out/.test((cause as Error).message);
  // a command without an answer may still be in the connection, and would be done later
  if (isLate) redis.disconnect(true);
  // ioredis says this when it has tried as often as it may
  const isAway = isLate || (cause as Error).name === 'MaxRetriesPerRequestError';
  const { host, port, path = `${host}:${port}` } = redis.options;
  return new ChamberlainError('BACKEND_UNAVAILABLE', act, {
    cause: isAway
      ? new Error(`Redis does not answer at ${path}`, {
          cause: isLate ? new Error('no answer in time') : disconnections.get(redis),
        })
      : new Error(`asking Redis at ${path}`, { cause }),
  });
}
