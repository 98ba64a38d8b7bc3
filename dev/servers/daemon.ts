import { execFile, spawn } from 'node:child_process';
import {
  chmodSync,
  chownSync,
  closeSync,
  mkdirSync,
  openSync,
  readFileSync,
  readdirSync,
  renameSync,
  rmSync,
  writeFileSync,
} from 'node:fs';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';

/** One server of a stack: how it is made ready, started, asked and ended. */
export interface Server {
  readonly name: string;
  /** `<folder>/data` and `<folder>/run` are the server's user's own; log and pid file are ours. */
  readonly folder: string;
  readonly user: string;
  readonly stopSignal: NodeJS.Signals;
  /** Makes the data where there is none, and writes configuration anew. Only while the server is down. */
  prepare(): Promise<void>;
  command(): readonly string[];
  /** Whether it serves; false or an error while it does not yet. */
  answers(): Promise<boolean>;
}

/** As much of a server as it takes to find and end it. */
export type Started = Pick<Server, 'name' | 'folder' | 'stopSignal'>;

export type ServerState = 'answers' | 'silent' | 'down';

const START_TIMEOUT_MS = 60_000;
const ANSWER_TIMEOUT_MS = 3_000;
const STOP_TIMEOUT_MS = 15_000;

/** Starts a server unless it runs, and returns once it answers. */
export async function startServer(server: Server): Promise<void> {
  if (runningPid(server) === undefined) {
    makeFolders(server);
    await server.prepare();
    launch(server);
  }
  await untilAnswers(server);
}

/** Ends a server that we started: by its pid, after waking it in case someone has stopped it (SIGSTOP). */
export async function stopServer(server: Started): Promise<void> {
  const pid = runningPid(server);
  if (pid === undefined) return;
  signalTree(pid, 'SIGCONT');
  signal(pid, server.stopSignal);
  if (!(await goneWithin(server, STOP_TIMEOUT_MS))) {
    signalTree(pid, 'SIGKILL');
    await goneWithin(server, STOP_TIMEOUT_MS);
  }
  rmSync(pidFile(server), { force: true });
}

export async function serverState(server: Server): Promise<ServerState> {
  if (runningPid(server) === undefined) return 'down';
  return (await answersInTime(server)) ? 'answers' : 'silent';
}

/** The pid of the server that we started, if it still lives: a pid that another process has now is not it. */
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

/** Sends a signal to a process and all its descendants (PostgreSQL serves from child processes). */
export function signalTree(pid: number, name: NodeJS.Signals): void {
  for (const one of [pid, ...descendants(pid)]) signal(one, name);
}

/** The uid and gid of a local account. */
export function accountIds(user: string): { uid: number; gid: number } {
  for (const line of readFileSync('/etc/passwd', 'utf8').split('\n')) {
    const [name, , uid, gid] = line.split(':');
    if (name === user) return { uid: Number(uid), gid: Number(gid) };
  }
  throw new Error(`no account ${user} on this machine: run dev/bootstrap`);
}

/** Runs a program to its end, `input` on its stdin; an error carries what it said. Secrets go in `input`, never in `args`. */
export async function run(
  program: string,
  args: readonly string[],
  options: { input?: string; user?: string; cwd?: string; env?: NodeJS.ProcessEnv } = {},
): Promise<string> {
  const ids = options.user === undefined ? {} : accountIds(options.user);
  return new Promise((done, fail) => {
    const child = execFile(
      program,
      args,
      { ...ids, cwd: options.cwd ?? '/', env: options.env ?? process.env, maxBuffer: 1 << 26 },
      (error, stdout, stderr) => {
        if (error === null) return done(stdout);
        fail(new Error(`${program} failed: ${stderr.trim() || stdout.trim() || error.code}`));
      },
    );
    child.stdin?.on('error', () => undefined);
    child.stdin?.end(options.input ?? '');
  });
}

/** Makes `folder` by way of `folder.new`, so that a cut leaves nothing half-made that looks whole. */
export async function makeWhole(
  folder: string,
  user: string,
  make: (unfinished: string) => Promise<void>,
): Promise<void> {
  try {
    readdirSync(folder);
    return;
  } catch (cause) {
    if ((cause as NodeJS.ErrnoException).code !== 'ENOENT') throw cause;
  }
  const unfinished = `${folder}.new`;
  rmSync(unfinished, { recursive: true, force: true });
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

/** Asks again until `check` is true; `gaveUp` words the error. */
export async function until(
  check: () => Promise<boolean>,
  timeoutMs: number,
  gaveUp: () => string,
): Promise<void> {
  const deadline = performance.now() + timeoutMs;
  while (!(await check())) {
    if (performance.now() > deadline) throw new Error(gaveUp());
    await sleep(15);
  }
}

function makeFolders(server: Server): void {
  mkdirSync(server.folder, { recursive: true, mode: 0o755 });
  makeFolder(join(server.folder, 'run'), server.user, 0o755);
}

function launch(server: Server): void {
  const [program = '', ...args] = server.command();
  const log = openSync(logFile(server), 'a', 0o600);
  const child = spawn(program, args, {
    ...accountIds(server.user),
    cwd: join(server.folder, 'run'),
    detached: true,
    env: { PATH: '/usr/sbin:/usr/bin:/sbin:/bin', LANG: 'C.UTF-8' },
    stdio: ['ignore', log, log],
  });
  closeSync(log);
  child.on('error', () => undefined); // untilAnswers says that it is gone
  child.unref();
  if (child.pid === undefined) throw new Error(`starting ${server.name}: cannot run ${program}`);
  writeFileSync(pidFile(server), `${child.pid} ${birthOf(child.pid)}`);
}

async function untilAnswers(server: Server): Promise<void> {
  const pid = runningPid(server);
  const deadline = performance.now() + START_TIMEOUT_MS;
  while (!(await answersInTime(server))) {
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

async function answersInTime(server: Server): Promise<boolean> {
  const answer = server.answers().catch(() => false);
  const stop = new AbortController();
  const late = sleep(ANSWER_TIMEOUT_MS, false, { signal: stop.signal }).catch(() => false);
  const said = await Promise.race([answer, late]);
  stop.abort();
  return said;
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

/** When a process was born: `<boot>.<clock ticks since boot>` (proc_pid_stat(5), field 22); undefined for the dead. */
function birthOf(pid: number): string | undefined {
  const fields = statFields(pid);
  if (fields === undefined || fields[0] === 'Z' || fields[0] === 'X') return undefined;
  return `${readFileSync('/proc/sys/kernel/random/boot_id', 'utf8').trim()}.${fields[19]}`;
}

function stateOf(pid: number): string | undefined {
  return statFields(pid)?.[0];
}

/** /proc/<pid>/stat from its third field on: the second is a name in brackets that may hold anything. */
function statFields(pid: number): string[] | undefined {
  try {
    const text = readFileSync(`/proc/${pid}/stat`, 'utf8');
    return text.slice(text.lastIndexOf(')') + 2).split(' ');
  } catch {
    return undefined;
  }
}

function descendants(pid: number): number[] {
  const children = new Map<number, number[]>();
  for (const name of readdirSync('/proc')) {
    if (!/^\d+$/.test(name)) continue;
    const parent = Number(statFields(Number(name))?.[1]);
    children.set(parent, [...(children.get(parent) ?? []), Number(name)]);
  }
  const found: number[] = [];
  for (let rest = [...(children.get(pid) ?? [])]; rest.length > 0;) {
    const one = rest.pop() ?? 0;
    found.push(one);
    rest = rest.concat(children.get(one) ?? []);
  }
  return found;
}

function signal(pid: number, name: NodeJS.Signals): void {
  try {
    process.kill(pid, name);
  } catch (cause) {
    if ((cause as NodeJS.ErrnoException).code !== 'ESRCH') throw cause;
  }
}
