/** What the relay does to our tables: leases and readiness. */
import type { Role } from './wanted.ts';
import { adminOfPortal } from '../shared/config.ts';
import { type NewEvent, type OnDone, writeEvents } from '../events/events-table.ts';
import { type Client, inTransaction, type Pool } from '../database/connection.ts';
import { isArchiving, ROLES, sqlList } from '../roles/index.ts';

/**
 * How long a job may be unheard of before its subject is enqueued again: a job that was lost is made
 * up for within 5 s, one that takes longer is doubled, and the double finds the lock taken.
 */
const LEASE_SECONDS = 4;

export interface Due {
  subject: number;
  role: Role;
  urgent: boolean;
  /** it failed before, and might spoil a job for others */
  failing: boolean;
  /** it may take hours: what the subject has is archived or restored */
  slow: boolean;
}

/**
 * Due rows fall into classes. Each class has room of its own in Redis, by role:
 *
 * | class                   | room | first  | why                                                         |
 * | ----------------------- | ---- | ------ | ----------------------------------------------------------- |
 * | takes access away       | 8    | newest | more would leave the servers no time for others. A person   |
 * |                         |      |        | who is suspended alone does not wait behind many. A row     |
 * |                         |      |        | whose lease ran out comes after rows that had none          |
 * | the same, failed before | 64   | oldest | it does not delay rows that were not tried yet              |
 * | the same, given up      | 4    | oldest | once a minute, as its cause may be gone; `request.stuck` was |
 * |                         |      |        | sent. Not what an admin ignores                             |
 * | any other               | 64   | oldest | urgent rows never wait long for it                          |
 * | may take hours          | 2    | oldest | one is worked on, and the next is ready                     |
 *
 * In the first class, a row takes up room for two seconds only: one of several servers that hangs does not keep access to
 * the others open. A row whose lease ran out may do that again, so it counts as failing from then on, and has a job of its
 * own.
 *
 * (Measured, 500 people suspended at once on two cores: without a bound everything was done in 3.3 s, and a new tool took
 * 473 ms instead of 62 meanwhile; with room for 16 in 4.0 s and 239 ms, for 8 in 3.9 s and 144 ms.)
 */
const CLASSES = [
  {
    which: `urgent AND state <> 'failing'`,
    slow: false,
    room: 8,
    heldSeconds: 2,
    first: 'leased_until IS NOT NULL, next_try_at DESC',
  },
  {
    which: `urgent AND state = 'failing'`,
    slow: false,
    room: 64,
    heldSeconds: LEASE_SECONDS,
    first: 'next_try_at',
  },
  {
    which: `urgent AND state = 'parked' AND ignored_until IS NULL`,
    givenUp: true,
    slow: false,
    room: 4,
    heldSeconds: LEASE_SECONDS,
    first: 'next_try_at',
  },
  { which: 'NOT urgent', slow: false, room: 64, heldSeconds: LEASE_SECONDS, first: 'next_try_at' },
  { which: 'true', slow: true, room: 2, heldSeconds: LEASE_SECONDS, first: 'next_try_at' },
];

/** How often what was given up is tried. `next_try_at` of such a row is the time at which it was given up. */
const GIVEN_UP_SECONDS = 60;

/** Of a row of `convergence`: its role may be at it for hours, to put something away. */
const ARCHIVES = `role NOT IN (${sqlList(ROLES.filter((role) => !isArchiving(role)))})`;

const LEASE = `
  WITH due AS (
    ${CLASSES.map(({ which, givenUp = false, slow, room, heldSeconds, first }) => {
      const isIt = `role = r.role AND ${which} ${givenUp ? '' : `AND state <> 'parked'`} AND ${slow ? '' : 'NOT'} (${ARCHIVES}
        AND subject IN (SELECT d.subject FROM archivals d WHERE d.back_at IS NULL))`;
      return `
    SELECT c.subject, c.role, c.lost, ${slow} AS slow FROM unnest($1::text[]) AS r (role), LATERAL (
      SELECT * FROM (
        SELECT subject, role, leased_until IS NOT NULL AS lost FROM convergence
        WHERE (SELECT frozen_at IS NULL FROM frozen) AND ${isIt}
          AND applied < wanted AND next_try_at <= now() - interval '${givenUp ? GIVEN_UP_SECONDS : 0} s'
          AND (leased_until IS NULL OR leased_until < now())
        ORDER BY ${first}
        LIMIT greatest(0, ${room} - (
          SELECT count(*) FROM convergence
          WHERE leased_until > now() + interval '${LEASE_SECONDS - heldSeconds} s' AND ${isIt}))
        FOR UPDATE SKIP LOCKED) AS those
      LIMIT ${room} -- else thousands are expected, and every row of the table is read to find these few
    ) AS c`;
    }).join(' UNION ALL ')}
  )
  UPDATE convergence c SET leased_until = now() + interval '${LEASE_SECONDS} s'
  FROM due WHERE c.subject = due.subject AND c.role = due.role
  RETURNING c.subject, c.role, c.urgent, c.state IN ('failing', 'parked') OR due.lost AS failing, due.slow`;

/** Leases what is due; nothing while the realm is frozen. The lease is the deduplication: nothing else keeps a job from being doubled. */
export async function leaseDue(pool: Pool, roles: readonly Role[]): Promise<Due[]> {
  const { rows } = await pool.query({ name: 'lease', text: LEASE, values: [roles] });
  return rows as Due[];
}

/**
 * The subjects that wait for a role to archive or restore what they have. That may take hours, and a server that could not
 * be reached may be back before.
 */
export async function readSlow(
  pool: Pool,
  roles: readonly Role[],
): Promise<{ subject: number; role: Role }[]> {
  const { rows } = await pool.query({
    name: 'slow',
    text: `SELECT subject, role FROM archivals JOIN convergence w USING (subject)
           WHERE back_at IS NULL AND role = ANY ($1) AND ${ARCHIVES}
             AND applied < wanted AND w.state <> 'parked'
           ORDER BY w.next_try_at LIMIT ${MOST_SLOW}`,
    values: [roles],
  });
  return rows as { subject: number; role: Role }[];
}
/** The access of so many is looked at in one go. */
const MOST_SLOW = 128;

/** Gives leases back: the jobs never came into the queue. A row that is just being written keeps its lease to the end. */
export async function releaseLeases(pool: Pool, due: readonly Due[]): Promise<void> {
  await pool.query(
    `WITH given AS (
       SELECT c.subject, c.role FROM convergence c
         JOIN unnest($1::int[], $2::text[]) AS d (subject, role) USING (subject, role)
       FOR UPDATE OF c SKIP LOCKED)
     UPDATE convergence c SET leased_until = NULL FROM given
     WHERE c.subject = given.subject AND c.role = given.role`,
    [due.map((each) => each.subject), due.map((each) => each.role)],
  );
}

/** Gives every lease back, but of rows that are just being written: nobody knows what Redis holds. */
export async function releaseAllLeases(pool: Pool): Promise<void> {
  await pool.query(
    `WITH leased AS (
       SELECT subject, role FROM convergence WHERE leased_until IS NOT NULL
       FOR UPDATE SKIP LOCKED)
     UPDATE convergence c SET leased_until = NULL FROM leased
     WHERE c.subject = leased.subject AND c.role = leased.role`,
  );
}

// Along the index, so that it costs no more where much is behind: the first row of each role that is
// due and not leased, and the first that will be.
const OUTLOOK = `
  SELECT bool_or(left_over.found) AS left, extract(epoch FROM min(later.at) - now()) * 1000 AS ms
  FROM unnest($1::text[]) AS r (role) CROSS JOIN unnest('{true,false}'::bool[]) AS u (urgent)
  LEFT JOIN LATERAL (
    SELECT true AS found FROM convergence c
    WHERE c.role = r.role AND c.urgent = u.urgent AND applied < wanted AND state <> 'parked'
      AND next_try_at <= now() AND (leased_until IS NULL OR leased_until < now())
    ORDER BY next_try_at LIMIT 1) AS left_over ON true
  LEFT JOIN LATERAL (
    SELECT next_try_at AS at FROM convergence c
    WHERE c.role = r.role AND c.urgent = u.urgent AND applied < wanted AND state <> 'parked'
      AND next_try_at > now()
    ORDER BY next_try_at LIMIT 1) AS later ON true`;

/** Whether rows are due for which there was no room, and in how many milliseconds the next will be. */
export async function readOutlook(
  pool: Pool,
  roles: readonly Role[],
): Promise<{ left: boolean; nextInMs: number | undefined }> {
  const { rows } = await pool.query({ name: 'outlook', text: OUTLOOK, values: [roles] });
  const { left, ms } = rows[0] as { left: boolean | null; ms: string | null };
  return {
    left: left ?? false,
    nextInMs: ms === null ? undefined : Math.max(1, Math.ceil(Number(ms))),
  };
}

/** A request that is done, and what to tell of it. */
export interface DoneRequest {
  /** undefined where no portal sent it */
  portal: string | undefined;
  jti: string | undefined;
  kind: string;
  subject: number | undefined;
  onDone: OnDone;
}

/** How long a request that somebody sent took, from its verdict until it was done. */
export interface SettledRequest {
  kind: string;
  seconds: number;
}

/**
 * Derives readiness for these subjects (undefined: for all): forgets the touches that are applied,
 * and tells of the requests that are done, and of those that are stuck. What is lost in a crash is derived
 * again: nobody is told before the numbers of the events are on the disk.
 *
 * @returns the requests that are done
 */
export async function settle(
  pool: Pool,
  eventsOf: (done: DoneRequest) => NewEvent[],
  subjects: readonly number[] | undefined,
): Promise<SettledRequest[]> {
  return inTransaction(pool, async (client) => {
    const [{ told, done }, stuck] = await Promise.all([
      settleDone(client, eventsOf, subjects),
      settleStuck(client, subjects),
    ]);
    const events = [...told, ...stuck];
    if (events.length > 0) await writeEvents(client, events);
    return done;
  });
}

/** Of these subjects, or of all: two statements, since one for both finds them by no index. */
const touchesOf = (subjects: readonly number[] | undefined) =>
  subjects === undefined ? '' : 'AND r.subject = ANY ($1::int[])';

async function settleDone(
  client: Client,
  eventsOf: (done: DoneRequest) => NewEvent[],
  subjects: readonly number[] | undefined,
): Promise<{ told: NewEvent[]; done: SettledRequest[] }> {
  const applied = await client.query({
    name: subjects === undefined ? 'settle-all-touches' : 'settle-touches',
    text: `DELETE FROM request_touches r USING convergence c
           WHERE c.subject = r.subject AND c.role = r.role AND c.applied >= r.generation
             ${touchesOf(subjects)} RETURNING r.request`,
    values: subjects === undefined ? [] : [subjects],
  });
  if (applied.rows.length === 0) return { told: [], done: [] };
  const requests = [...new Set(applied.rows.map((row: { request: string }) => row.request))];
  const done = await client.query({
    name: 'settle-requests',
    // what was to be told may hold what a person wrote: it is not kept here; and what is erased at this
    // moment is waited for, and not told
    text: `UPDATE requests q SET done_at = now(), on_done = NULL FROM (
             SELECT id, on_done FROM requests WHERE id = ANY ($1) AND done_at IS NULL
               AND NOT EXISTS (SELECT FROM request_touches r WHERE r.request = requests.id)
             ORDER BY id FOR NO KEY UPDATE) old
           WHERE q.id = old.id
           RETURNING q.portal, q.jti, q.kind, q.subject, old.on_done,
             extract(epoch FROM q.done_at - q.at)::float8 AS seconds`,
    values: [requests],
  });
  const rows = done.rows as DoneRow[];
  return {
    // a move of the calendar is nobody's request
    done: rows.flatMap(({ portal, kind, seconds }) => (portal === null ? [] : [{ kind, seconds }])),
    told: rows.flatMap((row) =>
      row.on_done === null
        ? []
        : eventsOf({
            portal: row.portal ?? undefined,
            jti: row.jti ?? undefined,
            kind: row.kind,
            subject: row.subject ?? undefined,
            onDone: row.on_done,
          }),
    ),
  };
}

async function settleStuck(
  client: Client,
  subjects: readonly number[] | undefined,
): Promise<NewEvent[]> {
  const stuck = await client.query({
    name: subjects === undefined ? 'settle-all-stuck' : 'settle-stuck',
    text: `UPDATE requests q SET stuck_at = now() FROM (
             SELECT q.id, c.code, c.sentence, c.role FROM requests q
               JOIN request_touches r ON r.request = q.id
               JOIN convergence c ON c.subject = r.subject AND c.role = r.role
             WHERE q.done_at IS NULL AND q.stuck_at IS NULL AND c.state = 'parked' ${touchesOf(subjects)}
             ORDER BY q.id FOR NO KEY UPDATE OF q) old
           WHERE q.id = old.id
           RETURNING q.portal, q.jti, q.kind, q.subject, old.code, old.sentence, old.role`,
    values: subjects === undefined ? [] : [subjects],
  });
  return (stuck.rows as StuckRow[])
    .filter(({ portal }) => portal !== null && adminOfPortal(portal) === undefined)
    .map((row) => ({
      portal: row.portal ?? undefined,
      event: 'request.stuck',
      subject: row.subject ?? undefined,
      request: row.jti ?? undefined,
      code: row.code,
      data: { kind: row.kind, role: row.role, sentence: row.sentence },
    }));
}

interface DoneRow {
  portal: string | null;
  jti: string | null;
  kind: string;
  subject: number | null;
  /** null: nothing is told, as of most moves of the calendar */
  on_done: OnDone | null;
  seconds: number;
}
interface StuckRow {
  portal: string | null;
  jti: string | null;
  kind: string;
  subject: number | null;
  code: string;
  sentence: string;
  role: string;
}
