/**
 * The runner of jest.config.mjs: each test file runs in a Node process of its own, which loads modules as the program
 * does, with what Node has compiled before. Jest's own runner reads, strips and compiles every module again for every
 * file.
 */
import { fork } from 'node:child_process';
import { once } from 'node:events';
import { join } from 'node:path';
import type { Test, TestResult } from '@jest/test-result';
import type { Order, Outcome } from './suite.ts';

type Settings = Order['globalConfig'] & { maxWorkers: number };

interface Watcher {
  isInterrupted(): boolean;
}

const SUITE = join(import.meta.dirname, 'suite.ts');
/** Longer than any test waits for programs without doing anything else. */
const SILENT_MS = 1_200_000;

/** Called by jest, with `new`. */
export default function makeRunner(settings: Settings): object {
  return {
    supportsEventEmitters: false,
    async runTests(
      tests: readonly Test[],
      watcher: Watcher,
      onStart: (test: Test) => Promise<void>,
      onResult: (test: Test, result: TestResult) => Promise<void>,
      onFailure: (test: Test, error: { message: string; stack: string }) => Promise<void>,
    ): Promise<void> {
      const waiting = longestFirst(tests).values();
      const runWaiting = async (): Promise<void> => {
        for (const test of waiting) {
          if (watcher.isInterrupted()) return;
          await onStart(test);
          await runSuite(test, settings).then(
            (result) => onResult(test, result),
            ({ message, stack = message }: Error) => onFailure(test, { message, stack }),
          );
        }
      };
      await Promise.all(Array.from({ length: settings.maxWorkers }, runWaiting));
    },
  };
}

/**
 * Jest begins with what took longest, and if it has never seen the files, with the largest. But whole sequences of
 * requests take longest however short they are written, and would leave a processor idle in the end.
 */
function longestFirst(tests: readonly Test[]): readonly Test[] {
  if (tests.some(({ duration }) => duration !== undefined)) return tests;
  const isLong = ({ path }: Test): number => Number(/\/(?:scenarios|clients)\//u.test(path));
  return tests.toSorted((one, other) => isLong(other) - isLong(one));
}

/**
 * Runs one test file. Rejects if it cannot be loaded, or its process ends before it has a result. It is ended if it does
 * nothing but wait for a program: then no time-out of a test is heeded either.
 */
export async function runSuite(
  { path, context }: Pick<Test, 'path' | 'context'>,
  globalConfig: Settings,
  silentMs = SILENT_MS,
): Promise<TestResult> {
  const suite = fork(SUITE, {
    stdio: ['ignore', 'pipe', 'pipe', 'ipc'], // never a terminal: tests see the same everywhere
    env: { ...process.env, ...(process.stderr.isTTY ? { FORCE_COLOR: '1' } : {}) },
  });
  suite.stdout?.pipe(process.stderr, { end: false });
  suite.stderr?.pipe(process.stderr, { end: false });
  let outcome: Outcome | undefined;
  const silence = setTimeout(() => suite.kill('SIGKILL'), silentMs);
  suite.on('message', (message) => {
    silence.refresh();
    if (message !== 'alive') outcome = message as Outcome;
  });
  const order: Order = { path, config: context.config, globalConfig };
  suite.send(order);
  const [[code, signal]] = await Promise.all([once(suite, 'exit'), once(suite, 'disconnect')]);
  clearTimeout(silence);
  if (outcome === undefined && suite.killed) {
    throw new Error(
      `its process was ended: it has done nothing else but wait for a program for ${silentMs / 60_000} min`,
    );
  }
  if (outcome === undefined) throw new Error(`its process ended early: ${signal ?? code}`);
  if ('error' in outcome) throw outcome.error as Error;
  return outcome.result;
}
