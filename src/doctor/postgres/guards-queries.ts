/** What `chamberlain doctor` reads from PostgreSQL about its guards: triggers, functions, row-level security. */
import type { Client } from '../../database/connection.ts';

/** A function: its source, and the rights and settings that it runs with. */
export interface SqlFunction {
  name: string;
  /** between the `$$`, byte for byte */
  source: string;
  /** runs with its owner's rights */
  definer: boolean;
  /** such as `search_path=pg_catalog, public`; empty: none */
  settings: string;
}

/** A policy of row-level security. */
export interface Policy {
  table: string;
  name: string;
  /** in order; `public`: every role */
  roles: readonly string[];
  /** as PostgreSQL or as a file writes them; empty: none */
  using: string;
  check: string;
  /** restrictive, or not for every command: none of our policies is */
  special: boolean;
}

/** Tables that nobody may change or shorten, each with its trigger. From the first two, closed years may be removed. */
export const APPEND_ONLY = [
  'audit',
  'audit_seals',
  'audit_closings',
  'posix_ids',
  'names',
] as const;
/** Tables in which each role has its own rows. */
export const ROW_SECURED = [
  'convergence',
  'reports',
  'repair_parts',
  'survey_progress',
  'unmanaged',
  'unmanaged_looks',
  'troubles',
] as const;

/** Tables of `APPEND_ONLY` whose trigger is missing, or does not fire for everybody. */
export async function readUnguarded(client: Client): Promise<string[]> {
  const { rows } = await client.query(
    // the bits of tgtype: 1 each row, 2 before, 4 INSERT, 8 DELETE, 16 UPDATE, 32 TRUNCATE
    `SELECT DISTINCT name FROM (
       SELECT t, t || '_append_only', CASE WHEN t IN ('audit', 'audit_seals') THEN 50 ELSE 58 END, 'refuse_change'
       FROM unnest($1::text[]) AS t
       UNION ALL VALUES ('audit', 'audit_closed_only', 11, 'guard_closed'),
         ('audit_seals', 'audit_seals_closed_only', 11, 'guard_closed'),
         ('audit_closings', 'audit_closings_check', 7, 'check_closing')) AS w (name, trigger, type, function)
     WHERE NOT EXISTS (
       SELECT FROM pg_trigger g WHERE g.tgrelid = to_regclass('public.' || w.name)
         AND g.tgname = w.trigger AND g.tgenabled IN ('O', 'A')
         AND g.tgtype = w.type AND g.tgqual IS NULL AND g.tgattr = ''
         AND g.tgfoid = to_regproc('public.' || w.function))
     UNION ALL SELECT 'audit (rows are not marked for sealing)' WHERE NOT EXISTS (
       SELECT FROM pg_trigger g WHERE g.tgrelid = 'public.audit'::regclass
         AND g.tgname = 'audit_unsealed_note' AND g.tgenabled IN ('O', 'A') AND g.tgtype = 4 AND g.tgqual IS NULL
         AND g.tgfoid = to_regproc('public.note_unsealed'))`,
    [APPEND_ONLY],
  );
  return (rows as { name: string }[]).map(({ name }) => name);
}

/** Tables to which a replaced leader can write: all but `leases` should have a trigger that refuses that. */
export async function readUnfenced(client: Client): Promise<string[]> {
  const { rows } = await client.query(
    `SELECT c.relname AS name FROM pg_class c
     WHERE c.relnamespace = 'public'::regnamespace AND c.relkind = 'r' AND c.relname <> 'leases' AND NOT EXISTS (
       SELECT FROM pg_trigger g WHERE g.tgrelid = c.oid AND g.tgname = 'check_lease' AND g.tgenabled IN ('O', 'A')
         AND g.tgtype = 30 AND g.tgattr = '' AND g.tgfoid = to_regproc('public.check_lease'))
     ORDER BY 1`,
  );
  return (rows as { name: string }[]).map(({ name }) => name);
}

/** Tables of `ROW_SECURED` that show every row to every role. */
export async function readUnsecured(client: Client): Promise<string[]> {
  const { rows } = await client.query(
    `SELECT t AS name FROM unnest($1::text[]) AS t WHERE NOT coalesce(
       (SELECT relrowsecurity FROM pg_class WHERE oid = to_regclass('public.' || t)), false)`,
    [ROW_SECURED],
  );
  return (rows as { name: string }[]).map(({ name }) => name);
}

/** The functions that exist in our schema. */
export async function readFunctions(client: Client): Promise<SqlFunction[]> {
  const { rows } = await client.query(
    `SELECT proname AS name, prosrc AS source, prosecdef AS definer,
            coalesce(array_to_string(proconfig, ' '), '') AS settings
     FROM pg_proc WHERE pronamespace = 'public'::regnamespace`,
  );
  return rows as SqlFunction[];
}

/** The policies that exist in our schema. */
export async function readPolicies(client: Client): Promise<Policy[]> {
  const { rows } = await client.query(
    `SELECT tablename AS "table", policyname AS name,
            ARRAY(SELECT r::text FROM unnest(roles) AS r ORDER BY r::text COLLATE "C") AS roles,
            coalesce(qual, '') AS "using", coalesce(with_check, '') AS "check",
            permissive <> 'PERMISSIVE' OR cmd <> 'ALL' AS special
     FROM pg_policies WHERE schemaname = 'public' ORDER BY 1, 2`,
  );
  return rows as Policy[];
}
