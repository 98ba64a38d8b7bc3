/** Throttles a long survey in favour of other work, reports its progress, and ends it when nobody waits for it. */
import { setImmediate, setTimeout as sleep } from 'node:timers/promises';
import type { AskedSurvey } from './surveys-table.ts';
import type { Throttle } from '../targets/everything.ts';

/**
 * `slice`: subjects at a time; `piece`: entries, rows or paths at a time; `rest`: the length of a pause, as a
 * multiple of the time that the work before it took. Each slice costs some statements on every server, and a getfacl:
 * with 500, a survey of homes or databases takes a tenth less processor time than with 250. In the background, this
 * leaves four fifths of one processor to live requests.
 */
const THROTTLES = {
  prompt: { slice: 500, piece: 400, rest: 0 },
  background: { slice: 50, piece: 100, rest: 4 },
} as const satisfies Record<AskedSurvey['pace'], unknown>;

/** How often it reports progress, and learns whether anybody still waits. */
const REPORT_MS = 200;

export interface SurveyThrottle extends Throttle {
  slice: number;
  /** To be called after each slice of subjects; like `yieldTurn`. */
  looked(count: number): Promise<void>;
  /** Whether `yieldTurn` threw because nobody waits any more. */
  isOver(): boolean;
}

/**
 * @param total how many subjects there are
 * @param closing aborts when the worker ends
 * @param report is called with how many of the total are done, and returns false if nobody waits any more
 */
export function startThrottle(
  pace: AskedSurvey['pace'],
  total: number,
  { closing, report }: { closing: AbortSignal; report: (done: number) => Promise<boolean> },
): SurveyThrottle {
  const { slice, piece, rest } = THROTTLES[pace];
  let read = 0;
  let looked = 0;
  let isGone = false;
  let yieldedAt = performance.now();
  let reportedAt = yieldedAt;

  /** Reading everything counts as half of the work, though its amount is not known in advance. */
  function done(): number {
    if (read === 0) return Math.min(total, looked);
    const readShare = looked > 0 ? 1 : read / (read + total);
    return Math.floor((Math.min(total, looked) + readShare * total) / 2);
  }

  async function yieldTurn(): Promise<void> {
    const now = performance.now();
    if (rest === 0) await setImmediate(undefined, { signal: closing });
    else await sleep(Math.max(1, (now - yieldedAt) * rest), undefined, { signal: closing });
    if (now - reportedAt >= REPORT_MS) {
      reportedAt = performance.now();
      isGone = !(await report(done()));
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
