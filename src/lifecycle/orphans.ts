/**
 * `tools.orphaned_at`: since when nobody who may log in maintains a tool, directly or through other tools.
 *
 * | a tool that is                   | kept by somebody | kept by nobody            |
 * | -------------------------------- | ---------------- | ------------------------- |
 * | active, disabled                 | no orphan        | an orphan, and it is told |
 * | to be deleted, archived, deleted | no orphan        | no orphan                 |
 * | enabled again, or brought back   | no orphan        | an orphan, and it is told |
 */
import type { Client } from '../database/connection.ts';

/**
 * `WITH RECURSIVE kept (tool)`: the tools that somebody who may log in maintains, as it is at this moment.
 * Down from the people: UNION, not UNION ALL, so that a cycle of tools ends. A tool passes its maintainers
 * on only while it can be used.
 */
export const KEPT = `
  WITH RECURSIVE kept (tool) AS (
    SELECT m.tool FROM maintainers m JOIN people p ON p.uid = m.maintainer AND p.state = 'active'
      JOIN realm_members r ON r.person = p.uid
    UNION
    SELECT m.tool FROM kept k JOIN tools t ON t.uid = k.tool AND t.state = 'active'
      JOIN maintainers m ON m.maintainer = k.tool
  )`;

/** A tool that has become an orphan, or is one no more. */
export interface OrphanChange {
  uid: number;
  account: string;
  tool: string;
  orphaned: boolean;
}

/** Whether a tool is to be deleted, or is so, or comes back from it: nobody is to be found for it. */
const IS_LEAVING = `(t.state IN ('archived', 'deleted') OR t.delete_after IS NOT NULL)`;

// Made whole, by a hash: for the first few of them alone PostgreSQL would compare every tool with every
// other, which takes seconds among 10,000, and requests wait for it.
const OTHERWISE = `, otherwise AS MATERIALIZED (
    SELECT t.uid FROM tools t LEFT JOIN kept k ON k.tool = t.uid
    WHERE (t.orphaned_at IS NOT NULL) <> (k.tool IS NULL AND NOT ${IS_LEAVING}))`;

/** Brings it up to date for some of the tools of which it is otherwise, and returns those. */
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
 * Marks those that are orphans among tools that are new, in the transaction that makes them: so nothing is
 * touched for it afterwards, and nobody is told of what never was otherwise.
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

/** Whether there is any tool of which it is otherwise: looks, and changes nothing. */
export async function areOrphansOtherwise(client: Pick<Client, 'query'>): Promise<boolean> {
  const { rowCount } = await client.query({
    name: 'are-orphans-otherwise',
    text: `${KEPT}${OTHERWISE} SELECT FROM otherwise LIMIT 1`,
  });
  return rowCount !== 0;
}
