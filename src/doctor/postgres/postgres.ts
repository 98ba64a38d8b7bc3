/** Checks PostgreSQL: the server, the logins, who may take its locks and connections, the tables, the rights. */
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { type Config, readSecret } from '../../shared/config.ts';
import { codeOf, describeError } from '../../shared/errors.ts';
import {
  logsIn,
  type Openness,
  readMigrations,
  readOpenness,
  readServerHealth,
  SAFE_SETTINGS,
} from '../health-queries.ts';
import { look } from '../../database/overview.ts';
import { listMigrations } from '../../shared/root.ts';
import {
  type Client,
  type Pool,
  POSTGRES_ROLES,
  type PostgresRole,
  sqlState,
} from '../../database/connection.ts';
import { expectThat, fix, judgeClock, type Line, notHere, ok, unreadable } from '../line.ts';
import { lookAtRights, MIGRATE } from './rights.ts';

const OLDEST = 16;
const ROLES = POSTGRES_ROLES.map((role) => `chamberlain_${role}`);

/** Which logins work; `asAdmin` says whether the role `admin` can be used, or why not. */
export interface Logins {
  lines: Line[];
  asAdmin: 'good' | 'not here' | 'no';
  /** the error of a server that did not answer */
  away: unknown;
}

/** Logs in with every secret of PostgreSQL that is here, also as the owner. Never throws. */
export async function lookAtLogins(config: Config): Promise<Logins> {
  const good: string[] = [];
  const refused: string[] = [];
  const notHereToo: string[] = [];
  const away: unknown[] = [];
  const roles: PostgresRole[] = [...POSTGRES_ROLES, 'owner'];
  const ends = await Promise.all(roles.map((role) => tryLogin(config, role)));
  for (const [index, role] of roles.entries()) {
    const end = ends[index];
    if (end === 'good') good.push(role);
    else if (end === 'refused') refused.push(role);
    else if (end === 'not here') notHereToo.push(role);
    else if (end !== undefined) away.push(end.error);
  }
  const lines: Line[] = [];
  if (refused.length > 0) {
    lines.push(
      fix(
        `these accounts cannot log in with their secrets on this machine: ${refused.join(', ')}`,
        'Check pg_hba.conf. ' +
          (refused.includes('owner')
            ? 'Give the owner, which is the PostgreSQL role chamberlain, the password of its secret. '
            : '') +
          'Run `chamberlain migrate`, which creates the roles that do not exist, and give each of them the password of its secret: see docs/install.md, step 5.',
      ),
    );
  }
  if (good.length > 0) lines.push(ok(`these roles can log in: ${good.join(', ')}`));
  const asAdmin = good.includes('admin')
    ? 'good'
    : notHereToo.includes('admin')
      ? 'not here'
      : 'no';
  return { lines, asAdmin, away: away[0] };
}

/** The lines about logins. Throws if the server has answered none of them. */
export async function linesOnLogins(logins: Promise<Logins>): Promise<Line[]> {
  const { lines, away } = await logins;
  if (away === undefined) return lines;
  if (lines.length === 0) throw away;
  const todo =
    'Check that the server runs and can be reached, and check `postgres` in the configuration.';
  return [unreadable(`PostgreSQL: ${describeError(away)}`, todo), ...lines];
}

async function tryLogin(
  config: Config,
  role: PostgresRole,
): Promise<'good' | 'refused' | 'not here' | { error: unknown }> {
  try {
    readSecret(config, 'postgres', role);
  } catch {
    return 'not here';
  }
  try {
    return (await logsIn(config, role)) ? 'good' : 'refused';
  } catch (error) {
    return { error };
  }
}

/** How PostgreSQL is reached as an admin. */
export interface Admin {
  logins: Promise<Logins>;
  pool: () => Pool;
}

/**
 * Runs a check as the role `admin`, if that can log in.
 *
 * @param what names the check if it cannot, such as `the work`
 */
export async function lookAsAdmin(
  { logins, pool }: Admin,
  what: string,
  act: (client: Client) => Promise<Line[]>,
): Promise<Line[]> {
  const { asAdmin, away } = await logins;
  if (away !== undefined && asAdmin === 'no') throw away;
  if (asAdmin === 'not here') return [notHere(what, 'postgres-admin')];
  if (asAdmin === 'no') {
    return [unreadable(`${what}: chamberlain_admin cannot log in`, 'See the lines on PostgreSQL.')];
  }
  try {
    return await look(pool(), act);
  } catch (error) {
    // missing tables or rights
    const isUnfinished =
      codeOf(error) === 'CONFIG_INVALID' || sqlState((error as Error).cause) === '42501';
    if (isUnfinished) return [fix(`${what}: ${describeError(error)}`, MIGRATE)];
    throw error;
  }
}

/** @param root the program's own folder */
export async function lookAtPostgres(client: Client, root: string): Promise<Line[]> {
  const askedAt = Date.now();
  const { version, settings, clock } = await readServerHealth(client);
  const moments = { askedAt, answeredAt: Date.now() };
  const major = Math.floor(version / 10_000);
  const unsafe = SAFE_SETTINGS.filter((name) => settings[name] === 'off');
  const lines: Line[] = [
    expectThat(
      major >= OLDEST,
      `version ${major} answers as chamberlain_admin`,
      `the server is version ${major}`,
      `Upgrade it to version ${OLDEST} or newer.`,
    ),
    judgeClock('PostgreSQL', clock, moments),
    expectThat(
      unsafe.length === 0,
      'committed data is on the disk',
      `${unsafe.join(', ')} ${unsafe.length === 1 ? 'is' : 'are'} off: committed data may be lost`,
      'Set each of these to `on` in postgresql.conf. If `ALTER ROLE` or `ALTER DATABASE` has turned one off, reset it there too.',
    ),
  ];
  const locks = join(root, 'deploy/postgres/locks.sql');
  const [, reserved = ''] = /\bproname ~ '([^']+)'/u.exec(readFileSync(locks, 'utf8')) ?? [];
  lines.push(...judgeOpenness(await readOpenness(client, reserved), locks));
  const schema = await lookAtSchema(client, root);
  lines.push(schema);
  // missing tables have no rights either
  if (schema.state === 'ok') lines.push(...(await lookAtRights(client, root, ROLES)));
  return lines;
}

/** @param locks the file that reserves functions for the owner */
function judgeOpenness(openness: Openness, locks: string): Line[] {
  const { database, lockers, fillers, isPublic, unlimited, limits, room } = openness;
  const isOurs = (login: string) => (ROLES as readonly string[]).includes(login);
  const withoutLimit = (logins: readonly string[], todo: string): Line[] =>
    logins.length === 0
      ? []
      : [
          fix(
            `these logins have no connection limit, so they can take all connections of the server: ${logins.join(', ')}`,
            todo,
          ),
        ];
  const others = unlimited.filter((login) => !isOurs(login));
  const runLocks = `As PostgreSQL's superuser: psql -d ${database} -f ${locks}`;
  return [
    expectThat(
      lockers.length === 0,
      'only the workers can take their locks',
      `these logins can take the locks of the workers, and so stop all work: ${lockers.join(', ')}`,
      runLocks,
    ),
    expectThat(
      fillers.length === 0,
      'only the owner can create large objects',
      `these logins can fill the disk with large objects, without a right on any table: ${fillers.join(', ')}`,
      runLocks,
    ),
    expectThat(
      !isPublic,
      'only logins with a grant can connect to the database',
      'every login of the server can connect to the database',
      MIGRATE,
    ),
    ...withoutLimit(
      unlimited.filter(isOurs),
      `${MIGRATE} If a superuser created the role, a superuser must set its limit: ALTER ROLE … CONNECTION LIMIT 30.`,
    ),
    ...withoutLimit(
      others,
      `As PostgreSQL's superuser, for each: ALTER ROLE ${others[0]} CONNECTION LIMIT 10.`,
    ),
    expectThat(
      limits <= room,
      `the server has enough connections for all logins: ${limits} of ${room}`,
      `the limits of all logins add up to ${limits} connections, but the server has only ${room}`,
      `Raise max_connections by ${limits - room} in postgresql.conf, and restart PostgreSQL; or lower the limits.`,
    ),
  ];
}

async function lookAtSchema(client: Client, root: string): Promise<Line> {
  const wanted = listMigrations(root).map((name) => name.replace(/\.sql$/u, ''));
  const had = await readMigrations(client);
  const missing = wanted.filter((name) => !had.includes(name));
  const newer = had.filter((name) => !wanted.includes(name));
  if (newer.length > 0) {
    return fix(
      `the database has the migrations ${newer.join(', ')}, which this version of Chamberlain does not know`,
      'Install the newer version on this machine too.',
    );
  }
  return expectThat(
    missing.length === 0,
    `the tables are those of this version (${wanted.at(-1)})`,
    `the database lacks the migrations ${missing.join(', ')}`,
    MIGRATE,
  );
}
