/** Jobs on which the program itself fails, or that take too long: counted, so that none is tried for ever. */
import type pg from 'pg';
import type { Code } from '../shared/errors.ts';
import { sqlState } from '../database/connection.ts';
import { type SignedJob, sentenceOf } from '../requests/verdict.ts';

/** A job may fail this often, alone and while PostgreSQL answers, before it is refused. */
const MOST_FAILURES = 5;
/** A job that failed and was not taken again within this time does not count any more: Redis may have lost it. */
const FORGET_MS = 60_000;
/** SQLSTATE of a statement that took longer than it may. */
const QUERY_CANCELED = '57014';
/** Classes of SQLSTATE that pass by themselves: connections, transactions, locks, resources, the operator, the disk. */
const PASSING = /^(08|25|40|53|55|57|58)/u;

interface Failure {
  times: number;
  tookTooLong: boolean;
  at: number;
}

export interface Failures {
  /** Whether a job has failed lately: then each is tried alone. */
  any(): boolean;
  /** The job, or its refusal where it has failed too often. */
  judge(job: SignedJob): SignedJob;
  /** Counts a transaction that failed against its jobs, unless PostgreSQL is at fault. */
  count(client: pg.Client, jobs: readonly SignedJob[], error: unknown): Promise<void>;
  /** These jobs have a verdict. */
  forget(jobs: readonly SignedJob[]): void;
}

/** Counts by the hash of a job, in this process alone: a restart begins anew. */
export function openFailures(): Failures {
  const failures = new Map<string, Failure>();
  const keyOf = (job: SignedJob) => job.sha256.toString('hex');
  return {
    any() {
      const since = performance.now() - FORGET_MS;
      for (const [key, { at }] of failures) if (at < since) failures.delete(key);
      return failures.size > 0;
    },
    judge(job) {
      const failed = failures.get(keyOf(job));
      if (failed === undefined || failed.times < MOST_FAILURES) return job;
      return refusedFor(job, failed);
    },
    async count(client, jobs, error) {
      const state = sqlState(error);
      const tookTooLong = state === QUERY_CANCELED;
      if (state !== undefined && !tookTooLong && PASSING.test(state)) return;
      if (!(await answers(client))) return;
      for (const key of jobs.map(keyOf)) {
        const times = (failures.get(key)?.times ?? 0) + 1;
        failures.set(key, { times, tookTooLong, at: performance.now() });
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

/**
 * A job that takes too long although it asks for little is not refused: PostgreSQL is slow then, and somebody's
 * suspension waits until it is not.
 */
function refusedFor(job: SignedJob, { tookTooLong }: Failure): SignedJob {
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
