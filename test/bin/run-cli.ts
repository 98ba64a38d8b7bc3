/** Runs the command line as people do: another process, its output and its exit code. */
import { spawn, type ChildProcess } from 'node:child_process';
import { join } from 'node:path';

const CLI = join(import.meta.dirname, '../../src/bin/chamberlain.ts');

export interface Ended {
  exit: number | null;
  out: string;
  err: string;
}

export interface RunOptions {
  /** the configuration; none by default */
  config?: string;
  input?: string | Buffer;
  /** with a terminal of its own, on which everything is written, as standard output */
  terminal?: true;
  env?: Record<string, string>;
  /** words before the command, such as those that run it on another machine */
  prefix?: readonly string[];
}

/** Starts `chamberlain ARGS…`. */
export function startCli(args: readonly string[], options: RunOptions = {}): ChildProcess {
  const command = [...(options.prefix ?? []), process.execPath, CLI, ...args];
  const quoted = command.map((word) => `'${word}'`).join(' ');
  const [program = '', ...words] =
    options.terminal === true ? ['script', '-qec', quoted, '/dev/null'] : command;
  return spawn(program, words, {
    stdio: ['pipe', 'pipe', 'pipe'],
    env: {
      PATH: process.env['PATH'] ?? '',
      // what Node has compiled: a command then starts in half the time
      NODE_COMPILE_CACHE: process.env['NODE_COMPILE_CACHE'] ?? '',
      ...(options.config === undefined ? {} : { CHAMBERLAIN_CONFIG: options.config }),
      ...options.env,
    },
  });
}

/** Runs `chamberlain ARGS…` to its end. */
export function runCli(args: readonly string[], options: RunOptions = {}): Promise<Ended> {
  return endOf(startCli(args, options), options.input);
}

/** Waits for the end of a started command. */
export function endOf(child: ChildProcess, input: string | Buffer = ''): Promise<Ended> {
  return new Promise((resolve, reject) => {
    let [out, err] = ['', ''];
    child.stdout?.setEncoding('utf8').on('data', (text: string) => (out += text));
    child.stderr?.setEncoding('utf8').on('data', (text: string) => (err += text));
    child.stdin?.on('error', () => {}); // it has read enough
    child.stdin?.end(input);
    child.on('error', reject);
    child.on('close', (exit) => resolve({ exit, out, err }));
  });
}
