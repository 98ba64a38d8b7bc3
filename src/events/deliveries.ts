/** How portals' events get their numbers, and how far each portal has got with them. */
import type { RequestNews } from '../requests/request-news.ts';
import { inTransaction, type Pool } from '../database/connection.ts';

/** Most events that are numbered in one go. */
export const MOST_NUMBERED = 5000;

/**
 * Numbers the events that have no number yet, those of each portal from its last number on, the oldest 5,000, and
 * says how many it has numbered. What is seen at the same time is numbered in the order in which it was written, so that of
 * one subject, whose rows transactions lock one after another, it is the order in which things happened.
 *
 * On the disk before anybody is told: a number must never come to mean another event.
 *
 * @param tell is given what they say of requests, the latest last; not of events that are older than an hour
 */
export async function numberEvents(
  pool: Pool,
  tell: (news: RequestNews[]) => void = () => {},
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
  if (news.length > 0) tell(news);
  return numbered;
}

/** How far a portal has got with its events. */
export interface Delivery {
  portal: string;
  /** the last number that was given */
  last: number;
  /** the portal has every event up to this one, and has said so */
  completed: number;
  /** the job that lies in its queue; null: there is none */
  job: string | null;
  /** the last event in that job */
  sent: number;
  /** since when it has taken nothing although there was something; null: it has everything */
  since: Date | null;
  /** why it does not take them, as far as the relay knows */
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

/** An event as a portal is told it. */
type PortalEvent = Record<string, unknown> & { seq: number };

/** What comes next for a portal. */
export interface NextEvents {
  /** in order */
  events: PortalEvent[];
  /** between the number that it has and the first of these, events were removed after their time: up to this one */
  removed: number | undefined;
}

/** The next events of a portal after that number; at least one where there is one, else within the bounds. */
export async function readEvents(
  pool: Pool,
  portal: string,
  after: number,
  { most, mostBytes }: { most: number; mostBytes: number },
): Promise<NextEvents> {
  const { rows } = await pool.query({
    name: 'read-events',
    // a row without an event where there is none, so that what was removed is of the same snapshot
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

/** Events that were erased and may lie in a portal's queue as they were, by portal: their numbers. */
export async function readErasures(pool: Pool): Promise<Map<string, number[]>> {
  const { rows } = await pool.query({
    name: 'read-erasures',
    text: 'SELECT portal, array_agg(seq::float8) AS seqs FROM event_erasures GROUP BY portal',
  });
  return new Map(
    (rows as { portal: string; seqs: number[] }[]).map((row) => [row.portal, row.seqs]),
  );
}

/** They lie in the portal's queue no more. */
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
