/**
 * Jobs whose transaction has failed while PostgreSQL worked for others. Each is tried alone, and rests longer after each
 * failure.
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
/** The pause after the first failure; it doubles with each. */
const PAUSE_MS = 100;
const MOST_PAUSE_MS = 30_000;
/** A job that was not taken again within this time after its pause does not count any more: Redis may have lost it. */
const FORGET_MS = 60_000;
/** SQLSTATE of a statement that took longer than it may. */
const QUERY_CANCELED = '57014';
/** Classes of SQLSTATE that pass by themselves: connections, transactions, locks, resources, the operator, the disk. */
const PASSING = /^(08|25|40|53|55|57|58)/u;
/** A request for this many people is never too much: if PostgreSQL takes too long for it, PostgreSQL is slow. */
const FEW_PEOPLE = 100;

interface Failure {
  times: number;
  /** how often the job itself may have been at fault, and the code of the last time */
  own: number;
  code: Code | undefined;
  /** when it does not count any more */
  until: number;
}

export interface Failures {
  /** Whether a job has failed lately: then each is tried alone. */
  any(): boolean;
  /** The job, or its refusal where it has failed too often through its own fault. */
  judge(job: SignedJob): SignedJob;
  /** Counts a transaction that failed against its jobs. Returns how many milliseconds the last one rests. */
  count(jobs: readonly SignedJob[], error: unknown): number;
  /** These jobs have a verdict. */
  forget(jobs: readonly SignedJob[]): void;
}

/** Counts by the hash of a job, in this process alone: a restart begins anew. */
export function openFailures(): Failures {
  const failures = new Map<string, Failure>();
  const keyOf = (job: SignedJob) => job.sha256.toString('hex');
  return {
    any() {
      const now = performance.now();
      for (const [key, { until }] of failures) if (until < now) failures.delete(key);
      return failures.size > 0;
    },
    judge(job) {
      const { own = 0, code } = failures.get(keyOf(job)) ?? {};
      if (own < MOST_FAILURES || code === undefined) return job;
      const refusal = { code, sentence: sentenceOf(code) };
      return { ...job, signed: { ...job.signed, refusal } };
    },
    count(jobs, error) {
      let pause = 0;
      for (const job of jobs) {
        const { times = 0, own = 0, code } = failures.get(keyOf(job)) ?? {};
        const refusal = refusalFor(job, error);
        pause = Math.min(MOST_PAUSE_MS, PAUSE_MS * 2 ** times);
        failures.set(keyOf(job), {
          ...{ times: times + 1, until: performance.now() + pause + FORGET_MS },
          ...{ own: refusal === undefined ? own : own + 1, code: refusal ?? code },
        });
      }
      return pause;
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
