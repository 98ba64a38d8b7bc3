/**
 * `npm run demo`: a whole realm on real servers, shown as a scenario and proved from outside the code.
 *
 *     node dev/demo/run.ts [--keep [--dir DIR]]
 *
 * Starts a stack and `chamberlain work`, sends the requests of requests.jsonl, examines the results with the
 * servers' own programs, and sends all requests again, which must change nothing. Exits with 1 if a check
 * fails, and stops what it has started; with --keep it leaves everything running, in DIR.
 */
import { chmodSync, mkdtempSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { parseArgs } from 'node:util';
import { print } from '../../src/cli/table.ts';
import { stackEnvironment, stackStatus, startStack, stopStack } from '../servers/stack.ts';
import { runScenario } from './run-scenario.ts';
import { isSomebodyElses } from './records.ts';
import { chapter, check, countChecks, failedChecks } from './output.ts';
import { startWork, stopWork, untilWorking, type Work } from './work.ts';
import { sayWhatToTry } from './next.ts';

const USAGE = `usage: npm run demo [-- --keep [--dir DIR]]

  --keep      leave the servers and the workers running, and show what to try next
  --dir DIR   the folder for them; .stack by default
`;

const { values } = parseArgs({
  options: {
    keep: { type: 'boolean', default: false },
    dir: { type: 'string', default: process.env['CHAMBERLAIN_STACK_DIR'] ?? '.stack' },
    help: { type: 'boolean', short: 'h', default: false },
  },
});

const interruption = new AbortController();
const interrupted = new Promise<never>((_, fail) => {
  interruption.signal.addEventListener('abort', () => fail(interruption.signal.reason as Error));
});
interrupted.catch(() => {});
for (const name of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const) {
  process.on(name, () => interruption.abort(new Error(`interrupted by ${name}`)));
}
// the reader of the output has gone
process.stdout.on('error', () => interruption.abort(new Error('nobody reads the output')));

process.exit(values.help ? (process.stdout.write(USAGE), 0) : await demonstrate());

async function demonstrate(): Promise<number> {
  const begin = performance.now();
  const dir = values.keep ? resolve(values.dir) : makeTemporaryFolder();
  const ranBefore = await hasRunningServers(dir);
  const started: { stack?: Promise<unknown>; work?: Work } = {};
  let leave = false;
  try {
    await Promise.race([run(dir, started), interrupted]);
    leave = values.keep;
  } catch (error) {
    if (!interruption.signal.aborted) {
      const what = error instanceof Error ? error.message : String(error);
      check('the demo ends normally', false, what);
    }
  } finally {
    if (!leave) await stop(dir, ranBefore, started);
  }
  const failures = failedChecks();
  const seconds = ((performance.now() - begin) / 1000).toFixed(1);
  print('');
  if (interruption.signal.aborted) {
    const { message } = interruption.signal.reason as Error;
    print(`Stopped everything that was started: ${message}.`);
    return 130;
  }
  for (const failure of failures) print(`failed: ${failure}`);
  print(
    failures.length === 0
      ? `All ${countChecks()} checks hold. ${seconds} s.`
      : `${failures.length} of ${countChecks()} checks failed. ${seconds} s.`,
  );
  if (leave && started.work !== undefined) sayWhatToTry(dir, started.work);
  return failures.length === 0 ? 0 : 1;
}

async function run(dir: string, started: { stack?: Promise<unknown>; work?: Work }): Promise<void> {
  chapter('The servers', dir);
  const begin = performance.now();
  started.stack = startStack(dir);
  await started.stack;
  interruption.signal.throwIfAborted();
  check(
    'PostgreSQL, Redis, slapd, two MariaDB servers',
    true,
    'all answer',
    performance.now() - begin,
  );
  const workBegin = performance.now();
  const env = stackEnvironment(dir);
  if (await isSomebodyElses(env)) {
    throw new Error(
      `the realm in ${dir} is in use: dev/stack down --purge --dir ${dir} empties it`,
    );
  }
  started.work = await startWork(dir, env);
  await untilWorking(started.work);
  check(
    'chamberlain work',
    true,
    `running, pid ${started.work.pid}`,
    performance.now() - workBegin,
  );
  await runScenario(env, dir, interruption.signal);
}

/** Stops what the demo has started, whatever state it is in; servers that ran before stay. */
async function stop(
  dir: string,
  ranBefore: boolean,
  started: { stack?: Promise<unknown>; work?: Work },
): Promise<void> {
  try {
    await started.stack?.catch(() => {}); // a stack that is still starting cannot be stopped
    if (started.work !== undefined) await stopWork(started.work);
    if (!ranBefore) await stopStack(dir, !values.keep);
  } catch (error) {
    check(
      'everything that was started is stopped',
      false,
      error instanceof Error ? error.message : String(error),
    );
  }
}

async function hasRunningServers(dir: string): Promise<boolean> {
  try {
    return (await stackStatus(dir)).some(({ state }) => state !== 'down');
  } catch {
    return false; // there is no stack
  }
}

/** A folder that the servers' users can enter. */
function makeTemporaryFolder(): string {
  const dir = mkdtempSync(join(tmpdir(), 'chamberlain-demo-'));
  chmodSync(dir, 0o755);
  return dir;
}
