/** What a writer that archives asks of our PostgreSQL. */
import { codeOf } from '../shared/errors.ts';

export interface ArchiveKeeping {
  now(): Date;
  /** of all keys that a person ever had: they stand in the manifest, so that no key comes to another */
  readFingerprints(subject: number): Promise<string[]>;
  /** durably, while the subject's lock is held */
  record(archive: {
    subject: number;
    archival: number;
    manifestSha256: string;
    path: string;
    bytes: number;
  }): Promise<void>;
  /**
   * Of the same archival, in the same direction (`returning`: it is brought back, or put away; undefined:
   * it is destroyed), under the lock. `expired`: only whether its archives are to be removed, whatever has
   * become of the subject since. `erases`: what is destroyed is in no archive. Throws where it cannot be known.
   */
  stillWanted(step: {
    subject: number;
    archival: number;
    returning: boolean | undefined;
    expired?: boolean;
    erases?: boolean;
  }): Promise<boolean>;
  /** nothing is being done any more */
  clear(subject: number): Promise<void>;
}

/**
 * So long after its last answer PostgreSQL may be silent, and what it was asked for goes on: it takes a
 * connection for lost, and the lock with it, after 25 s (database/connection.ts), and it is asked every 2 s, for
 * 10 s at most.
 */
const SILENT_MS = 12_000;

/**
 * A check that is asked again and again, made patient: it passes while PostgreSQL does not answer, though not
 * the first time, nor for longer than the lock of the subject surely holds.
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
