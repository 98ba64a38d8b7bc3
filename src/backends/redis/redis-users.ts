/** What the users of a Redis may do (Redis, "ACL"). */
import { ChamberlainError } from '../../shared/errors.ts';
import { connectProducer, type RedisAccount, type RedisPlace } from './redis-connection.ts';

/** By user: whether the user is enabled, and the commands, each as one text, that it may run. */
export type RedisRights = ReadonlyMap<string, { on: boolean; may: ReadonlySet<string> }>;

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
    const rights = new Map<string, { on: boolean; may: Set<string> }>();
    for (const [n, user] of users.entries()) {
      const of = answers.slice(n * (commands.length + 1), (n + 1) * (commands.length + 1));
      for (const [error] of of) if (error !== null) throw error;
      const [details, ...dry] = of.map(([, answer]) => answer);
      rights.set(user, {
        on: (details as [string, string[]])[1].includes('on'),
        may: new Set(commands.filter((_, at) => dry[at] === 'OK')),
      });
    }
    return rights;
  } catch (cause) {
    if (/\bNOPERM\b/u.test((cause as Error).message)) return undefined;
    throw new ChamberlainError('BACKEND_UNAVAILABLE', 'reading the users of Redis', { cause });
  } finally {
    redis.disconnect();
  }
}

/**
 * Whether an account can log in with the secret that is here. Throws BACKEND_UNAVAILABLE if Redis does not
 * answer.
 */
export async function logsInToRedis(config: RedisPlace, account: RedisAccount): Promise<boolean> {
  const redis = connectProducer(config, account);
  try {
    const refused = new Promise<false>((resolve) => {
      redis.on('error', (error) => /WRONGPASS|NOAUTH/u.test(error.message) && resolve(false));
    });
    return await Promise.race([redis.ping().then(() => true), refused]);
  } catch (cause) {
    if (/WRONGPASS|NOAUTH/u.test((cause as Error).message)) return false;
    throw new ChamberlainError('BACKEND_UNAVAILABLE', `logging in to Redis as ${account}`, {
      cause,
    });
  } finally {
    redis.disconnect();
  }
}
