/** The table `junk`: counts of invalid jobs, which are not requests of the portal that owns the queue. */
import type { Client } from '../database/connection.ts';

/** Adds to the counts of each portal, by the code that says what was wrong. */
export async function addJunk(
  client: Pick<Client, 'query'>,
  junk: readonly { portal: string; code: string; count: number }[],
): Promise<void> {
  await client.query(
    `INSERT INTO junk AS j (portal, code, count)
     SELECT portal, code, count FROM unnest($1::text[], $2::text[], $3::bigint[]) AS n (portal, code, count)
     ORDER BY portal, code
     ON CONFLICT (portal, code) DO UPDATE SET count = j.count + excluded.count, last_at = now()`,
    [
      junk.map(({ portal }) => portal),
      junk.map(({ code }) => code),
      junk.map(({ count }) => count),
    ],
  );
}

/** The count of invalid jobs of one portal with one code. */
export interface JunkCount {
  portal: string;
  code: string;
  count: number;
  firstAt: Date;
  lastAt: Date;
}

/** Invalid jobs that arrived no longer ago than this need attention. */
const RECENT_JUNK_MS = 3600_000;

export function isRecent({ lastAt }: JunkCount, now: Date): boolean {
  return now.getTime() - lastAt.getTime() < RECENT_JUNK_MS;
}

/** Reads all counts, the most recent first. */
export async function readJunk(client: Pick<Client, 'query'>): Promise<JunkCount[]> {
  const { rows } = await client.query(
    `SELECT portal, code, count::float8, first_at AS "firstAt", last_at AS "lastAt" FROM junk
     ORDER BY last_at DESC, portal, code`,
  );
  return rows as JunkCount[];
}
