/** Reads pages of requests that have a verdict. */
import type { Client } from '../database/connection.ts';
import {
  REQUEST_COLUMNS,
  type RequestState,
  type RequestView,
} from '../requests/request-progress.ts';

/** SQL: what `stateOf` says. */
const STATE = `CASE
  WHEN r.verdict = 'refused' THEN 'refused'
  WHEN 'open' IN (r.access->>'state', r.approval->>'state') THEN 'waiting'
  WHEN r.access->>'state' = 'refused' OR r.approval->>'state' = 'rejected' THEN 'rejected'
  WHEN r.done_at IS NOT NULL THEN 'done'
  WHEN r.stuck_at IS NOT NULL THEN 'stuck'
  ELSE 'accepted' END`;

/** So many requests are looked at for one page, so that what is rare costs no more than a common one. */
const MOST_LOOKED_AT = 2000;

interface RequestsPage {
  /** undefined: of every portal */
  portal: string | undefined;
  state?: RequestState | undefined;
  /** a shell name */
  requestedBy?: string | undefined;
  /** our own number: only older ones */
  before: string | undefined;
  limit: number;
}

/**
 * The newest first. With a state or a person a page may be short, or empty, although there are more: `next` says where to go on, and
 * is undefined at the end.
 */
export async function readSentRequests(
  client: Client,
  { portal, state, requestedBy, before, limit }: RequestsPage,
): Promise<{ requests: RequestView[]; next: string | undefined }> {
  const most = state === undefined && requestedBy === undefined ? limit + 1 : MOST_LOOKED_AT;
  const { rows } = await client.query(
    `WITH looked AS MATERIALIZED (
       SELECT id AS sent FROM requests
       WHERE (portal = $1 OR $1::text IS NULL AND portal IS NOT NULL) AND ($2::bigint IS NULL OR id < $2)
       ORDER BY id DESC LIMIT $3
     )
     SELECT s.*, l.count, l.oldest FROM (SELECT count(*)::int AS count, min(sent) AS oldest FROM looked) AS l
     LEFT JOIN LATERAL (
       SELECT ${REQUEST_COLUMNS}
       FROM looked JOIN request_progress r ON r.number = sent
       WHERE ($4::text IS NULL OR ${STATE} = $4) AND ($6::text IS NULL OR r.requested_by = $6)
       ORDER BY r.number DESC LIMIT $5) AS s ON true ORDER BY s.number DESC`,
    [portal ?? null, before ?? null, most, state ?? null, limit + 1, requestedBy ?? null],
  );
  const found = rows as (RequestView & { number: string | null; count: number; oldest: string })[];
  const requests = found.filter((row) => row.number !== null).slice(0, limit);
  const [{ count, oldest } = { count: 0, oldest: undefined }] = found;
  if (found.length > limit) return { requests, next: requests.at(-1)?.number };
  return { requests, next: count === most ? oldest : undefined };
}
