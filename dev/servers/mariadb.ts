import { existsSync, readFileSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { verifierOf } from '../../src/credentials/credentials.ts';
import type { Certificate } from './certificate.ts';
import { ANSWER_TIMEOUT_MS, makeWhole, type Server } from './daemon.ts';
import { run } from './processes.ts';
import { ensurePassword } from './secret.ts';

export type MariadbKind = 'replica' | 'toolsdb';

export interface MariadbServer extends Server {
  readonly kind: MariadbKind;
  readonly socket: string;
}

const SQL_FOLDER = join(import.meta.dirname, '../../deploy/mariadb');

/** The accounts that deploy/mariadb creates, by the name of their secret. */
const ACCOUNTS = {
  'mariadb-databases': 'chamberlain_databases',
  'mariadb-databases-reader': 'chamberlain_databases_reader',
};

/** In the folder of the data. */
const CERTIFICATE = 'own-certificate.pem';
const KEY = 'own-key.pem';

/** Something to read on the replica, like a wiki's published views. */
const SAMPLE_VIEWS = `
  CREATE DATABASE IF NOT EXISTS enwiki;
  CREATE TABLE IF NOT EXISTS enwiki.page (page_id INT PRIMARY KEY, page_title VARBINARY(255) NOT NULL);
  INSERT IGNORE INTO enwiki.page VALUES (1, 'Main_Page'), (2, 'Chamberlain');
  CREATE DATABASE IF NOT EXISTS enwiki_p;
  CREATE OR REPLACE VIEW enwiki_p.page AS SELECT page_id, page_title FROM enwiki.page;
  GRANT SELECT, SHOW VIEW ON \`enwiki\\_p\`.* TO labsdbuser;
`;

/** A MariaDB on a unix socket, whose administrator is the system's root. */
export function mariadbServer(folder: string, kind: MariadbKind): MariadbServer {
  const data = join(folder, 'data');
  const socket = join(folder, 'run/mariadb.sock');
  // a folder of its own: a server that starts deletes whatever looks like an old temporary table, even another
  // server's
  const tmpdir = `--tmpdir=${join(folder, 'tmp')}`;
  const tls = [`--ssl-cert=${join(data, CERTIFICATE)}`, `--ssl-key=${join(data, KEY)}`];
  return {
    name: kind === 'replica' ? 'mariadb-replica' : 'mariadb-tools',
    folder,
    user: 'mysql',
    stopSignal: 'SIGTERM',
    kind,
    socket,
    async prepare() {
      await makeWhole(data, 'mysql', async (unfinished) => {
        await run('/usr/bin/mariadb-install-db', [
          '--no-defaults',
          '--user=mysql',
          `--datadir=${unfinished}`,
          tmpdir,
          '--skip-test-db',
          '--skip-name-resolve',
          '--auth-root-authentication-method=socket',
          '--auth-root-socket-user=root',
        ]);
      });
      if (!existsSync(join(data, CERTIFICATE))) await makeOwnCertificate(data);
      rmSync(socket, { force: true });
    },
    command: () => [
      '/usr/sbin/mariadbd',
      '--no-defaults',
      `--datadir=${data}`,
      tmpdir,
      `--socket=${socket}`,
      `--pid-file=${join(folder, 'run/mariadb.pid')}`,
      '--skip-networking',
      '--skip-name-resolve',
      '--character-set-server=utf8mb4',
      '--max-connections=300',
      '--innodb-buffer-pool-size=64M',
      '--innodb-log-file-size=32M',
      '--key-buffer-size=1M',
      '--aria-pagecache-buffer-size=16M',
      '--performance-schema=OFF',
      ...tls,
    ],
    async answers() {
      await administer(socket, 'SELECT 1;', ANSWER_TIMEOUT_MS);
      return true;
    },
  };
}

/**
 * Without a certificate, a server signs one for itself at each start, and its RSA key takes several times as long as all
 * else. This one is as good: nobody else has signed it, and clients know the server by the password.
 */
async function makeOwnCertificate(data: string): Promise<void> {
  const args = [
    ...['req', '-x509', '-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:P-256', '-noenc'],
    ...['-subj', '/CN=mariadb', '-days', '3650'],
    ...['-keyout', join(data, KEY), '-out', join(data, CERTIFICATE)],
  ];
  await run('/usr/bin/openssl', args, { user: 'mysql' });
}

/** The same server, which also listens at addresses of this machine (`A,B`), and offers TLS there. */
export function networked(
  server: MariadbServer,
  addresses: string,
  { certificate, key }: Certificate,
): MariadbServer {
  const tls = [`--ssl-cert=${certificate}`, `--ssl-key=${key}`];
  const listen = ['--skip-networking=0', `--bind-address=${addresses}`, '--port=3306'];
  return { ...server, command: () => [...server.command(), ...listen, ...tls] };
}

/** Creates Chamberlain's accounts as deploy/mariadb says, and gives them the passwords in `secrets`. */
export async function createMariadbAccounts(server: MariadbServer, secrets: string): Promise<void> {
  const passwords = Object.entries(ACCOUNTS).map(([secret, account]) => {
    const verifier = verifierOf(ensurePassword(secrets, secret));
    return `ALTER USER '${account}'@'%' IDENTIFIED BY PASSWORD '${verifier}' ACCOUNT UNLOCK;`;
  });
  await administer(
    server.socket,
    [
      readFileSync(join(SQL_FOLDER, `${server.kind}.sql`), 'utf8'),
      server.kind === 'replica' ? SAMPLE_VIEWS : '',
      ...passwords,
    ].join('\n'),
  );
}

/**
 * Runs statements as the administrator. Returns the rows as `mariadb --batch --skip-column-names` prints them: a line for
 * each, with tabs between its fields. (That program takes ten times the processor time, and tests call this thousands
 * of times.)
 */
export async function administer(socket: string, sql: string, timeoutMs = 0): Promise<string> {
  const { createConnection } = await import('mariadb');
  const connection = await createConnection({
    ...{ socketPath: socket, user: 'root', multipleStatements: true, rowsAsArray: true },
    ...{ connectTimeout: timeoutMs || 60_000, socketTimeout: timeoutMs },
    typeCast: (column) => column.string(),
  });
  try {
    // after another statement, what comes back is always a list of results
    const results: unknown = await connection.query(`DO 0; ${sql}`);
    const rows = Array.isArray(results) ? results.filter(Array.isArray).flat() : [];
    return rows.map((row: (string | null)[]) => `${row.map(fieldText).join('\t')}\n`).join('');
  } finally {
    connection.destroy();
  }
}

const ESCAPES: Record<string, string> = { '\\': '\\\\', '\t': '\\t', '\n': '\\n', '\0': '\\0' };

function fieldText(field: string | null): string {
  return field?.replaceAll(/[\\\t\n\0]/g, (char) => ESCAPES[char] ?? char) ?? 'NULL';
}
