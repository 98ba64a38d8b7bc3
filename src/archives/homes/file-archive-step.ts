/** Long steps: each asks again and again whether it is still wanted, and says how far it is. */
import { setTimeout as sleep } from 'node:timers/promises';
import { ChamberlainError } from '../../shared/errors.ts';
import { type ArchiveKeeping, patiently } from '../archive-keeping.ts';

/** What the writer is given to put homes away with. */
export interface ArchiveWriter extends ArchiveKeeping {
  /** `config.archives.homes` */
  folder: string;
  /** the realm, of which the name of a tool's account begins */
  realm: string;
  report(progress: {
    subject: number;
    act: string;
    done: number;
    total: number | undefined;
  }): Promise<void>;
}

/** A long step that is being done. */
export interface LongStep {
  /** aborted, with an error of ours, when the step is to end */
  signal: AbortSignal;
  /** the folder of archives, open */
  archives: { fd: number };
  /** bytes; told further at most once a second */
  report(act: string, done: number, total: number | undefined): void;
}

const ASK_MS = 2000;
const REPORT_MS = 1000;

/**
 * Does a long step. It ends with STEP_STALE when it is wanted no more, and when `closing` is aborted; with
 * BACKEND_UNAVAILABLE when it cannot be known for long.
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
  let told = { act: '', at: 0, pending: Promise.resolve() };

  const refuseUnlessWanted = patiently(async () => {
    if (await writer.stillWanted({ subject, archival, returning, erases })) return;
    throw new ChamberlainError('STEP_STALE', 'going on with what is not wanted any more');
  });
  async function askAgain(): Promise<void> {
    for (;;) {
      await sleep(ASK_MS, undefined, { signal: over.signal }).catch(() => {});
      if (over.signal.aborted) return;
      await refuseUnlessWanted();
    }
  }

  await refuseUnlessWanted();
  const asking = askAgain().catch((error: unknown) => ended.abort(error));
  try {
    return await act({
      signal,
      archives,
      report(name, done, total) {
        const at = performance.now();
        if (name === told.act && at - told.at < REPORT_MS) return;
        const pending = told.pending
          .then(() => writer.report({ subject, act: name, done, total }))
          .catch(() => {});
        told = { act: name, at, pending };
      },
    });
  } finally {
    over.abort();
    await asking;
    await told.pending;
    await writer.clear(subject).catch(() => {});
  }
}
