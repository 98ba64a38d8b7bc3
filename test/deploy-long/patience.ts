/** How the tests of this folder wait: for what must happen, however busy the machine is with other things. */
import { spawnSync, type SpawnSyncOptionsWithStringEncoding } from 'node:child_process';
import { eventually as wait } from '../scenarios/eventually.ts';

/** It ends what hangs. */
const PATIENCE_MS = 600_000;

export const eventually: typeof wait = (what, look) => wait(what, look, PATIENCE_MS);

/** What a command of ours says, with its advice, if it had to wait for a processor: the servers may be well. */
const BUSY = 'this machine is too busy, so run the command again later';

/** Takes this advice. */
export function unlessBusy<T extends { stdout: string; stderr: string }>(start: () => T): T {
  const until = performance.now() + PATIENCE_MS;
  for (;;) {
    const ended = start();
    const isBusy = `${ended.stdout}${ended.stderr}`.includes(BUSY);
    if (!isBusy || performance.now() > until) return ended;
    spawnSync('sleep', ['2']);
  }
}

/**
 * Runs a program to its end, whatever that is. Throws if it does not end: while this waits, no time-out of jest ends a test.
 */
export function runToEnd(
  program: string,
  words: readonly string[],
  options: Partial<SpawnSyncOptionsWithStringEncoding> = {},
): { status: number | null; stdout: string; stderr: string } {
  const ended = spawnSync(program, words, {
    ...{ encoding: 'utf8', maxBuffer: 2 ** 28, timeout: PATIENCE_MS, killSignal: 'SIGKILL' },
    ...options,
  });
  if (ended.error !== undefined && 'code' in ended.error && ended.error.code === 'ETIMEDOUT') {
    const said = `${ended.stdout}${ended.stderr}`.slice(-2000);
    throw new Error(
      `${program} ${words.join(' ')} has not ended within ${PATIENCE_MS / 60_000} min: ${said}`,
    );
  }
  return ended;
}
