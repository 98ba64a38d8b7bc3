/** What our tables say about suspended, leaving and deleted subjects, for people to read. Read only. */
import { nextMove } from './leaving.ts';
import type { LeavingPage } from './leaving-page.ts';
import { IS_APPROVED_ERASURE } from '../requests/approvals-table.ts';
import { ERASED_AT, ARCHIVED_AT } from './calendar-queries.ts';
import { KEPT } from './orphans.ts';
import type { Client } from '../database/connection.ts';
import { readBehindOf, type RoleStatus } from '../database/overview.ts';
import { ARCHIVING_ROLES, sqlList } from '../roles/index.ts';

// Each role that makes an archive has its line, even if it has not begun.
const ARCHIVALS = `
  SELECT coalesce(jsonb_agg(jsonb_build_object(
      'archival', d.archival, 'beganAt', d.began_at, 'leftAt', d.left_at, 'keepUntil', d.keep_until,
      'expiredAt', d.expired_at, 'returningAt', d.returning_at, 'backAt', d.back_at, 'erasure', d.erasure,
      'archives', (
        SELECT jsonb_agg(jsonb_build_object('role', r.role,
          'made', CASE WHEN a.role IS NOT NULL THEN jsonb_build_object('at', a.made_at, 'path', a.path,
            'bytes', a.bytes, 'manifestSha256', a.manifest_sha256) END,
          'progress', CASE WHEN p.role IS NOT NULL THEN jsonb_build_object('act', p.act,
            'done', p.done, 'total', p.total, 'at', p.at) END) ORDER BY r.role DESC)
        FROM unnest(ARRAY[${sqlList(ARCHIVING_ROLES)}]) AS r (role)
          LEFT JOIN archives a ON a.subject = d.subject AND a.archival = d.archival AND a.role = r.role
          LEFT JOIN archive_progress p ON p.subject = d.subject AND p.role = r.role AND d.back_at IS NULL)
    ) ORDER BY d.archival), '[]')
  FROM archivals d WHERE d.subject = s.uid`;

const WAITING = `
  SELECT coalesce(jsonb_agg(jsonb_build_object('request', w.request, 'kind', w.kind,
      'requestedBy', w.requested_by, 'at', w.opened_at, 'why', w.why) ORDER BY w.opened_at), '[]')
  FROM approvals w WHERE w.subject = s.uid AND w.state = 'open'`;

// an approval from before access was closed belongs to an earlier suspension
const APPROVED = `
  SELECT jsonb_build_object('kind', w.kind, 'requestedBy', w.requested_by, 'by', w.decided_by,
      'at', w.decided_at)
  FROM approvals w
  WHERE w.subject = s.uid AND w.state = 'approved' AND w.decided_at >= s.closed_at AND s.state <> 'active'
  ORDER BY w.decided_at DESC LIMIT 1`;

const ERASING = `
  SELECT jsonb_build_object('at', ${ERASED_AT}, 'request', request) FROM approvals
  WHERE approvals.subject = s.uid AND ${IS_APPROVED_ERASURE('approvals')} AND s.state = 'suspended'
  ORDER BY decided_at DESC LIMIT 1`;

const HOLD = `
  SELECT jsonb_build_object('by', h.held_by, 'at', h.held_at, 'reason', h.reason, 'until', h.until)
  FROM holds h WHERE h.subject = s.uid AND h.until > now()`;

// the day on which the subject will really be archived
const AWAY_ON = `CASE WHEN delete_after IS NOT NULL THEN ${ARCHIVED_AT('now()')} END`;

const LEAVING = `
  SELECT s.*, (${ARCHIVALS}) AS archivals, (${WAITING}) AS waiting, (${APPROVED}) AS approved,
         (${HOLD}) AS hold, (${ERASING}) AS erasing
  FROM (
    SELECT uid, 'person' AS kind, shell_name AS account, state, suspended_at AS closed_at,
           suspended_by AS closed_by, suspension_reason AS reason, suspended_until AS until,
           ${AWAY_ON} AS delete_after, NULL::timestamptz AS orphaned_at
    FROM people WHERE uid = ANY ($1)
    UNION ALL
    SELECT uid, 'tool', account, state, disabled_at, disabled_by, disabled_reason, NULL,
           ${AWAY_ON}, orphaned_at
    FROM tools WHERE uid = ANY ($1)
  ) s`;

interface LeavingRow {
  uid: number;
  kind: 'person' | 'tool';
  account: string;
  state: string;
  closed_at: Date | null;
  closed_by: string | null;
  reason: string | null;
  until: Date | null;
  delete_after: Date | null;
  orphaned_at: Date | null;
  archivals: LeavingPage['archivals'];
  waiting: LeavingPage['waiting'];
  approved: LeavingPage['approved'];
  hold: LeavingPage['hold'];
  erasing: LeavingPage['erasing'];
}

/** A subject, and how it leaves. */
export interface Leaver {
  uid: number;
  kind: 'person' | 'tool';
  account: string;
  state: string;
  leaving: LeavingPage;
}

/** Reads how these subjects leave, in the given order. Subjects that do not leave are included. */
export async function readLeaving(client: Client, uids: readonly number[]): Promise<Leaver[]> {
  const { rows } = await client.query(LEAVING, [uids]);
  const leavers = new Map((rows as LeavingRow[]).map((row) => [row.uid, toLeaver(row)]));
  return uids.flatMap((uid) => leavers.get(uid) ?? []);
}

function toLeaver(row: LeavingRow): Leaver {
  const { uid, kind, account, state, closed_by, reason, hold, erasing } = row;
  const closedAt = row.closed_at?.toISOString() ?? null;
  const facts: Omit<LeavingPage, 'next'> = {
    hold: hold === null ? null : { ...hold, at: isoOf(hold.at), until: isoOf(hold.until) },
    closed:
      state === 'active' || closedAt === null
        ? null
        : { at: closedAt, by: closed_by, reason, until: row.until?.toISOString() ?? null },
    deleteAfter: row.delete_after?.toISOString() ?? null,
    erasing: erasing === null ? null : { ...erasing, at: isoOf(erasing.at) },
    orphanedAt: row.orphaned_at?.toISOString() ?? null,
    waiting: row.waiting.map((each) => ({ ...each, at: isoOf(each.at) })),
    approved: row.approved === null ? null : { ...row.approved, at: isoOf(row.approved.at) },
    archivals: row.archivals.map(toArchival),
  };
  const next = nextMove({ kind, account, state, ...facts });
  return { uid, kind, account, state, leaving: { ...facts, next } };
}

function toArchival(row: LeavingPage['archivals'][number]): LeavingPage['archivals'][number] {
  return {
    archival: row.archival,
    beganAt: isoOf(row.beganAt),
    leftAt: isoOrNull(row.leftAt),
    keepUntil: isoOrNull(row.keepUntil),
    expiredAt: isoOrNull(row.expiredAt),
    returningAt: isoOrNull(row.returningAt),
    backAt: isoOrNull(row.backAt),
    erasure: row.erasure,
    archives: row.archives.map(({ role, made, progress }) => ({
      role,
      made: made === null ? null : { ...made, at: isoOf(made.at) },
      progress: progress === null ? null : { ...progress, at: isoOf(progress.at) },
    })),
  };
}

/** Times in PostgreSQL's JSON have another format. */
function isoOf(text: string): string {
  return new Date(text).toISOString();
}

function isoOrNull(text: string | null): string | null {
  return text === null ? null : isoOf(text);
}

/** How many people or tools are in a state, and for how many of them this ends on a date. */
interface StateTotal {
  kind: 'person' | 'tool';
  state: string;
  subjects: number;
  /** how many are reinstated or archived automatically on a date */
  dated: number;
  /** how many of these are archived, and then deleted */
  toDelete: number;
}

/** Counts the subjects in every state except active. */
async function readStateTotals(client: Client): Promise<StateTotal[]> {
  const { rows } = await client.query(
    `SELECT 'person' AS kind, state, count(*)::int AS subjects,
            count(coalesce(delete_after, suspended_until))::int AS dated,
            count(delete_after)::int AS "toDelete"
     FROM people WHERE state <> 'active' GROUP BY state
     UNION ALL
     SELECT 'tool', state, count(*)::int, count(delete_after)::int, count(delete_after)::int
     FROM tools WHERE state <> 'active' GROUP BY state ORDER BY 1, 2`,
  );
  return rows as StateTotal[];
}

/**
 * Reads the subjects that change next: first those that are being archived or restored, then by date, then those whose
 * access is not yet closed or that still have something to be removed.
 */
async function readMovers(
  client: Client,
  limit: number,
): Promise<{ movers: Leaver[]; count: number }> {
  const { rows } = await client.query(
    `SELECT uid, count(*) OVER ()::int AS count FROM (
       SELECT uid, state, coalesce((SELECT max(${ERASED_AT}) FROM approvals WHERE approvals.subject = uid
           AND ${IS_APPROVED_ERASURE('approvals')} AND people.state = 'suspended'), ${AWAY_ON}, suspended_until) AS at FROM people WHERE state <> 'active'
       UNION ALL SELECT uid, state, ${AWAY_ON} FROM tools WHERE state <> 'active') s
     WHERE state = 'archived' OR (state <> 'deleted' AND at IS NOT NULL)
       OR EXISTS (SELECT FROM convergence c WHERE c.subject = uid AND c.applied < c.wanted)
     ORDER BY state = 'archived' DESC, CASE WHEN state <> 'deleted' THEN at END NULLS LAST, uid
     LIMIT $1`,
    [limit],
  );
  const found = rows as { uid: number; count: number }[];
  const uids = found.map(({ uid }) => uid);
  return { movers: await readLeaving(client, uids), count: found[0]?.count ?? 0 };
}

/** Reads the holds, the one that ends first at the top. */
async function readHeld(
  client: Client,
): Promise<{ account: string; state: string; by: string; reason: string; until: Date }[]> {
  const { rows } = await client.query(
    `SELECT coalesce(t.account, p.shell_name) AS account, coalesce(t.state, p.state) AS state,
            h.held_by AS by, h.reason, h.until
     FROM holds h LEFT JOIN people p ON p.uid = h.subject LEFT JOIN tools t ON t.uid = h.subject
     WHERE h.until > now() ORDER BY h.until, account`,
  );
  return rows as { account: string; state: string; by: string; reason: string; until: Date }[];
}

/** A tool that has no maintainer who may log in. */
export interface Orphan {
  account: string;
  name: string;
  title: string;
  state: string;
  since: Date;
  /** the maintainers, each with the reason why they may not log in */
  maintainers: string[];
}

// `orphaned_at` is updated a moment after a change. A tool that is leaving needs no new maintainer
const IS_ADOPTABLE = `(orphaned_at IS NOT NULL AND state IN ('active', 'disabled') AND delete_after IS NULL
  AND uid NOT IN (SELECT tool FROM kept))`;

/** Reads the orphaned tools that can get a new maintainer, those orphaned longest first. */
export async function readOrphans(client: Client): Promise<Orphan[]> {
  const { rows } = await client.query(
    `${KEPT} SELECT t.account, t.name, t.title, t.state, t.orphaned_at AS since,
       ARRAY(SELECT coalesce(o.account, p.shell_name) || ' (' || CASE
               WHEN coalesce(o.state, p.state) <> 'active' THEN coalesce(o.state, p.state)
               WHEN o.uid IS NULL THEN 'not a realm member' ELSE 'orphaned' END || ')'
             FROM maintainers m
               LEFT JOIN people p ON p.uid = m.maintainer LEFT JOIN tools o ON o.uid = m.maintainer
             WHERE m.tool = t.uid ORDER BY 1) AS maintainers
     FROM tools t WHERE ${IS_ADOPTABLE}
     ORDER BY t.orphaned_at, t.account`,
  );
  return rows as Orphan[];
}

/** Counts the orphaned tools that can get a new maintainer. */
async function countOrphans(client: Client): Promise<number> {
  const { rows } = await client.query(
    `${KEPT} SELECT count(*)::int AS count FROM tools WHERE ${IS_ADOPTABLE}`,
  );
  return (rows[0] as { count: number }).count;
}

/** How many movers are read; the totals count all of them. */
const MOST_MOVERS = 100;

export interface LeavingOverview {
  totals: StateTotal[];
  /** who moves next, or is not finished: the first few of `count` */
  movers: Leaver[];
  count: number;
  /** what a role has not done yet for these, such as work on an unreachable server */
  owed: RoleStatus[];
  /** tools without a maintainer who may log in */
  orphaned: number;
  /** who may not be archived, deleted or erased until a given day */
  held: Awaited<ReturnType<typeof readHeld>>;
}

export async function readLeavingOverview(client: Client): Promise<LeavingOverview> {
  const { movers, count } = await readMovers(client, MOST_MOVERS);
  return {
    totals: await readStateTotals(client),
    movers,
    count,
    owed: await readBehindOf(
      client,
      movers.map(({ uid }) => uid),
    ),
    orphaned: await countOrphans(client),
    held: await readHeld(client),
  };
}
