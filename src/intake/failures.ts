/**
 * Jobs whose transaction has failed while PostgreSQL answered. Each is tried alone, after the jobs that have not failed,
 * and after a pause that grows. So none of them keeps another from its verdict.
 *
 * | why it failed                                        | then                                                         |
 * | ---------------------------------------------------- | ------------------------------------------------------------ |
 * | the program, or data that PostgreSQL refuses         | the fifth time, it is refused with INTERNAL                  |
 * | a statement took too long, and the job asks for much | the fifth time, it is refused with TOO_MUCH_AT_ONCE          |
 * | anything else: a right, a table or a column is       | it is tried until it has a verdict, or the request expires:  |
 * | missing, data are corrupted, locks, a slow disk, …   | the request is sound, and an operator can mend what is wrong |
 *
 * That other jobs have verdicts meanwhile proves nothing: a missing right may stop one kind only.
 */
import type pg from 'pg';
import type { Code } from '../shared/errors.ts';
import { sqlState } from '../database/connection.ts';
import { isFault, type SignedJob, sentenceOf } from '../requests/verdict.ts';

/** A job may fail this often through its own fault before it is refused. */
const MOST_FAILURES = 5;
/** The pause after the second failure; it doubles with each. After the first, the job is tried alone at once. */
const PAUSE_MS = 500;
const MOST_PAUSE_MS = 30_000;
/** A job that failed and was not taken again within this time does not count any more: Redis may have lost it. */
const FORGET_MS = 60_000;
/** SQLSTATE of a statement that took longer than it may. */
const QUERY_CANCELED = '57014';
/** A request for this many people is never too much: if PostgreSQL takes too long for it, PostgreSQL is slow. */
const FEW_PEOPLE = 100;

interface Failure {
  times: number;
  /** how often the job itself may have been at fault, and the code of the last time */
  own: number;
  code: Code | undefined;
  at: number;
  /** when it may be tried again */
  next: number;
}

export interface Failures {
  /** Whether a job has failed lately: then each is tried alone. */
  any(): boolean;
  /** Whether the pause of the job is not over. */
  rests(job: SignedJob): boolean;
  /** How often the job has failed. */
  times(job: SignedJob): number;
  /** The job, or its refusal where it has failed too often through its own fault. */
  judge(job: SignedJob): SignedJob;
  /** Counts a transaction that failed against its jobs, unless PostgreSQL does not answer. */
  count(client: pg.Client, jobs: readonly SignedJob[], error: unknown): Promise<void>;
  /** These jobs have a verdict. */
  forget(jobs: readonly SignedJob[]): void;
}

/** Counts by the hash of a job, in this process alone: a restart begins anew. */
export function openFailures(): Failures {
  const failures = new Map<string, Failure>();
  const keyOf = (job: SignedJob) => job.sha256.toString('hex');
  const of = (job: SignedJob) => failures.get(keyOf(job));
  return {
    any() {
      const since = performance.now() - FORGET_MS;
      for (const [key, { at }] of failures) if (at < since) failures.delete(key);
      return failures.size > 0;
    },
    rests: (job) => (of(job)?.next ?? 0) > performance.now(),
    times: (job) => of(job)?.times ?? 0,
    judge(job) {
      const { own = 0, code } = of(job) ?? {};
      if (own < MOST_FAILURES || code === undefined) return job;
      const refusal = { code, sentence: sentenceOf(code) };
      return { ...job, signed: { ...job.signed, refusal } };
    },
    async count(client, jobs, error) {
      if (!(await answers(client))) return;
      const at = performance.now();
      for (const job of jobs) {
        const { times = 0, own = 0, code } = of(job) ?? {};
        const refusal = refusalFor(job, error);
        const pause = times === 0 ? 0 : Math.min(MOST_PAUSE_MS, PAUSE_MS * 2 ** (times - 1));
        failures.set(keyOf(job), {
          ...{ times: times + 1, at, next: at + pause },
          ...{ own: refusal === undefined ? own : own + 1, code: refusal ?? code },
        });
      }
    },
    forget(jobs) {
      for (const job of jobs) failures.delete(keyOf(job));
    },
  };
}

function answers(client: pg.Client): Promise<boolean> {
  return client.query('SELECT 1').then(
    () => true,
    () => false,
  );
}

/** The code with which the job is refused if that error comes again and again. Undefined if the job is not at fault. */
function refusalFor({ signed }: SignedJob, error: unknown): Code | undefined {
  if (sqlState(error) !== QUERY_CANCELED) return isFault(error) ? undefined : 'INTERNAL';
  const { people, server } = signed.claims.request as { people?: unknown; server?: unknown };
  const asksForMuch = (Array.isArray(people) && people.length > FEW_PEOPLE) || server !== undefined;
  return asksForMuch ? 'TOO_MUCH_AT_ONCE' : undefined;
}
