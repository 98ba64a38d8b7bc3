/** The table `approvals`: requests that wait for an admin's word. */
import type { Request, RequestKind } from '../model/request.ts';
import type { Client } from './postgres.ts';

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
     VALUES ($1, $2, $3, $4, $5, $6, $7) ON CONFLICT DO NOTHING`,
    [request, portal, body.kind, subject, body.requestedBy, JSON.stringify(body), why],
  );
  return rowCount !== 0;
}

/** A request that waits. */
export interface OpenApproval {
  request: string;
  portal: string;
  kind: RequestKind;
  subject: number;
  /** of the subject */
  account: string;
  requestedBy: string;
  body: unknown;
}

export async function findOpenApproval(
  client: Client,
  request: string,
): Promise<OpenApproval | undefined> {
  const { rows } = await client.query(
    `SELECT a.request, a.portal, a.kind, a.subject, a.requested_by AS "requestedBy", a.body,
            coalesce(p.shell_name, t.account) AS account
     FROM approvals a LEFT JOIN people p ON p.uid = a.subject LEFT JOIN tools t ON t.uid = a.subject
     WHERE a.request = $1 AND a.state = 'open'`,
    [request],
  );
  return rows[0] as OpenApproval | undefined;
}

/** Decides what waits, and erases what was asked. */
export async function closeApproval(
  client: Client,
  request: string,
  { state, by, now }: { state: 'approved' | 'rejected'; by: string; now: Date },
): Promise<void> {
  await client.query(
    `UPDATE approvals SET state = $2, decided_at = $3, decided_by = $4, body = NULL
     WHERE request = $1 AND state = 'open'`,
    [request, state, now, by],
  );
}

/** Whether a deletion of the person, or the like, waits. */
export async function isWaiting(
  client: Client,
  kind: RequestKind,
  subject: number,
): Promise<boolean> {
  const { rowCount } = await client.query(
    `SELECT FROM approvals WHERE kind = $1 AND subject = $2 AND state = 'open'`,
    [kind, subject],
  );
  return rowCount !== 0;
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
