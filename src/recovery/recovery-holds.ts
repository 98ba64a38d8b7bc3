/** After a recovery, no date in the backup gives access or destroys anything before an admin decides. */
import type { Open } from './taking.ts';
import { timeOf, WITHOUT_END } from '../shared/time.ts';
import { nameFew } from '../shared/printable.ts';
import { IS_APPROVED_ERASURE } from '../requests/approvals-table.ts';
import type { Client } from '../database/connection.ts';
import { RECOVERY, voidWarnings } from '../lifecycle/holds-table.ts';
import { IS_OWN_DELETION } from '../identity/people-table.ts';

const RETURNING = 'began to be restored at';

interface Leaving {
  uid: number;
  account: string;
  /** the name of a tool; null for a person */
  tool: string | null;
  at: Date;
  what: string;
}

/**
 * Stops suspensions from ending on a date or when a person cancels their own deletion. Places a hold on every subject
 * that is to be archived, deleted, erased or restored, or whose archives were to be removed by now. An existing hold
 * keeps its reason.
 */
export async function stopDates(client: Client, now: Date): Promise<Open[]> {
  // an admin may have suspended them after the backup, which no server shows
  await client.query(`UPDATE people SET suspended_by = $1 WHERE ${IS_OWN_DELETION}`, [RECOVERY]);
  const suspended = await client.query(
    `UPDATE people p SET suspended_until = NULL FROM people was
     WHERE was.uid = p.uid AND p.suspended_until IS NOT NULL AND p.state = 'suspended'
     RETURNING p.shell_name AS account, was.suspended_until AS until`,
  );
  const held = await client.query(
    `WITH everybody AS (
       SELECT uid, shell_name AS account, NULL AS tool, state, delete_after FROM people
       UNION ALL SELECT uid, account, name, state, delete_after FROM tools
     ), leaving AS (
       SELECT uid, account, tool, delete_after AS at, 'was to be deleted after' AS what
       FROM everybody WHERE delete_after IS NOT NULL
       UNION ALL
       SELECT s.uid, s.account, s.tool, a.decided_at, 'was to be erased: approved at'
       FROM approvals a JOIN everybody s ON s.uid = a.subject AND s.state = 'suspended' WHERE ${IS_APPROVED_ERASURE('a')}
       UNION ALL
       SELECT s.uid, s.account, s.tool, e.at, e.what
       FROM archivals d JOIN everybody s ON s.uid = d.subject CROSS JOIN LATERAL (VALUES
         (d.back_at IS NULL AND d.returning_at IS NULL AND s.state = 'archived', d.began_at, 'began to be archived at'),
         (d.back_at IS NULL AND d.returning_at IS NOT NULL AND s.state = 'archived', d.returning_at, '${RETURNING}'),
         (d.keep_until <= $1 AND d.expired_at IS NULL AND d.erasure IS NULL
           AND (d.returning_at IS NULL OR d.back_at IS NOT NULL), d.keep_until, 'has archives that were to be removed at')
       ) AS e (holds, at, what) WHERE e.holds
     ), one AS (SELECT DISTINCT ON (uid) * FROM leaving ORDER BY uid, at),
     held AS (
       INSERT INTO holds AS h (subject, held_by, held_at, reason, until)
       SELECT uid, CASE WHEN what = '${RETURNING}' THEN $2 ELSE
           coalesce((SELECT was.held_by FROM holds was WHERE was.subject = uid), $2) END,
         $1, 'placed by a recovery: check whether this is still right', $3 FROM one
       ON CONFLICT (subject) DO UPDATE SET until = excluded.until, held_by = excluded.held_by)
     SELECT uid, account, tool, at, what FROM one ORDER BY account`,
    [now, RECOVERY, WITHOUT_END],
  );
  const leaving = held.rows as Leaving[];
  // new warnings are sent when the hold is over
  await voidWarnings(
    client,
    leaving.map(({ uid }) => uid),
  );
  const dated = suspended.rows as { account: string; until: Date }[];
  return [
    ...dated
      .toSorted((a, b) => (a.account < b.account ? -1 : 1))
      .map(({ account, until }) => ({
        account,
        sentence: `${account} was to be reinstated at ${timeOf(until)}; now only an admin can reinstate them`,
        command: `submit person.reinstate --person ${account}`,
      })),
    ...leaving.map(({ account, tool, at, what }) => ({
      account,
      sentence: `${account} ${what} ${timeOf(at)}; the account is held`,
      command: `submit subject.release ${tool === null ? `--person ${account}` : `--tool ${tool}`}`,
    })),
  ];
}

/**
 * The message about people who are suspended in the backup and not listed yet. No server shows what was taken from them
 * after the backup, and a reinstatement would give it back.
 */
export async function readSuspendedBefore(
  client: Client,
  listed: readonly Open[],
): Promise<Open[]> {
  const { rows } = await client.query(
    `SELECT shell_name AS account FROM people WHERE state = 'suspended' AND shell_name <> ALL ($1) ORDER BY 1`,
    [listed.map(({ account }) => account)],
  );
  if (rows.length === 0) return [];
  const names = (rows as { account: string }[]).map(({ account }) => account);
  return [
    {
      account: 'people',
      sentence:
        `suspended in the backup: ${nameFew(names)}; nothing shows which keys and tools were taken from them after it: see ` +
        '`list keys --person NAME` and `explain NAME` before you reinstate one',
    },
  ];
}
