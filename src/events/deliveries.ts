/** The numbers of events for portals, and how far each portal has got with its events. */
import { inTransaction, type Pool } from '../database/connection.ts';

/** What has happened to a request since its verdict, for a program that follows it without our database. */
export interface RequestNews {
  portal: string;
  /** the id that the portal gave it */
  request: string;
  event: 'request.waiting' | 'request.rejected' | 'request.stuck' | 'request.done';
  code?: string | null;
  /** as in the event */
  data: { why?: string; by?: string; role?: string; sentence?: string; reason?: string };
}

/** The most events that are numbered at once. */
export const MOST_NUMBERED = 5000;

/**
 * Numbers the oldest 5,000 events that have no number yet. Each portal's numbers go on after its last one. Returns how
 * many events were numbered. Events that become visible at the same time are numbered in the order in which they were
 * written. Transactions lock a subject's rows one after another, so the events of one subject are in the order in which
 * things happened.
 *
 * The numbers are on disk before any event is sent, because a number must never come to mean another event.
 *
 * @param publishNews receives news about requests from these events, the latest last, but not from events older than an
 *   hour
 */
export async function numberEvents(
  pool: Pool,
  publishNews: (news: RequestNews[]) => void = () => {},
): Promise<number> {
  const { numbered, news } = await inTransaction(
    pool,
    async (client) => {
      const { rows } = await client.query({
        name: 'number-events',
        text: `WITH unnumbered AS MATERIALIZED (
                 SELECT row_id, portal, row_number() OVER (PARTITION BY portal ORDER BY row_id) AS n
                 FROM (SELECT row_id, portal FROM events WHERE seq IS NULL AND portal IS NOT NULL
                       ORDER BY row_id LIMIT ${MOST_NUMBERED}) AS oldest
               ), numbers AS (
                 INSERT INTO event_sequences AS s (portal, last)
                 SELECT portal, count(*) FROM unnumbered GROUP BY portal ORDER BY portal
                 ON CONFLICT (portal) DO UPDATE SET last = s.last + excluded.last
                 RETURNING portal, last - (SELECT count(*) FROM unnumbered u WHERE u.portal = s.portal) AS before
               ), numbered AS (
                 UPDATE events e SET seq = before + n FROM unnumbered JOIN numbers USING (portal)
                 WHERE e.row_id = unnumbered.row_id AND e.seq IS NULL
                   -- it may have become another portal's since; written so that no index of portals is used for it
                   AND e.portal IS NOT DISTINCT FROM unnumbered.portal
                 RETURNING e.portal, e.request, e.event, e.code, e.data, e.seq, e.at
               )
               SELECT count(*)::int AS numbered,
                 coalesce(jsonb_agg(jsonb_build_object('portal', portal, 'request', request, 'event', event,
                     'code', code, 'data', data) ORDER BY seq)
                   FILTER (WHERE request IS NOT NULL AND at > now() - interval '1 hour' AND event IN
                     ('request.waiting', 'request.rejected', 'request.stuck', 'request.done')), '[]') AS news
               FROM numbered`,
      });
      return rows[0] as { numbered: number; news: RequestNews[] };
    },
    { durable: true },
  );
  if (news.length > 0) publishNews(news);
  return numbered;
}

/** How far a portal has got with its events. */
export interface Delivery {
  portal: string;
  /** the last number that was assigned */
  last: number;
  /** the portal has confirmed every event up to this one */
  completed: number;
  /** the job in the portal's queue; null: there is none */
  job: string | null;
  /** the last event in that job */
  sent: number;
  /** since when the portal has confirmed nothing although there are events; null: it has all events */
  since: Date | null;
  /** why it confirms nothing, as far as the relay knows */
  wrong: string | null;
}

export async function readDeliveries(pool: Pool): Promise<Delivery[]> {
  const { rows } = await pool.query({
    name: 'deliveries',
    text: `SELECT s.portal, s.last, coalesce(d.completed, 0) AS completed, d.job, coalesce(d.sent, 0) AS sent,
             d.since, d.wrong
           FROM event_sequences s LEFT JOIN event_deliveries d USING (portal) ORDER BY s.portal`,
  });
  return (rows as (Omit<Delivery, 'last' | 'completed' | 'sent'> & Record<string, string>)[]).map(
    (row) => ({
      ...row,
      last: Number(row.last),
      completed: Number(row.completed),
      sent: Number(row.sent),
    }),
  );
}

export async function writeDelivery(
  pool: Pool,
  { portal, completed, job, sent, since, wrong }: Delivery,
): Promise<void> {
  await pool.query({
    name: 'write-delivery',
    text: `INSERT INTO event_deliveries (portal, completed, job, sent, since, wrong)
           VALUES ($1, $2, $3, $4, $5, $6)
           ON CONFLICT (portal) DO UPDATE SET completed = excluded.completed, job = excluded.job,
             sent = excluded.sent, since = excluded.since, wrong = excluded.wrong`,
    values: [portal, completed, job, sent, since, wrong],
  });
}

/** An event in the form in which a portal receives it. */
type PortalEvent = Record<string, unknown> & { seq: number };

/** What comes next for a portal. */
export interface NextEvents {
  /** in order */
  events: PortalEvent[];
  /** events after `after` were removed past their retention time, up to and including this number */
  removed: number | undefined;
}

/** Reads a portal's next events after that number, within the bounds, but at least one if there is any. */
export async function readEvents(
  pool: Pool,
  portal: string,
  after: number,
  { most, mostBytes }: { most: number; mostBytes: number },
): Promise<NextEvents> {
  const { rows } = await pool.query({
    name: 'read-events',
    // LEFT JOIN: if there is no event, one row still gives `removed`, from the same snapshot
    text: `SELECT d.removed, measured.event FROM (
             SELECT coalesce(max(removed), 0) AS removed FROM event_deliveries WHERE portal = $1
           ) AS d LEFT JOIN (
             SELECT seq, event, sum(length(event::text)) OVER (ORDER BY seq) AS length FROM (
               SELECT seq, jsonb_strip_nulls(jsonb_build_object('seq', seq, 'id', id, 'at', at, 'event', event,
                   'subject', subject, 'request', request, 'code', code))
                 || jsonb_build_object('data', data) AS event
               FROM events WHERE portal = $1 AND seq > $2 ORDER BY seq LIMIT $3) AS next
             ) AS measured
             ON length <= $4 OR seq = (SELECT min(seq) FROM events WHERE portal = $1 AND seq > $2)
           ORDER BY seq`,
    values: [portal, after, most, mostBytes],
  });
  const read = rows as { removed: string; event: PortalEvent | null }[];
  const events = read.flatMap(({ event }) => event ?? []);
  const removed = Math.min(Number(read[0]?.removed), (events[0]?.seq ?? Infinity) - 1);
  return { events, removed: removed > after ? removed : undefined };
}

/** The numbers, by portal, of erased events whose original text may still be in a portal's queue. */
export async function readErasures(pool: Pool): Promise<Map<string, number[]>> {
  const { rows } = await pool.query({
    name: 'read-erasures',
    text: 'SELECT portal, array_agg(seq::float8) AS seqs FROM event_erasures GROUP BY portal',
  });
  return new Map(
    (rows as { portal: string; seqs: number[] }[]).map((row) => [row.portal, row.seqs]),
  );
}

/** Records that these erased events are no longer in the portal's queue. */
export async function forgetErasures(
  pool: Pool,
  portal: string,
  seqs: readonly number[],
): Promise<void> {
  await pool.query('DELETE FROM event_erasures WHERE portal = $1 AND seq = ANY ($2::bigint[])', [
    portal,
    seqs,
  ]);
}
