/**
 * A machine inside this one, for tests that must own `/etc` and root's daemons: its `/` is this machine's, seen
 * through an overlay in memory, so that nothing that is written there reaches the disk. It has process ids,
 * `/run`, `/tmp`, `/root` and `/proc` of its own, and shares the network. It ends, with everything that runs in
 * it, when its first process does: that process reads a pipe whose other end is ours, so it ends even when we
 * are killed.
 */
import { spawn, type ChildProcess, type SpawnOptions } from 'node:child_process';
import { closeSync, mkdirSync, openSync, readFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { parentOf, processes, signal, signalTree } from './processes.ts';

/** What is visible in the machine at `at`; nothing is written through a mount that is `readOnly`. */
export interface Bind {
  readonly from: string;
  readonly at: string;
  readonly readOnly?: boolean;
}

export interface Ended {
  readonly code: number | null;
  readonly stdout: string;
  readonly stderr: string;
}

export interface RunOptions {
  readonly input?: string | Buffer;
  readonly env?: Readonly<Record<string, string>>;
  readonly cwd?: string;
  /** Root by default. Looked up inside, by NSS. */
  readonly user?: string;
  readonly timeoutMs?: number;
}

export interface Machine {
  /** Its first process, by the pid on this machine. */
  readonly pid: number;
  /** Its `/` as a path of this machine. Absolute links in it lead elsewhere. */
  readonly root: string;
  /** Runs a program to its end. */
  run(argv: readonly string[], options?: RunOptions): Promise<Ended>;
  /** Like `run`, but fails with the program's output unless it exits with 0. Returns its standard output. */
  must(argv: readonly string[], options?: RunOptions): Promise<string>;
  daemon(daemon: DaemonOptions): Daemon;
  close(): Promise<void>;
}

export interface DaemonOptions {
  readonly name: string;
  command(): readonly string[];
  /** Whether it serves; false or an error as long as it does not. */
  answers(): Promise<boolean>;
}

/** A program that keeps running in a machine. */
export interface Daemon {
  readonly name: string;
  /** Starts it unless it is running, and returns once it answers. */
  start(): Promise<void>;
  /** Sends a signal; SIGKILL, SIGSTOP and SIGCONT also go to its children. */
  signal(name: NodeJS.Signals): void;
  /** Ends it with `name` (SIGTERM by default), and returns when it is gone. */
  stop(name?: NodeJS.Signals): Promise<void>;
  /** Its pid on this machine; undefined if it is not running. */
  pid(): number | undefined;
  /** The same inside the machine. */
  innerPid(): number | undefined;
  /** Its standard output and error since the first start. */
  log(): string;
}

const COMPILED = '/var/cache/compiled';
const ENVIRONMENT = {
  PATH: '/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin',
  LANG: 'C.UTF-8',
  HOME: '/root',
  NODE_COMPILE_CACHE: COMPILED, // a program then starts in half the time
};

const START_TIMEOUT_MS = 30_000;
const STOP_TIMEOUT_MS = 15_000;

/**
 * Creates the new root and stays as the first process. Arguments: from, at, `rw` or `ro`, and so on. It
 * inherits whatever ends in the machine, so it ignores SIGCHLD, and the kernel reaps (wait(2)).
 */
const FIRST_PROCESS = `
set -eu
mount -t tmpfs -o mode=755 tmpfs /mnt
mkdir /mnt/upper /mnt/work /mnt/root
mount -t overlay overlay -o lowerdir=/,upperdir=/mnt/upper,workdir=/mnt/work /mnt/root
cd /mnt/root
mount --rbind /dev dev
mount -t tmpfs -o mode=755 tmpfs run
mount -t tmpfs -o mode=1777 tmpfs tmp
mount -t tmpfs -o mode=700 tmpfs root
while [ $# -gt 0 ]; do
  mkdir -p "./$2"
  mount --bind "$1" "./$2"
  [ "$3" = rw ] || mount -o remount,bind,ro "./$2"
  shift 3
done
mkdir -p .outside
pivot_root . .outside
cd /
mount -t proc proc /proc
umount -l /.outside
rmdir /.outside
echo ready
exec env --ignore-signal=CHLD cat >/dev/null
`;

/** What Node compiles in the machine is kept for the next one where this process keeps it. */
export async function openMachine(binds: readonly Bind[]): Promise<Machine> {
  const cache = process.env['NODE_COMPILE_CACHE'];
  if (cache !== undefined) mkdirSync(cache, { recursive: true });
  const mounts = cache === undefined ? binds : [...binds, { from: cache, at: COMPILED }];
  const holder = spawn(
    '/usr/bin/unshare',
    [
      ...['--mount', '--pid', '--fork', '--kill-child', '/bin/sh', '-c', FIRST_PROCESS, 'machine'],
      ...mounts.flatMap(({ from, at, readOnly }) => [from, at, readOnly === true ? 'ro' : 'rw']),
    ],
    { stdio: ['pipe', 'pipe', 'pipe'], env: ENVIRONMENT },
  );
  await untilReady(holder);
  const pid = onlyChildOf(holder);
  if (pid === undefined) throw new Error('the private machine ended at once');
  const root = `/proc/${pid}/root`;
  const entered = new Set<ChildProcess>();
  const enter = (argv: readonly string[], options: SpawnOptions): ChildProcess => {
    const child = spawn(
      '/usr/bin/nsenter',
      [`--target=${pid}`, '--mount', '--pid', '--', ...argv],
      {
        ...options,
        env: { ...ENVIRONMENT, ...options.env },
      },
    );
    entered.add(child.once('exit', () => entered.delete(child)));
    return child;
  };

  const run = async (argv: readonly string[], options: RunOptions = {}): Promise<Ended> => {
    // nsenter enters by the folder, so that the program starts in the requested directory
    const there = options.cwd === undefined ? [] : ['/usr/bin/env', `--chdir=${options.cwd}`, '--'];
    const as = options.user === undefined ? [] : ['/usr/sbin/runuser', '-u', options.user, '--'];
    const child = enter([...as, ...there, ...argv], {
      stdio: 'pipe',
      ...(options.env === undefined ? {} : { env: options.env }),
    });
    return end(child, options);
  };

  return {
    pid,
    root,
    run,
    async must(argv, options) {
      const { code, stdout, stderr } = await run(argv, options);
      if (code === 0) return stdout;
      throw new Error(
        `${argv.join(' ')} exited with code ${code}: ${stderr.trim() || stdout.trim()}`,
      );
    },
    daemon: (daemon) => daemonIn(root, enter, daemon),
    async close() {
      const gone = new Promise((done) => {
        holder.once('exit', done);
        if (holder.exitCode !== null || holder.signalCode !== null) done(undefined);
      });
      signalTree(pid, 'SIGKILL');
      // the machine is gone when all processes in it are reaped; an nsenter that has stopped with its child
      // reaps none
      const wakeAll = () => entered.forEach((child) => child.kill('SIGCONT'));
      const waking = setInterval(wakeAll, 20);
      await gone;
      clearInterval(waking);
    },
  };
}

function untilReady(holder: ChildProcess): Promise<void> {
  return new Promise((done, fail) => {
    let said = '';
    holder.stdout?.once('data', () => done());
    holder.stderr?.on('data', (text) => (said += String(text)));
    holder.once('error', fail);
    holder.once('close', () => fail(new Error(`making a private machine: ${said.trim()}`)));
  });
}

function end(child: ChildProcess, { input, timeoutMs = 60_000 }: RunOptions): Promise<Ended> {
  return new Promise((done, fail) => {
    const out: Buffer[] = [];
    const err: Buffer[] = [];
    const timer = setTimeout(() => {
      if (child.pid !== undefined) signalTree(child.pid, 'SIGKILL');
    }, timeoutMs);
    child.stdout?.on('data', (chunk: Buffer) => out.push(chunk));
    child.stderr?.on('data', (chunk: Buffer) => err.push(chunk));
    child.stdin?.on('error', () => undefined);
    child.stdin?.end(input ?? '');
    child.once('error', fail);
    child.once('close', (code) => {
      clearTimeout(timer);
      done({ code, stdout: String(Buffer.concat(out)), stderr: String(Buffer.concat(err)) });
    });
  });
}

function daemonIn(
  root: string,
  enter: (argv: readonly string[], options: SpawnOptions) => ChildProcess,
  options: DaemonOptions,
): Daemon {
  const { name } = options;
  const logFile = join(root, 'var/log/private-machine', `${name}.log`);
  let outer: ChildProcess | undefined; // nsenter, which waits for the daemon

  const log = (): string => {
    try {
      return readFileSync(logFile, 'utf8');
    } catch {
      return '';
    }
  };
  const pid = (): number | undefined => (outer === undefined ? undefined : onlyChildOf(outer));
  const daemon: Daemon = {
    name,
    pid,
    innerPid() {
      const outerPid = pid();
      if (outerPid === undefined) return undefined;
      const [, numbers = ''] =
        /^NSpid:(.*)$/m.exec(readFileSync(`/proc/${outerPid}/status`, 'utf8')) ?? [];
      return Number(numbers.trim().split(/\s+/).at(-1));
    },
    log,
    async start() {
      if (outer === undefined) {
        mkdirSync(dirname(logFile), { recursive: true });
        const file = openSync(logFile, 'a', 0o600);
        const child = enter(options.command(), { stdio: ['ignore', file, file] });
        closeSync(file);
        outer = child;
        child.once('error', () => (outer = undefined));
        child.once('exit', () => (outer = undefined));
      }
      const deadline = performance.now() + START_TIMEOUT_MS;
      while (!(await options.answers().catch(() => false))) {
        if (outer === undefined) throw new Error(`${name} ended while starting:\n${tail(log())}`);
        if (performance.now() > deadline) {
          throw new Error(`${name} does not answer:\n${tail(log())}`);
        }
        await sleep(10);
      }
    },
    signal(signalName) {
      const target = pid();
      if (outer?.pid === undefined || target === undefined) return;
      const reachesAll = ['SIGKILL', 'SIGSTOP', 'SIGCONT'].includes(signalName);
      // nsenter stops and continues with its child, and nobody else wakes it
      if (reachesAll) signalTree(outer.pid, signalName);
      else signal(target, signalName);
    },
    async stop(signalName = 'SIGTERM') {
      daemon.signal('SIGCONT');
      daemon.signal(signalName);
      const deadline = performance.now() + STOP_TIMEOUT_MS;
      while (outer !== undefined) {
        if (performance.now() > deadline) daemon.signal('SIGKILL');
        await sleep(10);
      }
    },
  };
  return daemon;
}

function tail(text: string): string {
  return text.trimEnd().split('\n').slice(-12).join('\n');
}

function onlyChildOf(parent: ChildProcess): number | undefined {
  return processes().find((one) => parentOf(one) === parent.pid);
}
