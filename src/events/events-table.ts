/** The table `events`: the events for portals. The relay numbers each portal's events (src/events/deliveries.ts). */
import type { Client } from '../database/connection.ts';

/** An event to be written. Without `portal` it is only kept for admins. */
export interface NewEvent {
  portal: string | undefined;
  event: string;
  subject: number | undefined;
  /** the jti of the request that caused it */
  request: string | undefined;
  code?: string | undefined;
  data: Record<string, unknown>;
}

/** The event about a request that is sent when everything that it touched is applied. */
export interface OnDone {
  event: string;
  /** a portal that receives it too, besides the sender and those with `subjectEvents` in the configuration */
  alsoTo?: string | undefined;
  data: Record<string, unknown>;
  /** if the request is about several subjects: one event for each, with these additional data */
  each?: { subject: number; data: Record<string, unknown> }[];
}

/** The most events in one statement, because a statement may take only a few seconds. */
const MOST_EVENTS = 2000;

/** Writes events in the transaction that they report. One portal's events keep their order. */
export async function writeEvents(
  client: Pick<Client, 'query'>,
  events: readonly NewEvent[],
): Promise<void> {
  for (let from = 0; from < events.length; from += MOST_EVENTS) {
    await client.query({
      name: 'write-events',
      text: `INSERT INTO events (portal, event, subject, request, code, data)
             SELECT portal, event, subject, request, code, data FROM
               ROWS FROM (jsonb_to_recordset($1::jsonb)
                 AS (portal text, event text, subject int, request uuid, code text, data jsonb))
               WITH ORDINALITY AS e (portal, event, subject, request, code, data, n)
             ORDER BY n`,
      values: [JSON.stringify(events.slice(from, from + MOST_EVENTS))],
    });
  }
}

/** The most events that are handed to another portal at once: a statement may take only a few seconds. */
export const MOST_HANDED_OVER = 5000;

/** Counts the events that a portal has not confirmed, up to one more than `MOST_HANDED_OVER`. */
export async function countUnconfirmed(client: Client, portal: string): Promise<number> {
  const { rows } = await client.query(
    `SELECT count(*)::int AS n FROM (
       SELECT FROM events WHERE portal = $1 AND seq >
         (SELECT coalesce(max(completed), 0) FROM event_deliveries WHERE portal = $1)
       UNION ALL SELECT FROM events WHERE portal = $1 AND seq IS NULL LIMIT $2 + 1) AS few`,
    [portal, MOST_HANDED_OVER],
  );
  return (rows[0] as { n: number }).n;
}

/** Makes the events that a portal has not confirmed those of another portal, the oldest first. Returns how many. */
export async function handOverEvents(client: Client, of: string, to: string): Promise<number> {
  const { rows } = await client.query('SELECT hand_over_events($1, $2, $3) AS n', [
    ...[of, to, MOST_HANDED_OVER],
  ]);
  return (rows[0] as { n: number }).n;
}
