/** The table `audit` as an admin reads it. */
import type { Client } from './postgres.ts';

/** Who asked for what, who approved it, and what came of it. */
export interface AuditRow {
  id: string;
  at: Date;
  requestedBy: string | null;
  approvedBy: string | null;
  /** NULL: by the command line, or a job that nobody has signed */
  portal: string | null;
  kind: string | null;
  subject: number | null;
  account: string | null;
  fields: string[];
  verdict: string;
  code: string | null;
}

export interface AuditQuery {
  /** uids; undefined: rows about anyone, and about nobody */
  subjects?: readonly number[] | undefined;
  since?: Date | undefined;
  limit: number;
}

/** The last rows that fit, oldest first, and whether there are older ones that fit too. */
export async function readAudit(
  client: Client,
  { subjects, since, limit }: AuditQuery,
): Promise<{ rows: AuditRow[]; hasOlder: boolean }> {
  const { rows } = await client.query(
    `SELECT id, at, requested_by AS "requestedBy", approved_by AS "approvedBy", portal, kind,
            subject, account, fields, verdict, code
     FROM audit WHERE ($1::int[] IS NULL OR subject = ANY ($1)) AND ($2::timestamptz IS NULL OR at >= $2)
     ORDER BY id DESC LIMIT $3`,
    [subjects ?? null, since ?? null, limit + 1],
  );
  const found = (rows as AuditRow[]).toReversed();
  const hasOlder = found.length > limit;
  return { rows: hasOlder ? found.slice(1) : found, hasOlder };
}
