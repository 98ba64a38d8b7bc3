/** The table `access_requests`: people who wait for an admin's decision on access. */
import type { Client } from '../database/connection.ts';

/** Opens a request for access. Returns false if one is open already. */
export async function openAccessRequest(
  client: Client,
  person: number,
  reason: string,
  portal: string | undefined,
): Promise<boolean> {
  const { rowCount } = await client.query(
    `INSERT INTO access_requests (person, reason, portal) VALUES ($1, $2, $3)
     ON CONFLICT (person) WHERE state = 'open' DO NOTHING`,
    [person, reason, portal],
  );
  return rowCount !== 0;
}

/** Decides an open request and returns it. Returns undefined if none is open. */
export async function decideAccessRequest(
  client: Client,
  person: number,
  state: 'granted' | 'refused',
  decidedBy: string,
  reason: string,
): Promise<{ portal: string | undefined } | undefined> {
  const { rows } = await client.query(
    `UPDATE access_requests SET state = $2, decided_at = now(), decided_by = $3, decision_reason = $4
     WHERE person = $1 AND state = 'open' RETURNING portal`,
    [person, state, decidedBy, reason],
  );
  const row = rows[0] as { portal: string | null } | undefined;
  return row === undefined ? undefined : { portal: row.portal ?? undefined };
}

/** How many people wait for an admin's decision on access. */
export async function countOpenAccessRequests(client: Pick<Client, 'query'>): Promise<number> {
  const { rows } = await client.query(
    `SELECT count(*)::int AS count FROM access_requests WHERE state = 'open'`,
  );
  return (rows[0] as { count: number }).count;
}
