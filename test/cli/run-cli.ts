/** Runs the command line, in this process, or in another as people do. */
import { spawn, type ChildProcess } from 'node:child_process';
import { AsyncLocalStorage } from 'node:async_hooks';
import { join } from 'node:path';
import { Writable } from 'node:stream';
import { main } from '../../src/cli/main.ts';

/** The built program, for Node.js. dev/test.ts builds it. */
export const PROGRAM = join(import.meta.dirname, '../../dist/chamberlain.js');

/** Commands that need a process of their own: they handle signals, or load files in a way that Jest does not know. */
const APART = new Set(['work', 'backup', 'migrate']);

export interface Ended {
  exit: number | null;
  out: string;
  err: string;
}

export interface RunOptions {
  /** the configuration; none by default */
  config?: string;
  input?: string | Buffer;
  /** with a terminal of its own; standard output has everything that is written on it */
  terminal?: true;
  env?: Record<string, string>;
  /** words to put before the command, such as those that run it on another machine */
  prefix?: readonly string[];
}

/** Starts `chamberlain ARGS…`. */
export function startCli(args: readonly string[], options: RunOptions = {}): ChildProcess {
  const command = [...(options.prefix ?? []), process.execPath, PROGRAM, ...args];
  const quoted = command.map((word) => `'${word}'`).join(' ');
  const [program = '', ...words] =
    options.terminal === true ? ['script', '-qec', quoted, '/dev/null'] : command;
  return spawn(program, words, {
    stdio: ['pipe', 'pipe', 'pipe'],
    env: {
      PATH: process.env['PATH'] ?? '',
      // the compile cache of Node.js halves the time of a start
      NODE_COMPILE_CACHE: process.env['NODE_COMPILE_CACHE'] ?? '',
      ...(options.config === undefined ? {} : { CHAMBERLAIN_CONFIG: options.config }),
      ...options.env,
    },
  });
}

/**
 * Runs `chamberlain ARGS…` to its end. Starting a process costs ten times the processor time of most commands, so it
 * runs in this process, unless it needs something that only a process has.
 */
export function runCli(args: readonly string[], options: RunOptions = {}): Promise<Ended> {
  const { config, ...others } = options;
  if (Object.keys(others).length > 0 || APART.has(args[0] ?? '')) {
    return endOf(startCli(args, options), options.input);
  }
  return runHere(config === undefined ? args : ['--config', config, ...args]);
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

/** The parts of `process` that a command in this process has for itself. */
interface Own {
  stdout: Writable;
  stderr: Writable;
  exitCode: number | undefined;
  exit(this: void, code?: number): void;
}

/** Several may run at a time, and each callback finds the context of its own command. */
const own = new AsyncLocalStorage<Own>();
let isDivided = false;

function runHere(args: readonly string[]): Promise<Ended> {
  divideProcess();
  return new Promise((resolve, reject) => {
    const [out, err]: [string[], string[]] = [[], []];
    const mine: Own = {
      stdout: collect(out),
      stderr: collect(err),
      exitCode: undefined,
      exit(code) {
        resolve({ exit: code ?? mine.exitCode ?? 0, out: out.join(''), err: err.join('') });
      },
    };
    own.run(mine, () => main(args)).then(() => mine.exit(), reject);
  });
}

function collect(texts: string[]): Writable {
  return new Writable({
    decodeStrings: false,
    write(text: string | Buffer, _, done) {
      texts.push(text.toString());
      done();
    },
  });
}

/** Each command here gets its own parts of `process`. */
function divideProcess(): void {
  if (isDivided) return;
  isDivided = true;
  const { stdout, stderr } = process;
  const whole = { stdout, stderr, exit: process.exit.bind(process) };
  for (const name of ['stdout', 'stderr', 'exit'] as const) {
    Object.defineProperty(process, name, {
      configurable: true,
      enumerable: true,
      get: () => (own.getStore() ?? whole)[name],
    });
  }
  // Node lets nobody define this one anew
  const partOf = (real: object, name: PropertyKey): object =>
    name === 'exitCode' ? (own.getStore() ?? real) : real;
  globalThis.process = new Proxy(process, {
    get: (real, name) => Reflect.get(partOf(real, name), name) as unknown,
    set: (real, name, value) => Reflect.set(partOf(real, name), name, value),
  });
}
