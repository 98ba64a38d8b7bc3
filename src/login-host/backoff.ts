/** When something that costs much may be done again: at once, then after a second, two, four … a minute. */
const LEAST_MS = 1000;
const MOST_MS = 60_000;

export interface Backoff {
  /** Whether it may be done now; then it is taken to be done. */
  take(): boolean;
}

/** @param clock in milliseconds, never back */
export function openBackoff(clock: () => number = () => performance.now()): Backoff {
  let waitMs = 0;
  let last = -Infinity;
  return {
    take() {
      const since = clock() - last;
      if (since < waitMs) return false;
      waitMs = since > 2 * MOST_MS ? LEAST_MS : Math.min(2 * waitMs, MOST_MS);
      last = clock();
      return true;
    },
  };
}
