/** The table `events`: what portals are told. Each portal's are numbered by the relay (src/events/deliveries.ts). */
import type { Client } from '../database/connection.ts';

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

/** What is told of a request when all that it touched is applied. */
export interface OnDone {
  event: string;
  /** portals that are told besides those whose configuration says so */
  portals: string[];
  data: Record<string, unknown>;
  /** where the request is about many subjects: an event of each, with these data besides */
  each?: { subject: number; data: Record<string, unknown> }[];
}

/** More events than these are written by statements of their own: each may take a few seconds at most. */
const MOST_EVENTS = 2000;

/** Writes events in the transaction that they report, those of one portal in the order given. */
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
