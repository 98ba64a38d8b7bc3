/** PostgreSQL's own programs, in the newest installed version, because an older one cannot read a newer server. */
import { existsSync, readdirSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { withUnnamedFile } from '../backends/mariadb/mariadb-programs.ts';
import { caFileOf, isThisMachine } from '../shared/tls.ts';

/** The folder in which Debian installs each version. */
const VERSIONS = '/usr/lib/postgresql';

/** The path of `pg_dump`, `initdb` and the like. Throws if no version of it is installed. */
export function postgresProgram(name: string): string {
  const found = findProgram(name);
  if (found === undefined) throw new Error(`PostgreSQL's ${name} is not installed`);
  return found;
}

export function hasPostgresProgram(name: string): boolean {
  return findProgram(name) !== undefined;
}

function findProgram(name: string): string | undefined {
  const versions = existsSync(VERSIONS) ? readdirSync(VERSIONS) : [];
  return versions
    .filter((version) => /^\d+$/.test(version))
    .sort((a, b) => Number(b) - Number(a))
    .map((version) => join(VERSIONS, version, 'bin', name))
    .find((path) => existsSync(path));
}

export interface PostgresLogin {
  host: string;
  port: number;
  database: string;
  user: string;
  password: string;
  caFile?: string | undefined;
}

/**
 * Calls `act` with a connection string for a client program, and an open file that must be its descriptor 3. So the
 * password is neither in an argument nor in the environment.
 */
export async function withConnection<T>(
  { password, ...place }: PostgresLogin,
  act: (connection: string, options: number) => Promise<T>,
): Promise<T> {
  const { host, port, user, database } = place;
  const tls = isThisMachine(host) ? {} : { sslmode: 'verify-full', sslrootcert: caFileOf(place) };
  const words = { host, port, user, dbname: database, passfile: '/proc/self/fd/3', ...tls };
  const connection = Object.entries(words)
    .map(([word, value]) => `${word}='${String(value).replaceAll(/['\\]/g, String.raw`\$&`)}'`)
    .join(' ');
  const line = `*:*:*:*:${password.replaceAll(/[:\\]/g, String.raw`\$&`)}\n`;
  return withUnnamedFile(tmpdir(), line, (options) => act(connection, options));
}
