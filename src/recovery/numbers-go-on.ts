/**
 * Numbers of events and seals after our database lost some. They continue above all that portals and login hosts have
 * seen.
 */
import type { Client } from '../database/connection.ts';

/**
 * SQL: where events and seals continue: at the milliseconds since 1970, or at the last number plus a million if that is
 * more. No realm has more than one of either in each millisecond, so no recovery, from whatever backup, uses a number
 * twice.
 */
const GO_ON = (last: string) =>
  `greatest(${last} + 1000000, (extract(epoch FROM clock_timestamp()) * 1000)::bigint)`;

/** The last number of a portal's events, before and after. */
export interface PortalNumbers {
  portal: string;
  from: number;
  to: number;
}

/**
 * Moves the event numbers on. A portal without a row may have had events after the backup, so each portal gets a row.
 */
export async function goOnWithEvents(
  client: Client,
  portals: readonly string[],
): Promise<PortalNumbers[]> {
  const { rows } = await client.query(
    `WITH was AS (
       SELECT p.portal, coalesce(s.last, 0) AS last FROM (
         SELECT unnest($1::text[]) UNION SELECT portal FROM event_sequences) AS p (portal)
         LEFT JOIN event_sequences s USING (portal)),
     touched AS (
       INSERT INTO event_sequences AS s (portal, last)
       SELECT portal, ${GO_ON('last')} FROM was ORDER BY portal
       ON CONFLICT (portal) DO UPDATE SET last = excluded.last RETURNING portal, last)
     SELECT portal, was.last AS "from", touched.last AS "to" FROM touched JOIN was USING (portal) ORDER BY portal`,
    [portals],
  );
  return (rows as { portal: string; from: string; to: string }[]).map(({ portal, from, to }) => ({
    ...{ portal, from: Number(from), to: Number(to) },
  }));
}

/**
 * Moves the seal numbers on, because a login host accepts no lower number than it has seen. The seals of these
 * subjects, by default of all, are signed again. Nothing else is touched.
 */
export async function goOnWithSeals(client: Client, subjects?: readonly number[]): Promise<void> {
  const { rows } = await client.query(
    `UPDATE login_seals SET number = ${GO_ON('number')}
     WHERE $1::int[] IS NULL OR subject = ANY ($1) RETURNING subject, until < 'infinity' AS lives`,
    [subjects ?? null],
  );
  const living = (rows as { subject: number; lives: boolean }[]).filter(({ lives }) => lives);
  await client.query('SELECT touch_seals($1)', [
    living.map(({ subject }) => subject).toSorted((a, b) => a - b),
  ]);
}
