/** The progress of requests: their verdicts, and what is not applied yet. Read only. */
import type { Role } from '../reconcile/wanted.ts';
import type { ConvergenceState } from '../database/overview.ts';
import type { Client } from '../database/connection.ts';

/** The current state of a request. */
export interface RequestView {
  /** our own number */
  number: string;
  /** the portal's id; null for a request whose id was used before, and for a step of the calendar */
  id: string | null;
  portal: string | null;
  kind: string | null;
  requestedBy: string | null;
  approvedBy: string | null;
  account: string | null;
  /** for a suspension or a reinstatement of several people: the people whom it changed */
  accounts: string[];
  verdict: 'accepted' | 'refused';
  code: string | null;
  sentence: string | null;
  at: Date;
  doneAt: Date | null;
  stuckAt: Date | null;
  /** set if the request waits or waited for an admin's approval; null if it never did */
  approval: {
    state: 'open' | 'approved' | 'rejected';
    /** why it waits */
    why: string;
    /** why it was rejected; null if it was not, or if nobody said */
    reason: string | null;
    decidedBy: string | null;
  } | null;
  /** of an accepted `access.request`: what an admin has decided; null for every other request */
  access: {
    state: 'open' | 'granted' | 'refused';
    decidedBy: string | null;
    reason: string | null;
  } | null;
}

const REQUEST = `
  SELECT r.id AS number, r.jti AS id, r.portal, r.kind, r.requested_by AS "requestedBy",
         r.approved_by AS "approvedBy", coalesce(t.account, p.shell_name) AS account,
         ARRAY(SELECT a.account FROM audit a WHERE a.request = r.id AND a.kind = 'person.suspend'
               AND r.subject IS NULL AND a.account IS NOT NULL
               UNION ALL
               -- written in the same transaction: only the time has an index
               SELECT a.account FROM audit a WHERE a.at = r.at AND a.request = r.id AND a.kind = 'person.reinstate'
               AND r.kind = 'person.reinstate' AND r.subject IS NULL AND a.account IS NOT NULL) AS accounts, r.verdict,
         coalesce(r.code, s.code) AS code, coalesce(r.sentence, s.sentence) AS sentence,
         r.at, r.done_at AS "doneAt", r.stuck_at AS "stuckAt",
         CASE WHEN w.request IS NOT NULL THEN
           jsonb_build_object('state', w.state, 'why', w.why, 'decidedBy', w.decided_by,
             'reason', CASE WHEN w.state = 'rejected' THEN w.body->>'reason' END) END AS approval,
         CASE WHEN o.id IS NOT NULL THEN
           jsonb_build_object('state', o.state, 'decidedBy', o.decided_by, 'reason', o.decision_reason) END AS access
  FROM requests r LEFT JOIN people p ON p.uid = r.subject LEFT JOIN tools t ON t.uid = r.subject
    LEFT JOIN approvals w ON w.request = r.jti AND w.portal = r.portal
    -- opened in the same transaction
    LEFT JOIN access_requests o ON r.kind = 'access.request' AND r.verdict = 'accepted'
      AND o.person = r.subject AND o.opened_at = r.at
    -- the reason why it is stuck is recorded with what it touched
    LEFT JOIN LATERAL (
      SELECT c.code, c.role || ': ' || c.sentence AS sentence FROM request_touches i
        JOIN convergence c ON c.subject = i.subject AND c.role = i.role
      WHERE i.request = r.id AND c.state = 'parked' LIMIT 1) AS s ON r.done_at IS NULL`;

/** Reads the newest requests, the newest first. */
export async function readRequests(client: Client, limit: number): Promise<RequestView[]> {
  const { rows } = await client.query(`${REQUEST} ORDER BY r.id DESC LIMIT $1`, [limit]);
  return rows as RequestView[];
}

// All portals that ever had a verdict, each found with one look at the index on (portal, jti). That index cannot find
// an id without its portal.
const PORTALS = `
  WITH RECURSIVE portals (portal) AS (
    SELECT min(portal) FROM requests UNION ALL
    SELECT (SELECT min(q.portal) FROM requests q WHERE q.portal > p.portal) FROM portals p WHERE p.portal IS NOT NULL)`;

/** Finds the requests with that id: a UUID (one request for each portal that used it), or our own number. */
export async function findRequests(client: Client, id: string): Promise<RequestView[]> {
  const { rows } = await client.query(
    /^[0-9]{1,18}$/u.test(id)
      ? `${REQUEST} WHERE r.id = $1::bigint`
      : `${PORTALS} ${REQUEST} WHERE r.portal IN (SELECT portal FROM portals) AND r.jti = $1::uuid ORDER BY r.id`,
    [id],
  );
  return rows as RequestView[];
}

/** Finds one portal's request. Undefined as long as it has no verdict. */
export async function findRequest(
  client: Client,
  portal: string,
  jti: string,
): Promise<RequestView | undefined> {
  const { rows } = await client.query({
    name: 'find-request',
    text: `${REQUEST} WHERE r.portal = $1 AND r.jti = $2::uuid`,
    values: [portal, jti],
  });
  return rows[0] as RequestView | undefined;
}

/** A generation that a request touched and that is not yet known to be applied. */
export interface OpenTouch {
  subject: number;
  account: string;
  role: Role;
  /** the role has applied it, but the relay has not noticed yet */
  applied: boolean;
  state: ConvergenceState;
  code: string | null;
  sentence: string | null;
}

export async function readOpenTouches(client: Client, request: string): Promise<OpenTouch[]> {
  const { rows } = await client.query({
    name: 'open-touches',
    text: `SELECT g.subject, coalesce(t.account, p.shell_name, g.subject::text) AS account, g.role,
                  c.applied >= g.generation AS applied, c.state, c.code, c.sentence
           FROM request_touches g JOIN convergence c USING (subject, role)
           LEFT JOIN people p ON p.uid = g.subject LEFT JOIN tools t ON t.uid = g.subject
           WHERE g.request = $1 ORDER BY g.subject, g.role`,
    values: [request],
  });
  return rows as OpenTouch[];
}

/**
 * The roles that have applied what a request touched for its own subject. The touches themselves cannot be read,
 * because a touch is forgotten as soon as it is applied. If a row was as wanted before, its `since` is the time of the
 * transaction that touched it, and so is the request's `at`.
 */
export async function readAppliedRoles(client: Client, request: string): Promise<Role[]> {
  const { rows } = await client.query({
    name: 'applied-roles',
    text: `SELECT c.role FROM requests r
           JOIN convergence c ON c.subject = r.subject AND c.since = r.at AND c.applied = c.wanted
           WHERE r.id = $1 ORDER BY c.role`,
    values: [request],
  });
  return (rows as { role: Role }[]).map(({ role }) => role);
}
