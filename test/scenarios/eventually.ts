import { setTimeout as sleep } from 'node:timers/promises';

/** The longest wait for something that must happen: the machine may be busy with other things. */
const PATIENCE_MS = 120_000;
/**
 * The pause between two looks: three times as long as a look took, so that looks leave the processor to what is awaited;
 * and a tenth of the wait so far, because what takes seconds need not be seen within milliseconds.
 */
const PAUSE = { ofLook: 3, mostOfLookMs: 500, ofWait: 0.1, mostOfWaitMs: 200, leastMs: 20 };
/** A look that hangs is given up this long after the end of the wait. */
const LOOK_MS = 60_000;

/**
 * Calls `look` again until there is an answer (not undefined, null or false), and returns it; fails after
 * `timeoutMs`, and names what was awaited. An error of `look` is not an answer yet.
 */
export async function eventually<T>(
  what: string,
  look: () => T | undefined | null | false | Promise<T | undefined | null | false>,
  timeoutMs = PATIENCE_MS,
): Promise<T> {
  const start = performance.now();
  const deadline = start + timeoutMs;
  let last: unknown;
  for (;;) {
    const began = performance.now();
    try {
      const answer = await within(
        'the end of a look',
        Promise.resolve(look()),
        deadline + LOOK_MS - began,
      );
      if (answer !== undefined && answer !== null && answer !== false) return answer;
      last = undefined;
    } catch (error) {
      last = error;
    }
    if (performance.now() > deadline) {
      throw new Error(`timed out after ${timeoutMs / 1000} s waiting for ${what}`, { cause: last });
    }
    const now = performance.now();
    const ofLook = Math.min((now - began) * PAUSE.ofLook, PAUSE.mostOfLookMs);
    const ofWait = Math.min((now - start) * PAUSE.ofWait, PAUSE.mostOfWaitMs);
    await sleep(Math.max(ofLook, ofWait, PAUSE.leastMs));
  }
}

/** Waits for a promise; fails after `timeoutMs`, and names what was awaited. */
export async function within<T>(
  what: string,
  promise: Promise<T>,
  timeoutMs = PATIENCE_MS,
): Promise<T> {
  const over = new AbortController();
  const late = sleep(timeoutMs, undefined, { signal: over.signal }).then(() => {
    throw new Error(`timed out after ${Math.round(timeoutMs / 1000)} s waiting for ${what}`);
  });
  try {
    return await Promise.race([promise, late]);
  } finally {
    over.abort();
  }
}
