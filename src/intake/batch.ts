/** One batch of requests: fetched from the portals' queues, decided in one transaction, and answered. */
import { setTimeout as sleep } from 'node:timers/promises';
import type pg from 'pg';
import {
  delayRequest,
  endRequests,
  putBackRequests,
  refuseRequests,
  takeRequests,
} from '../backends/redis/request-inbox.ts';
import {
  type Inbox,
  LONGEST_REST_MS,
  shutOutPortals,
  takeJunk,
  type Taken,
  tidyInbox,
} from '../backends/redis/request-queues.ts';
import type { ConfigInUse } from '../configuration/config-in-use.ts';
import { confirmLease, rehearse, transact } from '../database/connection.ts';
import { holdThawed } from '../database/freeze.ts';
import { writeEvents } from '../events/events-table.ts';
import type { HostedCalendar } from '../lifecycle/calendar-runs.ts';
import { findAdminKeys } from '../requests/admin-keys-table.ts';
import { addJunk } from '../requests/junk-table.ts';
import { kidOfAdmin } from '../requests/token.ts';
import {
  checkJob,
  checkVerdict,
  type Given,
  giveVerdict,
  type JunkJob,
  lookAhead,
  recordTogether,
  type SignedJob,
  type Verdict,
} from '../requests/verdict.ts';
import type { Config } from '../shared/config.ts';
import { describeError, describeRootCause } from '../shared/errors.ts';
import type { Log } from '../shared/log.ts';
import type { News } from '../shared/news.ts';
import { type Failures, passes } from './failures.ts';
import { countInvalidJobs, countVerdicts } from './intake-metrics.ts';

/** Most requests that are decided in one transaction: an urgent request waits for one batch at most. */
const BATCH = 32;
/** Pause after Redis did not answer as it should. */
const REDIS_AWAY_MS = 500;
/** Invalid jobs are counted in PostgreSQL no more often than this, and verdicts of an hour ago are forgotten this often. */
const COUNT_JUNK_MS = 1000;
export const TIDY_MS = 60_000;

/** The realm is frozen: no verdict. */
class Frozen extends Error {}
/** No request can have a verdict now: an import holds them all, for example. */
class NoneHeld extends Error {}

/** `holdThawed`, whose failure is the fault of no request. */
const holdVerdicts = (client: pg.Client): Promise<boolean> =>
  holdThawed(client).catch((cause: unknown) => {
    throw new NoneHeld('making sure that the realm is not frozen', { cause });
  });

/** A request of a portal, in hand. */
export interface Waiting {
  job: SignedJob;
  taken: Taken;
}

/** What intake works with from a thaw to a freeze, or to the end of its lease. */
export interface Intaking {
  /** of this turn: a batch is checked and decided by the same */
  config: Config;
  readonly inUse: ConfigInUse;
  readonly log: Log;
  readonly clock: () => Date;
  readonly failures: Failures;
  /** the connection that has the lease */
  readonly client: pg.Client;
  /** aborts when the lease ends; a fault ends it */
  readonly held: AbortController;
  /** aborts at a freeze */
  readonly frozen: AbortController;
  /** aborts at either */
  readonly stop: AbortSignal;
  readonly inbox: Inbox;
  readonly calendar: HostedCalendar;
  /** why the queues of requests cannot be used */
  readonly said: News<'Redis'>;
  /** when it began, by performance.now() */
  readonly since: number;
  /** ends the wait for the next request */
  woken: AbortController;
  countedAt: number;
  tidiedAt: number;
  /** the jobs in hand let the others pass when the lease ends */
  hasFailed: boolean;
  /** no request waits that may stop a move of the calendar */
  isAllTaken: boolean;
}

/** The requests that come next; undefined where Redis does not answer. Refuses invalid jobs at once. */
export async function takeJobs(of: Intaking): Promise<Waiting[] | undefined> {
  const { client, failures, inbox } = of;
  // active jobs belong to the process that has the lease
  await confirmLease(client);
  of.isAllTaken = false;
  const most = failures.any() ? 1 : BATCH;
  let taken: Taken[];
  try {
    taken = await takeRequests(inbox, most);
  } catch (error) {
    await redisIsAway(of, error);
    return undefined;
  }
  of.said.forget('Redis');
  of.isAllTaken = taken.length < most && !(inbox.rests && mayHaveFailed(of));
  const checked = await checkAll(of, taken);
  const invalid = checked.flatMap((each, n) =>
    'signed' in each ? [] : [{ ...each, taken: taken[n] as Taken }],
  );
  if (invalid.length > 0)
    await refuseRequests(inbox, invalid).catch((error) => redisIsAway(of, error));
  const waiting = checked.flatMap((each, n) =>
    'signed' in each ? [{ job: each, taken: taken[n] as Taken }] : [],
  );
  return await letRest(of, waiting);
}

/**
 * Whether a job that is delayed may be one that has failed, here or in the process that had the lease before. If not, a
 * portal has delayed it, and could do so for ever.
 */
function mayHaveFailed({ failures, since }: Intaking): boolean {
  return failures.any() || performance.now() - since < LONGEST_REST_MS;
}

/** Returns the jobs that are to be decided now. Those that have failed alone rest once more while others take long to fail. */
async function letRest(of: Intaking, waiting: readonly Waiting[]): Promise<Waiting[]> {
  const { failures, inbox } = of;
  const now: Waiting[] = [];
  for (const each of waiting) {
    const rest = failures.restOf(each.job);
    if (rest === 0) now.push(each);
    else await delayRequest(inbox, each.taken, rest).catch((error) => redisIsAway(of, error));
  }
  return now;
}

/** Checks the signatures. Admins' keys are looked up here; whether each still counts, the decision reads again. */
async function checkAll(
  { client, config, clock }: Intaking,
  taken: readonly Taken[],
): Promise<(SignedJob | JunkJob)[]> {
  const kids = taken.flatMap(
    ({ data }) => kidOfAdmin((data as { token?: unknown } | null)?.token) ?? [],
  );
  const adminKeys = await findAdminKeys(client, kids);
  return await Promise.all(
    taken.map(({ data, queue }) => checkJob(config, queue.portal, data, clock(), adminKeys)),
  );
}

/**
 * Decides the batch in one transaction, and answers each of its requests after COMMIT. When another configuration comes
 * meanwhile, the requests that follow the one in hand are left to it. Returns false if it could not be decided: what is
 * in hand then waits for another look.
 */
export async function decideBatch(of: Intaking, batch: readonly Waiting[]): Promise<boolean> {
  const { stop, client, failures, calendar } = of;
  if (stop.aborted || batch.length === 0) return true;
  const jobs = batch.map(({ job }) => job);
  const began = performance.now();
  let verdicts: Verdict[];
  let committed: readonly Given[] = [];
  try {
    verdicts = await transact(client, async () => {
      // sent first, and answered first
      const thawed = holdVerdicts(client);
      const [given] = await Promise.all([decide(of, batch), thawed]);
      if (!(await thawed)) throw new Frozen();
      await writeEvents(
        client,
        given.flatMap(({ events }) => events),
      );
      committed = given;
      return given.map(({ verdict }) => verdict);
    });
  } catch (error) {
    if (error instanceof Frozen) freeze(of);
    else await hasFailed(of, batch, error, performance.now() - began);
    return false;
  }
  const decided = jobs.slice(0, verdicts.length);
  if (decided.length < jobs.length) of.isAllTaken = false;
  failures.forget(decided);
  countVerdicts(decided, committed);
  calendar.decided(decided.map(({ signed }) => signed.kind));
  await answer(
    of,
    verdicts.map((verdict, n) => ({ taken: (batch[n] as Waiting).taken, verdict })),
  );
  return true;
}

/** Says of each check what its verdict would be now. Each has a transaction of its own, which is rolled back. */
export async function decideChecks(of: Intaking, jobs: readonly Waiting[]): Promise<void> {
  const { stop, client, config, inUse, clock, failures } = of;
  for (const waiting of jobs) {
    if (stop.aborted || inUse.current() !== config) return;
    const { job, taken } = waiting;
    if (job.signed.claims.check === undefined) continue;
    const urgentQueue = taken.queue.urgent;
    const began = performance.now();
    let verdict: Verdict;
    try {
      verdict = await rehearse(client, async () => {
        // sent first, and answered first
        const thawed = holdVerdicts(client);
        const terms = { urgentQueue, now: clock() };
        const checked = checkVerdict(client, config, failures.judge(job), terms);
        const [given] = await Promise.all([checked, thawed]);
        if (!(await thawed)) throw new Frozen();
        return given;
      });
    } catch (error) {
      if (error instanceof Frozen) return freeze(of);
      return await hasFailed(of, [waiting], error, performance.now() - began);
    }
    failures.forget([job]);
    await answer(of, [{ taken, verdict }]);
  }
}

/**
 * Requests that failed together go behind all others, and are tried one by one. One that fails alone rests in its queue,
 * where it keeps no other from its verdict. If PostgreSQL fails for all, the lease ends.
 */
async function hasFailed(
  of: Intaking,
  batch: readonly Waiting[],
  error: unknown,
  tookMs: number,
): Promise<void> {
  const { log, failures, client, inbox } = of;
  const [first] = batch;
  const alone = batch.length === 1 ? first : undefined;
  log.warn(
    { ...describeBatch(batch), error: describeError(error) },
    alone === undefined
      ? 'no verdicts could be given: the requests wait, and are tried again'
      : 'no verdict could be given: the request waits, and is tried again',
  );
  of.isAllTaken = false;
  const isHeld =
    !(error instanceof NoneHeld || passes(error)) &&
    (await confirmLease(client).then(
      () => true,
      () => false,
    ));
  if (!isHeld) {
    of.hasFailed = true;
    of.held.abort();
    return;
  }
  const jobs = batch.map(({ job }) => job);
  const pause = failures.count(jobs, error, tookMs);
  try {
    if (alone !== undefined) await delayRequest(inbox, alone.taken, pause);
    await putBackRequests(inbox, 'last');
  } catch (cause) {
    // the next look puts it back
    await redisIsAway(of, cause);
  }
}

/** For the log: which request it is, or how many. */
function describeBatch(batch: readonly Waiting[]) {
  const [first] = batch;
  if (batch.length !== 1 || first === undefined) return { requests: batch.length };
  const { claims, kind } = first.job.signed;
  return { portal: first.taken.queue.portal, request: claims.jti, kind };
}

async function answer(
  of: Intaking,
  verdicts: readonly { taken: Taken; verdict: Verdict }[],
): Promise<void> {
  try {
    await endRequests(of.inbox, verdicts);
  } catch (error) {
    // the verdicts are given: a request that is taken once more has the same again
    await redisIsAway(of, error);
  }
}

async function decide(
  { client, config, inUse, clock, failures }: Intaking,
  batch: readonly Waiting[],
): Promise<Given[]> {
  const judged = batch.map(({ job }) => failures.judge(job));
  const together = judged.length > 1 ? await lookAhead(client, config, judged) : undefined;
  const given: Given[] = [];
  for (const [n, job] of judged.entries()) {
    if (n > 0 && inUse.current() !== config) break;
    const of = { urgentQueue: batch[n]?.taken.queue.urgent === true, now: clock(), together };
    given.push(await giveVerdict(client, config, job, of));
  }
  if (together !== undefined) await recordTogether(client, together);
  return given;
}

/** Stops at a freeze: requests wait from now on. */
export function freeze({ log, frozen }: Intaking): void {
  log.info('the realm is frozen: requests wait');
  frozen.abort();
}

/** Counts invalid jobs, and forgets verdicts of long ago. */
export async function tidy(of: Intaking): Promise<void> {
  const { client, log, inbox } = of;
  const now = performance.now();
  if (now - of.countedAt >= COUNT_JUNK_MS) {
    of.countedAt = now;
    const junk = takeJunk(inbox);
    if (junk.length > 0) {
      log.warn({ junk }, 'invalid jobs arrived in the queues of requests');
      await addJunk(client, junk);
      countInvalidJobs(junk);
    }
  }
  if (now - of.tidiedAt >= TIDY_MS) {
    of.tidiedAt = now;
    for (const [portal, error] of shutOutPortals(inbox)) {
      log.warn({ portal, error }, 'requests of this portal cannot be fetched');
    }
    await tidyInbox(inbox).catch((error) => redisIsAway(of, error));
  }
}

async function redisIsAway({ log, said, stop, woken }: Intaking, cause: unknown): Promise<void> {
  const error = describeError(cause);
  // of whatever was tried
  if (said.isNew('Redis', describeRootCause(cause))) {
    log.warn({ error }, 'the queues of requests cannot be used; they are tried again');
  }
  await sleep(REDIS_AWAY_MS, undefined, {
    signal: AbortSignal.any([stop, woken.signal]),
  }).catch(() => {});
}
