/** Reads the wanted state of subjects, as far as a role may know it. */
import type { AccountName, ShellName, ToolName } from '../identity/names.ts';
import type { Erasure } from '../lifecycle/erased-person.ts';
import type {
  Member,
  PastArchive,
  Role,
  Wanted,
  WantedArchive,
  WantedCredentials,
  WantedKey,
  WantedPerson,
  WantedSeal,
  WantedTool,
} from './wanted.ts';
import type { Client, Pool } from '../database/connection.ts';

type Reader = Pick<Client | Pool, 'query'>;

// What every role may know of a person and of a tool.
const PERSON = `
  SELECT p.uid, p.shell_name, p.state, p.admitted_at IS NOT NULL AS ever_admitted,
         EXISTS (SELECT FROM realm_members m WHERE m.person = p.uid) AS realm_member`;
const TOOL = `SELECT t.uid, t.name, t.account, t.state`;

// What a login host is to believe has a number and an end (migrations/0007_seals.sql).
const SEAL = (of: string) => `
  (SELECT jsonb_build_object('number', l.number,
                             'until', to_char(l.until AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS"Z"'))
   FROM login_seals l WHERE l.subject = ${of}.uid AND l.until < 'infinity') AS seal`;

// A key ends in the directory when it ends here: sshd itself reads `expiry-time`.
// The other side of the effective members below.
const MEMBER_OF = (of: string) => `
  coalesce((SELECT jsonb_agg(g.account ORDER BY g.account) FROM maintainers m JOIN tools g ON g.uid = m.tool
            WHERE m.maintainer = ${of}.uid AND g.state <> 'deleted'), '[]') AS member_of`;

const DIRECTORY_PERSON = `${PERSON}, p.display_name, p.email, ${SEAL('p')}, ${MEMBER_OF('p')},
  coalesce((SELECT jsonb_agg(jsonb_build_object('fingerprint', k.fingerprint, 'label', k.label, 'line',
      array_to_string(k.options || CASE WHEN k.expires_at IS NULL THEN '{}'::text[] ELSE
        ARRAY['expiry-time="' || to_char(k.expires_at AT TIME ZONE 'UTC', 'YYYYMMDDHH24MISS') || 'Z"'] END,
      ',') || CASE WHEN k.options = '{}' AND k.expires_at IS NULL THEN '' ELSE ' ' END || k.line)
      ORDER BY k.fingerprint)
    FROM ssh_keys k WHERE k.person = p.uid AND k.removed_at IS NULL), '[]') AS keys
  FROM people p WHERE p.uid = ANY ($1)`;

// Effective members, without the tool's own account: people who are unsuspended realm members, and
// tools that are not deleted.
const DIRECTORY_TOOL = `${TOOL}, ${SEAL('t')}, ${MEMBER_OF('t')},
  CASE WHEN t.state <> 'active' THEN t.disabled_reason END AS disabled_reason,
  t.delete_requested_at,
  t.orphaned_at IS NOT NULL AND t.state <> 'deleted' AS orphaned,
  coalesce((SELECT jsonb_agg(jsonb_build_object('kind', e.kind, 'account', e.account, 'uid', e.uid) ORDER BY e.account)
    FROM (
      SELECT 'person' AS kind, p.shell_name AS account, p.uid FROM maintainers m JOIN people p ON p.uid = m.maintainer
        JOIN realm_members r ON r.person = p.uid WHERE m.tool = t.uid AND p.state = 'active'
      UNION ALL
      SELECT 'tool', o.account, o.uid FROM maintainers m JOIN tools o ON o.uid = m.maintainer
        WHERE m.tool = t.uid AND o.state <> 'deleted'
    ) e), '[]') AS members
  FROM tools t WHERE t.uid = ANY ($1)`;

const CREDENTIALS = (account: string) => `,
  (SELECT jsonb_build_object('wantedEpoch', c.wanted_epoch, 'atOnce', c.overlap_seconds = 0, 'epoch', v.epoch, 'verifier', v.verifier,
                             'previous', v.previous_verifier)
   FROM credentials c LEFT JOIN database_verifiers v ON v.account = c.account
   WHERE c.account = ${account}.uid) AS credentials`;
// Each role sees its own archives, by row-level security and by the name of the role alike: that of who is
// away, and those of who came back that are to be removed.
const ARCHIVES = (account: string, role: Role) => `,
  (SELECT jsonb_agg(jsonb_build_object('archival', d.archival, 'returning', d.returning_at IS NOT NULL,
                      'expired', d.expired_at IS NOT NULL, 'back', d.back_at IS NOT NULL,
                      'erasure', d.erasure, 'manifest', a.manifest_sha256) ORDER BY d.archival)
   FROM archivals d LEFT JOIN archives a
     ON a.subject = d.subject AND a.archival = d.archival AND a.role = '${role}'
   WHERE d.subject = ${account}.uid AND (d.back_at IS NULL OR d.expired_at IS NOT NULL)) AS archives`;
const accountStatements = (role: Role) => ({
  person: `${PERSON}${CREDENTIALS('p')}${ARCHIVES('p', role)} FROM people p WHERE p.uid = ANY ($1)`,
  tool: `${TOOL}${CREDENTIALS('t')}${ARCHIVES('t', role)} FROM tools t WHERE t.uid = ANY ($1)`,
});

const STATEMENTS: Record<Role, { person: string; tool: string }> = {
  directory: { person: DIRECTORY_PERSON, tool: DIRECTORY_TOOL },
  homes: accountStatements('homes'),
  databases: accountStatements('databases'),
};

/** The wanted state of these subjects, in the order of their uids; one that does not exist is left out. */
export async function readWanted(
  db: Reader,
  role: Role,
  uids: readonly number[],
): Promise<Wanted[]> {
  const { person, tool } = STATEMENTS[role];
  const [tools, people] = await Promise.all([
    db.query({ name: `wanted-tool-${role}`, text: tool, values: [uids] }),
    db.query({ name: `wanted-person-${role}`, text: person, values: [uids] }),
  ]);
  return [
    ...(people.rows as PersonRow[]).map(toPerson),
    ...(tools.rows as ToolRow[]).map(toTool),
  ].sort((a, b) => a.uid - b.uid);
}

/** The uids of every subject, people and tools. */
export async function readSubjects(db: Reader): Promise<number[]> {
  const { rows } = await db.query(
    'SELECT uid FROM people UNION ALL SELECT uid FROM tools ORDER BY uid',
  );
  return rows.map((row: { uid: number }) => row.uid);
}

interface CredentialsRow {
  wantedEpoch: number;
  atOnce: boolean;
  epoch: number | null;
  verifier: string | null;
  previous: string | null;
}
interface ArchiveRow extends Omit<WantedArchive, 'manifest' | 'erasure'> {
  manifest: string | null;
  erasure: Erasure | null;
  back: boolean;
}
interface PersonRow {
  uid: number;
  shell_name: string;
  state: WantedPerson['state'];
  ever_admitted: boolean;
  realm_member: boolean;
  display_name?: string | null;
  email?: string | null;
  keys?: WantedKey[];
  seal?: WantedSeal | null;
  member_of?: AccountName[];
  credentials?: CredentialsRow | null;
  archives?: ArchiveRow[] | null;
}
interface ToolRow {
  uid: number;
  name: string;
  account: string;
  state: WantedTool['state'];
  disabled_reason?: string | null;
  delete_requested_at?: Date | null;
  orphaned?: boolean;
  members?: Member[];
  seal?: WantedSeal | null;
  member_of?: AccountName[];
  credentials?: CredentialsRow | null;
  archives?: ArchiveRow[] | null;
}

function toPerson(row: PersonRow): Wanted {
  return {
    kind: 'person',
    uid: row.uid,
    account: row.shell_name as AccountName,
    shellName: row.shell_name as ShellName,
    state: row.state,
    realmMember: row.realm_member,
    everAdmitted: row.ever_admitted,
    // of who is deleted there is none any more
    ...(isGiven(row.display_name) ? { displayName: row.display_name } : {}),
    ...(isGiven(row.email) ? { email: row.email } : {}),
    ...(row.keys === undefined ? {} : { keys: row.keys }),
    ...(row.member_of === undefined
      ? {}
      : { memberOf: row.state === 'active' && row.realm_member ? row.member_of : [] }),
    ...(isGiven(row.seal) ? { seal: row.seal } : {}),
    ...toCredentials(row.credentials),
    ...toArchives(row.archives),
  };
}

function toTool(row: ToolRow): Wanted {
  const account = row.account as AccountName;
  return {
    kind: 'tool',
    uid: row.uid,
    account,
    name: row.name as ToolName,
    state: row.state,
    ...(row.members === undefined
      ? {}
      : { members: [...row.members, { kind: 'tool' as const, account, uid: row.uid }] }),
    ...(row.member_of === undefined ? {} : { memberOf: [...row.member_of, account] }),
    ...(isGiven(row.disabled_reason) ? { disabledReason: row.disabled_reason } : {}),
    ...(isGiven(row.delete_requested_at) ? { deleteRequestedAt: row.delete_requested_at } : {}),
    ...(row.orphaned === true ? { orphaned: true } : {}),
    ...(isGiven(row.seal) ? { seal: row.seal } : {}),
    ...toCredentials(row.credentials),
    ...toArchives(row.archives),
  };
}

function isGiven<T>(value: T | null | undefined): value is T {
  return value !== null && value !== undefined;
}

function toArchives(rows: readonly ArchiveRow[] | null | undefined): {
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

function toCredentials(row: CredentialsRow | null | undefined): {
  credentials?: WantedCredentials;
} {
  if (row === null || row === undefined) return {};
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
