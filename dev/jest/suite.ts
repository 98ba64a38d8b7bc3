/** The process of one test file: dev/jest/runner.ts says which. It runs the file and sends what jest reports. */
import { registerHooks } from 'node:module';
import { pathToFileURL } from 'node:url';
import { jestExpect } from '@jest/expect';
import { createEmptyTestResult, type AssertionResult, type TestResult } from '@jest/test-result';
import { addEventHandler, getState, run } from 'jest-circus';
import { formatExecError, formatResultsErrors } from 'jest-message-util';
import { urlOfPackage } from './packages.ts';

export interface Order {
  path: string;
  config: Parameters<typeof formatResultsErrors>[1] & { slowTestThreshold: number };
  globalConfig: Parameters<typeof formatResultsErrors>[2] & {
    testNamePattern?: string;
    testTimeout?: number;
  };
  /** how long the file may take to close what its tests have opened; CLOSE_MS by default */
  closeMs?: number;
}

/** The result, or why the file could not be loaded. */
export type Outcome = { result: TestResult } | { error: { message: string; stack: string } };

type RunResult = Awaited<ReturnType<typeof run>>;

/** As long as something comes so often, time-outs of tests end what hangs. */
const ALIVE_MS = 60_000;

/** Longer than a time-out of the program that runs out by itself: that one is no leak. */
const CLOSE_MS = 45_000;

/** As each of our modules names another. */
const OUR_FILE = /^\.{1,2}\/.*\.ts$/u;

const { unhandledErrors } = getState();
/** promises that nobody has caught yet, and their errors */
const rejected = new Map<Promise<unknown>, unknown>();

process.once('message', (order) => void runSuite(order as Order));

async function runSuite(order: Order): Promise<void> {
  process.once('disconnect', () => process.exit(1)); // the runner has been ended
  process.channel?.unref();
  setInterval(() => process.send?.('alive'), ALIVE_MS).unref();
  const start = Date.now();
  Error.stackTraceLimit = 100;
  provideModules();
  heedErrors();
  heedExpectations();
  const { path, globalConfig, closeMs = CLOSE_MS } = order;
  const { testNamePattern, testTimeout = 240_000 } = globalConfig;
  const state = getState();
  if (testNamePattern) state.testNamePattern = new RegExp(testNamePattern, 'i');
  state.testTimeout = testTimeout;
  try {
    await import(pathToFileURL(path).href);
  } catch (cause) {
    const { message, stack = message } = cause as Error;
    return send({ error: { message, stack } });
  }
  const ran = await run();
  const end = Date.now();
  const sendResult = (): void => {
    unhandledErrors.push(...(rejected.values() as Iterable<Error>));
    send({ result: resultOf(order, ran, { start, end }) });
  };
  process.once('beforeExit', sendResult); // nothing is open any more
  setTimeout(() => {
    const open = process.getActiveResourcesInfo().join(', ');
    unhandledErrors.push(new Error(`The tests have ended, and this is still open: ${open}`));
    sendResult();
  }, closeMs).unref();
}

function send(outcome: Outcome): void {
  process.send?.(outcome, () => process.exit());
}

/**
 * `@jest/globals` itself refuses to be imported outside of jest's own runner. Our modules get packages as
 * dev/jest/packages.ts has built them; packages get each other as they are. Where our own files are is clear from their
 * names: Node would look for each on the disk, which is a tenth of the time of loading them.
 */
function provideModules(): void {
  const globals = new URL('globals.ts', import.meta.url).href;
  const isOurs = ({ parentURL }: { parentURL?: string | undefined }): boolean =>
    !(parentURL ?? '').includes('/node_modules/');
  registerHooks({
    resolve(specifier, context, next) {
      const { parentURL } = context;
      if (parentURL !== undefined && OUR_FILE.test(specifier) && isOurs(context)) {
        const { href } = new URL(specifier, parentURL);
        return { url: href, format: 'module-typescript', shortCircuit: true };
      }
      const own = specifier === '@jest/globals' ? globals : urlOfPackage(specifier);
      if (own === undefined || !isOurs(context)) return next(specifier, context);
      return { url: own, shortCircuit: true };
    },
  });
}

/** What nobody catches fails the test that runs; a promise may be caught late. */
function heedErrors(): void {
  process.on('uncaughtException', (error) => {
    (getState().currentlyRunningTest?.errors ?? unhandledErrors).push(error);
  });
  process.on('unhandledRejection', (error, promise) => void rejected.set(promise, error));
  process.on('rejectionHandled', (promise) => void rejected.delete(promise));
}

/** `expect.assertions` and the like hold for one test. */
function heedExpectations(): void {
  addEventHandler((event) => {
    if (event.name !== 'test_done') return;
    const failed = jestExpect.extractExpectedAssertionsErrors();
    event.test.errors.push(...failed.map(({ error }) => error));
  });
}

function resultOf(
  { path, config, globalConfig }: Order,
  { testResults }: RunResult,
  { start, end }: { start: number; end: number },
): TestResult {
  const all = testResults.map(assertionResultOf);
  const count = (status: AssertionResult['status']): number =>
    all.filter((each) => each.status === status).length;
  const failures = [
    formatResultsErrors(all, config, globalConfig, path),
    ...unhandledErrors.map((error) => {
      const thrown = (Array.isArray(error) ? error[0] : error) as Error; // of a hook, with where it stands
      return formatExecError(thrown, config, globalConfig, path);
    }),
  ].filter((text) => text !== null);
  const empty = createEmptyTestResult();
  const runtime = end - start;
  return {
    ...empty,
    failureMessage: failures.length === 0 ? null : failures.join('\n\n'),
    numFailingTests: count('failed'),
    numPassingTests: count('passed'),
    numPendingTests: count('pending'),
    numTodoTests: count('todo'),
    perfStats: {
      ...{ ...empty.perfStats, start, end, runtime },
      slow: runtime > config.slowTestThreshold * 1000,
    },
    skipped: count('pending') === all.length,
    ...(unhandledErrors.length === 0
      ? {}
      : { testExecError: { message: '', stack: unhandledErrors.join('\n') } }),
    testFilePath: path,
    testResults: all.map((each) => ({ ...each, failureDetails: [] })), // errors cannot be sent
  };
}

function assertionResultOf(of: RunResult['testResults'][number]): AssertionResult {
  const [, ...names] = of.testPath.map(String); // the first is the file's
  const ended = of.errors.length > 0 ? 'failed' : 'passed';
  return {
    ancestorTitles: names.slice(0, -1),
    title: names.at(-1) ?? '',
    fullName: names.join(' '),
    status: { skip: 'pending', todo: 'todo', done: ended }[of.status] as AssertionResult['status'],
    duration: of.duration ?? null,
    failureDetails: of.errorsDetailed,
    failureMessages: of.errors,
    invocations: of.invocations,
    location: of.location ?? null,
    numPassingAsserts: of.numPassingAsserts,
    retryReasons: of.retryReasons,
    startAt: of.startedAt ?? null,
  };
}
