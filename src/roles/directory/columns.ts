/** What the directory wants to know of a subject: all that LDAP shows of it. Pure. */
import type { AccountName } from '../../identity/names.ts';
import {
  type BaseRow,
  isGiven,
  type Member,
  type WantedColumns,
  type WantedKey,
  type WantedSeal,
} from '../../reconcile/wanted.ts';

// What a login host is to believe has a number and an end (migrations/0007_seals.sql).
const SEAL = (of: string) => `
  (SELECT jsonb_build_object('number', l.number,
                             'until', to_char(l.until AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS"Z"'))
   FROM login_seals l WHERE l.subject = ${of}.uid AND l.until < 'infinity') AS seal`;

// The other side of the effective members below.
const MEMBER_OF = (of: string) => `
  coalesce((SELECT jsonb_agg(g.account ORDER BY g.account) FROM maintainers m JOIN tools g ON g.uid = m.tool
            WHERE m.maintainer = ${of}.uid AND g.state <> 'deleted'), '[]') AS member_of`;

// A key ends in the directory when it ends here: sshd itself reads `expiry-time`.
const PERSON = `, p.display_name, p.email, ${SEAL('p')}, ${MEMBER_OF('p')},
  coalesce((SELECT jsonb_agg(jsonb_build_object('fingerprint', k.fingerprint, 'label', k.label, 'line',
      array_to_string(k.options || CASE WHEN k.expires_at IS NULL THEN '{}'::text[] ELSE
        ARRAY['expiry-time="' || to_char(k.expires_at AT TIME ZONE 'UTC', 'YYYYMMDDHH24MISS') || 'Z"'] END,
      ',') || CASE WHEN k.options = '{}' AND k.expires_at IS NULL THEN '' ELSE ' ' END || k.line)
      ORDER BY k.fingerprint)
    FROM ssh_keys k WHERE k.person = p.uid AND k.removed_at IS NULL), '[]') AS keys`;

// Effective members, without the tool's own account: people who are unsuspended realm members, and
// tools that are not deleted.
const TOOL = `, ${SEAL('t')}, ${MEMBER_OF('t')},
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
    ) e), '[]') AS members`;

export const DIRECTORY_COLUMNS: WantedColumns = {
  person: PERSON,
  tool: TOOL,
  toWanted: (row: PersonColumns | ToolColumns, base) =>
    base.kind === 'person'
      ? ofPerson(row as PersonColumns, base)
      : ofTool(row as ToolColumns, base),
};

interface PersonColumns {
  display_name: string | null;
  email: string | null;
  keys: WantedKey[];
  seal: WantedSeal | null;
  member_of: AccountName[];
}
interface ToolColumns {
  disabled_reason: string | null;
  delete_requested_at: Date | null;
  orphaned: boolean;
  members: Member[];
  seal: WantedSeal | null;
  member_of: AccountName[];
}

function ofPerson(row: PersonColumns, { state, isRealmMember }: BaseRow) {
  return {
    // a deleted person has none
    ...(isGiven(row.display_name) ? { displayName: row.display_name } : {}),
    ...(isGiven(row.email) ? { email: row.email } : {}),
    keys: row.keys,
    memberOf: state === 'active' && isRealmMember ? row.member_of : [],
    ...(isGiven(row.seal) ? { seal: row.seal } : {}),
  };
}

function ofTool(row: ToolColumns, base: BaseRow) {
  const account = base.account as AccountName;
  const own: Member = { kind: 'tool', account, uid: base.uid };
  return {
    members: [...row.members, own],
    memberOf: [...row.member_of, account],
    ...(isGiven(row.disabled_reason) ? { disabledReason: row.disabled_reason } : {}),
    ...(isGiven(row.delete_requested_at) ? { deleteRequestedAt: row.delete_requested_at } : {}),
    ...(row.orphaned ? { orphaned: true } : {}),
    ...(isGiven(row.seal) ? { seal: row.seal } : {}),
  };
}
