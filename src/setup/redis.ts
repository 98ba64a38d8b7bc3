/** Redis: an instance of its own. Its unit and settings are in deploy/servers. */
import { file, folder } from '../../deploy/login-host/pieces.ts';
import { redisRules, usersForConfig } from '../../deploy/redis/render.ts';
import { lookAtRedisUsers } from '../doctor/redis-users.ts';
import { makeRedisUsers, readEffective } from '../secrets/redis-users.ts';
import { logsInToRedis } from '../backends/redis/redis-users.ts';
import { readCertificateAgain } from '../backends/redis/redis-certificate.ts';
import { redisHash } from '../secrets/secret.ts';
import { type Config, readSecret } from '../shared/config.ts';
import type { Answers } from './answers.ts';
import { LISTENERS, readConfig, REDIS } from './places.ts';
import { filesOf, listeningPiece, REDIS_LISTENS } from './listening.ts';
import { shownPieces } from './certificates.ts';
import { faultIn, restartService, service, together } from './programs.ts';
import type { Piece } from './setup.ts';

export function redisPieces(
  answers: Answers,
  needs: readonly Piece[],
  postgres: readonly Piece[],
): Piece[] {
  const path = `${REDIS.data}/users.acl`;
  const owned = { owner: 'redis', group: 'redis' } as const;
  // Redis itself writes the file when a password is changed: what it must hold is looked for, not compared
  const contents = (present = ''): string =>
    hasUsers(present, readConfig()) ? present : usersForConfig(readConfig());
  const options = { ...owned, mode: 0o640, isSecret: true, otherModes: [0o644, 0o600] };
  const users = together(
    'the users of Redis',
    `writes ${path}: one for each program and each portal`,
    [folder(REDIS.data, { ...owned, mode: 0o750 }), file(path, { ...options, contents })],
    needs,
  );
  const listening = listeningPiece(REDIS_LISTENS, answers, [users]);
  const running = service(REDIS.unit, [listening], filesOf(REDIS_LISTENS));
  const loaded: Piece = {
    name: 'the rights that users have in Redis',
    does: 'makes them as its owner; if nobody can log in as that, writes that file anew and restarts Redis first',
    // portals that were added by request are there
    needs: [running, ...postgres],
    check: async () => faultIn(await lookAtRedisUsers(await readEffective(readConfig()))),
    async make() {
      if (!(await logsInToRedis(readConfig(), 'owner'))) {
        file(path, { ...options, contents: () => usersForConfig(readConfig()) }).mend?.();
        await restartService(REDIS.unit);
      }
      await makeRedisUsers(readConfig());
    },
  };
  return [users, listening, running, loaded, ...redisShows(answers, [loaded])];
}

export const redisShows = (answers: Answers, needs: readonly Piece[]): Piece[] =>
  shownPieces(LISTENERS.redis, answers, loadCertificate, needs);

async function loadCertificate(): Promise<void> {
  await readCertificateAgain(readConfig(), LISTENERS.redis.file);
}

/**
 * Whether every user has the password of its secret, and nobody else is there but portals, which may have been added by
 * request.
 */
function hasUsers(text: string, config: Config): boolean {
  const rules = redisRules(config.portals);
  const words = text
    .split('\n')
    .filter((line) => line !== '')
    .map((line) => line.split(' '));
  return (
    words.every(
      ([, name = '']) => name.startsWith('portal.') || rules.some(({ user }) => user === name),
    ) &&
    rules.every(({ user, account }) => {
      const its = words.find(([, name]) => name === user);
      if (account === undefined) return its !== undefined;
      return its?.includes(`#${redisHash(readSecret(config, 'redis', account))}`);
    })
  );
}
