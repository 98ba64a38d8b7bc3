/** What a writer that archives needs from our PostgreSQL. */
import { codeOf } from '../shared/errors.ts';

export interface ArchiveKeeping {
  now(): Date;
  /** of all keys that a person ever had: the manifest names them, so that no key is given to somebody else */
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
   * Whether the step belongs to the current archival and the current direction, checked under the lock.
   * `returning` is true for a restore, false for an archival, undefined for a destruction. `expired`: asks only
   * whether the archives must be removed, whatever the subject's state is now. `erases`: what is destroyed
   * is in no archive. Throws if PostgreSQL does not answer.
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
