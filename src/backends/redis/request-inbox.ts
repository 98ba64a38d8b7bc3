/**
 * The queues of requests, as intake sees them: every portal's two, taken from in turn.
 *
 * Their content was written by portals, or by anyone who has a portal's Redis password: it can be anything. So
 * Redis measures a job before it is read, and whatever is not a job that intake could take is removed:
 *
 * | what                                                | what becomes of it              | counted as          |
 * | --------------------------------------------------- | ------------------------------- | ------------------- |
 * | more than 160 KiB in Redis                          | removed unread                  | `REQUEST_TOO_LARGE` |
 * | no hash, fields that BullMQ's `add` does not write, | removed                         | `REQUEST_MALFORMED` |
 * | data or options that are not JSON, an id of more    |                                 |                     |
 * | than 512 bytes, or that is not UTF-8                |                                 |                     |
 * | newer than what may wait (see MOST_WAITING)         | removed unread                  | `QUEUE_FULL`        |
 * | a job that is not a valid request of its portal     | fails, with the code and why    | its code            |
 * | a request                                           | completes: the verdict is its   | not at all          |
 * |                                                     | return value, kept for an hour  |                     |
 *
 * Only one intake works at a time, so a job that is active but that it does not hold was left by an intake that died. Jobs
 * are fetched without locks (BullMQ's token `0`), because nobody else fetches them.
 */
import { setTimeout as sleep } from 'node:timers/promises';
import { ErrorCode, Job, type JobJson, UnrecoverableError } from 'bullmq';
import { allot, type Share } from '../../requests/turns.ts';
import type { Code } from '../../shared/errors.ts';
import { NO_LOCK } from './queue-keys.ts';
import { inCommandTime } from './redis-connection.ts';
import {
  countJobs,
  countJunk,
  discard,
  discardUnsound,
  type Inbox,
  inspect,
  isOfJob,
  KEPT_SECONDS,
  mendAll,
  readActive,
  reclaim,
  type RequestQueue,
  shortenAll,
  type Taken,
} from './request-queues.ts';

/** So many verdicts of a queue are kept at most. */
const MOST_KEPT = 10_000;
/** How many invalid jobs of a queue are kept, with the reason. */
const MOST_REFUSALS_KEPT = 100;

/** The longest wait for a job: notices may be lost with a connection. */
const WAIT_SECONDS = 1;
const AFTER_FAILURE_MS = 500;

/** Takes jobs, one from each portal in turn, urgent ones first, until there are `most`. */
export function takeRequests(inbox: Inbox, most: number): Promise<Taken[]> {
  return bounded(inbox, 'taking requests from their queues', async () => {
    if (inbox.odd) await mendAll(inbox);
    inbox.odd = inbox.removed = inbox.noticed = false;
    let jobs = await countJobs(inbox);
    if (jobs.active) {
      await reclaim(inbox, 'first');
      jobs = await countJobs(inbox);
    }
    const { counts, totals, rests } = jobs;
    inbox.rests = rests;
    await shortenAll(inbox, totals);
    return await takeInTurn(inbox, counts, most);
  });
}

/**
 * Takes up to `most` jobs from queues with so many. A place for a queue that yields none, perhaps because its portal has
 * paused it, goes to the others if nothing else was taken.
 */
async function takeInTurn(inbox: Inbox, counts: readonly number[], most: number): Promise<Taken[]> {
  const { portals, queues } = inbox;
  const left = [...counts];
  for (;;) {
    const { shares, next } = allot(
      portals.map((_, n) => ({ urgent: left[2 * n] ?? 0, other: left[2 * n + 1] ?? 0 })),
      most,
      inbox.turn,
    );
    inbox.turn = next;
    const wanted = queues.map(({ urgent }, n) => {
      const share = shares[Math.floor(n / 2)] as Share;
      return urgent ? share.urgent : share.other;
    });
    const taken = await Promise.all(
      queues.map((queue, n) => fetchFrom(inbox, queue, wanted[n] ?? 0)),
    );
    if (taken.some(({ length }) => length > 0) || wanted.every((count) => count === 0))
      return taken.flat();
    for (const [n, count] of wanted.entries()) if (count > 0) left[n] = 0;
  }
}

/** Takes this many jobs of one queue, or fewer. */
async function fetchFrom(inbox: Inbox, queue: RequestQueue, wanted: number): Promise<Taken[]> {
  if (wanted === 0) return [];
  const left = Math.min(wanted, await inspect(inbox, queue, wanted));
  const fetched = await Promise.allSettled(Array.from({ length: left }, () => fetchJob(queue)));
  const taken = fetched.flatMap((each): Taken[] =>
    each.status === 'fulfilled' && each.value !== undefined
      ? [{ queue, job: each.value, data: each.value.data as unknown }]
      : [],
  );
  const failed = fetched.find((each) => each.status === 'rejected');
  if (failed === undefined) inbox.troubles.delete(queue.portal);
  else await mendFetch(inbox, queue, taken, failed.reason as Error);
  return taken;
}

/**
 * Not by BullMQ's worker: if a job repeats, that adds the next, and it keeps to a limit that a portal has set on its
 * queue although the portal has taken it away.
 */
async function fetchJob({ asPortal }: RequestQueue): Promise<Job | undefined> {
  type Next = [data?: JobJson, id?: string] | null;
  const next = (await asPortal.getBackend().moveToActive(NO_LOCK)) as Next;
  return next?.[0] ? Job.fromJSON(asPortal, ...(next as [JobJson, string])) : undefined;
}

/**
 * A job that BullMQ could not read is active now, and nobody works on it. Those that are not at fault are put back by
 * the next look.
 */
async function mendFetch(inbox: Inbox, queue: RequestQueue, taken: readonly Taken[], error: Error) {
  inbox.odd = true;
  inbox.troubles.set(queue.portal, error.message);
  if (!/^(Syntax|Type|Range)Error$/u.test(error.name) && !/WRONGTYPE|integer/u.test(error.message))
    return;
  const inHand = new Set(taken.map(({ job }) => job.id));
  const unheld = (await readActive(inbox, queue)).filter((id) => !inHand.has(id));
  await discardUnsound(inbox, queue, unheld);
}

/** Ends jobs, each with the verdict as its return value. */
export function endRequests(
  inbox: Inbox,
  jobs: readonly { taken: Taken; verdict: unknown }[],
): Promise<void> {
  return endEach(inbox, 'reporting verdicts', jobs, ({ job }, { verdict }) => {
    job.opts.removeOnComplete = { age: KEPT_SECONDS, count: MOST_KEPT };
    return job.moveToCompleted(verdict, NO_LOCK, false);
  });
}

/** Ends invalid jobs: each fails, with the reason `CODE: sentence`. */
export function refuseRequests(
  inbox: Inbox,
  jobs: readonly { taken: Taken; code: Code; sentence: string }[],
): Promise<void> {
  return endEach(inbox, 'refusing invalid jobs', jobs, ({ job, queue }, { code, sentence }) => {
    countJunk(inbox, queue.portal, code, 1);
    job.opts.removeOnFail = { age: KEPT_SECONDS, count: MOST_REFUSALS_KEPT };
    job.opts.stackTraceLimit = 0;
    return job.moveToFailed(new UnrecoverableError(`${code}: ${sentence}`), NO_LOCK);
  });
}

/**
 * Ends jobs by BullMQ, and removes those that cannot be ended because somebody has changed them or the queue.
 */
function endEach<T extends { taken: Taken }>(
  inbox: Inbox,
  act: string,
  jobs: readonly T[],
  end: (taken: Taken, job: T) => Promise<unknown>,
): Promise<void> {
  return bounded(inbox, act, async () => {
    const ended = await Promise.allSettled(jobs.map((each) => end(each.taken, each)));
    for (const [n, each] of ended.entries()) {
      if (each.status === 'fulfilled') continue;
      if (!isOfJob(each.reason)) throw each.reason;
      // somebody has put it back, or another intake has it: it comes again, and has the same verdict
      if ((each.reason as { code?: unknown }).code === ErrorCode.JobNotInState) continue;
      const { job, queue } = (jobs[n] as T).taken;
      await discard(inbox, queue, [job.id as string]);
    }
  });
}

/** Puts a job back that is not to be taken within so many milliseconds. */
export function delayRequest(inbox: Inbox, taken: Taken, pause: number): Promise<void> {
  return endEach(inbox, 'returning a request to its queue', [{ taken }], ({ job }) =>
    job.moveToDelayed(Date.now() + pause, NO_LOCK),
  );
}

/**
 * Puts back what was taken and has not ended: to the end from which the next is taken, as `takeRequests` does too, or
 * behind all others.
 */
export function putBackRequests(inbox: Inbox, where: 'first' | 'last'): Promise<void> {
  return bounded(inbox, 'returning requests to their queues', () => reclaim(inbox, where));
}

/** Runs it in bounded time. If it is done later nevertheless, the next `takeRequests` puts it back. */
function bounded<T>({ guarded }: Inbox, act: string, run: () => Promise<T>): Promise<T> {
  return guarded(act, () => inCommandTime(run));
}

/**
 * Returns when something may have come since the last look began, or after a second. BullMQ's own wait is for one queue, on a connection of its
 * own, and its `QueueEvents` would read events of any size that a portal has written.
 */
export async function untilSomething(inbox: Inbox, signal: AbortSignal): Promise<void> {
  if (inbox.removed || inbox.noticed) return;
  const markers = inbox.queues.map(({ asIntake }) => asIntake.toKey('marker'));
  // one at a time: while Redis is away, none is answered
  inbox.came ??= inbox.waiting
    .bzpopmin(...markers, WAIT_SECONDS)
    // perhaps when nobody waits: a wait may end before its command does
    .then((marker) => void (inbox.noticed ||= marker !== null))
    .catch(async () => {
      inbox.odd = true;
      await sleep(AFTER_FAILURE_MS);
    })
    .finally(() => (inbox.came = undefined));
  const closed = new AbortController();
  try {
    await Promise.race([
      inbox.came,
      sleep(WAIT_SECONDS * 1000, undefined, { signal: AbortSignal.any([signal, closed.signal]) }),
    ]);
  } catch {
    // the signal
  } finally {
    closed.abort();
  }
}
