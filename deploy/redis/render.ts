/**
 * Prints the users of Redis (an ACL file) from Chamberlain's config.
 *
 *     node deploy/redis/render.ts [--config FILE] >users.acl
 *
 * The default of --config is $CHAMBERLAIN_CONFIG, or /etc/chamberlain/config.yaml. The passwords are read from
 * the config's folder of secrets (`redis-<account>`, and `redis-<account>.old` while `chamberlain secret rotate`
 * waits for --finish); the file contains their SHA-256. Redis 7.2 or newer reads it: `aclfile` in its
 * configuration. Everything that a line does not name is refused. Nobody can be `default`, the user of every client that
 * has not logged in: it is off.
 *
 * It is for a Redis that has no users yet. `chamberlain redis-users` makes the same users, and those of portals that were
 * added by request, in a Redis that runs.
 */
import { parseArgs } from 'node:util';
import { runProgram } from '../../src/cli/exit.ts';
import {
  type Config,
  findSecret,
  loadConfig,
  oldOf,
  type Portal,
  readSecret,
} from '../../src/shared/config.ts';
import { configPath } from '../../src/cli/command.ts';
import {
  accountOfPortal,
  REDIS_ACCOUNTS,
  redisUser,
  type RedisAccount,
} from '../../src/backends/redis/redis-connection.ts';
import { passwordForPortal, redisHash } from '../../src/secrets/secret.ts';
import { ROLES } from '../../src/roles/index.ts';

/**
 * The users whose passwords are in an ACL file: those of the programs, and the owner, who may do everything.
 */
export type RedisUser = RedisAccount | 'owner';

/**
 * What BullMQ 5 and 6 need. Commands on a data type touch only the keys that they name; SORT, which is
 * dangerous, could touch others. BullMQ learns the version from INFO, and ioredis learns from it that Redis has
 * started.
 */
const WORK = [
  ...['@hash', '@list', '@set', '@sortedset', '@stream', '@string', '-@dangerous'],
  ...['del', 'unlink', 'exists', 'type', 'rename', 'persist', 'pexpire', 'pexpireat', 'pttl'],
  ...['eval', 'evalsha', 'script|exists', 'script|load', 'multi', 'exec', 'discard'],
  ...['watch', 'unwatch', 'ping', 'time', 'select', 'info', 'client|setname', 'client|setinfo'],
];

/** What some of our programs need in addition. */
const MORE: Partial<Record<RedisAccount, readonly string[]>> = {
  // a job is measured before it is read
  intake: ['memory|usage'],
  // chamberlain doctor
  admin: ['config|get', 'acl|users', 'acl|getuser', 'acl|dryrun'],
};

const ROLE_KEYS = ROLES.flatMap(keysOfRole);

/**
 * The keys of each of our programs. What portals have written is handled with the rights of the portal
 * (portalAccount).
 */
const KEYS: Partial<Record<RedisAccount, readonly string[]>> = {
  intake: ['~bull:requests.*'],
  // and events of portals that have no user, or that were removed
  relay: [...ROLE_KEYS, '~bull:events.*'],
  ...Object.fromEntries(ROLES.map((role) => [role, keysOfRole(role)])),
  sweep: ROLE_KEYS,
  // and takes events of portals that get them over HTTP, and counts calls
  api: ['~bull:requests.*', '~bull:events.*', '~api:*'],
  admin: ['~bull:requests.*', ...ROLE_KEYS, '%R~bull:events.*'],
};

function keysOfRole(role: string): string[] {
  return ['', '.slow', '.urgent'].map((part) => `~bull:${role}${part}:*`);
}

function keysOfPortal(portal: string): string[] {
  return ['requests.', 'requests.urgent.', 'events.'].map((part) => `~bull:${part}${portal}:*`);
}

/** What everything is allowed with. */
const ALL = ['~*', '&*', '+@all'];

/** A user of an ACL file. */
export interface RedisRule {
  user: string;
  /** whose password it has; undefined: nobody can be this user */
  account?: RedisUser;
  /** what it may do, in the words of the file */
  may: readonly string[];
}

/**
 * The users of an ACL file, in its order.
 *
 * @param portals an admin's own key needs no user: the account `admin` sends what it signs
 */
export function redisRules(portals: readonly PortalWithUser[]): RedisRule[] {
  const rule = (account: RedisUser, keys: readonly string[], commands: readonly string[]) => {
    const words = commands.map((command) => (command.startsWith('-') ? command : `+${command}`));
    const may = ['resetchannels', ...keys, '-@all', ...words];
    return { user: redisUser(account), account, may };
  };
  return [
    // Redis reads its append-only file as `default`, and leaves out transactions that this user may not run
    { user: 'default', may: ALL },
    { user: redisUser('owner'), account: 'owner', may: ALL },
    ...REDIS_ACCOUNTS.map((account) =>
      rule(account, KEYS[account] ?? [], [...WORK, ...(MORE[account] ?? [])]),
    ),
    ...portals.flatMap((portal) => {
      const account = accountOfPortal(portal);
      return account === undefined ? [] : [rule(account, keysOfPortal(portal.name), WORK)];
    }),
  ];
}

/** What decides whether a portal has a user. */
type PortalWithUser = Pick<Portal, 'name' | 'byRequest' | 'redisPasswordSha256'>;

/** By user, in the order of an ACL file (Redis, "ACL"): the words of its rule, as `ACL SETUSER` takes them too. */
export function redisUsers(
  portals: readonly PortalWithUser[],
  passwordsOf: (user: RedisUser) => readonly string[],
): Map<string, string[]> {
  const hashes = new Map(
    portals.flatMap(({ name, redisPasswordSha256: its }) =>
      its === undefined ? [] : [[`added.${name}`, its]],
    ),
  );
  return new Map(
    redisRules(portals).map(({ user, account, may }) => {
      if (account === undefined) return [user, ['off', 'resetpass', ...may]];
      const own = hashes.get(account);
      const its = [...passwordsOf(account).map(hash), ...(own === undefined ? [] : [own])];
      return [user, ['on', ...its.map((each) => `#${each}`), ...may]];
    }),
  );
}

/** The text of an ACL file. */
export function renderUsers(...of: Parameters<typeof redisUsers>): string {
  return [...redisUsers(...of)]
    .map(([user, words]) => `user ${user} ${words.join(' ')}\n`)
    .join('');
}

/** The same for a configuration, with the passwords in its folder of secrets. */
export function usersForConfig(config: Config): string {
  return renderUsers(config.portals, (user) => redisPasswords(config, user));
}

/** The passwords of ours that a user may log in with: two while the rotation of one waits for --finish. */
export function redisPasswords(config: Pick<Config, 'secrets'>, user: RedisUser): string[] {
  const isAdded = user.startsWith('added.');
  const name = isAdded ? 'portals' : user;
  const old = findSecret(config, 'redis', oldOf(name));
  const secrets = [readSecret(config, 'redis', name), ...(old === undefined ? [] : [old])];
  return isAdded ? secrets.map((each) => passwordForPortal(each, redisUser(user))) : secrets;
}

/** In the format of `ACL SETUSER`. The passwords are long and random: a slow hash would add nothing. */
function hash(password: string): string {
  if (password.length < 16) throw new Error('a password of Redis has fewer than 16 characters');
  return redisHash(password);
}

function main(): void {
  const { values } = parseArgs({ options: { config: { type: 'string' } } });
  const config = loadConfig(configPath(values.config));
  process.stdout.write(usersForConfig(config));
}

const USAGE = `Usage: node deploy/redis/render.ts [--config FILE] >users.acl

Prints the users of Redis as an ACL file, with the SHA-256 of their passwords, for a Redis that has no users yet.
\`chamberlain redis-users\` makes them in one that runs.

  --config FILE  the configuration (default: $CHAMBERLAIN_CONFIG or /etc/chamberlain/config.yaml)
`;

/** Runs this program. */
export const run = (): void => runProgram(USAGE, main);

if (import.meta.main) run();
