/** How a role records what it archives. */
import type { ArchiveKeeping } from './archive-keeping.ts';
import {
  clearArchiveProgress,
  readFingerprints,
  readStillWanted,
  recordArchive,
  reportArchiveProgress,
} from './archives-table.ts';
import { isLost } from '../database/connection.ts';
import type { RoleStore } from '../reconcile/role.ts';
import type { Role } from '../reconcile/wanted.ts';

/** Records on the connection that holds the subject's lock; if the lock is lost, no step is wanted any more. */
export function keepArchives(role: Role, { pool, holderOf }: RoleStore): ArchiveKeeping {
  return {
    now: () => new Date(),
    readFingerprints: (subject) => readFingerprints(pool, subject),
    record: (archive) => recordArchive(holderOf(archive.subject), { ...archive, role }),
    stillWanted: async (step) =>
      !isLost(holderOf(step.subject)) && (await readStillWanted(pool, step)),
    report: (progress) => reportArchiveProgress(pool, { ...progress, role }),
    clear: (subject) => clearArchiveProgress(pool, { subject, role }),
  };
}
