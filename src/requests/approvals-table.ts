/** The table `approvals`: requests that wait for an admin's approval. */
import type { RequestKind } from './kinds.ts';
import type { Request } from './schema.ts';
import type { Client } from '../database/connection.ts';

/** SQL: whether a row of `approvals` is an approved erasure. `of`: the alias of the table. */
export const IS_APPROVED_ERASURE = (of: string) =>
  `(${of}.kind = 'person.erase' AND ${of}.state = 'approved')`;

/**
 * SQL: whether the erasure of a person is approved. As long as the person is suspended, it has not begun. `uid`: an
 * expression.
 */
export const IS_ERASING = (uid: string) => `EXISTS (
  SELECT FROM approvals e WHERE e.subject = ${uid} AND ${IS_APPROVED_ERASURE('e')})`;

/** Whether the erasure of a person is approved. */
export async function isErasing(client: Client, person: number): Promise<boolean> {
  const { rowCount } = await client.query(`SELECT WHERE ${IS_ERASING('$1')}`, [person]);
  return rowCount === 1;
}

// an approved erasure can be rejected until it begins, like a request that waits
const IS_UNDECIDED = `(a.state = 'open' OR ${IS_APPROVED_ERASURE('a')}
  AND NOT EXISTS (SELECT FROM archivals d WHERE d.subject = a.subject AND d.erasure IS NOT NULL))`;

/** A request that must wait. */
export interface NewApproval {
  /** the request's own `jti`; `portal` is the sender */
  request: string;
  portal: string;
  subject: number;
  /** what it is about, if that is not the subject: the name of a portal */
  about?: string | undefined;
  /** the request; erased when it is decided */
  body: Request;
  /** why it waits, as people read it */
  why: string;
  /** the fingerprint of the admin's own key that signed it */
  key: string | undefined;
}

/** Lets a request wait. Returns false if a request of this kind already waits about the same. */
export async function openApproval(client: Client, approval: NewApproval): Promise<boolean> {
  const { request, portal, subject, about = '', body, why, key } = approval;
  const { rowCount } = await client.query(
    `INSERT INTO approvals (request, portal, kind, subject, requested_by, body, why, key, about)
     VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9) ON CONFLICT (kind, subject, about) WHERE state = 'open' DO NOTHING`,
    [request, portal, body.kind, subject, body.requestedBy, JSON.stringify(body), why, key, about],
  );
  return rowCount !== 0;
}

/** A waiting request. The portal and the id together identify it. */
export interface OpenApproval {
  request: string;
  portal: string;
  kind: RequestKind;
  /** `approved`: an erasure that has not begun */
  state: 'open' | 'approved';
  subject: number;
  /** of the subject */
  account: string;
  /** what it is about, if that is not the subject: the name of a portal */
  about: string | undefined;
  requestedBy: string;
  body: unknown;
  /** the fingerprint of the admin's own key that signed it; null: a portal did */
  key: string | null;
}

/**
 * Finds the waiting requests with an id: at most one for each portal. `portal`: only that portal's request.
 * `toReject`: also approved erasures that have not begun.
 */
export async function findOpenApprovals(
  client: Client,
  request: string,
  { portal, toReject = false }: { portal?: string | undefined; toReject?: boolean } = {},
): Promise<OpenApproval[]> {
  const { rows } = await client.query(
    `SELECT a.request, a.portal, a.kind, a.state, a.subject, a.requested_by AS "requestedBy", a.body, a.key,
            coalesce(p.shell_name, t.account) AS account, a.about
     FROM approvals a LEFT JOIN people p ON p.uid = a.subject LEFT JOIN tools t ON t.uid = a.subject
     WHERE a.request = $1 AND a.portal = coalesce($2, a.portal)
       AND ${toReject ? IS_UNDECIDED : "a.state = 'open'"} ORDER BY a.portal`,
    [request, portal ?? null],
  );
  return (rows as (OpenApproval & { about: string })[]).map(({ about, ...row }) => ({
    ...row,
    about: about === '' ? undefined : about,
  }));
}

/** How many requests wait for an admin's approval. */
export async function countOpenApprovals(client: Pick<Client, 'query'>): Promise<number> {
  const { rows } = await client.query(
    `SELECT count(*)::int AS count FROM approvals WHERE state = 'open'`,
  );
  return (rows[0] as { count: number }).count;
}

/** Records the decision on a waiting request. Of its body, only the reason of a rejection is left. */
export async function closeApproval(
  client: Client,
  { portal, request }: Pick<OpenApproval, 'portal' | 'request'>,
  {
    state,
    by,
    now,
    reason,
  }: { state: 'approved' | 'rejected'; by: string; now: Date; reason?: string },
): Promise<void> {
  await client.query(
    `UPDATE approvals SET state = $3, decided_at = $4, decided_by = $5, body = $6
     WHERE portal = $1 AND request = $2`,
    [portal, request, state, now, by, reason === undefined ? null : JSON.stringify({ reason })],
  );
}

/** A request that was rejected because of its subject: what its event needs. */
export type RejectedApproval = Pick<
  OpenApproval,
  'request' | 'portal' | 'kind' | 'subject' | 'account'
>;

/**
 * Rejects all waiting requests about these subjects, which makes them done, and returns them. `erasing`: only erasures, but
 * also one that is approved.
 */
export async function rejectWaiting(
  client: Client,
  subjects: readonly number[],
  {
    by,
    now,
    reason,
    erasing = false,
  }: { by: string; now: Date; reason?: string; erasing?: boolean },
): Promise<RejectedApproval[]> {
  const { rows } = await client.query(
    `WITH waiting AS (
       UPDATE approvals SET state = 'rejected', decided_at = $2, decided_by = $3,
         body = CASE WHEN $5::text IS NOT NULL THEN jsonb_build_object('reason', $5::text) END
       WHERE subject = ANY ($1) AND CASE WHEN $4 THEN kind = 'person.erase' AND state IN ('open', 'approved') ELSE state = 'open' END
       RETURNING *
     ), done AS (
       UPDATE requests q SET done_at = $2 FROM waiting w WHERE q.portal = w.portal AND q.jti = w.request
     )
     SELECT w.request, w.portal, w.kind, w.subject, n.name AS account
     FROM waiting w JOIN names n ON n.subject = w.subject ORDER BY w.portal, w.request`,
    [subjects, now, by, erasing, reason],
  );
  return rows as RejectedApproval[];
}

/**
 * How many requests to suspend one person were accepted within the last hour, by PostgreSQL's clock. Requests that
 * waited or wait are not counted.
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
