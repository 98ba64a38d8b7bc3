/**
 * The progress of requests: their verdicts, and what is not applied yet. Read only, through the views of
 * migrations/0026_api.sql.
 */
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
  /** the subject, or the portal that it is about */
  account: string | null;
  /** for a suspension or a reinstatement of several people: the people whom it changed */
  accounts: string[];
  verdict: 'accepted' | 'refused';
  code: string | null;
  sentence: string | null;
  at: Date;
  doneAt: Date | null;
  stuckAt: Date | null;
  /** what a survey, or a repair, came to; with `code`, it failed */
  result: Record<string, unknown> | null;
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

/** As `chamberlain requests` and the API name them. */
export const REQUEST_STATES = [
  'refused',
  'waiting',
  'rejected',
  'accepted',
  'stuck',
  'done',
] as const;
export type RequestState = (typeof REQUEST_STATES)[number];

/**
 * `refused`, or how far the request is: `accepted`, then `done`, or `stuck` where a role has given up. A request
 * that needs an admin is `waiting` first; it may end `rejected`.
 */
export function stateOf({ verdict, doneAt, stuckAt, approval, access }: RequestView): RequestState {
  if (verdict === 'refused') return 'refused';
  if (access?.state === 'open' || approval?.state === 'open') return 'waiting';
  if (access?.state === 'refused' || approval?.state === 'rejected') return 'rejected';
  if (doneAt !== null) return 'done';
  return stuckAt === null ? 'accepted' : 'stuck';
}

/** SQL: the columns of `request_progress`, as RequestView has them. */
export const REQUEST_COLUMNS = `number, id, portal, kind, requested_by AS "requestedBy", approved_by AS "approvedBy",
  account, accounts, verdict, code, sentence, at, done_at AS "doneAt", stuck_at AS "stuckAt", approval, access, result`;
const REQUEST = `SELECT ${REQUEST_COLUMNS} FROM request_progress`;

/** Reads the newest requests, the newest first. */
export async function readRequests(client: Client, limit: number): Promise<RequestView[]> {
  const { rows } = await client.query(`${REQUEST} ORDER BY number DESC LIMIT $1`, [limit]);
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
      ? `${REQUEST} WHERE number = $1::bigint`
      : `${PORTALS} ${REQUEST} WHERE portal IN (SELECT portal FROM portals) AND id = $1::uuid ORDER BY number`,
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
    text: `${REQUEST} WHERE portal = $1 AND id = $2::uuid`,
    values: [portal, jti],
  });
  return rows[0] as RequestView | undefined;
}

/** A request with a verdict, and the hash of what was asked: the same id may have come with other contents. */
export type Standing = Pick<
  RequestView,
  'portal' | 'id' | 'verdict' | 'code' | 'sentence' | 'doneAt' | 'approval' | 'result'
> & { bodySha256: Buffer };

/** Finds those of the requests that have a verdict. */
export async function findStandings(
  client: Client,
  requests: readonly { portal: string; id: string }[],
): Promise<Standing[]> {
  const { rows } = await client.query({
    name: 'find-standings',
    text: `SELECT r.portal, r.id, r.verdict, r.code, r.sentence, r.done_at AS "doneAt", r.approval, r.result,
                  r.body_sha256 AS "bodySha256"
           FROM unnest($1::text[], $2::uuid[]) AS w (portal, id)
           JOIN request_progress r ON r.portal = w.portal AND r.id = w.id`,
    values: [requests.map(({ portal }) => portal), requests.map(({ id }) => id)],
  });
  return rows as Standing[];
}

/** What has become of a request, for programs: its verdict, and whether it is applied everywhere. */
export interface Outcome {
  /** null: it has none yet */
  verdict: 'accepted' | 'refused' | null;
  done: boolean;
  /** an admin must approve it */
  waiting?: true;
  /** an admin has rejected it */
  rejected?: true;
  code?: string;
  sentence?: string;
  /** what a survey, or a repair, came to */
  data?: Record<string, unknown>;
}

/** `done` also ends when nobody can wait for more: a role has given up, or an admin must decide. */
export type Until = 'verdict' | 'done';

/** Whether that has come for which a caller waits: nothing more comes by itself. */
export function hasCome(outcome: Outcome, until: Until): boolean {
  const { verdict, done, waiting, rejected, code } = outcome;
  if (verdict === null) return false;
  const isStopped = waiting === true || rejected === true || code !== undefined;
  return until === 'verdict' || verdict === 'refused' || done || isStopped;
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
    text: `SELECT subject, account, role, applied, state, code, sentence FROM request_open_touches
           WHERE request = $1 ORDER BY subject, role`,
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
    text: 'SELECT role FROM request_applied_roles WHERE request = $1 ORDER BY role',
    values: [request],
  });
  return (rows as { role: Role }[]).map(({ role }) => role);
}
