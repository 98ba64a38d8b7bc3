/** The users of a Redis: what they may do, and how they are made (Redis, "ACL"). */
import type { Redis } from 'ioredis';
import { results } from './queue-keys.ts';
import { ownerFailure } from './redis-passwords.ts';
import {
  connectProducer,
  type RedisAccount,
  redisFailure,
  type RedisPlace,
} from './redis-connection.ts';

/**
 * By user: whether the user is enabled, the commands, each as one text, that it may run, and the SHA-256 of each of its
 * passwords.
 */
export type RedisRights = ReadonlyMap<
  string,
  { on: boolean; may: ReadonlySet<string>; hashes: readonly string[] }
>;

/**
 * Asks Redis for each user which of the commands it may run; none of them is run. Undefined if this account may
 * not ask. Throws BACKEND_UNAVAILABLE.
 *
 * @param commands without blanks in their words
 */
export async function readRedisRights(
  config: RedisPlace,
  account: RedisAccount,
  commands: readonly string[],
): Promise<RedisRights | undefined> {
  const redis = connectProducer(config, account);
  try {
    const users = await redis.acl('USERS');
    const queries = redis.pipeline();
    for (const user of users) {
      queries.acl('GETUSER', user);
      for (const command of commands) queries.call('ACL', 'DRYRUN', user, ...command.split(' '));
    }
    const answers = (await queries.exec()) ?? [];
    const rights = new Map<string, { on: boolean; may: Set<string>; hashes: string[] }>();
    for (const [n, user] of users.entries()) {
      const of = answers.slice(n * (commands.length + 1), (n + 1) * (commands.length + 1));
      for (const [error] of of) if (error !== null) throw error;
      const [details, ...dry] = of.map(([, answer]) => answer);
      rights.set(user, {
        on: (valueIn(details, 'flags') ?? []).includes('on'),
        hashes: valueIn(details, 'passwords') ?? [],
        may: new Set(commands.filter((_, at) => dry[at] === 'OK')),
      });
    }
    return rights;
  } catch (cause) {
    if (/\bNOPERM\b/u.test((cause as Error).message)) return undefined;
    throw redisFailure(redis, 'reading the users of Redis', cause);
  } finally {
    redis.disconnect();
  }
}

/** A field of the answer to `ACL GETUSER`; undefined if there is no such user. */
function valueIn(details: unknown, field: string): string[] | undefined {
  if (!Array.isArray(details)) return undefined;
  return (details as unknown[])[details.indexOf(field) + 1] as string[];
}

/** What was done to the users. */
export interface MadeUsers {
  made: string[];
  changed: string[];
  removed: string[];
}

/**
 * Makes each of these users in one transaction, and removes every other user `portal.…`. When this returns, Redis has
 * written its ACL file. A portal that has lost a password is disconnected, and so is one that was removed. A user that is
 * as it must be stays so: this may be run again at any time. Throws STEP_FAILED, or BACKEND_UNAVAILABLE.
 *
 * @param wanted by user, the words of its rule
 * @param options.removes false: no user is removed
 */
export async function applyRedisUsers(
  config: RedisPlace,
  wanted: ReadonlyMap<string, readonly string[]>,
  { removes = true } = {},
): Promise<MadeUsers> {
  const redis = connectProducer(config, 'owner');
  try {
    // if it cannot write its file, nothing is changed
    await redis.call('ACL', 'SAVE');
    const removed = (await redis.acl('USERS')).filter(
      (user) => removes && user.startsWith('portal.') && !wanted.has(user),
    );
    const before = await readUsers(redis, wanted);
    const changing = redis.multi();
    for (const [user, words] of wanted) {
      changing.call('ACL', 'SETUSER', user, 'reset', ...words);
      const lost = valueIn(before.get(user), 'passwords')?.some(
        (its) => !words.includes(`#${its}`),
      );
      if (lost === true && user.startsWith('portal.'))
        changing.call('CLIENT', 'KILL', 'USER', user);
    }
    for (const user of removed) changing.call('ACL', 'DELUSER', user);
    changing.call('ACL', 'SAVE');
    results(await changing.exec());
    const after = await readUsers(redis, wanted);
    const users = [...wanted.keys()];
    const made = users.filter((user) => before.get(user) === null);
    const differs = (user: string) =>
      JSON.stringify(before.get(user)) !== JSON.stringify(after.get(user));
    return { made, changed: users.filter((u) => !made.includes(u) && differs(u)), removed };
  } catch (cause) {
    throw ownerFailure(
      redis,
      'making the users of Redis as its owner',
      cause,
      'See docs/install.md, step 6.',
    );
  } finally {
    redis.disconnect();
  }
}

/** By user, the answer to `ACL GETUSER`: null if there is none. */
async function readUsers(
  redis: Redis,
  users: ReadonlyMap<string, unknown>,
): Promise<Map<string, unknown>> {
  const queries = redis.pipeline();
  for (const user of users.keys()) queries.acl('GETUSER', user);
  const answers = results<unknown>(await queries.exec());
  return new Map([...users.keys()].map((user, n) => [user, answers[n]]));
}

/**
 * Whether an account can log in with the secret that is here. Throws BACKEND_UNAVAILABLE if Redis does not
 * answer.
 */
export async function logsInToRedis(
  config: RedisPlace,
  account: RedisAccount | 'owner',
): Promise<boolean> {
  const redis = connectProducer(config, account);
  try {
    const refused = new Promise<false>((resolve) => {
      redis.on('error', (error) => /WRONGPASS|NOAUTH/u.test(error.message) && resolve(false));
    });
    return await Promise.race([redis.ping().then(() => true), refused]);
  } catch (cause) {
    if (/WRONGPASS|NOAUTH/u.test((cause as Error).message)) return false;
    throw redisFailure(redis, `logging in to Redis as ${account}`, cause);
  } finally {
    redis.disconnect();
  }
}
