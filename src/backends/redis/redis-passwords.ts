/** Changes the passwords of the users of Redis (Redis, "ACL"), as its owner. */
import type { Redis } from 'ioredis';
import { ChamberlainError } from '../../shared/errors.ts';
import { redisHash } from '../../secrets/secret.ts';
import {
  connectProducer,
  type RedisAccount,
  redisFailure,
  type RedisPlace,
  redisUser,
} from './redis-connection.ts';

/** What mends the users of Redis. */
export const APPLY_USERS = 'Run `chamberlain redis-users --apply`: see docs/install.md, step 6.';

/**
 * What the owner of Redis could not do: STEP_FAILED, with what to do, if Redis has refused it; otherwise
 * BACKEND_UNAVAILABLE.
 */
export function ownerFailure(
  redis: Redis,
  act: string,
  cause: unknown,
  action: string,
): ChamberlainError {
  return (cause as Error).name === 'ReplyError'
    ? new ChamberlainError('STEP_FAILED', act, { cause, action })
    : redisFailure(redis, act, cause);
}

/**
 * From then on each of these passwords lets a user in, and no other does; open connections go on. When this
 * returns, Redis has written its own ACL file. If Redis cannot write that file, nothing is changed.
 */
export async function setPasswords(
  config: RedisPlace,
  account: RedisAccount | 'owner',
  passwords: readonly string[],
): Promise<void> {
  const user = redisUser(account);
  const redis = connectProducer(config, 'owner');
  const ask = async (act: string, action: string, ...words: [string, ...string[]]) => {
    try {
      return await redis.call('ACL', ...words);
    } catch (cause) {
      throw ownerFailure(redis, act, cause, action);
    }
  };
  const save = () =>
    ask(
      'writing the users of Redis to its ACL file',
      'Set `aclfile` to a file in a folder that Redis may write to: see docs/install.md, step 6.',
      'SAVE',
    );
  try {
    await save();
    if (
      (await ask(`looking for the user ${user} of Redis`, APPLY_USERS, 'GETUSER', user)) === null
    ) {
      throw new ChamberlainError('STEP_FAILED', `Redis has no user ${user}`, {
        action: APPLY_USERS,
      });
    }
    const hashes = passwords.map((password) => `#${redisHash(password)}`);
    const act = `changing the password of ${user} in Redis`;
    await ask(act, APPLY_USERS, 'SETUSER', user, 'resetpass', ...hashes);
    await save();
  } finally {
    redis.disconnect();
  }
}

/** Ends the connections of a user. Those that are opened afterwards need a password that counts. */
export async function endSessions(
  config: RedisPlace,
  account: RedisAccount | 'owner',
): Promise<void> {
  const user = redisUser(account);
  const redis = connectProducer(config, 'owner');
  try {
    await redis.call('CLIENT', 'KILL', 'USER', user);
  } catch (cause) {
    throw new ChamberlainError(
      'BACKEND_UNAVAILABLE',
      `ending the connections of ${user} to Redis`,
      {
        cause,
      },
    );
  } finally {
    redis.disconnect();
  }
}
