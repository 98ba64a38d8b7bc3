/** The table `approvals`: requests that wait for an admin's word. */
import type { Request, RequestKind } from './schema.ts';
import type { Client } from '../database/connection.ts';

/** Of a row of `approvals`, by its name in the statement: an erasure that is approved. */
export const IS_APPROVED_ERASURE = (of: string) =>
  `(${of}.kind = 'person.erase' AND ${of}.state = 'approved')`;

/** Whether the erasure of a person is approved, and not begun as long as the person is suspended; `uid`: an expression. */
export const IS_ERASING = (uid: string) => `EXISTS (
  SELECT FROM approvals e WHERE e.subject = ${uid} AND ${IS_APPROVED_ERASURE('e')})`;

/** Whether the erasure of a person is approved. */
export async function isErasing(client: Client, person: number): Promise<boolean> {
  const { rowCount } = await client.query(`SELECT WHERE ${IS_ERASING('$1')}`, [person]);
  return rowCount === 1;
}

// until it begins, an erasure that was approved is rejected like what waits
const IS_UNDECIDED = `(a.state = 'open' OR ${IS_APPROVED_ERASURE('a')}
  AND NOT EXISTS (SELECT FROM archivals d WHERE d.subject = a.subject AND d.erasure IS NOT NULL))`;

/** A request that is to wait. */
export interface NewApproval {
  /** the request's own `jti`, and who sent it */
  request: string;
  portal: string;
  subject: number;
  /** what is asked; erased when it is decided */
  body: Request;
  /** why it waits, for people */
  why: string;
}

/** Lets a request wait; false where the same is asked of the subject, and waits, already. */
export async function openApproval(client: Client, approval: NewApproval): Promise<boolean> {
  const { request, portal, subject, body, why } = approval;
  const { rowCount } = await client.query(
    `INSERT INTO approvals (request, portal, kind, subject, requested_by, body, why)
     VALUES ($1, $2, $3, $4, $5, $6, $7) ON CONFLICT (kind, subject) WHERE state = 'open' DO NOTHING`,
    [request, portal, body.kind, subject, body.requestedBy, JSON.stringify(body), why],
  );
  return rowCount !== 0;
}

/** A request that waits: the one of that id that its portal has sent. */
export interface OpenApproval {
  request: string;
  portal: string;
  kind: RequestKind;
  /** `approved`: an erasure that has not begun */
  state: 'open' | 'approved';
  subject: number;
  /** of the subject */
  account: string;
  requestedBy: string;
  body: unknown;
}

/**
 * Those that wait by an id: of each portal one at the most. `portal`: of that one alone. `toReject`: erasures too that
 * are approved, and have not begun.
 */
export async function findOpenApprovals(
  client: Client,
  request: string,
  { portal, toReject = false }: { portal?: string | undefined; toReject?: boolean } = {},
): Promise<OpenApproval[]> {
  const { rows } = await client.query(
    `SELECT a.request, a.portal, a.kind, a.state, a.subject, a.requested_by AS "requestedBy", a.body,
            coalesce(p.shell_name, t.account) AS account
     FROM approvals a LEFT JOIN people p ON p.uid = a.subject LEFT JOIN tools t ON t.uid = a.subject
     WHERE a.request = $1 AND a.portal = coalesce($2, a.portal)
       AND ${toReject ? IS_UNDECIDED : "a.state = 'open'"} ORDER BY a.portal`,
    [request, portal ?? null],
  );
  return rows as OpenApproval[];
}

/** Decides what waits, and erases what was asked. */
export async function closeApproval(
  client: Client,
  { portal, request }: Pick<OpenApproval, 'portal' | 'request'>,
  { state, by, now }: { state: 'approved' | 'rejected'; by: string; now: Date },
): Promise<void> {
  await client.query(
    `UPDATE approvals SET state = $3, decided_at = $4, decided_by = $5, body = NULL
     WHERE portal = $1 AND request = $2`,
    [portal, request, state, now, by],
  );
}

/** What was rejected with its subject: whom it is told. */
export type RejectedApproval = Pick<
  OpenApproval,
  'request' | 'portal' | 'kind' | 'subject' | 'account'
>;

/**
 * Rejects all that waits about a subject (`erasing`: erasures alone, and one that was approved too), so that it is done;
 * returns what that was.
 */
export async function rejectWaiting(
  client: Client,
  subject: number,
  { by, now, erasing = false }: { by: string; now: Date; erasing?: boolean },
): Promise<RejectedApproval[]> {
  const { rows } = await client.query(
    `WITH waiting AS (
       UPDATE approvals SET state = 'rejected', decided_at = $2, decided_by = $3, body = NULL
       WHERE subject = $1 AND CASE WHEN $4 THEN kind = 'person.erase' AND state IN ('open', 'approved') ELSE state = 'open' END
       RETURNING *
     ), done AS (
       UPDATE requests q SET done_at = $2 FROM waiting w WHERE q.portal = w.portal AND q.jti = w.request
     )
     SELECT w.request, w.portal, w.kind, w.subject, n.name AS account
     FROM waiting w JOIN names n ON n.subject = w.subject ORDER BY w.portal, w.request`,
    [subject, now, by, erasing],
  );
  return rows as RejectedApproval[];
}

/**
 * How many requests that suspended one person had their verdict within an hour, by PostgreSQL's clock;
 * those that waited, or wait, not counted.
 */
export async function countSuspensions(client: Client): Promise<number> {
  const { rows } = await client.query({
    name: 'count-suspensions',
    text: `SELECT count(*)::int AS count FROM requests r
           WHERE r.kind = 'person.suspend' AND r.at > now() - interval '1 hour'
             AND r.verdict = 'accepted' AND r.subject IS NOT NULL
             AND NOT EXISTS (SELECT FROM approvals a WHERE a.request = r.jti AND a.portal = r.portal)`,
  });
  return (rows[0] as { count: number }).count;
}
