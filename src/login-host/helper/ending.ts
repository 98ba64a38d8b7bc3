/**
 * Ends what people and tools run who may run nothing any more: as soon as it is known, two seconds later what a login
 * that was let in right before has begun since, and every minute what is left of all of them. What does not end,
 * such as a process that waits for a file server, holds up nobody else.
 */
import { setTimeout as sleep } from 'node:timers/promises';
import { describeError } from '../../shared/errors.ts';
import type { Log } from '../../shared/log.ts';
import { endSessions } from './sessions.ts';

export interface Ending {
  /** Ends what these run, and looks again later. */
  end(uids: readonly number[]): void;
  /** Ends what all these still run, unless the last call still does. */
  endLeft(uids: readonly number[]): void;
}

const AGAIN_MS = 2000;
/** One may wait for what does not end. */
const MOST_AT_ONCE = 2;

/**
 * @param mayEnd whether what runs by that uid may still be ended, when it comes to it
 * @param end as `endSessions`
 */
export function openEnding(
  mayEnd: (uid: number) => boolean,
  log: Log,
  end: typeof endSessions = endSessions,
): Ending {
  const waiting = new Set<number>();
  let running = 0;
  let isEndingLeft = false;

  async function endNow(uids: readonly number[]): Promise<void> {
    const now = uids.filter(mayEnd);
    if (now.length === 0) return;
    try {
      const processes = await end(new Set(now));
      if (processes === 0) return;
      log.info({ uids: now.slice(0, 10), count: now.length, processes }, 'sessions ended');
    } catch (error) {
      // they are tried again with all that is left
      log.warn({ uids: now.slice(0, 10), error: describeError(error) }, 'sessions are not ended');
    }
  }

  async function work(): Promise<void> {
    if (running === MOST_AT_ONCE) return;
    running += 1;
    while (waiting.size > 0) {
      const uids = [...waiting];
      waiting.clear();
      await endNow(uids);
    }
    running -= 1;
  }

  return {
    end(uids) {
      if (uids.length === 0) return;
      for (const uid of uids) waiting.add(uid);
      void work();
      void sleep(AGAIN_MS, undefined, { ref: false }).then(() => {
        for (const uid of uids) waiting.add(uid);
        return work();
      });
    },
    endLeft(uids) {
      if (isEndingLeft) return;
      isEndingLeft = true;
      void endNow(uids).finally(() => (isEndingLeft = false));
    },
  };
}
