/** PostgreSQL: a cluster of its own as Debian lays one out, its database, and its roles. */
import {
  closeSync,
  constants,
  existsSync,
  openSync,
  readSync,
  renameSync,
  statSync,
} from 'node:fs';
import { file, folder, localAccounts } from '../../deploy/login-host/pieces.ts';
import { migrate } from '../cli/commands/migrate.ts';
import { loginOf, openOwner, POSTGRES_ROLES } from '../database/connection.ts';
import { readAbsentRoles, readMigrations } from '../doctor/health-queries.ts';
import { isNotMigrated } from '../shared/errors.ts';
import { listMigrations, ROOT } from '../shared/root.ts';
import type { Answers } from './answers.ts';
import { shownPieces } from './certificates.ts';
import { LISTENERS, POSTGRES, readConfig } from './places.ts';
import {
  countOpenFunctions,
  createDatabase,
  hasDatabase,
  readRolesToMend,
  reserveFunctions,
  setPasswords,
} from './postgres-queries.ts';
import { run, service, together } from './programs.ts';
import type { Differs, Piece } from './setup.ts';
import { count } from '../shared/printable.ts';

const { version, cluster, host, port, unit } = POSTGRES;
const NAME = `${version}/${cluster}`;
const SETTINGS = `/etc/postgresql/${NAME}`;
const DATA = `/var/lib/postgresql/${NAME}`;
const PID_FILE = `/run/postgresql/${version}-${cluster}.pid`;
const BY_SETUP = '# Written by `chamberlain setup`.';

const ALONE = "listen_addresses = ''\n";
const BY_TLS = `listen_addresses = '*'
ssl = on
ssl_cert_file = '${LISTENERS.postgres.file}'
ssl_key_file = '${LISTENERS.postgres.file}'
`;

/**
 * With the limits of roles.sql, two whole sets of workers fit into 200 connections. The others, and the short time that
 * a login may take, are for clients on the network that connect and do not log in.
 */
export const confOf = ({
  listen,
}: Answers) => `${BY_SETUP} Settings of your own belong in files conf.d/*.conf.
data_directory = '${DATA}'
hba_file = '${SETTINGS}/pg_hba.conf'
ident_file = '${SETTINGS}/pg_ident.conf'
external_pid_file = '${PID_FILE}'
cluster_name = '${NAME}'
${listen === undefined ? ALONE : BY_TLS}unix_socket_directories = '${host}'
port = ${port}
max_connections = 500
authentication_timeout = 10s
password_encryption = scram-sha-256
log_line_prefix = '%m [%p] %q%u@%d '
log_timezone = 'Etc/UTC'
timezone = 'Etc/UTC'
include_dir = 'conf.d'
`;
/** From another machine, only the workers log in: the owner does on this one. */
export const hbaOf = ({
  listen,
}: Answers) => `${BY_SETUP} Lines of your own belong in pg_hba.local.conf.
local  all          postgres        peer
local  ${cluster}  /^chamberlain  scram-sha-256
${listen === undefined ? '' : `hostssl  ${cluster}  /^chamberlain_  all  scram-sha-256\n`}include_if_exists pg_hba.local.conf
`;

const OWNED = { owner: 'postgres', group: 'postgres' } as const;
const text = (name: string, contents: string, mode = 0o640) =>
  file(`${SETTINGS}/${name}`, { ...OWNED, mode, contents });

export function postgresPieces(answers: Answers, needs: readonly Piece[]): Piece[] {
  const data: Piece = {
    ...{ name: `the data of the PostgreSQL cluster ${NAME}`, does: `initdb in ${DATA}`, needs },
    check: () => (existsSync(DATA) ? undefined : 'are missing'),
    make: makeData,
  };
  const settings = together(
    `the settings of the PostgreSQL cluster ${NAME}`,
    `writes ${SETTINGS}: it listens on a unix socket in ${host}${answers.listen === undefined ? ' alone' : ', and over TLS'}`,
    [
      folder(`/etc/postgresql/${version}`, { ...OWNED, mode: 0o755 }),
      folder(SETTINGS, { ...OWNED, mode: 0o755 }),
      folder(`${SETTINGS}/conf.d`, { ...OWNED, mode: 0o755 }),
      text('pg_hba.conf', hbaOf(answers)),
      text('pg_ident.conf', `${BY_SETUP}\n`),
      text('start.conf', 'auto\n', 0o644),
      text('pg_ctl.conf', "pg_ctl_options = ''\n", 0o644),
      text('environment', '', 0o644),
      text('postgresql.conf', confOf(answers), 0o644),
    ],
    [data],
  );
  const running = service(
    unit,
    [settings],
    [`${SETTINGS}/postgresql.conf`, `${SETTINGS}/pg_hba.conf`],
  );
  const shows = postgresShows(answers, [running]);
  return [data, settings, running, ...databasePieces(running), ...shows];
}

export const postgresShows = (answers: Answers, needs: readonly Piece[]): Piece[] =>
  shownPieces(LISTENERS.postgres, answers, reload, needs);

/** By a signal: the unit that renews certificates may neither ask systemd nor become another user. */
function reload(): void {
  const postgres = localAccounts().find(({ name }) => name === 'postgres');
  process.kill(pidIn(PID_FILE, postgres?.uid), 'SIGHUP');
}

const PID_FLAGS = constants.O_RDONLY | constants.O_NOFOLLOW | constants.O_NONBLOCK;

/** The process that a pid file names. Its user may write anything into it: only a process of theirs counts. */
export function pidIn(path: string, uid: number | undefined): number {
  const fd = openSync(path, PID_FLAGS);
  const start = Buffer.alloc(16);
  try {
    readSync(fd, start);
  } finally {
    closeSync(fd);
  }
  const [, digits] = /^(\d{1,10})\s/u.exec(start.toString('latin1').replaceAll('\0', '\n')) ?? [];
  const pid = Number(digits ?? 0);
  const seen = pid > 1 ? statSync(`/proc/${pid}`, { throwIfNoEntry: false }) : undefined;
  if (seen === undefined || seen.uid !== uid)
    throw new Error(`${path} names no process of its user`);
  return pid;
}

const LOST = `${SETTINGS} shows that it had data. Mount their disk, and run setup again. Only if the data are lost, remove ${SETTINGS}, run \`chamberlain setup\` without --answers, and go on with docs/recovery.md, "PostgreSQL is lost"`;

/**
 * What is interrupted leaves no folder of that name. The data are made before the settings: settings without data show a
 * disk that is not mounted, and an empty cluster in its place would give away names and numbers again.
 */
async function makeData(): Promise<void> {
  if (existsSync(`${SETTINGS}/postgresql.conf`)) throw new Error(LOST);
  const unfinished = `${DATA}.new`;
  await run('rm', ['-rf', unfinished]);
  await run('install', [
    '-d',
    '-o',
    'postgres',
    '-g',
    'postgres',
    `/var/lib/postgresql/${version}`,
  ]);
  await run('runuser', [
    ...['-u', 'postgres', '--', `/usr/lib/postgresql/${version}/bin/initdb`],
    ...['--no-instructions', '--encoding=UTF8', '--locale=C.UTF-8', '--data-checksums'],
    ...['--auth-local=peer', '--auth-host=scram-sha-256', '--pgdata', unfinished],
  ]);
  renameSync(unfinished, DATA);
}

function databasePieces(running: Piece): Piece[] {
  const database: Piece = {
    name: `the database ${cluster}, with its owner`,
    does: 'creates both',
    needs: [running],
    async check() {
      if (!(await hasDatabase())) return 'is missing';
      const wrong = await readRolesToMend(readConfig());
      return wrong.includes('owner')
        ? 'has an owner whose password is not that of its secret'
        : undefined;
    },
    async make() {
      await createDatabase();
      await setPasswords(readConfig(), ['owner']);
    },
  };
  const locks: Piece = {
    name: 'the locks of the workers',
    does: 'deploy/postgres/locks.sql: no other account may take them',
    needs: [database],
    async check() {
      const open = await countOpenFunctions();
      return open === 0 ? undefined : `may be taken by everybody, with ${count(open, 'function')}`;
    },
    make: reserveFunctions,
  };
  const schema = schemaPiece([database]);
  const passwords: Piece = {
    name: 'the passwords of the roles in PostgreSQL',
    does: 'gives each role the verifier of its secret',
    needs: [schema],
    async check() {
      const wrong = await readRolesToMend(readConfig());
      return wrong.length === 0 ? undefined : `are not those of the secrets: ${wrong.join(' ')}`;
    },
    make: async () => setPasswords(readConfig(), await readRolesToMend(readConfig())),
  };
  return [database, locks, schema, passwords];
}

export function schemaPiece(needs: readonly Piece[]): Piece {
  return {
    name: 'the tables and roles in PostgreSQL',
    does: 'chamberlain migrate',
    needs,
    check: checkSchema,
    make: async () => void (await migrate(readConfig())),
  };
}

async function checkSchema(): Promise<Differs> {
  const client = await openOwner(readConfig());
  try {
    const had = await readMigrations(client).catch((error: unknown): string[] => {
      if (isNotMigrated(error)) return [];
      throw error;
    });
    const wanted = listMigrations(ROOT).map((name) => name.replace(/\.sql$/u, ''));
    const missing = wanted.filter((name) => !had.includes(name));
    if (missing.length > 0) return `lack ${count(missing.length, 'migration')}`;
    const absent = await readAbsentRoles(client, POSTGRES_ROLES.map(loginOf));
    return absent.length === 0 ? undefined : `lack the roles ${absent.join(' ')}`;
  } finally {
    await client.end();
  }
}
