/** Checks whether each program and each portal has a user in Redis, for its own queues and for nothing else. */
import { type RedisRule, redisRules } from '../../deploy/redis/render.ts';
import { adminOfPortal, type Config, findSecret } from '../shared/config.ts';
import { REDIS_ACCOUNTS, type RedisAccount } from '../backends/redis/redis-connection.ts';
import { logsInToRedis, readRedisRights, type RedisRights } from '../backends/redis/redis-users.ts';
import { elsewhere, fix, type Line, ok } from './line.ts';

const RENDER = 'Render the users of Redis again, and run `ACL LOAD`: see docs/install.md, step 6.';
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

export async function lookAtRedisUsers(config: Config): Promise<Line[]> {
  const portals = config.portals.map(({ name }) => name);
  const rules = redisRules(portals);
  const commands = commandsOf(rules);
  const rights = await readRedisRights(config, 'admin', commands);
  if (rights === undefined) {
    return [
      elsewhere('its users cannot be read', 'Run this with the rights of the secret redis-admin.'),
    ];
  }
  const refused = await findRefused(config, portals);
  return [
    ...judgeRedisUsers(rules, rights, commands),
    ...(refused.length === 0
      ? []
      : [
          fix(
            `these accounts cannot log in with their secrets on this machine: ${refused.join(', ')}`,
            `${RENDER} Then restart intake and the relay.`,
          ),
        ]),
  ];
}

/** The accounts whose secrets can be read here, but do not match those in Redis. */
async function findRefused(config: Config, portals: readonly string[]): Promise<string[]> {
  const accounts: RedisAccount[] = [
    ...REDIS_ACCOUNTS,
    ...portals.flatMap((name) =>
      adminOfPortal(name) === undefined ? [`portal.${name}` as const] : [],
    ),
  ];
  const isHere = (account: RedisAccount): boolean => {
    try {
      return findSecret(config, 'redis', account) !== undefined;
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
        RENDER,
      ),
    );
  }
  const names = rules.map(({ user }) => user);
  const missing = names.filter((user) => !rights.has(user));
  if (missing.length > 0) lines.push(fix(`it has no user ${missing.join(', ')}`, RENDER));
  for (const [user, { on, may }] of rights) {
    if (user === 'default') continue;
    const rule = rules.find((each) => each.user === user);
    if (rule !== undefined) {
      lines.push(...judgeUser(user, allowedBy(rule, commands), on ? may : new Set<string>()));
    } else if (user.startsWith('portal.')) {
      lines.push(fix(`there is a user ${user}, but the configuration has no such portal`, REMOVE));
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

function judgeUser(user: string, own: readonly string[], may: ReadonlySet<string>): Line[] {
  const beyond = [...may].filter((command) => !own.includes(command));
  const lacks = own.filter((command) => !may.has(command));
  return [
    ...(beyond.length > 0
      ? [fix(`the user ${user} may also run ${beyond.join(', ')}`, RENDER)]
      : []),
    ...(lacks.length > 0 ? [fix(`the user ${user} may not run ${lacks.join(', ')}`, RENDER)] : []),
  ];
}
