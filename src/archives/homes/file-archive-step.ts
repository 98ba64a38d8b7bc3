/** Long steps: each asks repeatedly whether it is still wanted, and reports how far it is. */
import { setTimeout as sleep } from 'node:timers/promises';
import { ChamberlainError } from '../../shared/errors.ts';
import { type ArchiveKeeping, patiently } from '../archive-keeping.ts';

/** What the writer needs to archive homes. */
export interface ArchiveWriter extends ArchiveKeeping {
  /** `config.archives.homes` */
  folder: string;
  /** the realm, with which the name of a tool's account begins */
  realm: string;
  report(progress: {
    subject: number;
    act: string;
    done: number;
    total: number | undefined;
  }): Promise<void>;
}

/** A long step in progress. */
export interface LongStep {
  /** aborted, with an error of ours, when the step must end */
  signal: AbortSignal;
  /** the folder of archives, open */
  archives: { fd: number };
  /** in bytes; passed on at most once a second */
  report(act: string, done: number, total: number | undefined): void;
}

const ASK_MS = 2000;
const REPORT_MS = 1000;

/**
 * Runs a long step. It ends with STEP_STALE if it is no longer wanted or if `closing` is aborted, and with
 * BACKEND_UNAVAILABLE if that cannot be known for too long.
 */
export async function asLongStep<T>(
  writer: ArchiveWriter,
  asked: { uid: number; archival: number; returning: boolean | undefined; erases?: boolean },
  { archives, closing }: { archives: { fd: number }; closing: AbortSignal },
  act: (step: LongStep) => Promise<T>,
): Promise<T> {
  const { uid: subject, archival, returning, erases } = asked;
  const ended = new AbortController();
  const over = new AbortController();
  const signal = AbortSignal.any([ended.signal, closing]);
  let last = { act: '', at: 0, pending: Promise.resolve() };

  const refuseUnlessWanted = patiently(async () => {
    if (await writer.stillWanted({ subject, archival, returning, erases })) return;
    throw new ChamberlainError('STEP_STALE', 'continuing with a step that is no longer wanted');
  });
  async function askAgain(): Promise<void> {
    for (;;) {
      await sleep(ASK_MS, undefined, { signal: over.signal }).catch(() => {});
      if (over.signal.aborted) return;
      await refuseUnlessWanted();
    }
  }

  await refuseUnlessWanted();
  const watching = askAgain().catch((error: unknown) => ended.abort(error));
  try {
    return await act({
      signal,
      archives,
      report(name, done, total) {
        const at = performance.now();
        if (name === last.act && at - last.at < REPORT_MS) return;
        const pending = last.pending
          .then(() => writer.report({ subject, act: name, done, total }))
          .catch(() => {});
        last = { act: name, at, pending };
      },
    });
  } finally {
    over.abort();
    await watching;
    await last.pending;
    await writer.clear(subject).catch(() => {});
  }
}
