import { randomBytes } from 'node:crypto';
import { readFileSync, readlinkSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import pg from 'pg';
import { postgresProgram } from '../../src/backup/postgres-programs.ts';
import { scramVerifier } from '../../src/secrets/secret.ts';
import { POSTGRES_ROLES } from '../../src/database/connection.ts';
import type { Certificate } from './certificate.ts';
import { ANSWER_TIMEOUT_MS, makeWhole, type Server } from './daemon.ts';
import { run } from './processes.ts';
import { ensurePassword } from './secret.ts';

export interface PostgresServer extends Server {
  readonly host: string;
  readonly port: number;
}

/**
 * A PostgreSQL that listens only on a unix socket, syncs its writes, and requires passwords of everyone but
 * root.
 */
export function postgresServer(folder: string): PostgresServer {
  const data = join(folder, 'data');
  const host = join(folder, 'run');
  const port = 5432;
  const settings = {
    listen_addresses: '',
    port: String(port),
    unix_socket_directories: host,
    hba_file: join(folder, 'pg_hba.conf'),
    ident_file: join(folder, 'pg_ident.conf'),
    max_connections: '800', // for the limits that test worlds share
    shared_buffers: '256MB',
    timezone: 'UTC',
    log_timezone: 'UTC',
  };
  return {
    name: 'postgres',
    folder,
    user: 'postgres',
    stopSignal: 'SIGINT', // "fast": open sessions are ended
    host,
    port,
    async prepare() {
      await makeWhole(data, 'postgres', async (unfinished) => {
        const options = ['--no-sync', '--encoding=UTF8', '--locale=C.UTF-8', '--auth=peer'];
        await run(postgresProgram('initdb'), [...options, '-D', unfinished], {
          user: 'postgres',
        });
      });
      // root and postgres may be the superuser; everyone else needs the password of the role.
      writeFileSync(
        settings.hba_file,
        'local all postgres peer map=superuser\nlocal all all scram-sha-256\n',
      );
      writeFileSync(settings.ident_file, 'superuser root postgres\nsuperuser postgres postgres\n');
      dropStaleLock(data);
      dropStaleLock(data, join(host, `.s.PGSQL.${port}.lock`));
    },
    command: () => [
      postgresProgram('postgres'),
      '-D',
      data,
      ...Object.entries(settings).flatMap(([name, value]) => ['-c', `${name}=${value}`]),
    ],
    async answers() {
      // not asSuperuser: against a frozen server, such a client cannot even be closed
      const client = new pg.Client({
        ...superuser({ host, port }, 'postgres'),
        connectionTimeoutMillis: ANSWER_TIMEOUT_MS,
      });
      client.on('error', () => undefined);
      await client.connect();
      void client.end();
      return true;
    },
  };
}

/** The same server, which also listens at addresses of this machine (`A,B`), for their networks, and only by TLS. */
export function listeningAt(
  server: PostgresServer,
  addresses: string,
  { certificate, key }: Certificate,
): PostgresServer {
  const tls = ['-c', 'ssl=on', '-c', `ssl_cert_file=${certificate}`, '-c', `ssl_key_file=${key}`];
  return {
    ...server,
    async prepare() {
      await server.prepare();
      const line = 'hostssl all all samenet scram-sha-256\n';
      writeFileSync(join(server.folder, 'pg_hba.conf'), line, { flag: 'a' });
    },
    command: () => [...server.command(), '-c', `listen_addresses=${addresses}`, ...tls],
  };
}

/** Creates the owner's role, and its database if it does not exist. */
export async function createOwnedDatabase(
  server: PostgresServer,
  database: string,
  secrets: string,
): Promise<void> {
  const verifier = scramVerifier(ensurePassword(secrets, 'postgres-owner'), randomBytes(16));
  await asSuperuser(server, 'postgres', async (client) => {
    await client.query(`DO $$ BEGIN
      CREATE ROLE chamberlain LOGIN CREATEROLE CONNECTION LIMIT 10;
    EXCEPTION WHEN duplicate_object OR unique_violation THEN NULL; END $$`);
    await client.query(`ALTER ROLE chamberlain PASSWORD '${verifier}'`);
    const known = await client.query('SELECT FROM pg_database WHERE datname = $1', [database]);
    if (known.rowCount === 0) {
      await client.query(`CREATE DATABASE ${pg.escapeIdentifier(database)} OWNER chamberlain`);
    }
  });
  await asSuperuser(server, database, (client) => client.query(readFileSync(LOCKS_SQL, 'utf8')));
}

/** What the superuser does in our database: see docs/install.md. */
export const LOCKS_SQL = join(import.meta.dirname, '../../deploy/postgres/locks.sql');

/**
 * Copies a database, with its tables, rows and rights; rights on the database itself are given anew. Nobody may
 * be connected to the template.
 */
export async function copyDatabase(
  server: PostgresServer,
  template: string,
  database: string,
): Promise<void> {
  await asSuperuser(server, 'postgres', async (client) => {
    const name = pg.escapeIdentifier(database);
    // two copies at once collide over the template
    await client.query('SELECT pg_advisory_lock(20_240_117)');
    await client.query(
      `CREATE DATABASE ${name} OWNER chamberlain TEMPLATE ${pg.escapeIdentifier(template)}`,
    );
    await client.query(`REVOKE ALL ON DATABASE ${name} FROM PUBLIC`);
    const ours = POSTGRES_ROLES.map((role) => `chamberlain_${role}`).join(', ');
    await client.query(`GRANT CONNECT ON DATABASE ${name} TO ${ours}`);
  });
}

export async function dropDatabase(server: PostgresServer, database: string): Promise<void> {
  await asSuperuser(server, 'postgres', (client) =>
    client.query(`DROP DATABASE IF EXISTS ${pg.escapeIdentifier(database)} WITH (FORCE)`),
  );
}

/** Gives each worker's role the password in its secret file: migrations create the roles without passwords. */
export async function setRolePasswords(server: PostgresServer, secrets: string): Promise<void> {
  await asSuperuser(server, 'postgres', async (client) => {
    const made = await client.query<{ rolname: string }>(
      `SELECT rolname FROM pg_roles WHERE rolname LIKE 'chamberlain\\_%'`,
    );
    const known = new Set(made.rows.map((row) => row.rolname));
    for (const role of POSTGRES_ROLES) {
      const password = ensurePassword(secrets, `postgres-${role}`);
      if (!known.has(`chamberlain_${role}`)) continue;
      const verifier = scramVerifier(password, randomBytes(16));
      await client.query(`ALTER ROLE chamberlain_${role} PASSWORD '${verifier}'`);
    }
  });
}

/**
 * Multiplies the limits of connections: they apply to the whole server, and test worlds share one. Migrations
 * leave a limit that is set.
 */
export async function widenLimits(server: PostgresServer, times: number): Promise<void> {
  await asSuperuser(server, 'postgres', async (client) => {
    const { rows } = await client.query<{ rolname: string; rolconnlimit: number }>(
      `SELECT rolname, rolconnlimit FROM pg_roles WHERE rolname ~ '^chamberlain(_|$)' AND rolconnlimit > 0`,
    );
    for (const { rolname, rolconnlimit } of rows) {
      await client.query(`ALTER ROLE ${rolname} CONNECTION LIMIT ${rolconnlimit * times}`);
    }
  });
}

/** For what Chamberlain has no right to do: creating databases and setting passwords. */
export async function asSuperuser<T>(
  at: { host: string; port: number },
  database: string,
  act: (client: pg.Client) => Promise<T>,
): Promise<T> {
  const client = new pg.Client(superuser(at, database));
  client.on('error', () => undefined); // only the errors that `act` sees matter
  await client.connect();
  try {
    return await act(client);
  } finally {
    await client.end();
  }
}

function superuser(at: { host: string; port: number }, database: string): pg.ClientConfig {
  return { host: at.host, port: at.port, user: 'postgres', database };
}

/**
 * Removes a lock file left by a kill -9. PostgreSQL does so itself unless the pid in it now belongs to another
 * process of its user, such as one of a second stack.
 */
function dropStaleLock(data: string, lock: string = join(data, 'postmaster.pid')): void {
  let pid: string;
  try {
    pid = readFileSync(lock, 'utf8').split('\n')[0] ?? '';
  } catch {
    return;
  }
  try {
    if (readlinkSync(`/proc/${pid}/cwd`) === data) return; // a postmaster of this data: it reports that itself
  } catch {
    // no such process
  }
  rmSync(lock, { force: true });
}
