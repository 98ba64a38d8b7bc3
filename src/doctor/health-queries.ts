/** What `chamberlain doctor` reads from PostgreSQL about the server and about the work. */
import pg from 'pg';
import type { Config } from '../shared/config.ts';
import { IS_IGNORED, OLDEST_UNDONE } from '../database/overview.ts';
import {
  type Client,
  connectionSettings,
  type PostgresRole,
  sqlState,
} from '../database/connection.ts';

export interface ServerHealth {
  /** e.g. 170005 */
  version: number;
  settings: Record<string, string>;
  /** by the server's clock, milliseconds since the epoch */
  clock: number;
}

/** Settings that must be on so that no committed data is lost. */
export const SAFE_SETTINGS = ['fsync', 'full_page_writes', 'synchronous_commit'] as const;

export async function readServerHealth(client: Client): Promise<ServerHealth> {
  const { rows } = await client.query(
    `SELECT current_setting('server_version_num')::int AS version,
            (SELECT jsonb_object_agg(n, current_setting(n)) FROM unnest($1::text[]) AS n) AS settings,
            extract(epoch FROM clock_timestamp())::float8 * 1000 AS clock`,
    [SAFE_SETTINGS],
  );
  return rows[0] as ServerHealth;
}

/** The names of the migrations that were applied, in order. */
export async function readMigrations(client: Client): Promise<string[]> {
  const { rows } = await client.query('SELECT name FROM migrations ORDER BY id');
  return (rows as { name: string }[]).map(({ name }) => name);
}

/** When a set of backups was last made, if that is known, and since when the database exists. */
export async function readLastBackup(
  client: Client,
): Promise<{ madeAt: Date | null; since: Date }> {
  const { rows } = await client.query(
    `SELECT (SELECT made_at FROM last_backup) AS "madeAt", min(run_on)::timestamptz AS since FROM migrations`,
  );
  return rows[0] as { madeAt: Date | null; since: Date };
}

/** Powers that no role of ours may have, whatever it was granted: one sentence each. */
export async function readExcessPowers(
  client: Client,
  roles: readonly string[],
): Promise<string[]> {
  const { rows } = await client.query(
    `WITH ours AS (SELECT * FROM pg_roles WHERE rolname = ANY ($1))
     SELECT rolname || ' is ' || concat_ws(', ', CASE WHEN rolsuper THEN 'superuser' END,
         CASE WHEN rolcreaterole THEN 'allowed to make roles' END,
         CASE WHEN rolcreatedb THEN 'allowed to make databases' END,
         CASE WHEN rolreplication THEN 'allowed to replicate' END,
         CASE WHEN rolbypassrls THEN 'not bound by row-level security' END) AS sentence
       FROM ours WHERE rolsuper OR rolcreaterole OR rolcreatedb OR rolreplication OR rolbypassrls
     UNION ALL
     SELECT rolname || ' is a member of ' || pg_get_userbyid(m.roleid) FROM ours
       JOIN pg_auth_members m ON m.member = ours.oid
     UNION ALL
     SELECT rolname || ' owns ' || c.relname FROM ours JOIN pg_class c ON c.relowner = ours.oid
       WHERE c.relnamespace = 'public'::regnamespace
     ORDER BY 1`,
    [roles],
  );
  return (rows as { sentence: string }[]).map(({ sentence }) => sentence);
}

/**
 * What these roles, and `everybody`, were granted on our schemas, their tables, columns and functions. A right
 * that they may grant to others is listed as one more right, `… with GRANT OPTION`.
 */
export async function readGrants(
  client: Client,
  roles: readonly string[],
): Promise<{ to: string; right: string }[]> {
  const { rows } = await client.query(
    `WITH ours AS (
       SELECT oid, nspname, nspacl, CASE nspname WHEN 'public' THEN '' ELSE nspname || '.' END AS prefix
         FROM pg_namespace WHERE nspname IN ('public', 'api')
     ), granted AS (
       SELECT a.grantee, a.is_grantable, a.privilege_type || ' on ' || nspname AS "right"
         FROM ours, aclexplode(nspacl) a
       UNION ALL
       SELECT a.grantee, a.is_grantable, a.privilege_type || ' on ' || prefix || relname
         FROM pg_class JOIN ours ON ours.oid = relnamespace, aclexplode(relacl) a
       UNION ALL
       SELECT a.grantee, a.is_grantable, a.privilege_type || ' (' || attname || ') on ' || prefix || relname
         FROM pg_attribute t JOIN pg_class c ON c.oid = t.attrelid JOIN ours ON ours.oid = relnamespace,
           aclexplode(t.attacl) a
       UNION ALL
       SELECT a.grantee, a.is_grantable, a.privilege_type || ' on ' || prefix || proname
         FROM pg_proc JOIN ours ON ours.oid = pronamespace, aclexplode(coalesce(proacl, acldefault('f', proowner))) a
     ), lines AS (
       SELECT grantee, "right" FROM granted
       UNION
       SELECT grantee, "right" || ' with GRANT OPTION' FROM granted WHERE is_grantable
     )
     SELECT CASE WHEN grantee = 0 THEN 'everybody' ELSE pg_get_userbyid(grantee) END AS "to", "right"
     FROM lines WHERE grantee = 0 OR pg_get_userbyid(grantee) = ANY ($1) ORDER BY 1, 2`,
    [roles],
  );
  return rows as { to: string; right: string }[];
}

/**
 * Whether a role can log in with the secret on this machine. Throws CONFIG_INVALID if that cannot be read, and
 * the error of the connection if the server does not answer.
 */
export async function logsIn(config: Config, role: PostgresRole): Promise<boolean> {
  const client = new pg.Client(connectionSettings(config, role));
  client.on('error', () => {});
  try {
    await client.connect();
    await client.end();
    return true;
  } catch (error) {
    if (sqlState(error)?.startsWith('28') === true) return false; // invalid_authorization_specification
    throw error;
  }
}

/** Which of these roles do not exist, or may not log in. */
export async function readAbsentRoles(client: Client, roles: readonly string[]): Promise<string[]> {
  const { rows } = await client.query(
    `SELECT r AS name FROM unnest($1::text[]) AS r
     WHERE NOT EXISTS (SELECT FROM pg_roles WHERE rolname = r AND rolcanlogin)`,
    [roles],
  );
  return (rows as { name: string }[]).map(({ name }) => name);
}

/** Who may take our locks, the server's connections, and its disk. */
export interface Openness {
  database: string;
  /** who, besides the owner, may take any advisory lock; `everybody`, or roles */
  lockers: string[];
  /** who may make large objects */
  fillers: string[];
  /** whether every login of the server may connect to our database */
  isPublic: boolean;
  /** accounts without a connection limit that may connect to some database, except superusers */
  unlimited: string[];
  /** the sum of the connection limits */
  limits: number;
  /** how many connections the server has for logins that are not superusers */
  room: number;
}

/** @param reserved a pattern of the names of functions that only the owner may call */
export async function readOpenness(client: Client, reserved: string): Promise<Openness> {
  const { rows } = await client.query(
    `WITH logins AS (
       SELECT rolname, rolconnlimit FROM pg_roles r WHERE rolcanlogin AND NOT rolsuper AND EXISTS (
         SELECT FROM pg_database d WHERE datallowconn AND has_database_privilege(r.oid, d.oid, 'CONNECT')))
     SELECT current_database() AS database,
       ${mayCall(`NOT proname ^@ 'lo_'`)} AS lockers,
       ${mayCall(`proname ^@ 'lo_'`)} AS fillers,
       has_database_privilege('public', current_database(), 'CONNECT') AS "isPublic",
       ARRAY(SELECT rolname::text FROM logins WHERE rolconnlimit < 0 ORDER BY 1) AS unlimited,
       (SELECT coalesce(sum(rolconnlimit), 0)::int FROM logins WHERE rolconnlimit >= 0) AS limits,
       (SELECT sum(CASE name WHEN 'max_connections' THEN setting::int ELSE -setting::int END)::int
          FROM pg_settings WHERE name IN
            ('max_connections', 'superuser_reserved_connections', 'reserved_connections')) AS room`,
    [reserved],
  );
  return rows[0] as Openness;
}

const mayCall = (which: string) => `
  ARRAY(SELECT DISTINCT CASE WHEN a.grantee = 0 THEN 'everybody' ELSE pg_get_userbyid(a.grantee)::text END
    FROM pg_proc p, aclexplode(coalesce(proacl, acldefault('f', proowner))) a
    WHERE pronamespace = 'pg_catalog'::regnamespace AND a.grantee <> proowner AND proname ~ $1 AND ${which}
      AND a.grantee <> (SELECT datdba FROM pg_database WHERE datname = current_database())
    ORDER BY 1)`;

export interface WorkHealth {
  /** rows of the audit that wait to be sealed, and for how long the oldest has waited */
  unsealed: number;
  unsealedSeconds: number;
  /** accounts, each with its role and code */
  parked: string[];
  failing: string[];
  /** the accepted request that has been unfinished for the longest time */
  oldestUndone: { id: string; kind: string; seconds: number } | null;
}

export async function readWorkHealth(client: Client): Promise<WorkHealth> {
  const { rows } = await client.query(
    `SELECT (SELECT count(*)::int FROM audit_unsealed) AS unsealed,
       (SELECT coalesce(extract(epoch FROM clock_timestamp() - min(a.at)), 0)::float8
          FROM audit_unsealed u JOIN audit a ON a.id = u.audit_id) AS "unsealedSeconds",
       ${troubled('parked')} AS parked, ${troubled('failing')} AS failing,
       (SELECT json_build_object('id', coalesce(jti::text, id::text), 'kind', kind,
          'seconds', extract(epoch FROM clock_timestamp() - at)::float8)
        FROM requests WHERE id = ${OLDEST_UNDONE}) AS "oldestUndone"`,
  );
  return rows[0] as WorkHealth;
}

const troubled = (state: string) =>
  `ARRAY(SELECT coalesce(t.account, p.shell_name, c.subject::text) || ' (' || c.role || ': ' || coalesce(c.code, '?') || ')'
         FROM convergence c LEFT JOIN people p ON p.uid = c.subject LEFT JOIN tools t ON t.uid = c.subject
         WHERE c.state = '${state}' AND NOT ${IS_IGNORED} ORDER BY c.since, c.subject, c.role)`;

/** Which local names and numbers are also ours, or can never be given. */
export interface LocalOverlap {
  /** names of people and tools that are not deleted */
  ours: string[];
  /** names that nobody can be given: already ours, or unmanaged */
  taken: string[];
  /** numbers that were given, with the account that has them */
  numbers: { id: number; account: string }[];
}

export async function readLocalOverlap(
  client: Client,
  names: readonly string[],
  ids: readonly number[],
): Promise<LocalOverlap> {
  const { rows } = await client.query(
    `SELECT ARRAY(SELECT shell_name FROM people WHERE shell_name = ANY ($1) AND state <> 'deleted'
             UNION SELECT account FROM tools WHERE account = ANY ($1) AND state <> 'deleted') AS ours,
       ARRAY(SELECT name FROM names WHERE name = ANY ($1)
             UNION SELECT name FROM unmanaged_sightings WHERE name = ANY ($1)) AS taken,
       (SELECT coalesce(json_agg(json_build_object('id', i.id,
          'account', coalesce(p.shell_name, t.account, 'a deleted account'))), '[]')
        FROM posix_ids i LEFT JOIN people p ON p.uid = i.id LEFT JOIN tools t ON t.uid = i.id
        WHERE i.id = ANY ($2)) AS numbers`,
    [names, ids],
  );
  return rows[0] as LocalOverlap;
}
