/** Reads what Chamberlain has created from outside: with the servers' own tools, as their administrators. */
import { execFile } from 'node:child_process';
import { lstatSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { Redis } from 'ioredis';
import pg from 'pg';
import { parseCredentialsFile, verifierOf } from '../../src/credentials/credentials.ts';
import { administer, type World } from '../stack.ts';
import { eventually } from './eventually.ts';

const run = promisify(execFile);

/** An entry's attributes, each with its values sorted. */
export type Entry = Record<string, string[]>;

/** All entries below the base by DN, as the directory's administrator sees them. */
export async function readDirectory(
  world: World,
  { operational = false, filter = '(objectClass=*)' } = {},
): Promise<Map<string, Entry>> {
  const { stdout } = await run(
    'ldapsearch',
    [
      ...['-x', '-LLL', '-o', 'ldif-wrap=no', '-H', world.config.ldap.uri],
      ...['-D', world.ldapAdmin.dn, '-y', join(world.config.secrets, 'ldap-admin')],
      ...['-b', world.config.ldap.base, filter, '*', ...(operational ? ['+'] : [])],
    ],
    { maxBuffer: 1 << 28, timeout: 60_000 },
  );
  const entries = new Map<string, Entry>();
  for (const block of stdout.split('\n\n')) {
    const entry: Entry = {};
    let dn = '';
    for (const line of block.split('\n')) {
      const [, attribute = '', encoded, value = ''] = /^([^:]+):(:?) ?(.*)$/.exec(line) ?? [];
      const text = encoded === ':' ? Buffer.from(value, 'base64').toString('utf8') : value;
      if (attribute === 'dn') dn = text;
      else if (attribute !== '') entry[attribute] = [...(entry[attribute] ?? []), text].sort();
    }
    if (dn !== '') entries.set(dn, entry);
  }
  return entries;
}

/** Everything that stays as it is while nobody changes anything: without the heartbeat, which goes on. */
export async function readStillDirectory(world: World): Promise<Map<string, Entry>> {
  const directory = await readDirectory(world, { operational: true });
  directory.delete(`cn=chamberlain,${world.config.ldap.base}`);
  for (const entry of directory.values()) delete entry['contextCSN'];
  return directory;
}

/** Adds an entry as the directory's administrator, so it is not ours. */
export async function addUnmanagedEntry(world: World, ldif: string): Promise<void> {
  await changeDirectory(world, 'ldapadd', ldif);
}

/** Runs ldapadd or ldapmodify as the directory's administrator; `control` as for its option -e. */
export async function changeDirectory(
  world: World,
  tool: 'ldapadd' | 'ldapmodify',
  ldif: string,
  control?: string,
): Promise<void> {
  const file = join(world.dir, `change-${process.hrtime.bigint()}.ldif`);
  writeFileSync(file, ldif);
  await run(tool, [
    ...['-x', '-H', world.config.ldap.uri, '-f', file],
    ...['-D', world.ldapAdmin.dn, '-y', join(world.config.secrets, 'ldap-admin')],
    ...(control === undefined ? [] : ['-e', control]),
  ]);
}

const pools = new WeakMap<World, pg.Pool>();

/** Connections as PostgreSQL's superuser; they end by themselves, so that a server may be stopped. */
function poolOf(world: World): pg.Pool {
  let pool = pools.get(world);
  if (pool === undefined) {
    const { host, port } = world.postgres;
    pool = new pg.Pool({
      ...{ host, port, user: 'postgres', database: world.config.postgres.database },
      ...{ max: 4, idleTimeoutMillis: 1000, allowExitOnIdle: true },
      ...{ connectionTimeoutMillis: 5000, query_timeout: 10_000 },
    });
    pool.on('error', () => {});
    pools.set(world, pool);
  }
  return pool;
}

/** Rows of our PostgreSQL, read as its superuser. */
export async function query<Row = Record<string, unknown>>(
  world: World,
  sql: string,
  values: unknown[] = [],
): Promise<Row[]> {
  const { rows } = await poolOf(world).query(sql, values);
  return rows as Row[];
}

/**
 * Makes a tool a deleted one, with nothing touched, so that everything outside must still be removed. Its row
 * says that it was archived, and that its archives were kept for long enough.
 *
 * @returns makes it active again
 */
export async function markDeleted(world: World, uid: number): Promise<() => Promise<void>> {
  await query(
    world,
    `INSERT INTO archivals (subject, archival, left_at, keep_until, expired_at)
     VALUES ($1, 1, now(), now(), now())`,
    [uid],
  );
  await query(
    world,
    `INSERT INTO archives (subject, archival, role, manifest_sha256, path, bytes)
     SELECT $1, 1, role, repeat('0', 64), '/', 0 FROM unnest('{homes,databases}'::text[]) AS role`,
    [uid],
  );
  await query(world, `UPDATE tools SET state = 'deleted' WHERE uid = $1`, [uid]);
  return async () => {
    await query(world, `UPDATE tools SET state = 'active' WHERE uid = $1`, [uid]);
    await query(world, 'DELETE FROM archives WHERE subject = $1', [uid]);
    await query(world, 'DELETE FROM archivals WHERE subject = $1', [uid]);
  };
}

/** Waits until every subject is applied in every role. Parked rows never are. */
export async function settled(world: World, timeoutMs?: number): Promise<void> {
  await eventually(
    'everything to be applied',
    async () => {
      const behind = await query(
        world,
        `SELECT c.subject, c.role, c.state, c.code, c.sentence, c.leased_until, r.request
         FROM convergence c LEFT JOIN request_touches r USING (subject, role)
         WHERE c.applied < c.wanted OR r.request IS NOT NULL LIMIT 10`,
      );
      if (behind.length === 0) return true;
      throw new Error(`behind: ${JSON.stringify(behind)}`);
    },
    timeoutMs,
  );
}

/** Tables that a refusal writes to; any other must stay as it is. */
const OF_REFUSALS = [
  'requests',
  'events',
  'event_sequences',
  'event_deliveries',
  'audit',
  'audit_seals',
  'audit_unsealed',
  'directory_heartbeat',
  'place_markers',
  'junk',
  'unmanaged_looks',
  'leases',
  'troubles',
];

/** The rows of every table of ours but `without`, as text, by table. */
export async function dumpTables(
  world: World,
  without: readonly string[] = OF_REFUSALS,
): Promise<Record<string, string[]>> {
  const tables = await query<{ tablename: string }>(
    world,
    `SELECT tablename FROM pg_tables WHERE schemaname = 'public' ORDER BY 1`,
  );
  const kept = tables.map(({ tablename }) => tablename).filter((table) => !without.includes(table));
  const rows = await query<{ name: string; row: string }>(
    world,
    kept
      .map((table) => `SELECT '${table}' AS name, to_jsonb(t)::text AS row FROM "${table}" t`)
      .join(' UNION ALL ') + ' ORDER BY 1, 2',
  );
  const dump: Record<string, string[]> = Object.fromEntries(kept.map((table) => [table, []]));
  for (const { name, row } of rows) dump[name]?.push(row);
  return dump;
}

/** Every key of Redis with everything that it holds, as JSON. */
export async function dumpRedis(world: World): Promise<Map<string, string>> {
  const redis = new Redis(world.config.redis.url);
  const dump = new Map<string, string>();
  for (const key of await redis.keys('*')) {
    const type = await redis.type(key);
    if (type === 'none') continue; // it has gone, and may come back with another type
    const value =
      type === 'hash'
        ? await redis.hgetall(key)
        : type === 'list'
          ? await redis.lrange(key, 0, -1)
          : type === 'zset'
            ? await redis.zrange(key, '0', '-1')
            : type === 'stream'
              ? await redis.xrange(key, '-', '+')
              : await redis.get(key);
    dump.set(key, JSON.stringify(value));
  }
  redis.disconnect();
  return dump;
}

/** Until PostgreSQL knows of a heartbeat that is newer than the last one. */
export async function nextHeartbeat(world: World): Promise<void> {
  const last = async (): Promise<Date> => {
    const sql = 'SELECT published_at AS at FROM directory_heartbeat';
    const [row] = await query<{ at: Date }>(world, sql);
    return row?.at as Date;
  };
  const before = await last();
  await eventually('a heartbeat', async () => (await last()) > before);
}

/** The path of the home of a tool or person on this machine. */
export function homeOf(world: World, owner: { tool: string } | { person: string }): string {
  const { root, toolHomes, personHomes } = world.config.files;
  return 'tool' in owner
    ? join(root + toolHomes, owner.tool)
    : join(root + personHomes, owner.person);
}

export interface CredentialsSeen {
  path: string;
  user: string;
  password: string;
  uid: number;
  gid: number;
  mode: number;
}

/** The credentials file of a tool or person, which must be a regular file. */
export function readCredentials(
  world: World,
  owner: { tool: string } | { person: string },
): CredentialsSeen {
  const path = join(homeOf(world, owner), 'replica.my.cnf');
  const seen = lstatSync(path);
  if (!seen.isFile()) throw new Error(`${path} is no file`);
  const parsed = parseCredentialsFile(readFileSync(path, 'utf8'));
  if (parsed === undefined) throw new Error(`${path} holds no credentials`);
  return { path, ...parsed, uid: seen.uid, gid: seen.gid, mode: seen.mode & 0o7777 };
}

/** Runs a statement on a database server with a credentials file; fails if it may not. */
export async function loginWith(
  world: World,
  server: 'replica' | 'tools',
  file: string,
  sql = 'SELECT current_user()',
): Promise<string> {
  const { stdout } = await run(
    'mariadb',
    [`--defaults-file=${file}`, `--socket=${world[server].socket}`, '--batch', '-N', '-e', sql],
    { timeout: 60_000 },
  );
  return stdout.trim();
}

/** A copy of a credentials file, for a password that the file will not keep. */
export function keepCopy(world: World, { user, password }: CredentialsSeen): string {
  const file = join(world.dir, `copy-${process.hrtime.bigint()}.cnf`);
  writeFileSync(file, `[client]\nuser = ${user}\npassword = ${password}\n`, { mode: 0o600 });
  return file;
}

/** What each server has as the verifier of each account, and which accounts are locked. */
export async function readAccounts(
  world: World,
  server: 'replica' | 'tools',
): Promise<Map<string, { verifier: string; locked: boolean }>> {
  const out = await administer(
    world[server].socket,
    `SELECT User, Host, Priv FROM mysql.global_priv WHERE User REGEXP '^[su][0-9]+$';`,
  );
  return new Map(
    out
      .split('\n')
      .filter((line) => line !== '')
      .map((line) => {
        const [user = '', host = '', json = '{}'] = line.split('\t');
        const priv = JSON.parse(json) as {
          authentication_string?: string;
          account_locked?: boolean;
        };
        return [
          host === '%' ? user : `${user}@${host}`,
          { verifier: priv.authentication_string ?? '', locked: priv.account_locked ?? false },
        ];
      }),
  );
}

const entriesOf = (tool: string): string =>
  `(cn=tools.${tool})(uid=tools.${tool})(cn=runas-tools.${tool})`;

/**
 * What is wrong with these tools, in sentences: their entries, homes, credentials, and whether that file,
 * PostgreSQL and both servers have the same password.
 */
export async function faultsOf(world: World, names: readonly string[]): Promise<string[]> {
  const faults: string[] = [];
  const [rows, directory, replica, tools] = await Promise.all([
    query<{
      uid: number;
      name: string;
      wanted: number;
      epoch: number | null;
      verifier: string | null;
    }>(
      world,
      `SELECT t.uid, t.name, c.wanted_epoch AS wanted, v.epoch, v.verifier FROM tools t
       JOIN credentials c ON c.account = t.uid LEFT JOIN database_verifiers v ON v.account = t.uid`,
    ),
    // everything is read if the list would be too long for an argument; files that a test has made megabytes
    // large are not
    readDirectory(
      world,
      names.length > 100 ? {} : { filter: `(|${names.map(entriesOf).join('')})` },
    ),
    readAccounts(world, 'replica'),
    readAccounts(world, 'tools'),
  ]);
  const base = world.config.ldap.base;
  for (const name of names) {
    const fault = (sentence: string) => faults.push(`${name}: ${sentence}`);
    const row = rows.find((each) => each.name === name);
    if (row === undefined) {
      fault('is no tool');
      continue;
    }
    const uid = String(row.uid);
    const group = directory.get(`cn=tools.${name},ou=servicegroups,${base}`);
    if (group?.['gidNumber']?.[0] !== uid)
      fault(`group has ${group?.['gidNumber']?.[0]}, not ${uid}`);
    const account = directory.get(`uid=tools.${name},ou=people,ou=servicegroups,${base}`);
    if (account?.['uidNumber']?.[0] !== uid) fault(`account has ${account?.['uidNumber']?.[0]}`);
    if (!directory.has(`cn=runas-tools.${name},ou=sudoers,cn=tools,ou=projects,${base}`)) {
      fault('has no sudo rule');
    }
    try {
      const home = lstatSync(homeOf(world, { tool: name }));
      if (!home.isDirectory() || home.uid !== row.uid) fault(`home belongs to ${home.uid}`);
      const file = readCredentials(world, { tool: name });
      const verifier = verifierOf(file.password);
      if (file.user !== `s${uid}` || file.uid !== row.uid || file.mode !== 0o440) {
        fault(`file is ${file.user}'s, ${file.uid}, ${file.mode.toString(8)}`);
      }
      if (row.wanted !== row.epoch) fault(`epoch ${row.epoch} recorded, ${row.wanted} wanted`);
      if (row.verifier !== verifier) fault('file and recorded verifier differ');
      if (replica.get(`s${uid}`)?.verifier !== verifier) fault('file and replica differ');
      if (tools.get(`s${uid}`)?.verifier !== verifier) fault('file and toolsdb differ');
    } catch (error) {
      fault((error as Error).message);
    }
  }
  return faults;
}
