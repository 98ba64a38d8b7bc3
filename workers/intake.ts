/**
 * Intake: gives requests their verdicts, one after another, what takes access away first.
 *
 * One intake works at a time, in all processes: whoever holds the lock, on the very connection that
 * it writes with. Requests that wait at the same time are decided in one transaction, so that they
 * wait for the disk together; each is told when that is committed. Where PostgreSQL is lost, jobs in
 * hand go back into the queue, and nothing is taken until the lock is held again.
 *
 * Between the batches it makes the moves of the calendar that are due (src/requests/calendar.ts), on the
 * same connection, and never beside a batch.
 *
 * While the realm is frozen none is taken, and those in hand go back. It is looked under the row that
 * says so, in each transaction of verdicts; and a thaw is heard by NOTIFY.
 */
import { setTimeout as sleep } from 'node:timers/promises';
import type pg from 'pg';
import type { Config } from '../src/config.ts';
import {
  type Consumer,
  PutBack,
  REQUESTS,
  REQUESTS_URGENT,
  startConsumer,
} from '../src/edges/queue.ts';
import { describeError } from '../src/errors.ts';
import type { Log } from '../src/log.ts';
import {
  type CheckedJob,
  checkJob,
  giveVerdict,
  sentenceOf,
  unreadableJob,
  type Verdict,
} from '../src/requests/verdict.ts';
import { holdThawed, isFrozen } from '../src/store/freeze.ts';
import { syncRanges } from '../src/store/ids.ts';
import { INTAKE_LOCK, sqlState, transact } from '../src/store/postgres.ts';
import { hostCalendar } from './calendar.ts';
import { startLocked, untilAborted } from './locked.ts';
import type { Worker } from './loop.ts';

/** Most requests that are decided in one transaction: what is urgent waits for one such. */
const BATCH = 16;
/** So often a job may fail, alone and while PostgreSQL answers, before it is refused. */
const MOST_FAILURES = 5;
/** SQLSTATE of a statement that took longer than it may. */
const QUERY_CANCELED = '57014';
/** Notices of a thaw are lost when a connection breaks: it is looked this often besides. */
const LOOK_THAWED_MS = 500;

/** The realm is frozen: no verdict. */
class Frozen extends PutBack {}

interface Waiting {
  job: CheckedJob;
  urgentQueue: boolean;
  resolve: (verdict: Verdict) => void;
  reject: (error: unknown) => void;
}

/** @param clock what time it is: for verdicts and for the calendar */
export function startIntake(
  config: Config,
  log: Log,
  clock: () => Date = () => new Date(),
): Worker {
  /** of jobs on which the program itself has failed, or that take too long, by their hash */
  const failures = new Map<string, { times: number; tookTooLong: boolean }>();
  return startLocked({ config, role: 'intake', lock: INTAKE_LOCK, log }, takeIn);

  /** Takes requests in whenever the realm is not frozen, as long as the locked connection lives. */
  async function takeIn(client: pg.Client, held: AbortController): Promise<void> {
    const pulse = setInterval(() => void client.query('SELECT 1').catch(() => held.abort()), 5000);
    try {
      await client.query('LISTEN chamberlain');
      while (!held.signal.aborted) {
        if (await isFrozen(client)) {
          await untilNotice(client, held.signal);
          continue;
        }
        await takeInThawed(client, held);
      }
    } finally {
      clearInterval(pulse);
    }
  }

  /** Returns when PostgreSQL says that something is due, as a thaw does; or soon anyway. */
  async function untilNotice(client: pg.Client, signal: AbortSignal): Promise<void> {
    const woken = new AbortController();
    const wake = () => woken.abort();
    client.once('notification', wake);
    await sleep(LOOK_THAWED_MS, undefined, {
      signal: AbortSignal.any([woken.signal, signal]),
    }).catch(() => {});
    client.removeListener('notification', wake);
  }

  /** Works until it is frozen, or `held` is aborted: by a fault, or from outside. */
  async function takeInThawed(client: pg.Client, held: AbortController): Promise<void> {
    const frozen = new AbortController();
    const stop = AbortSignal.any([held.signal, frozen.signal]);
    const waiting: Waiting[] = [];
    let busy = false;
    let working = Promise.resolve();
    const calendar = hostCalendar({ client, config, log, clock }, () => work());

    /** Has all decided that wait, and the calendar turned, one after the other. */
    function work(): void {
      if (busy) return;
      busy = true;
      working = decideWaiting();
    }

    /**
     * Decides all that wait, batch by batch, with a turn of the calendar after each where one is due;
     * after a fault puts back what is left, and ends.
     */
    async function decideWaiting(): Promise<void> {
      try {
        while (waiting.length > 0 || (calendar.isDue() && !stop.aborted)) {
          if (waiting.length > 0) await decideBatch();
          if (calendar.isDue() && !stop.aborted && !(await calendar.turn())) freeze();
        }
      } finally {
        busy = false; // at once: whoever comes next starts anew
      }
    }

    async function decideBatch(): Promise<void> {
      waiting.sort((a, b) => Number(b.urgentQueue) - Number(a.urgentQueue));
      // one on which the program has failed is tried alone
      const batch = waiting.splice(0, failures.size === 0 ? BATCH : 1);
      try {
        if (stop.aborted) throw new PutBack();
        const verdicts = await transact(client, async () => {
          // sent first, and answered first
          const thawed = holdThawed(client);
          const [given] = await Promise.all([decide(batch), thawed]);
          if (!(await thawed)) throw new Frozen();
          return given;
        });
        batch.forEach(({ job, resolve }, index) => {
          failures.delete(job.sha256.toString('hex'));
          resolve(verdicts[index] as Verdict);
        });
        calendar.decided(batch.map(({ job }) => job.signed?.kind));
      } catch (error) {
        if (error instanceof Frozen) {
          freeze();
        } else if (!(error instanceof PutBack)) {
          log.warn({ error: describeError(error) }, 'requests wait');
          await countFailure(batch, error);
          held.abort();
        }
        for (const { reject } of batch) reject(new PutBack());
      }
    }

    function freeze(): void {
      log.info('the realm is frozen: requests wait');
      frozen.abort();
    }

    async function decide(batch: readonly Waiting[]): Promise<Verdict[]> {
      const verdicts: Verdict[] = [];
      for (const { job, urgentQueue } of batch) {
        const failed = failures.get(job.sha256.toString('hex'));
        const judged =
          failed === undefined || failed.times < MOST_FAILURES
            ? job
            : givenUp(job, failed.tookTooLong);
        verdicts.push(await giveVerdict(client, config, judged, { urgentQueue, now: clock() }));
      }
      return verdicts;
    }

    /**
     * Neither PostgreSQL's word, nor a connection that is lost: then it is the program's fault. What takes
     * too long, again and again and alone, is too much to ask for.
     */
    async function countFailure(batch: readonly Waiting[], error: unknown): Promise<void> {
      const tookTooLong = sqlState(error) === QUERY_CANCELED;
      if (sqlState(error) !== undefined && !tookTooLong) return;
      const answers = await client.query('SELECT 1').then(
        () => true,
        () => false,
      );
      if (!answers) return;
      for (const { job } of batch) {
        const key = job.sha256.toString('hex');
        failures.set(key, { times: (failures.get(key)?.times ?? 0) + 1, tookTooLong });
      }
    }

    const consume = (queue: string, urgentQueue: boolean): Consumer => {
      const judge = (job: CheckedJob): Promise<Verdict> =>
        new Promise((resolve, reject) => {
          waiting.push({ job, urgentQueue, resolve, reject });
          work();
        });
      return startConsumer({
        config,
        account: 'intake',
        queue,
        concurrency: BATCH,
        exclusive: true,
        handle: async ({ data }) => judge(await checkJob(config, data, clock())),
        handleUnreadable: async (bytes) => void (await judge(unreadableJob(bytes))),
        onError: (error) =>
          log.warn({ queue, error: describeError(error) }, 'the queue is troubled'),
      });
    };

    const consumers: Consumer[] = [];
    try {
      await syncRanges(client, config);
      consumers.push(consume(REQUESTS_URGENT, true), consume(REQUESTS, false));
      work();
      await untilAborted(stop);
    } finally {
      calendar.close();
      await Promise.all(consumers.map((consumer) => consumer.close(3000)));
      await working;
    }
  }
}

/**
 * A job that is to be refused, so that it is not tried for ever. What takes too long and asks for little is
 * not: PostgreSQL is slow then, and somebody's suspension waits until it is not.
 */
function givenUp(job: CheckedJob, tookTooLong: boolean): CheckedJob {
  const { sha256, signed } = job;
  if (!tookTooLong || signed === undefined) return { sha256 };
  const { people, server } = signed.claims.request as { people?: unknown; server?: unknown };
  const isForMany = (Array.isArray(people) && people.length > 1) || server !== undefined;
  if (!isForMany) return job;
  const code = 'TOO_MUCH_AT_ONCE';
  return { sha256, signed: { ...signed, refusal: { code, sentence: sentenceOf(code) } } };
}
