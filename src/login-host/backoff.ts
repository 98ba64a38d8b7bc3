/** When something expensive may be repeated: at once, then after 1 s, 2 s, 4 s … up to a minute. */
const LEAST_MS = 1000;
const MOST_MS = 60_000;

export interface Backoff {
  /** Whether it may be done now. If so, it is taken as done. */
  take(): boolean;
}

/** @param clock in milliseconds; must never go back */
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
