/** How long this process has waited for a processor. */
import { readFileSync } from 'node:fs';

/** In milliseconds, since it was started; 0 if Linux does not count that. */
export function readWaitedMs(): number {
  try {
    // of the main thread: how long it ran, how long it waited for a processor, how often it ran
    const [, waitedNs] = readFileSync('/proc/self/schedstat', 'utf8').split(' ');
    return Number(waitedNs) / 1e6 || 0;
  } catch {
    return 0;
  }
}
