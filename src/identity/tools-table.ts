/** The tables `tools` and `maintainers`. */
import type { PosixId } from './posix-id.ts';
import type { AccountName, ToolName } from './names.ts';
import type { Member } from '../reconcile/wanted.ts';
import { reasonsOf } from './people-table.ts';
import type { Client } from '../database/connection.ts';

/** A tool, as the rules need it. */
export interface Tool {
  uid: number;
  account: AccountName;
  state: 'active' | 'disabled' | 'archived' | 'deleted';
  /** set if a deletion was requested: when the tool is archived */
  deleteAfter: Date | null;
  /** whether the actor is a direct maintainer */
  maintained: boolean;
}

/** Finds a tool by its name, exact bytes. */
export async function findTool(
  client: Client,
  name: string,
  actor: number,
): Promise<Tool | undefined> {
  const { rows } = await client.query({
    name: 'find-tool',
    text: `SELECT t.uid, t.account, t.state, t.delete_after AS "deleteAfter",
                  EXISTS (SELECT FROM maintainers m WHERE m.tool = t.uid AND m.maintainer = $2) AS maintained
           FROM tools t WHERE t.name = $1`,
    values: [name, actor],
  });
  return rows[0] as Tool | undefined;
}

/** A tool that is to be inserted. */
export interface NewTool {
  uid: PosixId;
  name: ToolName;
  account: AccountName;
  title: string;
  maintainers: readonly number[];
}

/** Creates tools with their names, their maintainers and their requests for credentials, in one statement. */
export async function insertTools(client: Client, tools: readonly NewTool[]): Promise<void> {
  const maintainers = tools.flatMap((tool) =>
    tool.maintainers.map((maintainer) => ({ tool: tool.uid, maintainer })),
  );
  await client.query({
    name: 'insert-tools',
    text: `WITH new AS MATERIALIZED (
                  SELECT * FROM unnest($1::int[], $2::text[], $3::text[], $4::text[]) AS n (uid, name, account, title)),
                name AS (INSERT INTO names (name, subject) SELECT account, uid FROM new),
                tool AS (INSERT INTO tools (uid, name, account, title) SELECT uid, name, account, title FROM new),
                wish AS (INSERT INTO credentials (account) SELECT uid FROM new)
           INSERT INTO maintainers (tool, maintainer) SELECT * FROM unnest($5::int[], $6::int[])`,
    values: [
      tools.map(({ uid }) => uid),
      tools.map(({ name }) => name),
      tools.map(({ account }) => account),
      tools.map(({ title }) => title),
      maintainers.map(({ tool }) => tool),
      maintainers.map(({ maintainer }) => maintainer),
    ],
  });
}

export async function updateToolTitle(
  client: Client,
  uid: number,
  title: string,
): Promise<boolean> {
  const { rowCount } = await client.query(
    'UPDATE tools SET title = $2 WHERE uid = $1 AND title <> $2',
    [uid, title],
  );
  return rowCount !== 0;
}

/** The maintainers of a tool, by uid. */
export async function readMaintainers(client: Client, tool: number): Promise<Set<number>> {
  const { rows } = await client.query('SELECT maintainer FROM maintainers WHERE tool = $1', [tool]);
  return new Set(rows.map((row: { maintainer: number }) => row.maintainer));
}

export async function addMaintainers(
  client: Client,
  tool: number,
  maintainers: readonly number[],
): Promise<void> {
  await client.query('INSERT INTO maintainers (tool, maintainer) SELECT $1, unnest($2::int[])', [
    tool,
    maintainers,
  ]);
}

export async function removeMaintainers(
  client: Client,
  removed: readonly { tool: number; maintainer: number }[],
): Promise<void> {
  await client.query(
    `DELETE FROM maintainers m USING unnest($1::int[], $2::int[]) AS r (tool, maintainer)
     WHERE m.tool = r.tool AND m.maintainer = r.maintainer`,
    [removed.map(({ tool }) => tool), removed.map(({ maintainer }) => maintainer)],
  );
}

/** All maintainers of these tools, by the tool's uid. `isIn`: whether this gives the maintainer access. */
export async function readMaintainersOf(
  client: Client,
  tools: readonly number[],
): Promise<Map<number, (Member & { isIn: boolean })[]>> {
  const { rows } = await client.query(
    `SELECT m.tool, n.name AS account, n.subject AS uid, CASE WHEN t.uid IS NULL THEN 'person' ELSE 'tool' END AS kind,
            coalesce(t.state <> 'deleted', p.state = 'active' AND r.person IS NOT NULL) AS "isIn"
     FROM maintainers m JOIN names n ON n.subject = m.maintainer
       LEFT JOIN tools t ON t.uid = m.maintainer LEFT JOIN people p ON p.uid = m.maintainer
       LEFT JOIN realm_members r ON r.person = p.uid
     WHERE m.tool = ANY ($1) ORDER BY m.tool, n.name`,
    [tools],
  );
  const of = Map.groupBy(rows as (Member & { isIn: boolean; tool: number })[], ({ tool }) => tool);
  return of;
}

/** The tools that a person or tool maintains directly. It is a member of their groups. */
export async function readMaintained(client: Client, maintainer: number): Promise<number[]> {
  const { rows } = await client.query(
    'SELECT tool FROM maintainers WHERE maintainer = $1 ORDER BY tool',
    [maintainer],
  );
  return rows.map((row: { tool: number }) => row.tool);
}

/** The names of the admins: the admin tool's maintainers who are active realm members, without those in `without`. */
export async function readAdmins(
  client: Client,
  adminTool: string,
  without: readonly number[] = [],
): Promise<string[]> {
  const { rows } = await client.query(
    `SELECT p.shell_name AS name FROM maintainers m JOIN tools t ON t.uid = m.tool
       JOIN people p ON p.uid = m.maintainer JOIN realm_members r ON r.person = p.uid
     WHERE t.name = $1 AND p.state = 'active' AND p.uid <> ALL ($2) ORDER BY 1`,
    [adminTool, without],
  );
  return (rows as { name: string }[]).map(({ name }) => name);
}

/** How many admins there are, as `readAdmins` names them. */
export async function countAdmins(...of: Parameters<typeof readAdmins>): Promise<number> {
  return (await readAdmins(...of)).length;
}

/** Who disables tools, and why: one common reason, or one for each. */
export interface Disabling {
  by: string;
  reason: string | readonly string[];
  now: Date;
}

/** Disables the active tools among these. */
export async function disableTools(
  client: Client,
  tools: readonly number[],
  { by, reason, now }: Disabling,
): Promise<void> {
  await client.query(
    `UPDATE tools t SET state = 'disabled', disabled_at = $2, disabled_by = $3, disabled_reason = d.reason
     FROM unnest($1::int[], $4::text[]) AS d (uid, reason) WHERE t.uid = d.uid AND t.state = 'active'`,
    [tools, now, by, reasonsOf(tools, reason)],
  );
}

/**
 * Sets the date on which a disabled tool is archived. Its maintainers are warned now. `reason`, if given, replaces the
 * reason of the disabling.
 */
export async function wantToolDeleted(
  client: Client,
  uid: number,
  {
    after,
    days,
    now,
    reason,
  }: { after: Date; days: number; now: Date; reason: string | undefined },
): Promise<void> {
  await client.query(
    `UPDATE tools SET delete_after = $2, delete_requested_at = $4, days_warned = $3, warned_at = $4,
            disabled_reason = coalesce($5, disabled_reason)
     WHERE uid = $1 AND state = 'disabled'`,
    [uid, after, days, now, reason ?? null],
  );
}

/** Makes disabled or restored tools active, and forgets why they were disabled and any deletion. */
export async function openTools(client: Client, tools: readonly number[]): Promise<void> {
  await client.query(
    `UPDATE tools SET state = 'active', disabled_at = NULL, disabled_by = NULL, disabled_reason = NULL,
            delete_after = NULL, delete_requested_at = NULL, days_warned = NULL, warned_at = NULL
     WHERE uid = ANY ($1) AND state IN ('disabled', 'archived')`,
    [tools],
  );
}

/**
 * Marks an archived or deleted tool as archived, not to be deleted. While home and databases are restored, its accounts
 * exist and are closed.
 */
export async function reviveTool(client: Client, uid: number): Promise<void> {
  await client.query(
    `UPDATE tools SET state = 'archived', delete_after = NULL, delete_requested_at = NULL,
            days_warned = NULL, warned_at = NULL
     WHERE uid = $1 AND state IN ('archived', 'deleted')`,
    [uid],
  );
}
