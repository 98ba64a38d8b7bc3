/** How often and when a subject is tried again. */
import type { statusOf } from './engine.ts';
import type { Outcome } from './convergence-table.ts';

/**
 * If a server is away, the role tries again after this time, without end. If the server refuses, the role tries
 * again after growing pauses, and then parks the subject. What takes access away is then still tried once a minute
 * (src/reconcile/relay-queries.ts).
 */
const AWAY_RETRY_MS = 1500;
const REFUSED_RETRY_MS = { first: 500, most: 60_000 };
const MOST_REFUSALS = 8;

/**
 * What to write to the row: whether and when it is tried again.
 *
 * @param refusals how often it was refused before, not counting when a server was away
 */
export function outcomeOf(status: ReturnType<typeof statusOf>, refusals: number): Outcome {
  if (status.state !== 'failing') return status;
  const { code, sentence } = status;
  if (code === 'BACKEND_UNAVAILABLE' || code === 'BACKEND_UNREADABLE') {
    return { state: 'failing', code, sentence, retryInMs: AWAY_RETRY_MS, counts: false };
  }
  if (refusals + 1 >= MOST_REFUSALS) return { state: 'parked', code, sentence };
  const { first, most } = REFUSED_RETRY_MS;
  const retryInMs = Math.min(most, first * 2 ** refusals);
  return { state: 'failing', code, sentence, retryInMs, counts: true };
}
