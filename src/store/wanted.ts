/** Reads the wanted state of subjects, as far as a role may know it. */
import type { AccountName, ShellName, ToolName } from '../model/names.ts';
import type { Member, Role, Wanted, WantedCredentials, WantedKey } from '../model/wanted.ts';
import type { Client, Pool } from './postgres.ts';

type Reader = Pick<Client | Pool, 'query'>;

// What every role may know of a person and of a tool.
const PERSON = `
  SELECT p.uid, p.shell_name, p.state, p.admitted_at IS NOT NULL AS ever_admitted,
         EXISTS (SELECT FROM realm_members m WHERE m.person = p.uid) AS realm_member`;
const TOOL = `SELECT t.uid, t.name, t.account, t.state`;

// A key ends in the directory when it ends here: sshd itself reads `expiry-time`.
const DIRECTORY_PERSON = `${PERSON}, p.display_name, p.email,
  coalesce((SELECT jsonb_agg(jsonb_build_object('fingerprint', k.fingerprint, 'label', k.label, 'line',
      array_to_string(k.options || CASE WHEN k.expires_at IS NULL THEN '{}'::text[] ELSE
        ARRAY['expiry-time="' || to_char(k.expires_at AT TIME ZONE 'UTC', 'YYYYMMDDHH24MISS') || 'Z"'] END,
      ',') || CASE WHEN k.options = '{}' AND k.expires_at IS NULL THEN '' ELSE ' ' END || k.line)
      ORDER BY k.fingerprint)
    FROM ssh_keys k WHERE k.person = p.uid AND k.removed_at IS NULL), '[]') AS keys
  FROM people p WHERE p.uid = ANY ($1)`;

// Effective members, without the tool's own account: people who are unsuspended realm members, and
// tools that are not deleted.
const DIRECTORY_TOOL = `${TOOL},
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
  (SELECT jsonb_build_object('wantedEpoch', c.wanted_epoch, 'epoch', v.epoch, 'verifier', v.verifier)
   FROM credentials c LEFT JOIN database_verifiers v ON v.account = c.account
   WHERE c.account = ${account}.uid) AS credentials`;
const ACCOUNT_PERSON = `${PERSON}${CREDENTIALS('p')} FROM people p WHERE p.uid = ANY ($1)`;
const ACCOUNT_TOOL = `${TOOL}${CREDENTIALS('t')} FROM tools t WHERE t.uid = ANY ($1)`;

const STATEMENTS: Record<Role, { person: string; tool: string }> = {
  directory: { person: DIRECTORY_PERSON, tool: DIRECTORY_TOOL },
  homes: { person: ACCOUNT_PERSON, tool: ACCOUNT_TOOL },
  databases: { person: ACCOUNT_PERSON, tool: ACCOUNT_TOOL },
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
  epoch: number | null;
  verifier: string | null;
}
interface PersonRow {
  uid: number;
  shell_name: string;
  state: 'active' | 'suspended' | 'deleted';
  ever_admitted: boolean;
  realm_member: boolean;
  display_name?: string;
  email?: string;
  keys?: WantedKey[];
  credentials?: CredentialsRow | null;
}
interface ToolRow {
  uid: number;
  name: string;
  account: string;
  state: 'active' | 'disabled' | 'deleted';
  members?: Member[];
  credentials?: CredentialsRow | null;
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
    ...(row.display_name === undefined ? {} : { displayName: row.display_name }),
    ...(row.email === undefined ? {} : { email: row.email }),
    ...(row.keys === undefined ? {} : { keys: row.keys }),
    ...toCredentials(row.credentials),
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
    ...toCredentials(row.credentials),
  };
}

function toCredentials(row: CredentialsRow | null | undefined): {
  credentials?: WantedCredentials;
} {
  if (row === null || row === undefined) return {};
  return {
    credentials: {
      wantedEpoch: row.wantedEpoch,
      recorded:
        row.epoch === null || row.verifier === null
          ? undefined
          : { epoch: row.epoch, verifier: row.verifier },
    },
  };
}
