/**
 * Jobs whose transaction has failed while PostgreSQL worked for others. Each is tried alone, and rests longer after each
 * failure. However long they take to fail, four fifths of the time are left to jobs that have not failed alone.
 *
 * | why it failed                                        | then                                                         |
 * | ---------------------------------------------------- | ------------------------------------------------------------ |
 * | the program, or data that PostgreSQL refuses         | the fifth time, it is refused with INTERNAL                  |
 * | a statement took too long, and the job asks for much | the fifth time, it is refused with TOO_MUCH_AT_ONCE          |
 * | anything else: a right, a table or a column is       | it is tried until it has a verdict, or the request expires:  |
 * | missing, data are corrupted, a slow disk, …          | the request is sound, and an operator can mend what is wrong |
 */
import type { Code } from '../shared/errors.ts';
import { sqlState } from '../database/connection.ts';
import { isFault, type SignedJob, sentenceOf } from '../requests/verdict.ts';

/** A job may fail this often through its own fault before it is refused. */
const MOST_FAILURES = 5;
/** The pause after the first failure; it doubles with each, unless the job itself may be at fault. */
const PAUSE_MS = 100;
const MOST_PAUSE_MS = 30_000;
/** A job that was not taken again within this time after its pause keeps others no longer apart: Redis may have lost it. */
const FORGET_MS = 60_000;
/** Its failures are remembered for longer: while many take long to fail, it waits for minutes until it is tried again. */
const REMEMBER_MS = 3_600_000;
/** After a job has failed, those that failed before rest for so many times as long as it took. */
const OTHERS_SHARE = 4;
/** A job that has rested once more is taken within this time, unless Redis has lost it. */
const TAKEN_MS = 2000;
/** How long a job that failed later rests meanwhile. */
const PASSES_MS = 1000;
/** SQLSTATE of a statement that took longer than it may. */
const QUERY_CANCELED = '57014';
/**
 * Classes of SQLSTATE that pass by themselves, and that every request has: connections, read-only, resources, the
 * operator. Not those of a lock, a deadlock or a file, of which one table alone may be the reason.
 */
const PASSING = /^(08|25|53|57)/u;
/** A request for this many people is never too much: if PostgreSQL takes too long for it, PostgreSQL is slow. */
const FEW_PEOPLE = 100;

interface Failure {
  times: number;
  /** how often the job itself may have been at fault, and the code of the last time */
  own: number;
  code: Code | undefined;
  /** not only together with others */
  alone: boolean;
  /** until when all are tried alone because of it */
  until: number;
  failedAt: number;
  /** until when it rests once more; 0: not once more */
  restsUntil: number;
}

export interface Failures {
  /** Whether a job has failed lately: then each is tried alone. */
  any(): boolean;
  /** The job, or its refusal where it has failed too often through its own fault. */
  judge(job: SignedJob): SignedJob;
  /**
   * Counts a transaction that failed against its jobs, and through the fault of one only where it was alone. Returns how
   * many milliseconds the last one rests.
   *
   * @param tookMs how long it took to fail
   */
  count(jobs: readonly SignedJob[], error: unknown, tookMs?: number): number;
  /**
   * How many milliseconds a job that has failed alone rests once more: because another has just taken long to fail, or
   * one that failed earlier is due now, too. Otherwise, urgent ones would be tried again and again before it.
   */
  restOf(job: SignedJob): number;
  /** These jobs have a verdict. */
  forget(jobs: readonly SignedJob[]): void;
}

/** Counts by the hash of a job, in this process alone: a restart begins anew. */
export function openFailures(): Failures {
  const failures = new Map<string, Failure>();
  let othersUntil = 0;
  const keyOf = (job: SignedJob) => job.sha256.toString('hex');
  /** Whether a job that failed earlier is due now, too. Redis may have lost that one, so it is not awaited for long. */
  const isAnotherFirst = ({ failedAt }: Failure, now: number) =>
    failures
      .values()
      .some(
        ({ failedAt: before, restsUntil }) =>
          before < failedAt && restsUntil <= now && now < restsUntil + TAKEN_MS,
      );
  return {
    any() {
      const now = performance.now();
      let any = false;
      for (const [key, { until }] of failures) {
        if (until >= now) any = true;
        else if (until + REMEMBER_MS < now) failures.delete(key);
      }
      return any;
    },
    judge(job) {
      const { own = 0, code } = failures.get(keyOf(job)) ?? {};
      if (own < MOST_FAILURES || code === undefined) return job;
      const refusal = { code, sentence: sentenceOf(code) };
      return { ...job, signed: { ...job.signed, refusal } };
    },
    count(jobs, error, tookMs = 0) {
      let pause = 0;
      const now = performance.now();
      othersUntil = Math.max(othersUntil, now + Math.min(MOST_PAUSE_MS, tookMs * OTHERS_SHARE));
      // a portal may send a job twice
      for (const job of new Map(jobs.map((each) => [keyOf(each), each])).values()) {
        const { times = 0, own = 0, code, alone = false } = failures.get(keyOf(job)) ?? {};
        const isAlone = jobs.length === 1;
        const refusal = isAlone ? refusalFor(job, error) : undefined;
        // one that is refused soon need not wait for it; where it cannot even be refused, it is not soon
        const isSoon = refusal !== undefined && own < MOST_FAILURES;
        pause = isSoon ? PAUSE_MS : Math.min(MOST_PAUSE_MS, PAUSE_MS * 2 ** times);
        failures.set(keyOf(job), {
          ...{ times: times + 1, alone: alone || isAlone },
          ...{ until: now + pause + FORGET_MS, failedAt: now, restsUntil: 0 },
          ...{ own: refusal === undefined ? own : own + 1, code: refusal ?? code },
        });
      }
      return pause;
    },
    restOf(job) {
      const found = failures.get(keyOf(job));
      if (found?.alone !== true) return 0;
      const now = performance.now();
      let rest = Math.ceil(othersUntil - now);
      if (rest <= PAUSE_MS) rest = isAnotherFirst(found, now) ? PASSES_MS : 0;
      found.restsUntil = now + rest;
      return rest;
    },
    forget(jobs) {
      for (const job of jobs) failures.delete(keyOf(job));
    },
  };
}

/** Whether PostgreSQL fails for all requests, and for a while. */
export function passes(error: unknown): boolean {
  const state = sqlState(error);
  return state !== undefined && state !== QUERY_CANCELED && PASSING.test(state);
}

/** The code with which the job is refused if that error comes again and again. Undefined if the job is not at fault. */
function refusalFor({ signed }: SignedJob, error: unknown): Code | undefined {
  if (sqlState(error) !== QUERY_CANCELED) return isFault(error) ? undefined : 'INTERNAL';
  const { people, server } = signed.claims.request as { people?: unknown; server?: unknown };
  const asksForMuch = (Array.isArray(people) && people.length > FEW_PEOPLE) || server !== undefined;
  return asksForMuch ? 'TOO_MUCH_AT_ONCE' : undefined;
}
