/** The calendar's queries: which moves are due, and what the calendar waits for next. */
import { DAY_MS, timeOf } from '../shared/time.ts';
import { IS_APPROVED_ERASURE, IS_ERASING } from '../requests/approvals-table.ts';
import { RECOVERY } from './holds-table.ts';
import type { Client } from '../database/connection.ts';
import { ARCHIVING_ROLES, sqlList } from '../roles/index.ts';

type Reader = Pick<Client, 'query'>;

/** The moves of the calendar, each in the words of a message. src/lifecycle/calendar.ts says when each is due. */
const MOVES = {
  'person.reinstate': 'the reinstatement',
  'person.warn': 'the warning of the deletion',
  'person.archive': 'the archival',
  'person.delete': 'the deletion',
  'person.erase': 'the erasure',
  'person.restore': 'the end of the restoration',
  'person.expire': 'the removal of the archives',
  'tool.warn': 'the warning of the deletion',
  'tool.archive': 'the archival',
  'tool.delete': 'the deletion',
  'tool.restore': 'the end of the restoration',
  'tool.expire': 'the removal of the archives',
  'archives.expire': 'the removal of the archives',
  'overlaps.end': 'the end of previous database passwords',
  'credentials.again': 'the second new database password',
  'seals.renew': 'the renewal of seals',
} as const;

export type MoveName = keyof typeof MOVES;

/** A move that is due. */
export interface DueMove {
  move: MoveName;
  /** 0: the move has no single subject */
  subject: number;
  /** a shell name, or the account of a tool */
  account: string;
  /** the tool's name; null for a person */
  tool: string | null;
  /** since when the move is due; for a warning, when the subject is archived */
  at: Date;
  /** for a warning: the smallest number of days before that for which a warning is due */
  days: number | null;
}

/** How many days before archiving a warning is sent. */
const WARNING_DAYS = [30, 7, 1];

/**
 * SQL: when a subject that is to be deleted is archived: on its day, but not sooner than a day after the last warning.
 * If that warning was not sent yet, it is sent first, now at the earliest. A warning sent by a clock that went back
 * since does not count, because it named another day. Without a grace time (`days_warned` is 0) there is no wait.
 *
 * @param now an SQL expression; the result uses columns of `people` or `tools`
 */
export const ARCHIVED_AT = (now: string) => `CASE WHEN days_warned = 0 THEN delete_after ELSE
  greatest(delete_after, interval '24 hours' +
    CASE WHEN days_warned <= 1 AND ${IS_WARNED(now)} THEN warned_at ELSE ${now} END) END`;
const IS_WARNED = (now: string) => `warned_at <= ${now} + interval '24 hours'`;

/** SQL: when an approved erasure (a row of `approvals`) begins. It can be rejected until then, also after a hold. */
export const ERASED_AT = `(greatest(decided_at, (SELECT h.until FROM holds h WHERE h.subject = approvals.subject))
  + interval '24 hours')`;

/** How long archiving waits for the closing of access to be applied everywhere. */
const PATIENCE = `interval '1 minute'`;

// the renewal of a seal does not count, because it gives no access
const IS_APPLIED = (subject: string) => `NOT EXISTS (
  SELECT FROM convergence c WHERE c.subject = ${subject} AND c.applied < c.wanted AND c.targets IS NULL)`;
const ARCHIVING = sqlList(ARCHIVING_ROLES);
// all archives exist; each role has restored what it archived
const IS_ARCHIVED = `(SELECT count(*) FROM archives a
  WHERE a.subject = d.subject AND a.archival = d.archival) = ${ARCHIVING_ROLES.length}`;
const ARCHIVED_SINCE = `SELECT max(made_at) FROM archives a WHERE a.subject = d.subject AND a.archival = d.archival`;
const IS_BACK = `(SELECT count(*) FROM convergence c
  WHERE c.subject = d.subject AND c.role IN (${ARCHIVING}) AND c.applied = c.wanted) = ${ARCHIVING_ROLES.length}`;
// `next_try_at` of an applied row is the time at which it was applied
const BACK_SINCE = `SELECT max(next_try_at) FROM convergence c WHERE c.subject = d.subject AND c.role IN (${ARCHIVING})`;

// Subjects that are to be deleted. Each part uses a partial index, so the cost does not grow with the number of
// subjects.
const LEAVERS = `leavers AS (
  SELECT 'person' AS kind, uid, delete_after, days_warned, warned_at FROM people
  WHERE delete_after IS NOT NULL AND state = 'suspended' AND NOT ${IS_ERASING('uid')}
  UNION ALL
  SELECT 'tool', uid, delete_after, days_warned, warned_at FROM tools
  WHERE delete_after IS NOT NULL AND state = 'disabled')`;

const DUE = `
  WITH ${LEAVERS}
  SELECT m.move, m.subject, m.at, m.days, (SELECT t.name FROM tools t WHERE t.uid = m.subject) AS tool,
    coalesce((SELECT t.account FROM tools t WHERE t.uid = m.subject),
             (SELECT p.shell_name FROM people p WHERE p.uid = m.subject), '') AS account
  FROM (
    SELECT 'person.reinstate' AS move, uid AS subject, suspended_until AS at, NULL::int AS days FROM people
    WHERE suspended_until <= $1 AND state = 'suspended' AND delete_after IS NULL AND NOT ${IS_ERASING('uid')}
    UNION ALL
    SELECT kind || '.warn', uid, greatest(delete_after, $1 + interval '24 hours'), due.days FROM leavers, LATERAL (
      SELECT min(w.days) AS days FROM unnest($2::int[]) AS w (days)
      WHERE delete_after - make_interval(hours => 24 * w.days) <= $1) AS due
    WHERE due.days < CASE WHEN ${IS_WARNED('$1')} THEN days_warned ELSE due.days + 1 END
    UNION ALL
    SELECT kind || '.archive', uid, ${ARCHIVED_AT('$1::timestamptz')}, NULL FROM leavers
    WHERE delete_after <= $1 AND ${ARCHIVED_AT('$1::timestamptz')} <= $1
      AND (delete_after <= $1 - ${PATIENCE} OR ${IS_APPLIED('uid')})
    UNION ALL
    -- by the database's clock too, because its guard uses that
    SELECT 'person.erase', subject, ${ERASED_AT}, NULL FROM approvals JOIN people ON uid = subject
    WHERE ${IS_APPROVED_ERASURE('approvals')} AND people.state = 'suspended'
      AND ${ERASED_AT} <= least($1::timestamptz, now())
    UNION ALL
    SELECT CASE WHEN t.uid IS NULL THEN 'person.delete' ELSE 'tool.delete' END, d.subject, (${ARCHIVED_SINCE}), NULL
    FROM archivals d LEFT JOIN tools t ON t.uid = d.subject LEFT JOIN people p ON p.uid = d.subject
    WHERE d.back_at IS NULL AND d.left_at IS NULL AND d.returning_at IS NULL
      AND coalesce(t.state, p.state) = 'archived' AND ${IS_ARCHIVED}
    UNION ALL
    SELECT CASE WHEN t.uid IS NULL THEN 'person.restore' ELSE 'tool.restore' END, d.subject, (${BACK_SINCE}), NULL
    FROM archivals d LEFT JOIN tools t ON t.uid = d.subject LEFT JOIN people p ON p.uid = d.subject
    WHERE d.back_at IS NULL AND d.returning_at IS NOT NULL AND coalesce(t.state, p.state) = 'archived' AND ${IS_BACK}
    UNION ALL
    SELECT CASE WHEN t.uid IS NULL THEN 'person.expire' ELSE 'tool.expire' END, d.subject, d.keep_until, NULL
    FROM archivals d LEFT JOIN tools t ON t.uid = d.subject
    WHERE d.keep_until <= $1 AND d.expired_at IS NULL AND d.back_at IS NULL AND d.returning_at IS NULL
    UNION ALL
    SELECT 'archives.expire', subject, min(keep_until), NULL FROM archivals
    WHERE keep_until <= $1 AND expired_at IS NULL AND back_at IS NOT NULL GROUP BY subject
    UNION ALL
    (SELECT 'overlaps.end', 0, previous_until, NULL FROM database_verifiers
     WHERE previous_until <= $1 ORDER BY previous_until LIMIT 1)
    UNION ALL
    (SELECT 'credentials.again', account, again_at, NULL FROM credentials
     WHERE again_at <= $1 ORDER BY again_at LIMIT $4 + cardinality($3::text[]))
    UNION ALL
    (SELECT 'seals.renew', 0, renew_at, NULL FROM login_seals
     WHERE renew_at <= $1 AND renew_at < 'infinity' ORDER BY renew_at LIMIT 1)
  ) AS m
  WHERE m.move || ' ' || m.subject <> ALL ($3::text[]) AND ($5 OR m.move <> 'person.erase')
    -- a held subject is not archived, deleted or erased, and gets no warning, because the date may change
    AND NOT EXISTS (SELECT FROM holds h WHERE h.subject = m.subject AND h.until > $1
      AND (m.move ~ '[.](warn|archive|delete|erase|expire)$' OR m.move ~ '[.]restore$' AND h.held_by = '${RECOVERY}'))
  -- access is closed and opened first; seals are renewed last
  ORDER BY m.move = 'seals.renew', m.move NOT IN ('overlaps.end', 'credentials.again', 'person.reinstate', 'person.restore', 'tool.restore'), m.at, m.subject LIMIT $4`;

/**
 * Reads the moves that are due at that time, in the order in which they are to be made.
 *
 * @param except `<move> <subject>` of the moves that are left out
 * @param erasures false: erasures are left out too
 */
export async function readDueMoves(
  db: Reader,
  now: Date,
  {
    except,
    most,
    erasures = true,
  }: { except: readonly string[]; most: number; erasures?: boolean },
): Promise<DueMove[]> {
  const { rows } = await plannedOnce(db, () =>
    db.query({ name: 'due-moves', text: DUE, values: [now, WARNING_DAYS, except, most, erasures] }),
  );
  return rows as DueMove[];
}

/**
 * Has PostgreSQL plan these statements once for each connection. Planning them takes ten times as long as running
 * them, and the calendar looks every second. It uses intake's connection, whose other statements keep their own plans.
 */
async function plannedOnce<T>(db: Reader, act: () => Promise<T>): Promise<T> {
  await db.query('SET plan_cache_mode = force_generic_plan');
  try {
    return await act();
  } finally {
    await db.query('RESET plan_cache_mode');
  }
}

/** A move that is overdue. */
export interface OverdueMove {
  move: MoveName;
  /** '' if the move has no single subject */
  account: string;
  since: Date;
}

/** The calendar looks every second and tries a failed move again after a minute. */
const OVERDUE_MS = 120_000;
/** At most so many overdue moves are read. */
const MOST_OVERDUE = 100;

/** The moves that were due two minutes ago and are not made: intake fails at them, or is not running. */
export async function readOverdue(db: Reader, now: Date): Promise<OverdueMove[]> {
  const before = new Date(now.getTime() - OVERDUE_MS);
  const due = await readDueMoves(db, before, { except: [], most: MOST_OVERDUE });
  return due
    .map(({ move, account, at, days }) => {
      return { move, account, since: new Date(at.getTime() - (days ?? 0) * DAY_MS) };
    })
    .filter(({ since }) => since <= before);
}

/** `the reinstatement of alice, since 2026-11-25 10:00:00Z, and 2 more`. Empty if there is no move. */
export function describeOverdue([first, ...others]: readonly OverdueMove[]): string {
  if (first === undefined) return '';
  const { move, account, since } = first;
  const more = others.length > 0 ? `, and ${others.length} more` : '';
  return `${MOVES[move]}${account === '' ? '' : ` of ${account}`}, since ${timeOf(since)}${more}`;
}

const NEXT = `
  WITH ${LEAVERS}
  SELECT min(at) AS at FROM (
    SELECT min(suspended_until) AS at FROM people WHERE suspended_until > $1
    UNION ALL SELECT min(at) FROM (SELECT ${ARCHIVED_AT('$1::timestamptz')} AS at FROM leavers) AS away WHERE at > $1
    UNION ALL SELECT min(delete_after + ${PATIENCE}) FROM leavers WHERE delete_after > $1 - ${PATIENCE}
    UNION ALL SELECT min(delete_after - make_interval(hours => 24 * w.days))
      FROM leavers, unnest($2::int[]) AS w (days)
      WHERE delete_after - make_interval(hours => 24 * w.days) > $1
    UNION ALL SELECT min(at) FROM (SELECT ${ERASED_AT} AS at FROM approvals
      WHERE ${IS_APPROVED_ERASURE('approvals')}) AS erased WHERE at > $1
    UNION ALL SELECT min(until) FROM holds WHERE until > $1
    UNION ALL SELECT min(keep_until) FROM archivals WHERE keep_until > $1 AND expired_at IS NULL
    UNION ALL SELECT min(previous_until) FROM database_verifiers WHERE previous_until > $1
    UNION ALL SELECT min(again_at) FROM credentials WHERE again_at > $1
    UNION ALL SELECT min(renew_at) FROM login_seals WHERE renew_at > $1 AND renew_at < 'infinity'
  ) AS dates`;
// subjects that are to be archived, or are being archived or restored: the next move is due when a role is done
const AWAITED = `
  WITH ${LEAVERS}
  SELECT subject FROM archivals WHERE back_at IS NULL AND (left_at IS NULL OR returning_at IS NOT NULL)
  UNION SELECT uid FROM leavers WHERE delete_after <= $1`;

/** What comes next: the next date, and the subjects whose next move depends on a role. */
export interface Ahead {
  next: Date | undefined;
  awaited: number[];
}

export async function readAhead(db: Reader, now: Date): Promise<Ahead> {
  const [dates, awaited] = await plannedOnce(db, () =>
    Promise.all([
      db.query({ name: 'next-date', text: NEXT, values: [now, WARNING_DAYS] }),
      db.query({ name: 'awaited', text: AWAITED, values: [now] }),
    ]),
  );
  return {
    next: (dates.rows[0] as { at: Date | null }).at ?? undefined,
    awaited: awaited.rows.map(({ subject }: { subject: number }) => subject),
  };
}

/**
 * Removes previous verifiers whose time is over. The database touches the role `databases`. Returns the accounts.
 */
export async function endOverlaps(
  client: Reader,
  now: Date,
  most: number,
): Promise<{ subject: number; account: string }[]> {
  const { rows } = await client.query(
    `SELECT e AS subject, n.name AS account FROM end_overlaps($1, $2) AS e JOIN names n ON n.subject = e
     ORDER BY e`,
    [now, most],
  );
  return rows as { subject: number; account: string }[];
}

/**
 * Gives new numbers to seals after half of their lifetime, so that the directory role signs them again. Returns how
 * many.
 */
export async function renewSeals(client: Reader, now: Date, most: number): Promise<number> {
  const { rows } = await client.query(
    `WITH due AS MATERIALIZED (
       SELECT array_agg(subject) AS subjects FROM (
         SELECT subject FROM login_seals WHERE renew_at <= $1 AND renew_at < 'infinity' ORDER BY renew_at LIMIT $2) AS first)
     SELECT number_seals(subjects, false, $1), touch_seals(subjects), cardinality(subjects) AS count
     FROM due WHERE subjects IS NOT NULL`,
    [now, most],
  );
  return (rows as { count: number }[])[0]?.count ?? 0;
}

/** Records for how many days before archiving a subject was warned, and when. */
export async function noteWarned(
  client: Reader,
  subject: number,
  { days, now }: { days: number; now: Date },
): Promise<void> {
  for (const table of ['people', 'tools']) {
    await client.query(`UPDATE ${table} SET days_warned = $2, warned_at = $3 WHERE uid = $1`, [
      subject,
      days,
      now,
    ]);
  }
}
