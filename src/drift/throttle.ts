/** How a long survey goes on beside other work, says how far it is, and ends when nobody waits for it. */
import { setImmediate, setTimeout as sleep } from 'node:timers/promises';
import type { AskedSurvey } from './surveys-table.ts';
import type { Throttle } from '../targets/everything.ts';

/**
 * `slice`: subjects at a time; `piece`: entries, rows or paths; `rest`: pauses, by the time that what
 * came before took. In the background that leaves live requests four fifths of one processor.
 */
const THROTTLES = {
  prompt: { slice: 250, piece: 400, rest: 0 },
  background: { slice: 50, piece: 100, rest: 4 },
} as const satisfies Record<AskedSurvey['pace'], unknown>;

/** How often it says how far it is, and learns whether anybody still waits. */
const TELL_MS = 200;

export interface SurveyThrottle extends Throttle {
  slice: number;
  /** After each slice of subjects; like `yieldTurn`. */
  looked(count: number): Promise<void>;
  /** Whether that is why `yieldTurn` threw: nobody waits any more. */
  isOver(): boolean;
}

/**
 * @param total how many subjects there are
 * @param closing aborts when the worker ends
 * @param tell says how far it is, of the total; false: nobody waits for it any more
 */
export function startThrottle(
  pace: AskedSurvey['pace'],
  total: number,
  { closing, tell }: { closing: AbortSignal; tell: (done: number) => Promise<boolean> },
): SurveyThrottle {
  const { slice, piece, rest } = THROTTLES[pace];
  let read = 0;
  let looked = 0;
  let isGone = false;
  let yieldedAt = performance.now();
  let reportedAt = yieldedAt;

  /** What is read beforehand counts as half of the way; how much there is, nobody knows before. */
  function done(): number {
    if (read === 0) return Math.min(total, looked);
    const readShare = looked > 0 ? 1 : read / (read + total);
    return Math.floor((Math.min(total, looked) + readShare * total) / 2);
  }

  async function yieldTurn(): Promise<void> {
    const now = performance.now();
    if (rest === 0) await setImmediate(undefined, { signal: closing });
    else await sleep(Math.max(1, (now - yieldedAt) * rest), undefined, { signal: closing });
    if (now - reportedAt >= TELL_MS) {
      reportedAt = performance.now();
      isGone = !(await tell(done()));
      if (isGone) throw new Error('nobody waits for the survey any more');
    }
    yieldedAt = performance.now();
  }

  return {
    slice,
    piece,
    async yieldTurn() {
      read += piece;
      await yieldTurn();
    },
    async looked(count) {
      looked += count;
      await yieldTurn();
    },
    isOver: () => isGone || closing.aborted,
  };
}
