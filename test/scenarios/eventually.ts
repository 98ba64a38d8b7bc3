import { setTimeout as sleep } from 'node:timers/promises';

/** The longest wait for something that must happen: the machine may be busy with other things. */
const PATIENCE_MS = 60_000;
/**
 * The pause between two looks; as long as a look takes, so that a look that starts programs does not keep a
 * processor busy.
 */
const PAUSE_MS = { least: 20, most: 500 };

/**
 * Calls `look` again until there is an answer (not undefined, not false), and returns it; fails after
 * `timeoutMs`, and names what was awaited. An error of `look` is not an answer yet.
 */
export async function eventually<T>(
  what: string,
  look: () => T | undefined | false | Promise<T | undefined | false>,
  timeoutMs = PATIENCE_MS,
): Promise<T> {
  const deadline = performance.now() + timeoutMs;
  let last: unknown;
  for (;;) {
    const began = performance.now();
    try {
      const answer = await look();
      if (answer !== undefined && answer !== false) return answer;
      last = undefined;
    } catch (error) {
      last = error;
    }
    if (performance.now() > deadline) {
      throw new Error(`timed out after ${timeoutMs / 1000} s waiting for ${what}`, { cause: last });
    }
    const tookMs = performance.now() - began;
    await sleep(Math.min(Math.max(tookMs, PAUSE_MS.least), PAUSE_MS.most));
  }
}
