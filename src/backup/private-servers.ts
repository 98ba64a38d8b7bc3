/**
 * Private servers for restoring a set on trial: a PostgreSQL and a slapd. Each listens on a socket in a folder that no
 * other user may enter, ends with this process, and leaves nothing behind.
 */
import { execFileSync, spawn } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import {
  chownSync,
  closeSync,
  mkdirSync,
  mkdtempSync,
  openSync,
  readFileSync,
  rmSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import pg from 'pg';
import {
  DIRECTORY_ACCOUNTS,
  directoryRealm,
  renderDirectory,
  type Directory,
} from '../../deploy/ldap/render.ts';
import type { Config } from '../shared/config.ts';
import { runPrograms, type Program } from '../shared/run-programs.ts';
import { withoutPassword } from '../backends/ldap/ldap.ts';
import { postgresProgram } from './postgres-programs.ts';
import { ChamberlainError } from '../shared/errors.ts';
import type { DirectoryPlace } from './directory.ts';

const START_TIMEOUT_MS = 60_000;
const STOP_TIMEOUT_MS = 30_000;
const LOOK_MS = 50;
const SLAPD = '/usr/sbin/slapd';
const SLAPADD = '/usr/sbin/slapadd';

/** The error if this machine is at fault, so that nothing is known about the set. */
export function cannotBegin(what: string, cause: unknown): ChamberlainError {
  return new ChamberlainError('STEP_FAILED', `${what} in ${tmpdir()}`, {
    cause,
    action:
      'The set was not checked. Point TMPDIR to a folder that has free space and a short plain path, and that the user postgres may enter.',
  });
}

interface PrivateServer {
  program: string;
  args: readonly string[];
  user: Program['user'];
  /** throws as long as the server does not answer */
  look: () => Promise<unknown>;
  signal: AbortSignal;
}

/**
 * Runs a server while `act` works with it. It is stopped with SIGINT, which the kernel sends too if this process dies.
 */
async function withServer<T>(
  folder: string,
  { program, args, user, look, signal }: PrivateServer,
  act: () => Promise<T>,
): Promise<T> {
  const log = join(folder, 'log');
  const output = openSync(log, 'w', 0o600);
  const child = spawn('setpriv', ['--pdeathsig', 'INT', '--', program, ...args], {
    ...user,
    cwd: '/',
    env: { PATH: process.env['PATH'], LC_ALL: 'C.UTF-8' },
    stdio: ['ignore', output, output],
  });
  closeSync(output);
  const ended = new Promise<void>((resolve) => {
    child.once('error', () => resolve());
    child.once('exit', () => resolve());
  });
  const hasEnded = () =>
    child.pid === undefined || child.exitCode !== null || child.signalCode !== null;
  try {
    const deadline = performance.now() + START_TIMEOUT_MS;
    for (;;) {
      signal.throwIfAborted();
      const why = await look().then(
        () => undefined,
        (error: unknown) => error,
      );
      if (why === undefined) break;
      if (hasEnded() || performance.now() > deadline) {
        const said = readFileSync(log, 'utf8').trimEnd().split('\n').at(-1);
        const cause = new Error(said || 'the server does not answer', { cause: why });
        throw cannotBegin(`starting ${program}`, cause);
      }
      await sleep(LOOK_MS);
    }
    return await act();
  } finally {
    if (!hasEnded()) child.kill('SIGINT');
    const timer = setTimeout(() => child.kill('SIGKILL'), STOP_TIMEOUT_MS);
    await ended;
    clearTimeout(timer);
  }
}

function makeFolder(): string {
  try {
    return mkdtempSync(join(tmpdir(), 'chamberlain-verify-')); // mode 0700
  } catch (cause) {
    throw cannotBegin('making a folder', cause);
  }
}

/** Calls `act` with an empty folder that only that user may enter, and then removes the folder with its contents. */
async function withFolder<T>(
  user: Program['user'],
  act: (folder: string) => Promise<T>,
): Promise<T> {
  const folder = makeFolder();
  try {
    if (user !== undefined) chownSync(folder, user.uid, user.gid);
    return await act(folder);
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
}

/** A PostgreSQL without our databases. */
export interface PrivatePostgres {
  /** options of psql and pg_restore that log in as the superuser */
  superuser: readonly string[];
  /** connects to a database as the superuser */
  connect: (database: string) => Promise<pg.Client>;
}

/** The user that PostgreSQL runs as, because it refuses to run as root. */
function postgresUser(): Program['user'] {
  if (process.geteuid?.() !== 0) return undefined;
  const idOf = (option: string) =>
    Number(execFileSync('id', [option, 'postgres'], { stdio: 'pipe' }));
  return { uid: idOf('-u'), gid: idOf('-g') };
}

export async function withPrivatePostgres<T>(
  signal: AbortSignal,
  act: (server: PrivatePostgres) => Promise<T>,
): Promise<T> {
  const user = postgresUser();
  return withFolder(user, async (folder) => {
    const data = join(folder, 'data');
    const initdb: Program = {
      name: postgresProgram('initdb'),
      args: [
        '-D',
        data,
        '-U',
        'postgres',
        '--auth=trust',
        '--no-sync',
        '--encoding=UTF8',
        '--locale=C.UTF-8',
      ],
      ...(user === undefined ? {} : { user }),
    };
    await beginning('running initdb', signal, () => runPrograms([initdb], { signal }));
    const connect = async (database: string) => {
      const client = new pg.Client({ host: folder, port: 5432, user: 'postgres', database });
      client.on('error', () => {}); // the statement in progress reports it
      await client.connect();
      return client;
    };
    const settings = {
      listen_addresses: '',
      unix_socket_directories: folder,
      port: '5432',
      fsync: 'off',
    };
    return withServer(
      folder,
      {
        ...{ program: postgresProgram('postgres'), user, signal },
        args: [
          '-D',
          data,
          ...Object.entries(settings).flatMap(([name, value]) => ['-c', `${name}=${value}`]),
        ],
        look: async () => (await connect('postgres')).end(),
      },
      () => act({ superuser: ['-h', folder, '-p', '5432', '-U', 'postgres'], connect }),
    );
  });
}

/**
 * A slapd as deploy/ldap renders it for that configuration, with the entries that `load` gives to slapadd and, as in a
 * real one, the accounts of our programs. Their passwords are new and known to nobody.
 */
export async function withPrivateDirectory<T>(
  config: Pick<Config, 'realm' | 'ldap' | 'ids'>,
  load: (slapadd: Program) => Promise<void>,
  signal: AbortSignal,
  act: (place: DirectoryPlace) => Promise<T>,
): Promise<T> {
  const { base, realm } = directoryRealm(config);
  return withFolder(undefined, async (folder) => {
    const inFolder = (name: string) => join(folder, name);
    for (const name of ['config', 'data']) mkdirSync(inFolder(name), { mode: 0o700 });
    const passwords = Object.fromEntries(
      [...DIRECTORY_ACCOUNTS, 'admin'].map((account) => [account, randomBytes(24).toString('hex')]),
    ) as Directory['passwords'];
    const texts = renderDirectory({
      ...directoryRealm(config),
      ...{ passwords, databaseFolder: inFolder('data'), pidFile: inFolder('slapd.pid') },
    });
    const slapadd = (database: string): Program => ({
      name: SLAPADD,
      args: ['-q', '-F', inFolder('config'), '-n', database],
    });
    const add = async (name: 'config.ldif' | 'accounts.ldif', database: string) =>
      runPrograms([slapadd(database)], { from: bytesOf(texts[name]), signal });
    await beginning('making a directory', signal, () => add('config.ldif', '0'));
    const slapmodify = {
      name: '/usr/sbin/slapmodify',
      args: ['-F', inFolder('config'), '-n', '0'],
    };
    await runPrograms([slapmodify], { from: bytesOf(texts['access.ldif']), signal });
    await load(slapadd('1'));
    await add('accounts.ldif', '1');
    const uri = `ldapi://${encodeURIComponent(inFolder('ldapi'))}`;
    return withServer(
      folder,
      {
        ...{ program: SLAPD, user: undefined, signal },
        args: ['-d', '0', '-F', inFolder('config'), '-h', uri],
        look: () => withoutPassword({ uri }, 'peer', async () => {}),
      },
      () => act({ uri, base, realm, password: passwords['directory-reader'] }),
    );
  });
}

async function beginning(
  what: string,
  signal: AbortSignal,
  act: () => Promise<void>,
): Promise<void> {
  try {
    await act();
  } catch (cause) {
    signal.throwIfAborted();
    throw cannotBegin(what, cause);
  }
}

async function* bytesOf(text: string): AsyncGenerator<Uint8Array> {
  yield Buffer.from(text);
}
