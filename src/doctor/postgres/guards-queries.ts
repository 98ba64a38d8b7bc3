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

/** A table of ours. */
export interface Table {
  name: string;
  /** row-level security is on */
  isSecured: boolean;
}

/** The tables that exist in our schema. */
export async function readTables(client: Client): Promise<Table[]> {
  const { rows } = await client.query(
    `SELECT relname AS name, relrowsecurity AS "isSecured" FROM pg_class
     WHERE relnamespace = 'public'::regnamespace AND relkind = 'r' ORDER BY 1`,
  );
  return rows as Table[];
}

/** The statements that create the triggers in our schema, of those that fire for everybody. */
export async function readTriggers(client: Client): Promise<string> {
  const { rows } = await client.query(
    `SELECT pg_get_triggerdef(t.oid) AS text FROM pg_trigger t JOIN pg_class c ON c.oid = t.tgrelid
     WHERE c.relnamespace = 'public'::regnamespace AND NOT t.tgisinternal AND t.tgenabled IN ('O', 'A')`,
  );
  return (rows as { text: string }[]).map(({ text }) => `${text};\n`).join('');
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
