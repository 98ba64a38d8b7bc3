/** Long steps of a writer that archives, and what it needs from our PostgreSQL. */
import { setTimeout as sleep } from 'node:timers/promises';
import { ChamberlainError, codeOf } from '../shared/errors.ts';
import { unlessAborted } from '../shared/unless-aborted.ts';
import type { ArchiveProgress, AskedStep, RecordedArchive } from './archives-table.ts';

export interface ArchiveKeeping {
  now(): Date;
  /** of all keys that a person ever had: the manifest names them, so that no key is given to somebody else */
  readFingerprints(subject: number): Promise<string[]>;
  /** durably, while the subject's lock is held */
  record(archive: Omit<RecordedArchive, 'role'>): Promise<void>;
  /**
   * Whether the step belongs to the current archival and the current direction, checked under the lock. Throws
   * if PostgreSQL does not answer.
   */
  stillWanted(step: AskedStep): Promise<boolean>;
  report(progress: Omit<ArchiveProgress, 'role'>): Promise<void>;
  /** nothing is being done any more */
  clear(subject: number): Promise<void>;
}

/** A long step in progress. */
export interface LongStep {
  /** aborted, with an error of ours, when the step must end */
  signal: AbortSignal;
  /** in bytes; passed on at most once a second */
  report(act: string, done: number, total: number | undefined): void;
}

const ASK_MS = 2000;
const REPORT_MS = 1000;

/**
 * Runs a long step while it is wanted and each of the checks holds: all are called at the beginning, and then
 * repeatedly, independently of each other. The step's signal is aborted by the first that throws, and by
 * `closing`. Throws STEP_STALE if the step is no longer wanted, and BACKEND_UNAVAILABLE if that cannot be known
 * for too long.
 */
export async function asLongStep<T>(
  keeping: Pick<ArchiveKeeping, 'stillWanted' | 'report' | 'clear'>,
  asked: AskedStep,
  closing: AbortSignal,
  act: (step: LongStep) => Promise<T>,
  others: readonly (() => Promise<void>)[] = [],
): Promise<T> {
  const { subject } = asked;
  const [ended, over] = [new AbortController(), new AbortController()];
  let last = { act: '', at: 0, pending: Promise.resolve() };
  const refuseUnlessWanted = patiently(async () => {
    if (await keeping.stillWanted(asked)) return;
    const why = 'continuing with a step that is no longer wanted';
    throw new ChamberlainError('STEP_STALE', why, { context: { subject } });
  });
  const checks = [refuseUnlessWanted, ...others];
  async function repeat(check: () => Promise<void>): Promise<void> {
    for (;;) {
      await sleep(ASK_MS, undefined, { signal: over.signal, ref: false }).catch(() => {});
      if (over.signal.aborted) return;
      await check();
    }
  }
  try {
    await unlessAborted(Promise.all(checks.map((check) => check())), closing);
    for (const check of checks) repeat(check).catch((error: unknown) => ended.abort(error));
    return await act({
      signal: AbortSignal.any([ended.signal, closing]),
      report(name, done, total) {
        const at = performance.now();
        if (name === last.act && at - last.at < REPORT_MS) return;
        const pending = last.pending
          .then(() => keeping.report({ subject, act: name, done, total }))
          .catch(() => {});
        last = { act: name, at, pending };
      },
    });
  } finally {
    over.abort();
    await last.pending;
    await keeping.clear(subject).catch(() => {});
  }
}

/**
 * A step goes on for this long after PostgreSQL's last answer. PostgreSQL treats a connection as lost, and the
 * lock with it, after 25 s (database/connection.ts). It is asked every 2 s, each time for 10 s at most.
 */
const SILENT_MS = 12_000;

/**
 * Makes a repeated check tolerate an outage of PostgreSQL: after it has passed once, it also passes while
 * PostgreSQL does not answer, as long as the subject's lock certainly holds.
 */
export function patiently(
  check: () => Promise<void>,
  silentMs: number = SILENT_MS,
): () => Promise<void> {
  let answeredAt = -Infinity;
  return async () => {
    const at = performance.now();
    try {
      await check();
      answeredAt = at;
    } catch (error) {
      if (codeOf(error) !== 'BACKEND_UNAVAILABLE') throw error;
      if (performance.now() - answeredAt > silentMs) throw error;
    }
  };
}
