/**
 * Prints the users of Redis (an ACL file) from Chamberlain's config.
 *
 *     node deploy/redis/render.ts [--config FILE] >users.acl
 *
 * The default of --config is $CHAMBERLAIN_CONFIG, or /etc/chamberlain/config.yaml. The passwords are read from
 * the config's folder of secrets (`redis-<account>`, and `redis-<account>.old` while `chamberlain secret rotate`
 * waits for --finish); the file contains their SHA-256. Redis 7.2 or newer reads it: `aclfile` in its
 * configuration, `ACL LOAD` after a change. Everything that a line does not name is refused. Nobody can be
 * `default`, the user of every client that has not logged in: it is off.
 */
import { parseArgs } from 'node:util';
import { runProgram } from '../../src/cli/exit.ts';
import {
  adminOfPortal,
  type Config,
  findSecret,
  loadConfig,
  oldOf,
  readSecret,
} from '../../src/shared/config.ts';
import { configPath } from '../../src/cli/command.ts';
import {
  REDIS_ACCOUNTS,
  redisUser,
  type RedisAccount,
} from '../../src/backends/redis/redis-connection.ts';
import { redisHash } from '../../src/secrets/secret.ts';
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
  // and events of portals that were added by request, which have no user
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
 * @param portals names, of those that the file lists; an admin's own key needs no user: the account `admin` sends what it
 *   signs
 */
export function redisRules(portals: readonly string[]): RedisRule[] {
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
    ...portals
      .filter((portal) => adminOfPortal(portal) === undefined)
      .map((portal) => rule(`portal.${portal}`, keysOfPortal(portal), WORK)),
  ];
}

/** The text of an ACL file (Redis, "ACL"). */
export function renderUsers(
  portals: readonly string[],
  passwordsOf: (user: RedisUser) => readonly string[],
): string {
  const lines = redisRules(portals).map(({ user, account, may }) => {
    const state =
      account === undefined
        ? ['off', 'resetpass']
        : ['on', ...passwordsOf(account).map((password) => `#${hash(password)}`)];
    return `${['user', user, ...state, ...may].join(' ')}\n`;
  });
  return lines.join('');
}

/** The same for a configuration, with the passwords in its folder of secrets. */
export function usersForConfig(config: Config): string {
  const portals = config.portals.map(({ name }) => name);
  return renderUsers(portals, (user) => redisPasswords(config, user));
}

/** The passwords that a user may log in with: two while the rotation of one waits for --finish. */
export function redisPasswords(config: Pick<Config, 'secrets'>, user: RedisUser): string[] {
  const old = findSecret(config, 'redis', oldOf(user));
  return [readSecret(config, 'redis', user), ...(old === undefined ? [] : [old])];
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

/** Runs this program. */
export const run = (): void => runProgram(main);

if (import.meta.main) run();
