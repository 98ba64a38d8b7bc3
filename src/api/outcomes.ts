/**
 * What has become of requests, for callers that wait. PostgreSQL says it: a verdict counts from the COMMIT on. Whoever
 * waits is looked after by one loop, with one statement for all, so that a thousand callers cost as much as one. It looks
 * when PostgreSQL gives notice of events, which come with each verdict and with each end; notices may be lost, so it also
 * looks now and then.
 */
import { type Pool, withClient } from '../database/connection.ts';
import { hearChannel } from '../database/notices.ts';
import {
  findStandings,
  hasCome,
  type Outcome as Progress,
  type Standing,
  type Until,
} from '../requests/request-progress.ts';
import { sentenceOf } from '../requests/verdict.ts';
import { away } from './problem.ts';

/** A request, and the hash of what it asks. */
interface Asked {
  portal: string;
  id: string;
  sha256: Buffer;
}

/** The fields that `chamberlain submit --wait --json` prints, too. */
export interface Outcome extends Progress {
  id: string;
}

export interface Outcomes {
  /** Waits until it has a verdict or is done, and otherwise until the signal aborts; says what is known by then. */
  wait(asked: Asked, until: Until, signal: AbortSignal): Promise<Outcome>;
  close(): Promise<void>;
}

/**
 * The time between two looks without a notice, as a share of how long the newest caller has waited, within these bounds.
 * Notices are gathered for `gatherMs`.
 */
const LOOK = { share: 0.1, leastMs: 20, mostMs: 250, gatherMs: 2 };
/** How long PostgreSQL may be away before the callers that wait get an error. */
const FORGIVEN_MS = 5000;

interface Waiting {
  asked: Asked;
  until: Until;
  since: number;
  last: Outcome;
  settle(outcome: Outcome): void;
  fail(error: Error): void;
}

export function openOutcomes(pool: Pool): Outcomes {
  const all = new Set<Waiting>();
  let timer: NodeJS.Timeout | undefined;
  let answeredAt = performance.now();
  let isLooking = false;
  let isClosed = false;
  /** something has changed since the last look began */
  let isNoticed = false;

  const next = () => {
    clearTimeout(timer);
    if (isClosed || isLooking || all.size === 0) return;
    let newest = 0;
    for (const { since } of all) newest = Math.max(newest, since);
    const share = (performance.now() - newest) * LOOK.share;
    const pause = Math.min(LOOK.mostMs, Math.max(LOOK.leastMs, share));
    timer = setTimeout(() => void look(), isNoticed ? LOOK.gatherMs : pause);
  };
  const hearing = hearChannel(pool, 'chamberlain', (payload) => {
    if (payload !== 'events' || isNoticed || all.size === 0) return;
    isNoticed = true;
    next();
  });

  async function look(): Promise<void> {
    [isLooking, isNoticed] = [true, false];
    const now = [...all];
    try {
      const asked = now.map((each) => each.asked);
      const found = await withClient(pool, (client) => findStandings(client, asked));
      answeredAt = performance.now();
      const standings = new Map(found.map((each) => [`${each.portal} ${each.id}`, each]));
      for (const each of now) {
        const standing = standings.get(`${each.asked.portal} ${each.asked.id}`);
        if (standing === undefined) continue;
        each.last = outcomeOf(each.asked, standing);
        if (hasCome(each.last, each.until)) each.settle(each.last);
      }
    } catch {
      if (performance.now() - answeredAt > FORGIVEN_MS) for (const each of now) each.fail(away());
    }
    isLooking = false;
    next();
  }

  return {
    wait: (asked, until, signal) =>
      new Promise((resolve, reject) => {
        const last: Outcome = { id: asked.id, verdict: null, done: false };
        const since = performance.now();
        if (all.size === 0) answeredAt = since;
        const end = () => {
          all.delete(waiting);
          signal.removeEventListener('abort', onAbort);
        };
        const waiting: Waiting = {
          ...{ asked, until, since, last },
          settle: (outcome) => (end(), resolve(outcome)),
          fail: (error) => (end(), reject(error)),
        };
        const onAbort = () => waiting.settle(waiting.last);
        all.add(waiting);
        signal.addEventListener('abort', onAbort);
        if (signal.aborted) onAbort();
        isNoticed = true; // it may have come already
        next();
      }),
    async close() {
      isClosed = true;
      clearTimeout(timer);
      for (const each of all) each.settle(each.last);
      await hearing.close();
    },
  };
}

/** What a look has found. With other contents under the same id, intake refuses what was asked, as it always will. */
function outcomeOf({ id, sha256 }: Asked, standing: Standing): Outcome {
  if (!standing.bodySha256.equals(sha256)) {
    const code = 'REQUEST_REPLAYED';
    return { id, verdict: 'refused', done: false, code, sentence: sentenceOf(code) };
  }
  const { verdict, code, sentence, doneAt, approval, result } = standing;
  if (verdict === 'accepted' && approval?.state === 'open') {
    return { id, verdict, done: false, waiting: true, sentence: approval.why };
  }
  if (verdict === 'accepted' && approval?.state === 'rejected') {
    return { id, verdict, done: false, rejected: true, sentence: approval.reason ?? '' };
  }
  return {
    ...{ id, verdict, done: verdict === 'accepted' && doneAt !== null },
    ...(code === null ? {} : { code }),
    ...(sentence === null ? {} : { sentence }),
    ...(result === null ? {} : { data: result }),
  };
}
