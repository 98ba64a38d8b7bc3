/** What a set of backups contains of PostgreSQL in addition to the dump, read in the same snapshot. */
import pg from 'pg';
import { openOwner } from '../database/connection.ts';
import type { Config } from '../shared/config.ts';
import type { ListedArchive } from './manifest.ts';

export interface Snapshot {
  client: pg.Client;
  /** the value for `pg_dump --snapshot` */
  id: string;
  at: Date;
}

/** Keeps one snapshot open while `act` reads, as the owner of the database. */
export async function withSnapshot<T>(
  config: Config,
  act: (snapshot: Snapshot) => Promise<T>,
): Promise<T> {
  const client = await openOwner(config);
  try {
    await client.query('BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY');
    const { rows } = await client.query<{ id: string; at: Date }>(
      'SELECT pg_export_snapshot() AS id, now() AS at',
    );
    const [{ id, at } = { id: '', at: new Date(0) }] = rows;
    return await act({ client, id, at });
  } finally {
    await client.end().catch(() => {});
  }
}

/** Counts the rows of each table. */
export async function countRows(client: pg.Client): Promise<Record<string, number>> {
  const tables = await client.query<{ name: string }>(
    `SELECT relname AS name FROM pg_class
     WHERE relkind = 'r' AND relnamespace = 'public'::regnamespace ORDER BY 1`,
  );
  const counts: Record<string, number> = {};
  for (const { name } of tables.rows) {
    const { rows } = await client.query<{ count: string }>(
      `SELECT count(*) FROM public.${pg.escapeIdentifier(name)}`,
    );
    counts[name] = Number(rows[0]?.count);
  }
  return counts;
}

/** The last migration, such as `0020_kept_plans`. */
export async function readMigration(client: pg.Client): Promise<string> {
  const { rows } = await client.query<{ name: string }>(
    'SELECT name FROM migrations ORDER BY name DESC LIMIT 1',
  );
  return rows[0]?.name ?? '';
}

/** The archives that are still kept. */
export async function readArchives(client: pg.Client): Promise<ListedArchive[]> {
  const { rows } = await client.query<ListedArchive>(
    `SELECT a.subject, coalesce(p.shell_name, t.account) AS account, a.archival, a.role,
            a.manifest_sha256 AS "manifestSha256", a.path, a.bytes::float8 AS bytes
     FROM archives a JOIN archivals d USING (subject, archival)
       LEFT JOIN people p ON p.uid = a.subject LEFT JOIN tools t ON t.uid = a.subject
     WHERE d.expired_at IS NULL ORDER BY a.subject, a.archival, a.role`,
  );
  return rows;
}

/** Records when the last set was made, for `doctor`. Runs as the owner of the database. */
export async function writeLastBackup(config: Config, at: string): Promise<void> {
  const client = await openOwner(config);
  try {
    await client.query(
      `INSERT INTO last_backup (made_at) VALUES ($1)
       ON CONFLICT (one) DO UPDATE SET made_at = excluded.made_at`,
      [at],
    );
  } finally {
    await client.end().catch(() => {});
  }
}

interface RoleRow {
  name: string;
  canLogin: boolean;
  canCreateRoles: boolean;
  limit: number;
  /** created by the owner of the database, who may grant it */
  isOwners: boolean;
}

/**
 * SQL that creates the roles in the dump: the owner, the roles that the owner created, as `chamberlain migrate` does,
 * and the roles of other programs with rights in the database. pg_dump leaves them out, because roles belong to the
 * whole server.
 */
export async function readRoles(client: pg.Client): Promise<string> {
  const { rows } = await client.query<RoleRow>(
    `SELECT r.rolname AS name, r.rolcanlogin AS "canLogin", r.rolcreaterole AS "canCreateRoles",
            r.rolconnlimit AS "limit",
            EXISTS (SELECT FROM pg_auth_members m
                    WHERE m.roleid = r.oid AND m.admin_option AND m.member = db.datdba) AS "isOwners"
     FROM pg_database db, pg_roles r
     WHERE db.datname = current_database() AND r.oid IN (
       SELECT refobjid FROM pg_shdepend WHERE refclassid = 'pg_authid'::regclass
         AND (dbid = db.oid OR (classid = 'pg_database'::regclass AND objid = db.oid)))
     ORDER BY r.oid <> db.datdba, 1`,
  );
  const [owner, ...others] = rows;
  if (owner === undefined) return '';
  const own = others.filter(({ isOwners }) => isOwners);
  return [
    '-- The roles that database.dump names, for a server that has none of them; the first owns the database. Read by psql',
    '-- as the superuser, before pg_restore. They have no passwords.',
    ...[owner, ...others.filter(({ isOwners }) => !isOwners)].map(createRole),
    `SET SESSION AUTHORIZATION ${pg.escapeIdentifier(owner.name)};`,
    ...own.map(createRole),
    // as migrations/roles.sql has it
    ...own.map(({ name }) => {
      const [role, to] = [name, owner.name].map((each) => pg.escapeIdentifier(each));
      return `GRANT ${role} TO ${to} WITH INHERIT TRUE, SET FALSE;`;
    }),
    'RESET SESSION AUTHORIZATION;\n',
  ].join('\n');
}

function createRole({ name, canLogin, canCreateRoles, limit }: RoleRow): string {
  const words = [
    `CREATE ROLE ${pg.escapeIdentifier(name)}`,
    ...(canLogin ? ['LOGIN'] : []),
    ...(canCreateRoles ? ['CREATEROLE'] : []),
    ...(limit < 0 ? [] : [`CONNECTION LIMIT ${limit}`]),
  ];
  return `${words.join(' ')};`;
}
