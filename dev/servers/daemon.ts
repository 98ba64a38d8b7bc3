import { spawn } from 'node:child_process';
import {
  chmodSync,
  chownSync,
  closeSync,
  existsSync,
  mkdirSync,
  openSync,
  readFileSync,
  readdirSync,
  renameSync,
  rmSync,
  writeFileSync,
} from 'node:fs';
import { basename, dirname, join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import {
  accountIds,
  birthOf,
  parentOf,
  processes,
  signal,
  signalTree,
  stateOf,
} from './processes.ts';

export { run, signalTree } from './processes.ts';

/** One server of a stack: how it is prepared, started, checked and stopped. */
export interface Server {
  readonly name: string;
  /** `data`, `run` and `tmp` in it belong to the server's user; log and pid file are ours. */
  readonly folder: string;
  readonly user: string;
  readonly stopSignal: NodeJS.Signals;
  /** Creates the data if there is none, and writes the configuration anew. Only while the server is stopped. */
  prepare(): Promise<void>;
  command(): readonly string[];
  /** Whether it serves; false or an error as long as it does not. */
  answers(): Promise<boolean>;
}

/** What is needed of a server to find and stop it. */
export type Started = Pick<Server, 'name' | 'folder' | 'stopSignal'>;

export type ServerState = 'answers' | 'silent' | 'down';

/** The environment variable by which a server is recognised as that of its folder. */
const FOLDER_MARK = 'CHAMBERLAIN_SERVER_FOLDER';

const START_TIMEOUT_MS = 60_000;
/** How long `answers` may take; by then it has closed whatever it has opened. */
export const ANSWER_TIMEOUT_MS = 2_500;
const STOP_TIMEOUT_MS = 15_000;

/** Starts a server unless it is running, and returns once it answers. */
export async function startServer(server: Server): Promise<void> {
  if (runningPid(server) === undefined && !adoptOrphan(server)) {
    makeFolders(server);
    await server.prepare();
    launch(server);
  }
  await untilAnswers(server);
}

/** Stops a server that we started: by its pid, after waking it in case it was stopped with SIGSTOP. */
export async function stopServer(server: Started): Promise<void> {
  const pid = runningPid(server);
  if (pid === undefined) return;
  signalTree(pid, 'SIGCONT');
  signal(pid, server.stopSignal);
  if (!(await goneWithin(server, STOP_TIMEOUT_MS))) {
    signalTree(pid, 'SIGKILL');
    await goneWithin(server, STOP_TIMEOUT_MS);
  }
  // a child that has ended counts among the processor time of this process only once Node has seen it
  while (stateOf(pid) === 'Z' && parentOf(pid) === process.pid) await sleep(1);
  rmSync(pidFile(server), { force: true });
}

export async function serverState(server: Server): Promise<ServerState> {
  if (runningPid(server) === undefined) return 'down';
  return (await server.answers().catch(() => false)) ? 'answers' : 'silent';
}

/** The pid of the server that we started, if it still lives, and no other process has the pid now. */
export function runningPid(server: Started): number | undefined {
  let text: string;
  try {
    text = readFileSync(pidFile(server), 'utf8');
  } catch {
    return undefined;
  }
  const [pid = '', birth] = text.split(' ');
  return birth === birthOf(Number(pid)) ? Number(pid) : undefined;
}

/**
 * Creates `folder` under another name and renames it, so that an interruption leaves nothing incomplete under
 * the real name. The other name belongs to this process: a process started by a killed one may still be writing
 * to its own.
 */
export async function makeWhole(
  folder: string,
  user: string,
  make: (unfinished: string) => Promise<void>,
): Promise<void> {
  if (existsSync(folder)) return;
  const stem = `${basename(folder)}.new-`;
  for (const name of readdirSync(dirname(folder))) {
    if (name.startsWith(stem))
      rmSync(join(dirname(folder), name), { recursive: true, force: true });
  }
  const unfinished = join(dirname(folder), `${stem}${process.pid}`);
  makeFolder(unfinished, user, 0o700);
  await make(unfinished);
  renameSync(unfinished, folder);
}

export function makeFolder(folder: string, user: string, mode: number): void {
  const { uid, gid } = accountIds(user);
  mkdirSync(folder, { recursive: true });
  chownSync(folder, uid, gid);
  chmodSync(folder, mode);
}

function makeFolders(server: Server): void {
  mkdirSync(server.folder, { recursive: true, mode: 0o755 });
  makeFolder(join(server.folder, 'run'), server.user, 0o755);
  makeFolder(join(server.folder, 'tmp'), server.user, 0o700);
}

function launch(server: Server): void {
  const [program = '', ...args] = server.command();
  const log = openSync(logFile(server), 'a', 0o600);
  const child = spawn(program, args, {
    ...accountIds(server.user),
    cwd: join(server.folder, 'run'),
    detached: true,
    env: { PATH: '/usr/sbin:/usr/bin:/sbin:/bin', LANG: 'C.UTF-8', [FOLDER_MARK]: server.folder },
    stdio: ['ignore', log, log],
  });
  closeSync(log);
  child.on('error', () => undefined); // untilAnswers reports that it is gone
  child.unref();
  if (child.pid === undefined) throw new Error(`starting ${server.name}: cannot run ${program}`);
  writePidFile(server, child.pid);
}

/** Finds the server whose starter was killed before it could write the pid file. */
function adoptOrphan(server: Server): boolean {
  const mark = `\0${FOLDER_MARK}=${server.folder}\0`;
  const isMarked = (pid: number): boolean => {
    try {
      return `\0${readFileSync(`/proc/${pid}/environ`, 'latin1')}`.includes(mark);
    } catch {
      return false; // ended meanwhile
    }
  };
  // the server itself, not one of its children, as PostgreSQL has them
  const orphan = processes().find((pid) => isMarked(pid) && !isMarked(parentOf(pid)));
  if (orphan === undefined) return false;
  writePidFile(server, orphan);
  return runningPid(server) !== undefined;
}

function writePidFile(server: Server, pid: number): void {
  writeFileSync(pidFile(server), `${pid} ${birthOf(pid)}`);
}

async function untilAnswers(server: Server): Promise<void> {
  const pid = runningPid(server);
  const deadline = performance.now() + START_TIMEOUT_MS;
  while (!(await server.answers().catch(() => false))) {
    if (runningPid(server) !== pid || pid === undefined) {
      throw new Error(`${server.name} ended while starting:\n${logEnd(server)}`);
    }
    if (stateOf(pid) === 'T') {
      throw new Error(`${server.name} is stopped: \`kill -CONT ${pid}\`, or \`dev/stack down\``);
    }
    if (performance.now() > deadline) {
      throw new Error(`${server.name} (pid ${pid}) does not answer:\n${logEnd(server)}`);
    }
    await sleep(15);
  }
}

async function goneWithin(server: Started, timeoutMs: number): Promise<boolean> {
  const deadline = performance.now() + timeoutMs;
  while (runningPid(server) !== undefined) {
    if (performance.now() > deadline) return false;
    await sleep(10);
  }
  return true;
}

function pidFile(server: Started): string {
  return join(server.folder, 'pid');
}

function logFile(server: Server): string {
  return join(server.folder, 'log');
}

function logEnd(server: Server): string {
  return readFileSync(logFile(server), 'utf8').trimEnd().split('\n').slice(-12).join('\n');
}
