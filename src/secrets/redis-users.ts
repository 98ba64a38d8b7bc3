/** Makes the users of Redis: those of the programs, of the portals of the file, and of portals that were added by request. */
import { isDeepStrictEqual } from 'node:util';
import { redisPasswords, redisUsers } from '../../deploy/redis/render.ts';
import { redisUser } from '../backends/redis/redis-connection.ts';
import { applyRedisUsers, type MadeUsers } from '../backends/redis/redis-users.ts';
import { withAdmin } from '../cli/admin.ts';
import { effectiveOf } from '../configuration/effective.ts';
import { secretsOf } from '../doctor/files.ts';
import { noteListedPortals } from '../requests/portals-table.ts';
import type { Config, Portal } from '../shared/config.ts';
import { passwordForPortal } from './secret.ts';
import { alone } from './secret-files.ts';

/**
 * Makes them as its owner, by the secrets on this machine, none of which may change meanwhile. If the portals change
 * meanwhile it begins again, so that of two runs on two machines none makes again what the other has removed.
 *
 * @throws STEP_FAILED, CONFIG_INVALID, BACKEND_UNAVAILABLE
 */
export async function makeRedisUsers(config: Config): Promise<MadeUsers> {
  const making = async (): Promise<MadeUsers> => {
    // no request may make the same names portals without users
    await withAdmin(config, (client) => noteListedPortals(client, config));
    const portals = await readPortals(config);
    const done = await applyRedisUsers(
      config,
      redisUsers(portals, (user) => redisPasswords(config, user)),
    );
    if (isDeepStrictEqual(await readPortals(config), portals)) return done;
    const more = await making();
    const both = (kind: keyof MadeUsers) => [...new Set([...done[kind], ...more[kind]])];
    return { made: both('made'), changed: both('changed'), removed: both('removed') };
  };
  const act = secretsOf(config)
    .filter((name) => name.startsWith('redis-'))
    .reduce((inner, name) => () => alone(config, name, inner), making);
  return await act();
}

/**
 * Changes the passwords of our own programs for the users of portals that were added by request, and nothing else.
 *
 * @param secrets what `redis-portals` is, and was
 */
export async function changeOwnPasswords(
  config: Config,
  secrets: readonly string[],
): Promise<void> {
  const added = (await readPortals(config)).filter(({ byRequest }) => byRequest === true);
  const wanted = redisUsers(added, (user) =>
    user.startsWith('added.')
      ? secrets.map((each) => passwordForPortal(each, redisUser(user)))
      : [],
  );
  const its = [...wanted].filter(([user]) => user.startsWith('portal.'));
  await applyRedisUsers(config, new Map(its), { removes: false });
}

/** Reads, as the role admin, the configuration with the portals that were added by request. */
export const readEffective = (config: Config): Promise<Config> =>
  withAdmin(config, (client) => effectiveOf(config, client));

const readPortals = async (config: Config): Promise<Portal[]> =>
  (await readEffective(config)).portals;
