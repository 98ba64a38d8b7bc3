/** Checks a MariaDB server, with both accounts that the databases role has there. */
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { type Config, readSecret } from '../shared/config.ts';
import { type DatabaseLogin, isUnavailable } from '../backends/mariadb/mariadb-connections.ts';
import { readReaderHealth, readGrants } from '../backends/mariadb/mariadb-health.ts';
import { describeError } from '../shared/errors.ts';
import { missingFrom, parseGrants } from './grants.ts';
import { fix, judgeClock, type Line, notHere, ok } from './line.ts';

type Server = Config['databases']['servers'][number];

const MOST_SHARE = 0.8;
/** A refused login: ER_ACCESS_DENIED_ERROR, …_NO_PASSWORD_ERROR, ER_ACCOUNT_HAS_BEEN_LOCKED */
const REFUSED = new Set([1045, 1698, 4151]);

const sqlOf = ({ kind }: Server) => `deploy/mariadb/${kind}.sql`;

/** @param root the program's own folder */
export async function lookAsReader(config: Config, server: Server, root: string): Promise<Line[]> {
  return await lookAs(config, server, 'databases-reader', async (login) => {
    const rights = await lookAtRights(server, login, root, ['PUBLIC']);
    if (rights.some(({ state }) => state === 'fix')) return rights;
    const askedAt = Date.now();
    const health = await readReaderHealth(server, login);
    const moments = { askedAt, answeredAt: Date.now() };
    const { connections, mostConnections, anonymousHosts } = health;
    const { name } = server;
    return [
      ok(`${name}: version ${health.version} answers`),
      judgeClock(name, health.clock, moments),
      ...rights,
      ...anonymousHosts.map((host) =>
        fix(
          `${name}: the anonymous account ''@'${host}' takes precedence over everybody's account`,
          `Run \`DROP USER ''@'${host}'\` there.`,
        ),
      ),
      connections < mostConnections * MOST_SHARE
        ? ok(`${name}: ${connections} of ${mostConnections} connections are in use`)
        : fix(
            `${name}: ${connections} of ${mostConnections} connections are in use`,
            'Raise `max_connections`, or lower `databases.maxUserConnections`.',
          ),
    ];
  });
}

/** @param root the program's own folder */
export async function lookAsWriter(config: Config, server: Server, root: string): Promise<Line[]> {
  return await lookAs(config, server, 'databases', (login) => lookAtRights(server, login, root));
}

/**
 * Compares what the account was granted with the file that grants it.
 *
 * @param others accounts that are also checked for missing rights
 */
async function lookAtRights(
  server: Server,
  login: DatabaseLogin,
  root: string,
  others: readonly string[] = [],
): Promise<Line[]> {
  const isItsOwn = ({ to }: { to: string }) => to === login.user;
  const isGranted = ({ to }: { to: string }) => [login.user, ...others].includes(to);
  const wanted = parseGrants(readFileSync(join(root, sqlOf(server)), 'utf8')).filter(isGranted);
  const had = parseGrants(await readGrants(server, login)).filter(isGranted);
  const whose = `${server.name}: ${login.user}`;
  const lines = [
    ...missingFrom(had, wanted).map(([to, rights]) =>
      fix(`${server.name}: ${to} lacks ${rights}`, `Run ${sqlOf(server)} there.`),
    ),
    ...missingFrom(wanted, had.filter(isItsOwn)).map(([, rights]) =>
      fix(`${whose} also has ${rights}`, `Revoke it: ${sqlOf(server)} does not grant it.`),
    ),
  ];
  return lines.length > 0 ? lines : [ok(`${whose} can log in, and has its rights and no others`)];
}

async function lookAs(
  config: Config,
  server: Server,
  account: 'databases' | 'databases-reader',
  look: (login: DatabaseLogin) => Promise<Line[]>,
): Promise<Line[]> {
  const user = `chamberlain_${account.replace('-', '_')}`;
  let password: string;
  try {
    password = readSecret(config, 'mariadb', account);
  } catch {
    return [notHere(`${server.name}, as ${user}`, `mariadb-${account}`)];
  }
  try {
    return await look({ user, password });
  } catch (error) {
    const { errno } = error as { errno?: number };
    if (errno !== undefined && REFUSED.has(errno)) {
      return [
        fix(
          `${server.name}: ${user} cannot log in`,
          `Set its password to that of the secret mariadb-${account}: see docs/install.md, step 8.`,
        ),
      ];
    }
    if (isUnavailable(error)) throw error;
    return [fix(`${server.name}: ${describeError(error)}`, `Run ${sqlOf(server)} there.`)];
  }
}
