/** Runs other programs: one to its end, with what it printed; or several, one into the other, at low priority. */
import { type ChildProcess, spawn } from 'node:child_process';
import { basename } from 'node:path';
import type { Readable, Writable } from 'node:stream';
import { pipeline } from 'node:stream/promises';

/** At most this much of a program's complaint is kept. */
const COMPLAINT_LENGTH = 2000;

export interface RunOptions {
  /** after this time it is killed, and not waited for: waiting for a file server, it may survive that */
  timeoutMs?: number;
  cwd?: string;
  env?: NodeJS.ProcessEnv;
  /** open files that it finds as /proc/self/fd/3 and so on */
  fds?: readonly number[];
  /** its input */
  input?: string;
}

/**
 * Runs a program to its end. `code` is null if it was killed or has not ended in time. Throws only if it cannot be
 * started.
 */
export async function runProgram(
  program: string,
  args: readonly string[],
  { timeoutMs, cwd = '/', env, fds = [], input = '' }: RunOptions = {},
): Promise<{ code: number | null; out: string; err: string }> {
  const child = spawn(program, args, {
    cwd,
    env: env ?? { PATH: '/usr/sbin:/usr/bin:/sbin:/bin', LC_ALL: 'C' },
    stdio: ['pipe', 'pipe', 'pipe', ...fds],
    detached: true,
  });
  const said = { out: '', err: '' };
  child.stdout?.setEncoding('utf8').on('data', (part: string) => (said.out += part));
  child.stderr?.setEncoding('utf8').on('data', (part: string) => {
    if (said.err.length < COMPLAINT_LENGTH) said.err += part;
  });
  // if a program ends before it has read everything, its exit code shows that
  child.stdin?.on('error', () => {}).end(input);
  let timer: NodeJS.Timeout | undefined;
  try {
    const code = await new Promise<number | null>((resolve, reject) => {
      child.once('error', reject).once('close', resolve);
      if (timeoutMs === undefined) return;
      timer = setTimeout(() => {
        killGroup(child);
        resolve(null);
      }, timeoutMs);
    });
    return { code, ...said };
  } finally {
    clearTimeout(timer);
  }
}

/** A program that goes on until it is stopped. */
export interface Running {
  /** what it said last, once it has ended; before, undefined */
  said: () => string | undefined;
  /** Sends it the signal that it was started with, and waits until it has ended. */
  stop: () => Promise<void>;
}

/** Starts a program. It gets that signal when it is stopped, and when this process dies (PR_SET_PDEATHSIG). */
export function startProgram(
  { name, args, user }: Pick<Program, 'name' | 'args' | 'user'>,
  signal: 'SIGINT' | 'SIGTERM',
): Running {
  const child = spawn('setpriv', ['--pdeathsig', signal.slice(3), '--', name, ...args], {
    ...user,
    cwd: '/',
    env: { PATH: '/usr/sbin:/usr/bin:/sbin:/bin', LC_ALL: 'C.UTF-8' },
    stdio: ['ignore', 'pipe', 'pipe'],
    detached: true,
  });
  let said = '';
  let hasEnded = false;
  for (const from of [child.stdout, child.stderr]) {
    from.setEncoding('utf8').on('data', (part: string) => {
      said = (said + part).slice(-COMPLAINT_LENGTH);
    });
  }
  const ended = new Promise<void>((resolve) => {
    child.once('error', (error) => (said = error.message)).once('close', () => resolve());
  }).then(() => void (hasEnded = true));
  return {
    said: () => (hasEnded ? said.trim() : undefined),
    async stop() {
      child.kill(signal);
      await ended;
    },
  };
}

/** A program of a pipeline. */
export interface Program {
  name: string;
  args: readonly string[];
  /** an open file that it reads; otherwise it reads the output of the program before, or `from`, or nothing */
  stdin?: number | 'pipe' | 'ignore';
  /** an open file that it writes to; otherwise the next program reads its output, or `into` does, or nothing */
  stdout?: number | 'pipe' | 'ignore';
  /** an open file that it finds as /proc/self/fd/3 */
  options?: number;
  /** the user that it runs as, if not our own */
  user?: { uid: number; gid: number };
  /** where it runs, if not in the root */
  cwd?: string;
  /** its environment, if not our PATH and C.UTF-8 */
  env?: NodeJS.ProcessEnv;
  /** reads its standard error, and returns what makes an error of that; otherwise one line of it becomes the error */
  complaints?: (from: Readable) => (ended: string) => Error;
}

/** Precedes each program: it dies with us, however we end (PR_SET_PDEATHSIG), and runs at low priority. */
const GENTLY = [
  ...['--pdeathsig', 'KILL', '--', 'nice', '-n', '10'],
  ...['ionice', '-t', '-c', '2', '-n', '7'],
];

export interface Pipes {
  /** the input of the first: chunks, or what writes and ends it, whose errors of the pipe do not count */
  from?: AsyncIterable<Uint8Array> | ((into: Writable) => Promise<void>);
  /** sees what the first writes to the second */
  between?: (chunk: Uint8Array) => void;
  /** takes the output of the last */
  into?: (chunk: Buffer) => void;
  signal: AbortSignal;
}

/**
 * Runs programs in a pipeline, each reading what the one before writes. Throws the complaint of the last program that
 * failed: those before it failed because they lost their reader. If `signal` aborts, or `from` or `into` throws, all
 * are killed with whatever they have started, and that reason is thrown.
 */
export async function runPrograms(
  programs: readonly Program[],
  { from, between, into, signal }: Pipes,
): Promise<void> {
  signal.throwIfAborted();
  const running = programs.map((program, at) =>
    start({
      ...(at === 0 && from === undefined ? { stdin: 'ignore' } : {}),
      ...(at === programs.length - 1 && into === undefined ? { stdout: 'ignore' } : {}),
      ...program,
    }),
  );
  const kill = () => running.forEach((each) => each.kill());
  signal.addEventListener('abort', kill);
  /** errors of `from`, `between` and `into`, not of a pipe to a program that has failed */
  const faults: unknown[] = [];
  const fault = (error: unknown): unknown => {
    faults.push(error);
    kill();
    return error;
  };
  const given = async function* (chunks: AsyncIterable<Uint8Array>) {
    try {
      yield* chunks;
    } catch (error) {
      throw fault(error);
    }
  };
  const heard = async function* (chunks: AsyncIterable<Buffer>, hear?: (chunk: Buffer) => void) {
    for await (const chunk of chunks) {
      try {
        hear?.(chunk);
      } catch (error) {
        throw fault(error);
      }
      yield chunk;
    }
  };
  try {
    const pipes: Promise<unknown>[] = [];
    const first = running[0]?.child.stdin;
    if (first && from !== undefined) {
      pipes.push(
        typeof from === 'function' ? from(first).catch(fault) : pipeline(given(from), first),
      );
    }
    for (const [at, { child }] of running.entries()) {
      const { stdout } = child;
      const next = running[at + 1]?.child.stdin;
      if (stdout && next) {
        const see = at === 0 ? between : undefined;
        pipes.push(pipeline(stdout, (chunks) => heard(chunks, see), next));
      } else if (stdout) {
        pipes.push(
          pipeline(stdout, async (chunks: AsyncIterable<Buffer>) => {
            for await (const _ of heard(chunks, into));
          }),
        );
      }
    }
    await Promise.allSettled(pipes);
    const ended = await Promise.allSettled(running.map(({ end }) => end));
    signal.throwIfAborted();
    if (faults.length > 0) throw faults[0];
    const failed = ended.findLast((each) => each.status === 'rejected');
    if (failed !== undefined) throw failed.reason;
  } finally {
    signal.removeEventListener('abort', kill);
  }
}

function start({
  name,
  args,
  stdin = 'pipe',
  stdout = 'pipe',
  options,
  user,
  cwd = '/',
  env = { PATH: process.env['PATH'], LC_ALL: 'C.UTF-8' },
  complaints = (from) => lastComplaint(basename(name), from),
}: Program): { child: ChildProcess; end: Promise<void>; kill: () => void } {
  const child = spawn('setpriv', [...GENTLY, name, ...args], {
    ...user,
    ...{ cwd, env },
    stdio: [stdin, stdout, 'pipe', ...(options === undefined ? [] : [options])],
    detached: true,
  });
  const failed = complaints(child.stderr as Readable);
  child.stdin?.on('error', () => {});
  let isOver = false;
  const end = new Promise<void>((resolve, reject) => {
    child.once('error', (cause) => reject(new Error(`running ${name}`, { cause })));
    child.once('close', (code, killed) => {
      isOver = true;
      if (code === 0) resolve();
      else reject(failed(killed ?? `exit code ${code}`));
    });
  });
  end.catch(() => {}); // thrown when all have ended
  const kill = () => {
    if (!isOver) killGroup(child);
  };
  return { child, end, kill };
}

/** Kills a program and whatever it has started. */
function killGroup({ pid }: ChildProcess): void {
  try {
    if (pid !== undefined) process.kill(-pid, 'SIGKILL');
  } catch {
    // all of them have already ended
  }
}

/** The one line that says what went wrong: mariadb also shows the statement, with its content. */
function lastComplaint(name: string, from: Readable): (ended: string) => Error {
  let tail = '';
  from.setEncoding('utf8').on('data', (part: string) => {
    tail = (tail + part).slice(-COMPLAINT_LENGTH);
  });
  return (ended) => {
    const lines = tail
      .split('\n')
      .filter((line) => line.trim() !== '' && !line.startsWith('age: report unexpected'));
    const line = lines.findLast((each) => /^(?:ERROR |[a-z_-]+: )/.test(each)) ?? lines.at(-1);
    const said = line ?? ended;
    return new Error(said.startsWith(`${name}: `) ? said : `${name}: ${said}`);
  };
}

/** Quotes any text as one word of a POSIX shell (2.2.2). */
export function shellWord(text: string): string {
  return `'${text.replaceAll("'", `'\\''`)}'`;
}
