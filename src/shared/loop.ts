/** A loop that runs when it is woken, and regularly anyway, but never twice at once. */
import { setTimeout as sleep } from 'node:timers/promises';
import { describeError } from './errors.ts';
import type { Log } from './log.ts';
import { openNews } from './news.ts';
import { openProgress } from './progress.ts';

/** Something that runs until it is closed. Closing it finishes the work in progress. */
export interface Worker {
  close(): Promise<void>;
}

export interface Loop extends Worker {
  /** Runs as soon as the current run, if any, is over. */
  wake(): void;
  /** Wakes it after that time, if nothing does before. */
  wakeIn(ms: number): void;
}

/** The pause after a run that failed. */
const AFTER_FAILURE_MS = 500;

/**
 * @param run returns how many milliseconds after its beginning the next run may begin, so that under load one
 *   run does the work of many. If it returns nothing, the next run may begin at once.
 * @param options.everyMs how often it runs without being woken
 * @param options.mayWait whether a run may wait for something as long as it takes, and so is not known to hang
 */
export function startLoop(
  name: string,
  { everyMs, log, mayWait = false }: { everyMs: number; log: Log; mayWait?: boolean },
  run: () => Promise<number | void>,
): Loop {
  let woken = true;
  let closing = false;
  let timer: NodeJS.Timeout | undefined;
  let timerAt = 0;
  let resume: (() => void) | undefined;
  let notBefore = 0;
  const failures = openNews<string>();
  const progress = openProgress(name);

  const wake = () => {
    woken = true;
    resume?.();
  };
  const wakeIn = (ms: number) => {
    const at = Date.now() + ms;
    if (timer !== undefined && timerAt <= at) return;
    clearTimeout(timer);
    timerAt = at;
    timer = setTimeout(wake, ms);
  };
  const running = (async () => {
    await Promise.resolve(); // the first run may name this loop
    while (!closing) {
      progress.made(Infinity); // it waits until it is woken
      if (!woken) await new Promise<void>((resolve) => (resume = resolve));
      if (closing) break;
      const rest = notBefore - performance.now();
      if (rest > 0) await sleep(rest);
      const began = performance.now();
      woken = false;
      clearTimeout(timer);
      timer = undefined;
      if (!mayWait) progress.made();
      try {
        notBefore = began + ((await run()) ?? 0);
        failures.forget(name);
        wakeIn(everyMs);
      } catch (error) {
        const why = describeError(error);
        if (failures.isNew(name, why)) {
          log.warn({ loop: name, error: why }, 'a run failed, and is repeated');
        }
        woken = false;
        wakeIn(AFTER_FAILURE_MS);
      }
    }
    progress.close();
  })();
  return {
    wake,
    wakeIn,
    async close() {
      closing = true;
      wake();
      clearTimeout(timer);
      await running;
    },
  };
}
