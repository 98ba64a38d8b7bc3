/** Checks whether each program and each portal has a user in Redis, for its own queues and for nothing else. */
import { type RedisRule, redisRules } from '../../deploy/redis/render.ts';
import { type Config, findSecret } from '../shared/config.ts';
import { APPLY_USERS } from '../backends/redis/redis-passwords.ts';
import {
  accountOfPortal,
  findRedisPassword,
  REDIS_ACCOUNTS,
  type RedisAccount,
  redisUser,
} from '../backends/redis/redis-connection.ts';
import { logsInToRedis, readRedisRights, type RedisRights } from '../backends/redis/redis-users.ts';
import { elsewhere, fix, type Line, ok } from './line.ts';

const REMOVE = 'Remove the user from the ACL file, and run `ACL LOAD`.';
const FLUSH = 'FLUSHALL';

/** Writes to each queue of a user; and one command that only somebody who may do everything may run. */
function commandsOf(rules: readonly RedisRule[]): string[] {
  const words = rules.toReversed().flatMap(({ may }) => may);
  const queues = words.flatMap((word) => /^~(.+:)\*$/u.exec(word)?.[1] ?? []);
  return [...new Set(queues)].map((queue) => `LPUSH ${queue}wait x`).concat(FLUSH);
}

/** Which of the commands a rule allows. */
function allowedBy({ may }: RedisRule, commands: readonly string[]): string[] {
  const prefixes = may.flatMap((word) => /^~(.*)\*$/u.exec(word)?.[1] ?? []);
  return commands.filter((command) =>
    command === FLUSH
      ? may.includes('+@all')
      : prefixes.some((prefix) => command.startsWith(`LPUSH ${prefix}`)),
  );
}

/** @param knowsAdded whether the configuration has the portals that were added by request, too */
export async function lookAtRedisUsers(config: Config, knowsAdded = true): Promise<Line[]> {
  const rules = redisRules(config.portals);
  const commands = commandsOf(rules);
  const rights = await readRedisRights(config, 'admin', commands);
  if (rights === undefined) {
    return [
      elsewhere(
        'the user of Redis with which this command logs in may not read the users',
        'Run this as a user who may read the secret redis-admin, so that it logs in as chamberlain_admin.',
      ),
    ];
  }
  // one without a user is named already
  const refused = (await findRefused(config)).filter((account) => rights.has(redisUser(account)));
  return [
    ...judgeRedisUsers(rules, rights, commands, knowsAdded),
    ...judgePasswords(config, rights),
    ...(refused.length === 0
      ? []
      : [
          fix(
            `these accounts cannot log in with their secrets on this machine: ${refused.map(redisUser).join(', ')}`,
            APPLY_USERS,
          ),
        ]),
  ];
}

/**
 * The secrets without which `redis-users --apply` would fail on this machine. Nothing is said where that of the owner is
 * missing, too: users are made elsewhere.
 */
export function lookAtSecretsOfUsers(config: Config): Line[] {
  const accounts = redisRules(config.portals).flatMap(({ account }) => account ?? []);
  const names = accounts.map((account) => (account.startsWith('added.') ? 'portals' : account));
  const isMissing = (name: string): boolean => {
    try {
      return findSecret(config, 'redis', name) === undefined;
    } catch {
      return false; // this user may not read it
    }
  };
  const missing = [...new Set(names)].filter(isMissing);
  if (missing.length === 0 || missing.includes('owner')) return [];
  const named = missing.map((name) => `redis-${name}`).join(', ');
  return [
    fix(
      `\`redis-users --apply\` would fail on this machine, which lacks these secrets: ${named}`,
      'If a portal is new, make its secret (docs/install.md, step 2). Copy every other secret from the machine that uses it, or run the command there.',
    ),
  ];
}

/**
 * What is wrong with the users of portals, in sentences: that of a portal that was added by request is missing or has
 * another password, that of a removed portal is still there, or a secret is missing where users are made.
 */
export async function findUserFaults(config: Config): Promise<string[]> {
  const rights = await readRedisRights(config, 'admin', []);
  if (rights === undefined || rights.get('default')?.on === true) return [];
  const missing = config.portals
    .filter(({ name, redisPasswordSha256 }) => redisPasswordSha256 && !rights.has(`portal.${name}`))
    .map(({ name }) => fix(`it has no user portal.${name}`, APPLY_USERS));
  const known = new Set(redisRules(config.portals).map(({ user }) => user));
  const lines = [
    ...lookAtSecretsOfUsers(config),
    ...missing,
    ...judgePasswords(config, rights),
    ...[...rights.keys()].filter((user) => !known.has(user)).flatMap(judgeUnknown),
  ];
  return lines.map(({ what, todo }) => `Redis: ${what}. ${todo}`);
}

/** Of a user that belongs to no program and no portal. */
function judgeUnknown(user: string): Line[] {
  if (!user.startsWith('portal.')) return [];
  return [fix(`there is a user ${user}, but no portal needs it`, APPLY_USERS)];
}

/** The accounts whose secrets can be read here, but do not match those in Redis. */
async function findRefused(config: Config): Promise<RedisAccount[]> {
  const accounts = [
    ...REDIS_ACCOUNTS,
    ...config.portals.flatMap((portal) => accountOfPortal(portal) ?? []),
  ];
  const isHere = (account: RedisAccount): boolean => {
    try {
      return findRedisPassword(config, account) !== undefined;
    } catch {
      return false; // the file belongs to another user
    }
  };
  const looks = accounts
    .filter(isHere)
    .map(async (account) => ((await logsInToRedis(config, account)) ? [] : [account]));
  return (await Promise.all(looks)).flat();
}

function judgeRedisUsers(
  rules: readonly RedisRule[],
  rights: RedisRights,
  commands: readonly string[],
  knowsAdded: boolean,
): Line[] {
  const standard = rights.get('default');
  if (standard?.on === true && standard.may.size > 0) {
    return [
      fix(
        'its user `default` is enabled and may use the queues, so portals are not separated',
        'Load the users of deploy/redis: see docs/install.md, step 6.',
      ),
    ];
  }
  const lines: Line[] = [];
  if ((standard?.may.size ?? 0) < commands.length) {
    lines.push(
      fix(
        'its user `default` lacks rights: when Redis starts, it reads its append-only file as this user, and skips each command that the user may not run',
        APPLY_USERS,
      ),
    );
  }
  const names = rules.map(({ user }) => user);
  const missing = names.filter((user) => !rights.has(user));
  if (missing.length > 0) lines.push(fix(`it has no user ${missing.join(', ')}`, APPLY_USERS));
  for (const [user, { on, may }] of rights) {
    if (user === 'default') continue;
    const rule = rules.find((each) => each.user === user);
    if (rule !== undefined) {
      lines.push(...judgeUser(user, allowedBy(rule, commands), on ? may : new Set<string>()));
    } else if (user.startsWith('portal.')) {
      if (knowsAdded) lines.push(...judgeUnknown(user));
    } else if (on && may.size > 0) {
      lines.push(
        fix(
          `the user ${user}, which does not belong to Chamberlain, may run ${[...may].join(', ')}`,
          REMOVE,
        ),
      );
    }
  }
  if (lines.length > 0) return lines;
  const portals = names.flatMap((user) => /^portal\.(.*)$/u.exec(user)?.[1] ?? []);
  return [
    ok(`each portal has a user for its own queues, and for nothing else: ${portals.join(', ')}`),
  ];
}

/** Whether the users of portals that were added by request have the passwords that were approved. */
function judgePasswords({ portals }: Config, rights: RedisRights): Line[] {
  return portals.flatMap(({ name, redisPasswordSha256: hash }) => {
    const user = rights.get(`portal.${name}`);
    if (hash === undefined || user === undefined || user.hashes.includes(hash)) return [];
    return [
      fix(`the user portal.${name} does not have the password that was approved`, APPLY_USERS),
    ];
  });
}

function judgeUser(user: string, own: readonly string[], may: ReadonlySet<string>): Line[] {
  const beyond = [...may].filter((command) => !own.includes(command));
  const lacks = own.filter((command) => !may.has(command));
  return [
    ...(beyond.length > 0
      ? [fix(`the user ${user} may also run ${beyond.join(', ')}`, APPLY_USERS)]
      : []),
    ...(lacks.length > 0
      ? [fix(`the user ${user} may not run ${lacks.join(', ')}`, APPLY_USERS)]
      : []),
  ];
}
