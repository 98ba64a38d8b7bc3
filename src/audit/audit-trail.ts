/** The table `audit` as an admin reads it. */
import type { Client } from '../database/connection.ts';

/** Who requested what, who approved it, and the outcome. */
export interface AuditRow {
  id: string;
  at: Date;
  requestedBy: string | null;
  approvedBy: string | null;
  /** null: on the command line, or an unsigned job */
  portal: string | null;
  kind: string | null;
  subject: number | null;
  account: string | null;
  fields: string[];
  verdict: string;
  code: string | null;
  /** the fingerprint of the admin's own key that signed it; null: a portal did, or nobody */
  key: string | null;
}

export interface AuditQuery {
  /** uids; undefined: all rows, also those about no subject */
  subjects?: readonly number[] | undefined;
  /** only what was signed with the admin's own key of this fingerprint; not together with `subjects` */
  key?: string | undefined;
  since?: Date | undefined;
  limit: number;
}

const ROW = `a.id, a.at, a.requested_by AS "requestedBy", a.approved_by AS "approvedBy", a.portal, a.kind,
  a.subject, a.account, a.fields, a.verdict, a.code, a.key`;

// Each reads an index from its end, so that the cost does not depend on the length of the trail.
const LAST = `SELECT ${ROW} FROM audit a ORDER BY id DESC LIMIT $1`;
const LAST_SINCE = `SELECT ${ROW} FROM audit a WHERE at >= $2 ORDER BY at DESC, id DESC LIMIT $1`;
const lastOfKey = (andSince: string) =>
  `SELECT ${ROW} FROM audit a WHERE key = $2 ${andSince} ORDER BY id DESC LIMIT $1`;
const lastOfSubjects = (andSince: string) => `
  SELECT ${ROW} FROM unnest($2::int[]) AS s (uid), LATERAL (
    SELECT * FROM audit WHERE subject = s.uid ${andSince} ORDER BY id DESC LIMIT $1) AS a
  ORDER BY a.id DESC LIMIT $1`;

/** The last rows that match, the oldest first, and whether there are older ones that match too. */
export async function readAudit(
  client: Client,
  { subjects, key, since, limit }: AuditQuery,
): Promise<{ rows: AuditRow[]; hasOlder: boolean }> {
  const ofAnyone = since === undefined ? LAST : LAST_SINCE;
  const andSince = since === undefined ? '' : 'AND at >= $3';
  const text =
    subjects !== undefined
      ? lastOfSubjects(andSince)
      : key !== undefined
        ? lastOfKey(andSince)
        : ofAnyone;
  const { rows } = await client.query(text, [
    limit + 1,
    ...[subjects, key, since].filter((each) => each !== undefined),
  ]);
  const found = (rows as AuditRow[]).toReversed();
  const hasOlder = found.length > limit;
  return { rows: hasOlder ? found.slice(1) : found, hasOlder };
}

/**
 * A page of the audit, the newest row first, of the rows before a number.
 *
 * @param subjects uids; undefined: all rows, also those about no subject
 */
export async function readAuditBefore(
  client: Client,
  before: string | undefined,
  { subjects, limit }: Pick<AuditQuery, 'subjects' | 'limit'>,
): Promise<AuditRow[]> {
  const { rows } = await client.query(
    subjects === undefined
      ? `SELECT ${ROW} FROM audit a WHERE $1::bigint IS NULL OR id < $1 ORDER BY id DESC LIMIT $2`
      : `SELECT ${ROW} FROM unnest($3::int[]) AS s (uid), LATERAL (
           SELECT * FROM audit WHERE subject = s.uid AND ($1::bigint IS NULL OR id < $1) ORDER BY id DESC LIMIT $2) AS a
         ORDER BY a.id DESC LIMIT $2`,
    [before ?? null, limit, ...(subjects === undefined ? [] : [subjects])],
  );
  return rows as AuditRow[];
}
