/**
 * Runs client programs of databases, zstd and age, one into the other, at low priority.
 *
 * They end with this process, however it ends (`setpriv --pdeathsig`). They get a password by an open
 * file that has no name any more: it is in no argument, no environment, and nothing is left behind.
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
  /** an open file that it reads; else what the program before writes, or `from` */
  stdin?: number;
  /** an open file that it writes to; else what the next reads, or `into` */
  stdout?: number;
  /** an open file that it finds as /proc/self/fd/3 */
  options?: number;
  /** whom it runs as, where that is not who we are */
  user?: { uid: number; gid: number };
}

/** What stands before each: it dies with us, and lets others go first. */
const GENTLY = [
  ...['setpriv', '--pdeathsig', 'KILL', '--', 'nice', '-n', '10'],
  ...['ionice', '-t', '-c', '2', '-n', '7'],
];

/** So much of what a program complains of is kept. */
const COMPLAINT_BYTES = 2000;

/**
 * Runs programs side by side, each reading what the one before writes. `from` gives the first its input,
 * `into` takes the output of the last. Throws the complaint of the last that failed: those before it have
 * then lost their reader. Where `signal` aborts, all are killed, and its reason is thrown.
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
  /** of what gives and hears here, not of a pipe to a program that has failed */
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
  end.catch(() => {}); // heard of when all have ended
  return { child, end };
}

/** Whether a client program has failed because it did not reach its server, or lost it. */
export function isServerAway(error: unknown): boolean {
  const { message } = error as { message?: unknown };
  return typeof message === 'string' && /\b[Ee](?:rror|RROR):? 20(?:02|03|06|13)\b/.test(message);
}

/** Whether a client program was refused something whose definer is another. */
export function isForAnother(error: unknown): boolean {
  const { message } = error as { message?: unknown };
  return typeof message === 'string' && /\bERROR 1227\b/.test(message);
}

/** The one line that says what went wrong: mariadb shows the statement besides, with what is in it. */
function saidBy(name: string, complaint: string): string | undefined {
  const lines = complaint
    .split('\n')
    .filter((line) => line.trim() !== '' && !line.startsWith('age: report unexpected'));
  const line = lines.findLast((each) => /^(?:ERROR |[a-z_-]+: )/.test(each)) ?? lines.at(-1);
  if (line === undefined) return undefined;
  return line.startsWith(`${name}: `) ? line : `${name}: ${line}`;
}

/** How a client program gets to a server: as arguments, beside the file with the login. */
export function placeArguments({ socket, host, port }: DatabaseServerPlace): string[] {
  if (socket !== undefined) return ['--protocol=socket', `--socket=${socket}`];
  // as our own connections: no TLS, since a host is one on a trusted network
  return [
    '--protocol=tcp',
    '--skip-ssl',
    `--host=${host ?? 'localhost'}`,
    `--port=${port ?? 3306}`,
  ];
}

/** The first argument of a client program that has the login as its file `options`. */
export const LOGIN_ARGUMENT = '--defaults-file=/proc/self/fd/3';

/** Lends an open file with a login, as clients read it; it had a name in `folder`, for a moment. */
export async function withLogin<T>(
  folder: string,
  { user, password }: DatabaseLogin,
  act: (options: number) => Promise<T>,
): Promise<T> {
  const text = `[client]\nuser=${quoted(user)}\npassword=${quoted(secretNow(password))}\n`;
  return withUnnamedFile(folder, text, act);
}

/** Lends an open file with that text; it had a name in `folder`, for a moment. */
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

/** As option files quote it. */
function quoted(text: string): string {
  const escaped = text.replaceAll('\\', '\\\\').replaceAll('"', '\\"').replaceAll('\n', '\\n');
  return `"${escaped}"`;
}
