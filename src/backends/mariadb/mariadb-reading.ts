/**
 * Reads the tables of accounts of a database server: of some users, or of all.
 *
 * The tables' keys begin with the host, and there are few hosts: with all hosts named in the query, each user
 * is found by key (0.3 ms among 40,000 accounts, instead of 9 ms).
 */
import type { DatabasesReader, DatabaseServerView } from '../../targets/databases-reader.ts';
import { type Everything, numberOfUser } from '../../targets/everything.ts';
import { type AccountRows, readAccounts, type Row } from './mariadb-accounts.ts';
import type { Connection } from './mariadb-connections.ts';

/** A query asks for at most this many users. */
const USERS_PER_QUERY = 200;

type Table = Exclude<keyof AccountRows, 'privilegeColumns'>;
type Tables = Record<Table, Row[]>;

// accounts last: if one is created meanwhile, its rights are not read without it
const COLUMNS: Record<Table, string> = {
  db: 'Host, User, Db',
  roles_mapping: 'Host, User, Role, Admin_option',
  tables_priv: 'Host, User, Db, Table_name, Table_priv, Column_priv',
  procs_priv: 'Host, User, Db, Routine_name, Proc_priv',
  proxies_priv: 'Host, User, Proxied_host, Proxied_user',
  global_priv: 'Host, User, Priv',
};
const TABLES = Object.keys(COLUMNS) as Table[];

/** What must be known of a server before its tables are read. */
interface ServerTraits {
  hosts: string[];
  privilegeColumns: string[];
}

async function readTraits(connection: Connection): Promise<ServerTraits> {
  const [hosts, columns] = await Promise.all([
    connection.query<Row[]>('SELECT DISTINCT Host AS name FROM mysql.global_priv'),
    connection.query<Row[]>(
      `SELECT COLUMN_NAME AS name FROM information_schema.COLUMNS WHERE TABLE_SCHEMA = 'mysql'
         AND TABLE_NAME = 'db' AND COLUMN_NAME LIKE '%\\_priv' ORDER BY ORDINAL_POSITION`,
    ),
  ]);
  // the account that reads is in the table itself
  if (hosts.length === 0) throw new Error('mysql.global_priv reads as empty');
  if (columns.length === 0) throw new Error('mysql.db shows no privileges');
  const names = (rows: Row[]) => rows.map((row) => String(row['name']));
  return { hosts: names(hosts), privilegeColumns: names(columns) };
}

/** The rows of all tables that match `condition`. */
async function readTables(
  connection: Connection,
  { hosts, privilegeColumns }: ServerTraits,
  condition: string,
  values: unknown[],
): Promise<Tables> {
  const flags = privilegeColumns.map((name) => connection.escapeId(name)).join(', ');
  const read = async (table: Table): Promise<[Table, Row[]]> => {
    // one text instead of two dozen columns: a third of the time and the memory
    const columns =
      table === 'db' ? `${COLUMNS.db}, CONCAT(${flags}) AS privileges` : COLUMNS[table];
    const sql = `SELECT ${columns} FROM mysql.${table} WHERE Host IN (?) AND (${condition})`;
    return [table, await connection.query<Row[]>(sql, [hosts, ...values])];
  };
  return Object.fromEntries(await Promise.all(TABLES.map(read))) as Tables;
}

/** Reads the accounts of some users on a server. */
export async function lookAt(
  connection: Connection,
  users: readonly string[],
): Promise<DatabaseServerView> {
  const traits = await readTraits(connection);
  const parts: Tables[] = [];
  for (let first = 0; first < Math.max(users.length, 1); first += USERS_PER_QUERY) {
    const some = users.slice(first, first + USERS_PER_QUERY);
    if (first === 0) some.push('');
    parts.push(await readTables(connection, traits, 'User IN (?)', [some]));
  }
  const all = Object.fromEntries(
    TABLES.map((table) => [table, parts.flatMap((part) => part[table])]),
  ) as Tables;
  return readAccounts({ ...all, privilegeColumns: traits.privilegeColumns });
}

/** A survey of everything on one server. */
export interface ServerSurvey {
  /** each user's name once */
  names: readonly string[];
  look(users: readonly string[]): Promise<DatabaseServerView>;
}

/**
 * Begins a survey of everything on a server. Users who are asked for together are read by ranges of their
 * names, including any other names in between, and nothing is kept: 40,000 accounts on two servers would take
 * 90 MiB.
 *
 * @param use lends a connection
 */
export async function beginSurvey(
  use: <T>(read: (connection: Connection) => Promise<T>) => Promise<T>,
): Promise<ServerSurvey> {
  const [traits, names] = await use(async (connection): Promise<[ServerTraits, string[]]> => {
    const read = await readTraits(connection);
    return [read, await readNames(connection, read.hosts)];
  });
  return {
    names,
    async look(users) {
      const ranges = rangesOf(users);
      const condition = [...ranges.map(() => 'User BETWEEN ? AND ?'), "User = ''"].join(' OR ');
      const rows = await use((connection) =>
        readTables(connection, traits, condition, ranges.flat()),
      );
      return readAccounts({ ...rows, privilegeColumns: traits.privilegeColumns });
    },
  };
}

/**
 * The first and the last name of each kind: compared by bytes, numbers with the same number of digits are in
 * order.
 */
function rangesOf(users: readonly string[]): [first: string, last: string][] {
  const kinds = Map.groupBy(users, (user) => `${user.slice(0, 1)}${user.length}`);
  return [...kinds.values()].map((of) => {
    const sorted = of.toSorted();
    return [sorted[0] ?? '', sorted.at(-1) ?? ''];
  });
}

/** An account by its name, and when its password was last changed. */
export interface ListedUser {
  user: string;
  host: string;
  passwordAt: Date | undefined;
  /** how many seconds ago that was, by the server's clock */
  passwordSeconds: number | undefined;
}

/** All accounts whose names have our form, `s<uid>` and `u<uid>`. */
export async function listUsers(connection: Connection): Promise<ListedUser[]> {
  const rows = await connection.query<Row[]>(
    `SELECT User AS user, Host AS host, JSON_VALUE(Priv, '$.password_last_changed') AS at, UNIX_TIMESTAMP() AS now,
            User = SUBSTRING_INDEX(CURRENT_USER(), '@', 1) AS own FROM mysql.global_priv
     WHERE User REGEXP '^[su][1-9][0-9]{0,9}$' OR User = SUBSTRING_INDEX(CURRENT_USER(), '@', 1)`,
  );
  // the account that reads is in the table itself
  if (!rows.some((row) => Number(row['own']) === 1))
    throw new Error('mysql.global_priv could not be read completely');
  return rows
    .filter((row) => numberOfUser(String(row['user'])) !== undefined)
    .map((row) => {
      const seconds = Number(row['at'] ?? 0);
      const passwordAt = seconds > 0 ? new Date(seconds * 1000) : undefined;
      const passwordSeconds = seconds > 0 ? Number(row['now']) - seconds : undefined;
      return { user: String(row['user']), host: String(row['host']), passwordAt, passwordSeconds };
    });
}

/**
 * A digest of all accounts: while it is the same, so are they. With 40,000 accounts, a server takes less time
 * for it than for the list, and we take next to none.
 */
export async function digestAccounts(connection: Connection): Promise<string> {
  const [row] = await connection.query<Row[]>(
    `SELECT CONCAT(COUNT(*), ' ', BIT_XOR(CAST(CONV(LEFT(MD5(CONCAT_WS(' ', User, Host, Priv)), 16), 16, 10) AS UNSIGNED)))
       AS digest FROM mysql.global_priv`,
  );
  return String(row?.['digest']);
}

/**
 * Each user's name once. Host by host, the names are read from the key, and begin to come at once. When the
 * server sorted 200,000 of them, it was silent for longer than it may be.
 */
async function readNames(connection: Connection, hosts: readonly string[]): Promise<string[]> {
  const names = new Set<string>();
  for (const host of hosts) {
    const rows = await connection.query<Row[]>(
      'SELECT User AS name FROM mysql.global_priv WHERE Host = ? ORDER BY User',
      [host],
    );
    for (const row of rows) names.add(String(row['name']));
  }
  return [...names];
}

/**
 * A reader that answers from the surveys of the servers. Once a survey has failed, every later use of it fails.
 *
 * @param failures of the servers that have failed already
 */
export function everythingOf(
  surveys: ReadonlyMap<string, ServerSurvey>,
  failures: Map<string, unknown>,
): Everything<DatabasesReader> {
  const numbers = new Set(
    [...surveys.values()].flatMap(({ names }) => names.flatMap((name) => numberOfUser(name) ?? [])),
  );
  return {
    reader: {
      async look(server, users) {
        if (failures.has(server)) throw failures.get(server);
        const survey = surveys.get(server);
        if (survey === undefined) throw new TypeError(`no database server ${server} is configured`);
        try {
          return await survey.look(users);
        } catch (error) {
          failures.set(server, error);
          throw error;
        }
      },
    },
    sightings: [...numbers].map((id) => ({ name: undefined, id })),
    numbers,
  };
}
