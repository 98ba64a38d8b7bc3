/**
 * Runs client programs of databases, zstd and age, one into the other, at low priority.
 *
 * They end with this process, however it ends (`setpriv --pdeathsig`). They receive a password through an open
 * file that no longer has a name: it is in no argument and no environment, and nothing is left.
 */
import { type ChildProcess, spawn } from 'node:child_process';
import { closeSync, openSync, rmSync, writeFileSync } from 'node:fs';
import { basename, join } from 'node:path';
import { pipeline } from 'node:stream/promises';
import { secretNow } from '../../secrets/secret.ts';
import type { DatabaseLogin, DatabaseServerPlace } from './mariadb-connections.ts';

export interface Program {
  name: string;
  args: readonly string[];
  /** an open file that it reads; otherwise it reads the output of the program before, or `from` */
  stdin?: number;
  /** an open file that it writes to; otherwise the next program reads its output, or `into` does */
  stdout?: number;
  /** an open file that it finds as /proc/self/fd/3 */
  options?: number;
  /** the user that it runs as, if not our own */
  user?: { uid: number; gid: number };
}

/** Precedes each program: it dies with us, and runs at low priority. */
const GENTLY = [
  ...['setpriv', '--pdeathsig', 'KILL', '--', 'nice', '-n', '10'],
  ...['ionice', '-t', '-c', '2', '-n', '7'],
];

/** At most this much of a program's complaint is kept. */
const COMPLAINT_BYTES = 2000;

/**
 * Runs programs in a pipeline, each reading what the one before writes. `from` gives the first its input,
 * `into` takes the output of the last. Throws the complaint of the last program that failed: those before it
 * failed because they lost their reader. If `signal` aborts, all are killed, and its reason is thrown.
 */
export async function runPrograms(
  programs: readonly Program[],
  {
    from,
    between,
    into,
    signal,
  }: {
    from?: AsyncIterable<Uint8Array>;
    /** sees what the first writes to the second */
    between?: (chunk: Uint8Array) => void;
    into?: (chunk: Uint8Array) => void;
    signal: AbortSignal;
  },
): Promise<void> {
  signal.throwIfAborted();
  const running = programs.map((program) => start(program));
  const kill = () => running.forEach(({ child }) => child.kill('SIGKILL'));
  signal.addEventListener('abort', kill);
  /** errors of `from` and `into`, not of a pipe to a program that has failed */
  const faults: unknown[] = [];
  const given = async function* (chunks: AsyncIterable<Uint8Array>) {
    try {
      yield* chunks;
    } catch (error) {
      faults.push(error);
      throw error;
    }
  };
  const heard = async function* (
    chunks: AsyncIterable<Uint8Array>,
    hear: (chunk: Uint8Array) => void = () => {},
  ) {
    for await (const chunk of chunks) {
      try {
        hear(chunk);
      } catch (error) {
        faults.push(error);
        throw error;
      }
      yield chunk;
    }
  };
  try {
    const pipes: Promise<unknown>[] = [];
    const first = running[0]?.child.stdin;
    if (from !== undefined && isPiped(first)) pipes.push(pipeline(given(from), first));
    for (const [at, { child }] of running.entries()) {
      const next = running[at + 1]?.child.stdin;
      if (!isPiped(child.stdout)) continue;
      if (isPiped(next)) {
        const see = at === 0 ? between : undefined;
        pipes.push(pipeline(child.stdout, (chunks) => heard(chunks, see), next));
      } else if (into !== undefined) {
        pipes.push(
          pipeline(child.stdout, async (chunks: AsyncIterable<Uint8Array>) => {
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
    kill();
  }
}

function isPiped<T>(stream: T | null | undefined): stream is T {
  return stream !== null && stream !== undefined;
}

function start({ name, args, stdin, stdout, options, user }: Program): {
  child: ChildProcess;
  end: Promise<void>;
} {
  const [program = '', ...before] = GENTLY;
  const child = spawn(program, [...before, name, ...args], {
    ...user,
    cwd: '/',
    env: { PATH: process.env['PATH'], LC_ALL: 'C.UTF-8' },
    stdio: [stdin ?? 'pipe', stdout ?? 'pipe', 'pipe', ...(options === undefined ? [] : [options])],
  });
  let complaint = '';
  child.stderr?.setEncoding('utf8').on('data', (part: string) => {
    complaint = (complaint + part).slice(-COMPLAINT_BYTES);
  });
  child.stdin?.on('error', () => {});
  const end = new Promise<void>((resolve, reject) => {
    child.once('error', (cause) => reject(new Error(`running ${name}`, { cause })));
    child.once('close', (code, killed) => {
      if (code === 0) resolve();
      else
        reject(
          new Error(
            saidBy(basename(name), complaint) ?? `${name}: ${killed ?? `exit code ${code}`}`,
          ),
        );
    });
  });
  end.catch(() => {}); // thrown when all have ended
  return { child, end };
}

/** Whether a client program has failed because it did not reach its server, or lost it. */
export function isServerAway(error: unknown): boolean {
  const { message } = error as { message?: unknown };
  return typeof message === 'string' && /\b[Ee](?:rror|RROR):? 20(?:02|03|06|13)\b/.test(message);
}

/** Whether a client program was refused an object with another definer. */
export function isForAnother(error: unknown): boolean {
  const { message } = error as { message?: unknown };
  return typeof message === 'string' && /\bERROR 1227\b/.test(message);
}

/** The one line that says what went wrong: mariadb also shows the statement, with its content. */
function saidBy(name: string, complaint: string): string | undefined {
  const lines = complaint
    .split('\n')
    .filter((line) => line.trim() !== '' && !line.startsWith('age: report unexpected'));
  const line = lines.findLast((each) => /^(?:ERROR |[a-z_-]+: )/.test(each)) ?? lines.at(-1);
  if (line === undefined) return undefined;
  return line.startsWith(`${name}: `) ? line : `${name}: ${line}`;
}

/** How a client program reaches a server: arguments in addition to the file with the login. */
export function placeArguments({ socket, host, port }: DatabaseServerPlace): string[] {
  if (socket !== undefined) return ['--protocol=socket', `--socket=${socket}`];
  // like our own connections: no TLS, because a host must be on a trusted network
  return [
    '--protocol=tcp',
    '--skip-ssl',
    `--host=${host ?? 'localhost'}`,
    `--port=${port ?? 3306}`,
  ];
}

/** The first argument of a client program that has the login as its file `options`. */
export const LOGIN_ARGUMENT = '--defaults-file=/proc/self/fd/3';

/** Lends an open file with a login, in the clients' format; for a moment it has a name in `folder`. */
export async function withLogin<T>(
  folder: string,
  { user, password }: DatabaseLogin,
  act: (options: number) => Promise<T>,
): Promise<T> {
  const text = `[client]\nuser=${quoted(user)}\npassword=${quoted(secretNow(password))}\n`;
  return withUnnamedFile(folder, text, act);
}

/** Lends an open file with that text; for a moment it has a name in `folder`. */
export async function withUnnamedFile<T>(
  folder: string,
  text: string,
  act: (options: number) => Promise<T>,
): Promise<T> {
  const path = join(folder, `.login-${process.pid}-${(logins += 1)}`);
  rmSync(path, { force: true });
  let options: number;
  try {
    writeFileSync(path, text, { mode: 0o600, flag: 'wx' });
    options = openSync(path, 'r');
  } finally {
    rmSync(path, { force: true });
  }
  try {
    return await act(options);
  } finally {
    closeSync(options);
  }
}

let logins = 0;

/** Quotes a text as option files do. */
function quoted(text: string): string {
  const escaped = text.replaceAll('\\', '\\\\').replaceAll('"', '\\"').replaceAll('\n', '\\n');
  return `"${escaped}"`;
}
