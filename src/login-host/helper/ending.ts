/**
 * Ends the processes of people and tools that may not run any: as soon as this is known, two seconds later (for
 * a login that was let in just before), and every minute (for whatever is left of all of them). A process that
 * does not end, such as one that waits for a file server, delays nothing else.
 */
import { setTimeout as sleep } from 'node:timers/promises';
import { describeError } from '../../shared/errors.ts';
import type { Log } from '../../shared/log.ts';
import { endSessions } from './sessions.ts';

export interface Ending {
  /** Ends the processes of these uids, and looks again later. */
  end(uids: readonly number[]): void;
  /** Ends what is left of all these uids, unless the last call is still running. */
  endLeft(uids: readonly number[]): void;
}

const AGAIN_MS = 2000;
/** One call may wait for a process that does not end. */
const MOST_AT_ONCE = 2;

/**
 * @param mayEnd whether the processes of that uid may still be ended, asked just before they are
 * @param end like `endSessions`
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
      // all that is left is tried again
      log.warn(
        { uids: now.slice(0, 10), error: describeError(error) },
        'some sessions did not end',
      );
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
