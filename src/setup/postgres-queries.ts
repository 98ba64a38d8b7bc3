/** What `chamberlain setup` asks of its PostgreSQL as the superuser, and tells it; and of another one as the owner. */
import { randomBytes } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { loginOf, openOwner, POSTGRES_ROLES, type PostgresRole } from '../database/connection.ts';
import { scramVerifier } from '../secrets/secret.ts';
import { type Config, readSecret } from '../shared/config.ts';
import { ROOT } from '../shared/root.ts';
import { POSTGRES } from './places.ts';
import { run } from './programs.ts';

const { host, port, cluster: DATABASE } = POSTGRES;

/** Runs statements as the superuser, and returns what they print. Errors do not quote the statement. */
async function psql(database: string, sql: string): Promise<string> {
  const settings = ['-v', 'ON_ERROR_STOP=1', '-v', 'VERBOSITY=terse'];
  const where = ['-h', host, '-p', String(port), '-d', database];
  const args = ['-u', 'postgres', '--', 'psql', '-XqAt', ...settings, ...where];
  return (await run('runuser', args, sql)).trim();
}

const ROLES: readonly PostgresRole[] = ['owner', ...POSTGRES_ROLES];

/** The roles that do not exist, or do not have the password of their secret. */
export async function readRolesToMend(config: Config): Promise<PostgresRole[]> {
  const stored = await psql(
    'postgres',
    `SELECT json_object_agg(rolname, coalesce(rolpassword, '')) FROM pg_authid WHERE rolname ~ '^chamberlain(_|$)'`,
  );
  const verifiers = (JSON.parse(stored || 'null') ?? {}) as Record<string, string>;
  return ROLES.filter((role) => {
    const has = verifiers[loginOf(role)] ?? '';
    const salt = Buffer.from(/^SCRAM-SHA-256\$\d+:([^$]+)\$/u.exec(has)?.[1] ?? '', 'base64');
    return has !== scramVerifier(readSecret(config, 'postgres', role), salt);
  });
}

/** Gives roles that exist the passwords of their secrets. The server receives only verifiers. */
export async function setPasswords(config: Config, roles: readonly PostgresRole[]): Promise<void> {
  await psql('postgres', passwordStatements(config, roles));
}

function passwordStatements(config: Config, roles: readonly PostgresRole[]): string {
  const lines = roles.map((role) => {
    const verifier = scramVerifier(readSecret(config, 'postgres', role), randomBytes(16));
    return `ALTER ROLE ${loginOf(role)} PASSWORD '${verifier}';\n`;
  });
  return lines.join('');
}

export async function hasDatabase(): Promise<boolean> {
  const sql = `SELECT count(*) FROM pg_database WHERE datname = '${DATABASE}'`;
  return (await psql('postgres', sql)) === '1';
}

/** Creates the owner without a password, and the database. */
export async function createDatabase(): Promise<void> {
  await psql('postgres', creationOf(DATABASE));
}

const creationOf = (database: string): string => `
SELECT 'CREATE ROLE chamberlain LOGIN CREATEROLE CONNECTION LIMIT 10'
  WHERE NOT EXISTS (SELECT FROM pg_roles WHERE rolname = 'chamberlain') \\gexec
SELECT 'CREATE DATABASE "${database}" OWNER chamberlain'
  WHERE NOT EXISTS (SELECT FROM pg_database WHERE datname = '${database}') \\gexec
`;

/** What the administrator of another PostgreSQL must run there, with psql. */
export function administratorStatements(config: Config): string {
  const { database } = config.postgres;
  return `\\set ON_ERROR_STOP on
SET log_statement = none; SET log_min_error_statement = panic;
${creationOf(database)}${passwordStatements(config, ['owner'])}\\connect "${database}"
${readFileSync(LOCKS, 'utf8')}`;
}

/** Gives the roles of another PostgreSQL the passwords of their secrets, as their owner. */
export async function setPasswordsAsOwner(config: Config): Promise<void> {
  const client = await openOwner(config);
  try {
    await client.query(passwordStatements(config, POSTGRES_ROLES));
  } finally {
    await client.end();
  }
}

const LOCKS = join(ROOT, 'deploy/postgres/locks.sql');

/** How many of the functions that locks.sql reserves everybody may call. */
export async function countOpenFunctions(): Promise<number> {
  return Number(await psql(DATABASE, openFunctions()));
}

/** The same of another PostgreSQL, as the owner. */
export async function countOpenFunctionsAsOwner(config: Config): Promise<number> {
  const client = await openOwner(config);
  try {
    const { rows } = await client.query<{ count: string }>(openFunctions());
    return Number(rows[0]?.count);
  } finally {
    await client.end();
  }
}

function openFunctions(): string {
  const [, names = ''] = /\bproname ~ '([^']+)'/u.exec(readFileSync(LOCKS, 'utf8')) ?? [];
  return `SELECT count(*) FROM pg_proc WHERE pronamespace = 'pg_catalog'::regnamespace
            AND proname ~ '${names}' AND has_function_privilege('public', oid, 'EXECUTE')`;
}

export async function reserveFunctions(): Promise<void> {
  await psql(DATABASE, readFileSync(LOCKS, 'utf8'));
}
