/** PostgreSQL and Redis, without which no work is possible, where `status` finds that one does not answer. */
import type { Config } from '../../shared/config.ts';
import { findRedisFault, redisAddress } from '../../backends/redis/redis-connection.ts';
import { describeError } from '../../shared/errors.ts';
import { timeOf } from '../../shared/time.ts';
import { printable } from '../../shared/printable.ts';

export interface Away {
  server: 'PostgreSQL' | 'Redis';
  address: string;
  why: string;
  /** as the relay has seen it; null if that is not known */
  since: Date | null;
}

/** How long `status` waits for Redis. */
const REDIS_LIMIT_MS = 1000;

/** How long people can log in while PostgreSQL is away. */
export const LOGINS_LAST =
  'for 12 hours at least (unless `offlineLimitSeconds` on the login hosts is less)';

const STOPPED: Record<Away['server'], string> = {
  PostgreSQL: `no request gets a verdict, no worker changes a server, and the progress of the work cannot be seen. Logins still work, ${LOGINS_LAST}.`,
  Redis:
    'portals and `submit` cannot send requests, the roles get no work, and no event is delivered. Logins still work.',
};

/** Redis, if it does not answer in time. */
export async function findRedisAway(config: Config): Promise<Away[]> {
  const why = await findRedisFault(config, REDIS_LIMIT_MS);
  const address = redisAddress(config);
  return why === undefined ? [] : [{ server: 'Redis', address, why, since: null }];
}

/** PostgreSQL, from the error of a failed read. */
export function postgresAway({ postgres: { host, port } }: Config, error: unknown): Away {
  const address = host.startsWith('/') ? `${host}, port ${port}` : `${host}:${port}`;
  const why = describeError((error as Error).cause ?? error);
  return { server: 'PostgreSQL', address, why, since: null };
}

/** One line: which server, where, since when, why, and what it stops. */
export function describeAway({ server, address, why, since }: Away): string {
  const lasting = since === null ? '' : ` since ${timeOf(since)}`;
  return printable(
    `${server} cannot be used at ${address}${lasting}: ${why}. Until it can, ${STOPPED[server]}`,
  );
}
