/** What roles with data of an account want to know about it: its password, and its archives. Pure. */
import type { Erasure } from '../lifecycle/erased-person.ts';
import {
  isGiven,
  type PastArchive,
  type WantedArchive,
  type WantedColumns,
  type WantedCredentials,
} from '../reconcile/wanted.ts';

const CREDENTIALS = (account: string) => `,
  (SELECT jsonb_build_object('wantedEpoch', c.wanted_epoch, 'atOnce', c.overlap_seconds = 0, 'epoch', v.epoch, 'verifier', v.verifier,
                             'previous', v.previous_verifier)
   FROM credentials c LEFT JOIN database_verifiers v ON v.account = c.account
   WHERE c.account = ${account}.uid) AS credentials`;
// Each role sees its own archives, by row-level security and by the name of the role alike: the archive of a subject
// that is away, and the archives of a restored subject that are to be removed.
const ARCHIVES = (account: string, role: string) => `,
  (SELECT jsonb_agg(jsonb_build_object('archival', d.archival, 'returning', d.returning_at IS NOT NULL,
                      'expired', d.expired_at IS NOT NULL, 'back', d.back_at IS NOT NULL,
                      'erasure', d.erasure, 'manifest', a.manifest_sha256) ORDER BY d.archival)
   FROM archivals d LEFT JOIN archives a
     ON a.subject = d.subject AND a.archival = d.archival AND a.role = '${role}'
   WHERE d.subject = ${account}.uid AND (d.back_at IS NULL OR d.expired_at IS NOT NULL)) AS archives`;

/**
 * The columns of a role that archives what an account has, and keeps no password.
 *
 * @public a role may be added
 */
export function archiveColumns(role: string): WantedColumns {
  return {
    person: ARCHIVES('p', role),
    tool: ARCHIVES('t', role),
    toWanted: ({ archives }: ArchiveColumns) => toArchives(archives),
    own: true,
  };
}

/** The columns of a role that also keeps the password of an account. */
export function accountColumns(role: string): WantedColumns {
  const archives = archiveColumns(role);
  return {
    ...archives,
    person: `${CREDENTIALS('p')}${archives.person}`,
    tool: `${CREDENTIALS('t')}${archives.tool}`,
    toWanted: (row: CredentialsColumns & ArchiveColumns, base) => ({
      ...toCredentials(row.credentials),
      ...archives.toWanted(row, base),
    }),
  };
}

interface CredentialsColumns {
  credentials: {
    wantedEpoch: number;
    atOnce: boolean;
    epoch: number | null;
    verifier: string | null;
    previous: string | null;
  } | null;
}
interface ArchiveColumns {
  archives: ArchiveRow[] | null;
}
interface ArchiveRow extends Omit<WantedArchive, 'manifest' | 'erasure'> {
  manifest: string | null;
  erasure: Erasure | null;
  back: boolean;
}

function toArchives(rows: readonly ArchiveRow[] | null): {
  archive?: WantedArchive;
  pastArchives?: PastArchive[];
} {
  const [away] = rows?.filter(({ back }) => !back) ?? [];
  const past = (rows ?? []).flatMap(({ back, archival, manifest }) =>
    back && manifest !== null ? [{ archival, manifest }] : [],
  );
  return {
    ...(away === undefined ? {} : { archive: toArchive(away) }),
    ...(past.length === 0 ? {} : { pastArchives: past }),
  };
}

function toArchive({ archival, manifest, returning, expired, erasure }: ArchiveRow): WantedArchive {
  return {
    ...{ archival, manifest: manifest ?? undefined, returning, expired },
    ...(isGiven(erasure) ? { erasure } : {}),
  };
}

function toCredentials(row: CredentialsColumns['credentials']): {
  credentials?: WantedCredentials;
} {
  if (row === null) return {};
  return {
    credentials: {
      wantedEpoch: row.wantedEpoch,
      atOnce: row.atOnce,
      recorded:
        row.epoch === null || row.verifier === null
          ? undefined
          : {
              epoch: row.epoch,
              verifier: row.verifier,
              ...(row.previous === null ? {} : { previous: row.previous }),
            },
    },
  };
}
