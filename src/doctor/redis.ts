/** Checks Redis: whether it keeps its data, what waits in it, and who may do what there. */
import { type Config, findSecret } from '../shared/config.ts';
import { readRedisHealth, requestsQueue } from '../backends/redis/queue.ts';
import { APPLY_USERS } from '../backends/redis/redis-passwords.ts';
import { describeError } from '../shared/errors.ts';
import { ROLES } from '../roles/index.ts';
import { elsewhere, expectThat, fix, judgeClock, type Line, notHere, ok } from './line.ts';
import { lookAtRedisUsers, lookAtSecretsOfUsers } from './redis-users.ts';

/** A backlog above this number of requests without a verdict does not shrink by itself. */
const MOST_REQUESTS = 1000;
/** What Redis answers to a client that is not logged in, has a wrong password, or lacks the right (ACL). */
const REFUSED = /\b(NOAUTH|WRONGPASS|NOPERM)\b/u;
/** The share of `maxmemory` that may be used; when it is full, Redis refuses writes. */
const MOST_SHARE = 0.8;

/** @param effective with the portals that were added by request; undefined: PostgreSQL does not say them */
export async function lookAtRedis(
  config: Config,
  effective: () => Promise<Config | undefined> = () => Promise.resolve(config),
): Promise<Line[]> {
  const askedAt = Date.now();
  const ofPortals = config.portals.flatMap(({ name }) =>
    [true, false].map((urgent) => requestsQueue(name, urgent)),
  );
  const queues = [...ofPortals, ...ROLES];
  const secret = stateOfSecret(config);
  if (secret === 'not for this user') return [SECRET_ELSEWHERE];
  let health;
  try {
    health = await readRedisHealth(config, 'admin', queues);
  } catch (error) {
    const what = `Redis: ${describeError(error)}`;
    if (!REFUSED.test(what)) throw error;
    if (secret === 'there') return [fix(what, APPLY_USERS)];
    if (new URL(config.redis.url).password === '') return [SECRET_ELSEWHERE];
    return [fix(what, 'Set the user and the password of Redis in `redis.url`.')];
  }
  const { version, clock, toMend, usedBytes, mostBytes, waiting } = health;
  const requests = ofPortals.reduce((sum, queue) => sum + (waiting.get(queue) ?? 0), 0);
  const depths = queues
    .filter((queue) => !ofPortals.includes(queue) || (waiting.get(queue) ?? 0) > 0)
    .map((queue) => `${queue} ${waiting.get(queue) ?? 0}`)
    .join(', ');
  const whole = await effective();
  return [
    ok(`version ${version} answers`),
    judgeClock('Redis', clock, { askedAt, answeredAt: Date.now() }),
    ...(toMend === undefined
      ? [
          elsewhere(
            'its settings cannot be read as this user',
            'Compare them with deploy/redis/redis.conf.',
          ),
        ]
      : toMend.map((sentence) => {
          const [what = '', todo = ''] = sentence.split(': ');
          return fix(what, `${todo.replace(/^s/u, 'S')}, in its configuration file too.`);
        })),
    ...(toMend?.length === 0 ? [ok('it keeps its data')] : []),
    expectThat(
      mostBytes === 0 || usedBytes < mostBytes * MOST_SHARE,
      'it has enough memory',
      `${mib(usedBytes)} of ${mib(mostBytes)} MiB are used: when it is full, it accepts no request`,
      'Raise `maxmemory`, or find the portal that fills it: run `redis-cli --user chamberlain_owner --bigkeys` with the secret redis-owner in REDISCLI_AUTH.',
    ),
    expectThat(
      requests < MOST_REQUESTS,
      `jobs that wait: ${depths}`,
      `${requests} requests wait for a verdict (${depths})`,
      'Check whether `chamberlain work intake` is running, and whether a portal sends the same request repeatedly.',
    ),
    ...(await lookAtRedisUsers(whole ?? config, whole !== undefined)),
    ...lookAtSecretsOfUsers(whole ?? config),
  ];
}

const SECRET_ELSEWHERE = notHere('Redis, as chamberlain_admin', 'redis-admin');

function stateOfSecret(config: Config): 'there' | 'missing' | 'not for this user' {
  try {
    return findSecret(config, 'redis', 'admin') === undefined ? 'missing' : 'there';
  } catch {
    return 'not for this user';
  }
}

function mib(bytes: number): number {
  return Math.round(bytes / 2 ** 20);
}
