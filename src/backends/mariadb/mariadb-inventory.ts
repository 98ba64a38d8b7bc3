/** Which databases a user has on a server, and what is in each: the tables with their rows, counted. */
import { ChamberlainError } from '../../shared/errors.ts';
import { holdsRows, type Inventory } from '../../archives/databases-manifest.ts';
import type { Row } from './mariadb-accounts.ts';
import type { Connection } from './mariadb-connections.ts';

/** The prefix of the names of a user's own databases. */
export function prefixOf(user: string): string {
  return `${user}__`;
}

/**
 * The names of all databases that belong to users. A server hides what an account has no right to see, so
 * without the right to see everything, this throws.
 */
export async function readOwnDatabases(connection: Connection): Promise<string[]> {
  const [right, rows] = await Promise.all([
    connection.query<Row[]>(
      `SELECT 1 FROM information_schema.USER_PRIVILEGES WHERE PRIVILEGE_TYPE = 'SHOW DATABASES'`,
    ),
    connection.query<Row[]>(
      `SELECT SCHEMA_NAME AS name FROM information_schema.SCHEMATA
       WHERE SCHEMA_NAME REGEXP '^[su][1-9][0-9]*__'`,
    ),
  ]);
  if (right.length === 0)
    throw new Error('this account does not have the right to see all databases');
  return rows.map((row) => String(row['name'])).toSorted();
}

/** The privileges that are needed to see everything in a database, and to dump and drop it. */
const RIGHTS = [
  ...['SELECT', 'SHOW VIEW', 'TRIGGER', 'EVENT', 'EXECUTE', 'LOCK TABLES'],
  ...['CREATE', 'DROP', 'ALTER'],
];

/** Throws unless we have the privileges that are needed to see the user's databases completely. */
export async function requireRights(connection: Connection, user: string): Promise<void> {
  const pattern = ownPattern(user);
  const rows = await connection.query<Row[]>(
    `SELECT PRIVILEGE_TYPE AS name FROM information_schema.SCHEMA_PRIVILEGES WHERE TABLE_SCHEMA = ?
     UNION SELECT PRIVILEGE_TYPE FROM information_schema.USER_PRIVILEGES`,
    [pattern],
  );
  const held = new Set(rows.map((row) => String(row['name'])));
  const missing = RIGHTS.filter((right) => !held.has(right));
  if (missing.length === 0) return;
  throw new ChamberlainError('STEP_FAILED', `looking at the databases of ${user}`, {
    cause: new Error(`this account lacks ${missing.join(', ')} on ${pattern}.*`),
  });
}

/** Where we have rights on the databases of users of that kind: see deploy/mariadb/toolsdb.sql. */
function ownPattern(user: string): string {
  return `${user.slice(0, 1)}%\\_\\_%`;
}

/** The role that gives a tenant the privilege EVENT while their databases are loaded. */
export function loadingRole(user: string): string {
  return `chamberlain_loads_${user}`;
}

/** Our privileges on the databases of users of that kind: ALL, by the names that the server has for it. */
export async function readOwnPrivileges(connection: Connection, user: string): Promise<string[]> {
  const rows = await connection.query<Row[]>(
    'SELECT PRIVILEGE_TYPE AS name FROM information_schema.SCHEMA_PRIVILEGES WHERE TABLE_SCHEMA = ?',
    [ownPattern(user)],
  );
  if (rows.length === 0) {
    throw new Error(
      `this account has no rights on ${ownPattern(user)}: run deploy/mariadb/toolsdb.sql`,
    );
  }
  return rows.map((row) => String(row['name']));
}

/** What is in a database; undefined if there is no database of that name. */
export async function readInventory(
  connection: Connection,
  database: string,
): Promise<Inventory | undefined> {
  const read = async (sql: string) =>
    await connection.query<Row[]>(sql.replaceAll('$database', '?'), [database]);
  const names = async (sql: string) =>
    (await read(sql)).map((row) => String(row['name'])).toSorted();
  const [schema] = await read(
    `SELECT DEFAULT_CHARACTER_SET_NAME AS charset, DEFAULT_COLLATION_NAME AS collation,
            SCHEMA_COMMENT AS comment
     FROM information_schema.SCHEMATA WHERE BINARY SCHEMA_NAME = $database`,
  );
  if (schema === undefined) return undefined;
  const tables = await read(
    `SELECT TABLE_NAME AS name, TABLE_TYPE AS type, ENGINE AS engine, TABLE_COMMENT AS comment
     FROM information_schema.TABLES WHERE TABLE_SCHEMA = $database`,
  );
  const inventory: Inventory = {
    charset: String(schema['charset']),
    collation: String(schema['collation']),
    comment: String(schema['comment']),
    tables: [],
    views: tables
      .filter((row) => row['type'] === 'VIEW')
      .map((row) => String(row['name']))
      .toSorted(),
    triggers: await names(
      'SELECT TRIGGER_NAME AS name FROM information_schema.TRIGGERS WHERE TRIGGER_SCHEMA = $database',
    ),
    routines: await names(
      `SELECT CONCAT(ROUTINE_TYPE, ' ', ROUTINE_NAME) AS name FROM information_schema.ROUTINES
       WHERE ROUTINE_SCHEMA = $database`,
    ),
    events: await names(
      'SELECT EVENT_NAME AS name FROM information_schema.EVENTS WHERE EVENT_SCHEMA = $database',
    ),
    others: await readOthers(connection, database),
  };
  for (const row of tables) {
    const [name, type] = [String(row['name']), String(row['type'])];
    if (type === 'VIEW') continue;
    // for a table that it cannot open, the server knows no engine, and gives the reason in the comment
    if (row['engine'] === null) throw new Error(`the table ${name}: ${row['comment']}`);
    const table = { name, type, engine: String(row['engine']), rows: 0 };
    if (holdsRows(table)) table.rows = await countRows(connection, database, table);
    inventory.tables.push(table);
  }
  inventory.tables.sort((a, b) => (a.name < b.name ? -1 : 1));
  return inventory;
}

/** What in a database has another definer than the user who owns the database. */
async function readOthers(connection: Connection, database: string): Promise<string[]> {
  const own = `${database.slice(0, database.indexOf(prefixOf('')))}@%`;
  const of = (kind: string, what: string, table: string, schema: string) =>
    `SELECT CONCAT(${kind}, ' ', ${what}, ' of ', DEFINER) AS name FROM information_schema.${table}
     WHERE ${schema} = ? AND DEFINER <> ?`;
  const parts = [
    of("'VIEW'", 'TABLE_NAME', 'VIEWS', 'TABLE_SCHEMA'),
    of("'TRIGGER'", 'TRIGGER_NAME', 'TRIGGERS', 'TRIGGER_SCHEMA'),
    of('ROUTINE_TYPE', 'ROUTINE_NAME', 'ROUTINES', 'ROUTINE_SCHEMA'),
    of("'EVENT'", 'EVENT_NAME', 'EVENTS', 'EVENT_SCHEMA'),
  ];
  const values = parts.flatMap(() => [database, own]);
  const rows = await connection.query<Row[]>(parts.join(' UNION ALL '), values);
  return rows.map((row) => String(row['name'])).toSorted();
}

async function countRows(
  connection: Connection,
  database: string,
  { name, type }: { name: string; type: string },
): Promise<number> {
  const at = `${connection.escapeId(database)}.${connection.escapeId(name)}`;
  const history = type === 'SYSTEM VERSIONED' ? ' FOR SYSTEM_TIME ALL' : '';
  const [row] = await connection.query<Row[]>(`SELECT COUNT(*) AS count FROM ${at}${history}`);
  return Number(row?.['count']);
}

/** Approximate size of a database in bytes, for people who wait. */
export async function estimateBytes(connection: Connection, database: string): Promise<number> {
  const [row] = await connection.query<Row[]>(
    'SELECT SUM(DATA_LENGTH) AS bytes FROM information_schema.TABLES WHERE TABLE_SCHEMA = ?',
    [database],
  );
  return Number(row?.['bytes'] ?? 0);
}

export async function readVersion(connection: Connection): Promise<string> {
  const [row] = await connection.query<Row[]>('SELECT VERSION() AS version');
  return String(row?.['version']);
}

/** The longest statement that the server accepts, in bytes; a blob is twice as long in a dump. */
export async function readLongestStatement(connection: Connection): Promise<number> {
  const [row] = await connection.query<Row[]>('SELECT @@GLOBAL.max_allowed_packet AS bytes');
  return Number(row?.['bytes']);
}
