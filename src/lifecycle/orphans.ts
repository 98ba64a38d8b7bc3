/**
 * `tools.orphaned_at`: since when a tool has no maintainer who may log in, neither directly nor through other tools.
 *
 * | a tool that is                   | has such a maintainer | has none                   |
 * | -------------------------------- | --------------------- | -------------------------- |
 * | active, disabled                 | not orphaned          | orphaned, an event is sent |
 * | to be deleted, archived, deleted | not orphaned          | not orphaned               |
 * | enabled again, or restored       | not orphaned          | orphaned, an event is sent |
 */
import type { Client } from '../database/connection.ts';

/**
 * `WITH RECURSIVE kept (tool)`: the tools that have a maintainer who may log in, at this moment. The query starts from
 * the people. It uses UNION, not UNION ALL, so that a cycle of tools ends. A maintainer reaches other tools through a
 * tool only while that tool is active.
 */
export const KEPT = `
  WITH RECURSIVE kept (tool) AS (
    SELECT m.tool FROM maintainers m JOIN people p ON p.uid = m.maintainer AND p.state = 'active'
      JOIN realm_members r ON r.person = p.uid
    UNION
    SELECT m.tool FROM kept k JOIN tools t ON t.uid = k.tool AND t.state = 'active'
      JOIN maintainers m ON m.maintainer = k.tool
  )`;

/** A tool that became orphaned, or no longer is. */
export interface OrphanChange {
  uid: number;
  account: string;
  tool: string;
  orphaned: boolean;
}

/** Whether a tool is to be deleted, is deleted, or is being restored. Such a tool needs no new maintainer. */
const IS_LEAVING = `(t.state IN ('archived', 'deleted') OR t.delete_after IS NOT NULL)`;

// MATERIALIZED, so that PostgreSQL computes all rows with a hash. With only a LIMIT it would compare every tool with
// every other, which takes seconds for 10,000 tools, and requests wait for it.
const OTHERWISE = `, otherwise AS MATERIALIZED (
    SELECT t.uid FROM tools t LEFT JOIN kept k ON k.tool = t.uid
    WHERE (t.orphaned_at IS NOT NULL) <> (k.tool IS NULL AND NOT ${IS_LEAVING}))`;

/** Updates `orphaned_at` of some tools where it is out of date, and returns those. */
export async function keepOrphans(
  client: Pick<Client, 'query'>,
  now: Date,
  most: number,
): Promise<OrphanChange[]> {
  const { rows } = await client.query({
    name: 'keep-orphans',
    text: `${KEPT}${OTHERWISE}, changed AS (SELECT uid FROM otherwise ORDER BY uid LIMIT $2)
           UPDATE tools t SET orphaned_at = CASE WHEN t.orphaned_at IS NULL THEN $1::timestamptz END
           FROM changed WHERE t.uid = changed.uid
           RETURNING t.uid, t.account, t.name AS tool, t.orphaned_at IS NOT NULL AS orphaned`,
    values: [now, most],
  });
  return (rows as OrphanChange[]).toSorted((a, b) => a.uid - b.uid);
}

/**
 * Marks the orphaned ones among new tools, in the transaction that creates them. So they are not touched afterwards,
 * and no event reports a tool that was orphaned from the beginning.
 */
export async function markNewOrphans(
  client: Pick<Client, 'query'>,
  tools: readonly number[],
): Promise<void> {
  await client.query(
    `${KEPT} UPDATE tools t SET orphaned_at = now()
     WHERE uid = ANY ($1) AND uid NOT IN (SELECT tool FROM kept) AND NOT ${IS_LEAVING}`,
    [tools],
  );
}

/** Whether `orphaned_at` is out of date for any tool. Changes nothing. */
export async function areOrphansOtherwise(client: Pick<Client, 'query'>): Promise<boolean> {
  const { rowCount } = await client.query({
    name: 'are-orphans-otherwise',
    text: `${KEPT}${OTHERWISE} SELECT FROM otherwise LIMIT 1`,
  });
  return rowCount !== 0;
}
