/** What an admin's command line reads: read only, over several tables, as the PostgreSQL role `admin`. */
import { ChamberlainError, codeOf, isNotMigrated } from '../shared/errors.ts';
import type { Role } from '../reconcile/wanted.ts';
import { KEY_END } from '../ssh-keys/keys-table.ts';
import { type Client, nameOfServer, type Pool, sqlState, withClient } from './connection.ts';

/**
 * Runs `act` on a connection. Throws BACKEND_UNAVAILABLE if the server cannot be reached, CONFIG_INVALID if the
 * database lacks our tables.
 */
export async function look<T>(pool: Pool, act: (client: Client) => Promise<T>): Promise<T> {
  try {
    return await withClient(pool, act);
  } catch (cause) {
    if (codeOf(cause) !== 'INTERNAL') throw cause;
    if (isNotMigrated(cause)) {
      throw new ChamberlainError('CONFIG_INVALID', 'the database is not migrated', { cause });
    }
    const state = sqlState(cause);
    // no answer at all; or an answer that the server is shutting down (class 57) or is full (53)
    const away = state === undefined || /^(08|53|57)/u.test(state);
    const code = away ? 'BACKEND_UNAVAILABLE' : 'INTERNAL';
    throw new ChamberlainError(code, `reading ${nameOfServer(pool.options)}`, { cause });
  }
}

export type ConvergenceState = 'due' | 'applied' | 'waiting' | 'failing' | 'parked';

/** SQL: whether a row is parked for nothing but findings that an admin ignores. `c`: the row. */
export const IS_IGNORED = `(c.state = 'parked' AND coalesce(c.ignored_until > now(), false))`;

/** How many subjects have which status in a role. */
export interface RoleTotal {
  role: Role;
  /** `ignored`: parked for nothing but findings that an admin ignores */
  state: ConvergenceState | 'ignored';
  subjects: number;
}

export async function readRoleTotals(client: Pick<Client, 'query'>): Promise<RoleTotal[]> {
  const { rows } = await client.query(
    `SELECT c.role, s.state, count(*)::int AS subjects FROM convergence c,
       LATERAL (SELECT CASE WHEN ${IS_IGNORED} THEN 'ignored' ELSE c.state END AS state) AS s
     GROUP BY c.role, s.state ORDER BY c.role, s.state`,
  );
  return rows as RoleTotal[];
}

/** The status of a subject in a role. */
export interface RoleStatus {
  subject: number;
  account: string;
  role: Role;
  wanted: string;
  applied: string;
  state: ConvergenceState;
  code: string | null;
  sentence: string | null;
  attempts: number;
  nextTryAt: Date;
  since: Date;
}

const ROLE_STATUS = `
  SELECT c.subject, coalesce(t.account, p.shell_name, c.subject::text) AS account, c.role,
         c.wanted, c.applied, c.state, c.code, c.sentence, c.attempts,
         c.next_try_at AS "nextTryAt", c.since
  FROM convergence c LEFT JOIN people p ON p.uid = c.subject LEFT JOIN tools t ON t.uid = c.subject`;

/**
 * The rows that are not as wanted, or so many of them: failing or parked ones first, then the oldest. Without those that
 * are parked for nothing but what an admin ignores.
 */
export async function readBehind(client: Client, limit?: number): Promise<RoleStatus[]> {
  const { rows } = await client.query(
    `${ROLE_STATUS} WHERE c.applied < c.wanted AND NOT ${IS_IGNORED}
     ORDER BY c.state IN ('failing', 'parked') DESC, c.since, c.subject, c.role LIMIT $1`,
    [limit ?? null],
  );
  return rows as RoleStatus[];
}

/** The rows of these subjects that are not as wanted. */
export async function readBehindOf(client: Client, uids: readonly number[]): Promise<RoleStatus[]> {
  const { rows } = await client.query(
    `${ROLE_STATUS} WHERE c.subject = ANY ($1) AND c.applied < c.wanted ORDER BY c.subject, c.role`,
    [uids],
  );
  return rows as RoleStatus[];
}

export async function readRoleStatuses(client: Client, subject: number): Promise<RoleStatus[]> {
  const { rows } = await client.query(`${ROLE_STATUS} WHERE c.subject = $1 ORDER BY c.role`, [
    subject,
  ]);
  return rows as RoleStatus[];
}

/**
 * The number of the accepted request that has waited longest for everything that it touched. Whatever is not
 * applied is in `request_touches`, so this costs the same however many requests there were.
 */
export const OLDEST_UNDONE = '(SELECT min(request) FROM request_touches)';

/** A request that is not done after so long needs attention. */
export const OLDEST_REQUEST_SECONDS = 600;

/** The accepted request that has waited longest for everything that it touched. */
export interface OldestRequest {
  id: string | null;
  portal: string | null;
  kind: string | null;
  at: Date;
}

export function isTooOld({ at }: OldestRequest, now: Date): boolean {
  return now.getTime() - at.getTime() >= OLDEST_REQUEST_SECONDS * 1000;
}

export async function readOldestRequest(
  client: Pick<Client, 'query'>,
): Promise<OldestRequest | undefined> {
  const { rows } = await client.query(
    `SELECT jti AS id, portal, kind, at FROM requests WHERE id = ${OLDEST_UNDONE}`,
  );
  return rows[0] as OldestRequest | undefined;
}

/** Outstanding events of a portal are counted up to this number; one more means that there are more. */
export const MOST_OUTSTANDING = 10_000;

/** A portal that has taken no event for so long is not listening. */
const DEAF_MS = 600_000;

/** Events of a portal: the last number given, and how many of them the portal does not have yet. */
export interface PortalEvents {
  portal: string;
  last: string;
  outstanding: string;
  /** since when it has accepted nothing although there was something; null if it has everything */
  since: Date | null;
  /** what is wrong with its answers */
  wrong: string | null;
}

/**
 * Events are counted, not their numbers, because a recovery skips a million numbers. They are counted in order,
 * because otherwise PostgreSQL would look through all of them for ten thousand.
 */
export async function readPortalEvents(client: Pick<Client, 'query'>): Promise<PortalEvents[]> {
  const { rows } = await client.query(
    `SELECT portal, last,
       (SELECT count(*) FROM (SELECT FROM events e
          WHERE e.portal = s.portal AND e.seq > coalesce(d.completed, 0) ORDER BY e.seq LIMIT $1 + 1) AS o) AS outstanding,
       d.since, d.wrong
     FROM event_sequences s LEFT JOIN event_deliveries d USING (portal) ORDER BY portal`,
    [MOST_OUTSTANDING],
  );
  return rows as PortalEvents[];
}

/** Whether a portal takes no events: `since` is that of `PortalEvents`. */
export function isDeaf(since: Date | null, now: Date): since is Date {
  return since !== null && now.getTime() - since.getTime() >= DEAF_MS;
}

/** Whether a portal, or somebody who runs one, must look at why it does not take its events. */
export function needsAttention(
  { portal, outstanding, since, wrong }: PortalEvents,
  listed: ReadonlySet<string>,
  now: Date,
): boolean {
  if (outstanding === '0') return false;
  return isDeaf(since, now) || wrong !== null || !listed.has(portal);
}

/** A person or a tool that a word on the command line may mean. */
export interface Found {
  uid: number;
  kind: 'person' | 'tool';
  account: string;
}

/**
 * Finds subjects by uid, shell name, tool account or tool name. A person and a tool may share a word; then both
 * are returned.
 */
export async function findSubjectsByWord(client: Client, word: string): Promise<Found[]> {
  const uid = /^[1-9][0-9]{0,9}$/u.test(word) ? Number(word) : 0;
  const { rows } = await client.query(
    `SELECT uid, 'person' AS kind, shell_name AS account FROM people
       WHERE shell_name = $1 OR uid = $2::bigint
     UNION ALL
     SELECT uid, 'tool', account FROM tools WHERE account = $1 OR name = $1 OR uid = $2::bigint`,
    [word, uid],
  );
  return rows as Found[];
}

/** Names that a mistyped word may mean: those that begin with it, or have about the same length. */
export async function readNamesLike(client: Client, word: string): Promise<string[]> {
  const { rows } = await client.query(
    `SELECT name FROM (SELECT shell_name AS name FROM people
       UNION SELECT CASE WHEN position('.' IN $1) > 0 THEN account ELSE name END FROM tools) names
     WHERE starts_with(name, $1) OR length(name) BETWEEN length($1) - 2 AND length($1) + 2
     ORDER BY name`,
    [word],
  );
  return (rows as { name: string }[]).map(({ name }) => name);
}

/** What is wanted of a person or a tool, for people to read. */
export interface SubjectView {
  uid: number;
  kind: 'person' | 'tool';
  account: string;
  state: string;
  createdAt: Date;
  /** of a tool */
  title?: string;
  maintainers?: string[];
  /** of a person */
  displayName?: string | null;
  email?: string | null;
  mailVerifiedAt?: Date | null;
  realmMember?: boolean;
  maintains?: string[];
  keys?: { fingerprint: string; label: string; expiresAt: string | null }[];
  credentials: { wantedEpoch: number } | null;
}

export async function readSubject(client: Client, subject: Found): Promise<SubjectView> {
  const { rows } = await client.query(
    subject.kind === 'tool'
      ? `SELECT t.uid, 'tool' AS kind, t.account, t.state, t.created_at AS "createdAt", t.title,
           ARRAY(SELECT coalesce(o.account, p.shell_name) FROM maintainers m
                 LEFT JOIN people p ON p.uid = m.maintainer LEFT JOIN tools o ON o.uid = m.maintainer
                 WHERE m.tool = t.uid ORDER BY 1) AS maintainers,
           (SELECT json_build_object('wantedEpoch', wanted_epoch) FROM credentials
            WHERE account = t.uid AND t.state <> 'deleted') AS credentials
         FROM tools t WHERE t.uid = $1`
      : `SELECT p.uid, 'person' AS kind, p.shell_name AS account, p.state,
           p.created_at AS "createdAt", p.display_name AS "displayName", p.email,
           p.mail_verified_at AS "mailVerifiedAt",
           EXISTS (SELECT FROM realm_members r WHERE r.person = p.uid) AS "realmMember",
           ARRAY(SELECT t.account FROM maintainers m JOIN tools t ON t.uid = m.tool
                 WHERE m.maintainer = p.uid ORDER BY 1) AS maintains,
           (SELECT coalesce(json_agg(json_build_object('fingerprint', fingerprint, 'label', label,
              'expiresAt', ${KEY_END}) ORDER BY id), '[]') FROM ssh_keys k
            WHERE person = p.uid AND removed_at IS NULL) AS keys,
           (SELECT json_build_object('wantedEpoch', wanted_epoch) FROM credentials
            WHERE account = p.uid AND p.state <> 'deleted') AS credentials
         FROM people p WHERE p.uid = $1`,
    [subject.uid],
  );
  return rows[0] as SubjectView;
}

/** A request that waits for an admin's approval. */
export interface WaitingRequest {
  /** our own number */
  number: string;
  /** its id, by which it is approved or rejected */
  id: string;
  /** the same id, under the name that `request.approve` gives it */
  request: string;
  kind: string;
  /** the subject, or the portal that it is about */
  account: string;
  requestedBy: string;
  portal: string;
  since: Date;
  /** why it waits */
  why: string;
  /** why it was sent */
  reason: string | null;
}

/** The oldest first. */
export async function readWaitingRequests(client: Client): Promise<WaitingRequest[]> {
  const { rows } = await client.query(
    `SELECT r.id AS number, w.request AS id, w.request, w.kind,
            coalesce(nullif(w.about, ''), t.account, p.shell_name, w.subject::text) AS account,
            w.requested_by AS "requestedBy", w.portal, w.opened_at AS since, w.why,
            w.body->>'reason' AS reason
     FROM approvals w JOIN requests r ON r.portal = w.portal AND r.jti = w.request
       LEFT JOIN people p ON p.uid = w.subject LEFT JOIN tools t ON t.uid = w.subject
     WHERE w.state = 'open' ORDER BY w.opened_at, w.request`,
  );
  return rows as WaitingRequest[];
}

/** A request for access that waits for an admin. */
export interface OpenAccessRequest {
  person: string;
  displayName: string;
  reason: string;
  portal: string | null;
  since: Date;
}

export async function readOpenAccessRequests(client: Client): Promise<OpenAccessRequest[]> {
  const { rows } = await client.query(
    `SELECT p.shell_name AS person, p.display_name AS "displayName", a.reason, a.portal,
            a.opened_at AS since
     FROM access_requests a JOIN people p ON p.uid = a.person
     WHERE a.state = 'open' ORDER BY a.opened_at`,
  );
  return rows as OpenAccessRequest[];
}
