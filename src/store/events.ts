/** The table `events`: what portals are told, numbered per portal in the order of commits. */
import type { Client } from './postgres.ts';

/** An event to be written. `portal` undefined: kept for admins, nobody can be told. */
export interface NewEvent {
  portal: string | undefined;
  event: string;
  subject: number | undefined;
  /** jti of the request that it comes from */
  request: string | undefined;
  code?: string | undefined;
  data: Record<string, unknown>;
}

/** What is told of a request when all that it raised is applied. */
export interface OnDone {
  event: string;
  /** portals that are told besides those whose configuration says so */
  portals: string[];
  data: Record<string, unknown>;
  /** where the request is about many subjects: an event of each, with these data besides */
  each?: { subject: number; data: Record<string, unknown> }[];
}

/** Writes events in the transaction that they report: all of it at once, for it locks portals in one order. */
export async function writeEvents(client: Client, events: readonly NewEvent[]): Promise<void> {
  if (events.length === 0) return;
  await client.query({
    name: 'write-events',
    // Rows of one portal in the order given; portals in one order, for their locks. All numbers of a
    // portal at once: one by one, each waits for those before it to be passed over, 5 s of 30,000.
    text: `WITH told AS MATERIALIZED (
             SELECT portal, event, subject, request, code, data, n FROM
               ROWS FROM (jsonb_to_recordset($1::jsonb)
                 AS (portal text, event text, subject int, request uuid, code text, data jsonb))
               WITH ORDINALITY AS e (portal, event, subject, request, code, data, n)
           ), counted AS (
             SELECT portal, count(*) AS count FROM told WHERE portal IS NOT NULL GROUP BY portal
           ), numbers AS (
             INSERT INTO event_sequences AS s (portal, last)
             SELECT portal, count FROM counted ORDER BY portal
             ON CONFLICT (portal) DO UPDATE SET last = s.last + excluded.last RETURNING portal, last
           )
           INSERT INTO events (portal, seq, event, subject, request, code, data)
           SELECT portal, last - count + row_number() OVER (PARTITION BY portal ORDER BY n),
                  event, subject, request, code, data
           FROM told LEFT JOIN counted USING (portal) LEFT JOIN numbers USING (portal)
           ORDER BY portal, n`,
    values: [JSON.stringify(events)],
  });
}
