/**
 * Intake: gives requests their verdicts, one after another, the portals in turn, and of each what takes access
 * away first.
 *
 * One intake works at a time, in all processes: whoever has the lease, on the very connection that
 * it writes with. Requests that wait at the same time are decided in one transaction, so that they
 * wait for the disk together; each is told when that is committed. Where PostgreSQL is lost, jobs in
 * hand go back into the queue, and nothing is taken until it has the lease again. Where Redis is away the lease is not
 * renewed: maybe another process sees it.
 *
 * An invalid job, which is not a request that the portal in whose queue it lies has signed, costs a look and a check
 * of its signature. It is counted by portal and code, and nothing of it is kept.
 *
 * Between the batches it makes the moves of the calendar that are due (src/lifecycle/calendar.ts), on the
 * same connection, and never beside a batch.
 *
 * While the realm is frozen none is taken, and those in hand go back. It is looked under the row that
 * says so, in each transaction of verdicts; and a thaw is heard by NOTIFY.
 */
import { setTimeout as sleep } from 'node:timers/promises';
import type pg from 'pg';
import type { Config } from '../src/shared/config.ts';
import { openInbox, type Taken } from '../src/backends/redis/request-inbox.ts';
import { type Code, describeError } from '../src/shared/errors.ts';
import type { Log } from '../src/shared/log.ts';
import {
  checkJob,
  type Given,
  giveVerdict,
  lookAhead,
  recordTogether,
  sentenceOf,
  type SignedJob,
  type Verdict,
} from '../src/requests/verdict.ts';
import { writeEvents } from '../src/events/events-table.ts';
import { holdThawed, isFrozen } from '../src/database/freeze.ts';
import { syncRanges } from '../src/identity/ids-table.ts';
import { addJunk } from '../src/requests/junk-table.ts';
import { confirmLease, sqlState, transact } from '../src/database/connection.ts';
import { hostCalendar } from '../src/lifecycle/calendar-runs.ts';
import { type Leased, startLeased } from '../src/database/leased.ts';
import type { Worker } from '../src/shared/loop.ts';

/** Most requests that are decided in one transaction: what is urgent waits for one such. */
const BATCH = 32;
/** So often a job may fail, alone and while PostgreSQL answers, before it is refused. */
const MOST_FAILURES = 5;
/** A job that has failed and did not come again in this time does not come any more. */
const FORGET_FAILURE_MS = 60_000;
/** SQLSTATE of a statement that took longer than it may. */
const QUERY_CANCELED = '57014';
/** Classes of SQLSTATE that pass by themselves: connections, transactions, locks, resources, the operator, the disk. */
const PASSING = /^(08|25|40|53|55|57|58)/u;
/** Notices of a thaw are lost when a connection breaks: it is looked this often besides. */
const LOOK_THAWED_MS = 500;
/** Pause after Redis did not answer as it should. */
const REDIS_AWAY_MS = 500;

/** Junk is counted in PostgreSQL no more often than this, and verdicts of an hour ago are forgotten this often. */
const COUNT_JUNK_MS = 1000;
const TIDY_MS = 60_000;

/** The realm is frozen: no verdict. */
class Frozen extends Error {}

/** A request of a portal, in hand. */
interface Waiting {
  job: SignedJob;
  taken: Taken;
}

/** @param clock what time it is: for verdicts and for the calendar */
export function startIntake(
  config: Config,
  log: Log,
  clock: () => Date = () => new Date(),
): Worker {
  /** of jobs on which the program itself has failed, or that take too long, by their hash; and when last */
  const failures = new Map<string, { times: number; tookTooLong: boolean; at: number }>();
  const portals = config.portals.map(({ name }) => name);
  return startLeased({ config, role: 'intake', log }, takeIn);

  /** Takes requests in whenever the realm is not frozen, as long as it has the lease. */
  async function takeIn(leased: Leased): Promise<void> {
    const { client, held } = leased;
    let tidiedAt = performance.now();
    while (!held.signal.aborted) {
      if (await isFrozen(client)) {
        if (performance.now() - tidiedAt >= TIDY_MS) {
          tidiedAt = performance.now();
          await tidyFrozen();
        }
        await leased.progress();
        await untilNotice(client, held.signal);
        continue;
      }
      await takeInThawed(leased);
    }
  }

  /** Nothing is taken; but what ended is forgotten as ever, and no queue becomes too long. */
  async function tidyFrozen(): Promise<void> {
    const inbox = openInbox(config, portals);
    await inbox.tidy().catch(() => {});
    await inbox.close();
  }

  /**
   * Returns when PostgreSQL says that something is due, as a thaw does; or soon anyway. Thawed, the calendar alone
   * listens, while it waits for a role.
   */
  async function untilNotice(client: pg.Client, signal: AbortSignal): Promise<void> {
    const woken = new AbortController();
    const wake = () => woken.abort();
    client.once('notification', wake);
    await client.query('LISTEN chamberlain');
    await sleep(LOOK_THAWED_MS, undefined, {
      signal: AbortSignal.any([woken.signal, signal]),
    }).catch(() => {});
    client.removeListener('notification', wake);
    await client.query('UNLISTEN chamberlain');
  }

  /** Works until it is frozen, or `held` is aborted: by a fault, or from outside. */
  async function takeInThawed({ client, held, progress }: Leased): Promise<void> {
    const frozen = new AbortController();
    const stop = AbortSignal.any([held.signal, frozen.signal]);
    const inbox = openInbox(config, portals);
    let woken = new AbortController();
    const calendar = hostCalendar({ client, config, log, clock }, () => woken.abort());
    let countedAt = 0;
    let tidiedAt = 0;
    let hasFailed = false;
    /** no request waits that may stop something */
    let isAllTaken = false;

    try {
      await syncRanges(client, config);
      while (!stop.aborted) {
        woken = new AbortController();
        const taken = await takeJobs();
        const jobs = taken ?? [];
        if (jobs.length > 0) await decideBatch(jobs);
        if (calendar.isDue() && !stop.aborted && !(await calendar.turn(isAllTaken))) freeze();
        await keepOrder();
        if (taken !== undefined) await progress();
        if (jobs.length > 0 || calendar.isDue() || stop.aborted) continue;
        await inbox.untilSomething(AbortSignal.any([stop, woken.signal]));
      }
    } finally {
      calendar.close();
      // one on which all have failed lets the others pass; whoever takes next does it too
      await confirmLease(client)
        .then(() => inbox.putBack(hasFailed ? 'last' : 'first'))
        .catch(() => {});
      await inbox.close();
    }

    /** The requests that come next; undefined where Redis does not answer. Invalid jobs are refused at once. */
    async function takeJobs(): Promise<Waiting[] | undefined> {
      // what is active is in the hands of whoever has the lease
      await confirmLease(client);
      isAllTaken = false;
      try {
        // it may have been lost with Redis
        const since = performance.now() - FORGET_FAILURE_MS;
        for (const [key, { at }] of failures) if (at < since) failures.delete(key);
        // one on which the program has failed is tried alone
        const most = failures.size === 0 ? BATCH : 1;
        const taken = await inbox.take(most);
        isAllTaken = taken.length < most;
        const checked = await Promise.all(
          taken.map(({ data, queue }) => checkJob(config, queue.portal, data, clock())),
        );
        const invalid = checked.flatMap((each, n) =>
          'signed' in each ? [] : [{ ...each, taken: taken[n] as Taken }],
        );
        if (invalid.length > 0) await inbox.refuse(invalid).catch(redisIsAway);
        return checked.flatMap((each, n) =>
          'signed' in each ? [{ job: each, taken: taken[n] as Taken }] : [],
        );
      } catch (error) {
        await redisIsAway(error);
        return undefined;
      }
    }

    async function redisIsAway(cause: unknown): Promise<void> {
      log.warn({ error: describeError(cause) }, 'the queues of requests are troubled');
      await sleep(REDIS_AWAY_MS, undefined, {
        signal: AbortSignal.any([stop, woken.signal]),
      }).catch(() => {});
    }

    async function decideBatch(batch: readonly Waiting[]): Promise<void> {
      let verdicts: Verdict[];
      try {
        if (stop.aborted) return;
        verdicts = await transact(client, async () => {
          // sent first, and answered first
          const thawed = holdThawed(client);
          const [given] = await Promise.all([decide(batch), thawed]);
          if (!(await thawed)) throw new Frozen();
          await writeEvents(
            client,
            given.flatMap(({ events }) => events),
          );
          return given.map(({ verdict }) => verdict);
        });
      } catch (error) {
        if (error instanceof Frozen) return freeze();
        log.warn({ error: describeError(error) }, 'requests wait');
        await countFailure(batch, error);
        hasFailed = true;
        held.abort();
        return;
      }
      for (const { job } of batch) failures.delete(job.sha256.toString('hex'));
      calendar.decided(batch.map(({ job }) => job.signed.kind));
      try {
        await inbox.end(batch.map(({ taken }, n) => ({ taken, verdict: verdicts[n] })));
      } catch (error) {
        // the verdicts are given: taken once more, each has the same again
        await redisIsAway(error);
      }
    }

    /** Counts invalid jobs, and forgets what ended long ago. */
    async function keepOrder(): Promise<void> {
      const now = performance.now();
      if (now - countedAt >= COUNT_JUNK_MS) {
        countedAt = now;
        const junk = inbox.countJunk();
        if (junk.length > 0) {
          log.warn({ junk }, 'invalid jobs came into queues of requests');
          await addJunk(client, junk);
        }
      }
      if (now - tidiedAt >= TIDY_MS) {
        tidiedAt = now;
        for (const [portal, error] of inbox.shutOut()) {
          log.warn({ portal, error }, 'requests of this portal cannot be fetched');
        }
        await inbox.tidy().catch(redisIsAway);
      }
    }

    function freeze(): void {
      log.info('the realm is frozen: requests wait');
      frozen.abort();
    }

    async function decide(batch: readonly Waiting[]): Promise<Given[]> {
      const judged = batch.map(({ job }) => {
        const failed = failures.get(job.sha256.toString('hex'));
        return failed === undefined || failed.times < MOST_FAILURES
          ? job
          : givenUp(job, failed.tookTooLong);
      });
      const together = judged.length > 1 ? await lookAhead(client, config, judged) : undefined;
      const given: Given[] = [];
      try {
        for (const [n, job] of judged.entries()) {
          const of = { urgentQueue: batch[n]?.taken.queue.urgent === true, now: clock(), together };
          given.push(await giveVerdict(client, config, job, of));
        }
        if (together !== undefined) await recordTogether(client, together);
        return given;
      } catch (error) {
        // what comes after a write that failed says only that the transaction is over
        await Promise.all(together?.writing ?? []);
        throw error;
      }
    }

    /**
     * Where PostgreSQL answers, and not that it cannot do it just now, it is the program's fault. What takes too long,
     * again and again and alone, is too much to ask for.
     */
    async function countFailure(batch: readonly Waiting[], error: unknown): Promise<void> {
      const state = sqlState(error);
      const tookTooLong = state === QUERY_CANCELED;
      if (state !== undefined && !tookTooLong && PASSING.test(state)) return;
      const answers = await client.query('SELECT 1').then(
        () => true,
        () => false,
      );
      if (!answers) return;
      for (const { job } of batch) {
        const key = job.sha256.toString('hex');
        const times = (failures.get(key)?.times ?? 0) + 1;
        failures.set(key, { times, tookTooLong, at: performance.now() });
      }
    }
  }
}

/**
 * A job that is to be refused, so that it is not tried for ever. What takes too long and asks for little is
 * not: PostgreSQL is slow then, and somebody's suspension waits until it is not.
 */
function givenUp(job: SignedJob, tookTooLong: boolean): SignedJob {
  const { signed } = job;
  const refuse = (code: Code): SignedJob => ({
    ...job,
    signed: { ...signed, refusal: { code, sentence: sentenceOf(code) } },
  });
  if (!tookTooLong) return refuse('INTERNAL');
  const { people, server } = signed.claims.request as { people?: unknown; server?: unknown };
  const isForMany = (Array.isArray(people) && people.length > 1) || server !== undefined;
  return isForMany ? refuse('TOO_MUCH_AT_ONCE') : job;
}
