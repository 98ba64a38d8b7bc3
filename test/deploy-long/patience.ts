/** How the tests of this folder wait: for what must happen, however busy the machine is with other things. */
import { spawnSync } from 'node:child_process';
import { eventually as within } from '../scenarios/eventually.ts';

/** It ends what hangs. */
const PATIENCE_MS = 600_000;

export const eventually: typeof within = (what, look) => within(what, look, PATIENCE_MS);

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
