/**
 * Converts MariaDB's own tables of accounts into the normal form of the target, and grants of that form into
 * SQL. Format of `mysql.global_priv.Priv`: JSON, see mariadb.com/kb/en/mysqlglobal_priv-table.
 */
import type { DatabaseAccount, DatabaseServerView, Grant } from '../../targets/databases-reader.ts';

/** A row, its columns by name. */
export type Row = Record<string, string | number | null>;

/** What was read of the accounts tables, by table; each row has Host and User. */
export interface AccountRows {
  global_priv: readonly Row[];
  /** `privileges`: `Y` or `N` for each of `privilegeColumns` */
  db: readonly Row[];
  roles_mapping: readonly Row[];
  tables_priv: readonly Row[];
  procs_priv: readonly Row[];
  proxies_priv: readonly Row[];
  /** the columns of mysql.db with a privilege: ALL means whatever this version of the server has columns for */
  privilegeColumns: readonly string[];
}

/** Reads the rows of many accounts. Throws if a row is not in MariaDB's format. */
export function readAccounts(rows: AccountRows): DatabaseServerView {
  const users = new Map<string, DatabaseAccount[]>();
  const anonymousHosts: string[] = [];
  const grants = readGrants(rows);
  for (const row of rows.global_priv) {
    const { User: user, Host: host } = row as { User: string; Host: string };
    if (user === '') {
      anonymousHosts.push(host);
      continue;
    }
    const name = nameOf(row);
    const account = readAccount(host, String(row['Priv']), grants.get(name) ?? []);
    grants.delete(name);
    const known = users.get(user);
    if (known === undefined) users.set(user, [account]);
    else known.push(account);
  }
  const leftovers = [...grants].flatMap(([name, of]): [string, Grant[]][] => {
    const [user = '', host] = name.split('\n');
    return host === '%' ? [[user, of]] : [];
  });
  return { users, anonymousHosts: anonymousHosts.toSorted(), leftovers: new Map(leftovers) };
}

const OPTION = 'GRANT OPTION';

/**
 * What the bits of `access` mean, lowest first: `enum privilege_t` in MariaDB's sql/privilege.h, by the names
 * that SHOW GRANTS uses. Bits up to 29 mean the same in every version that has global_priv, the others since 10.5,
 * and the last since 11.3.
 */
const GLOBAL_PRIVILEGES = [
  ...['SELECT', 'INSERT', 'UPDATE', 'DELETE', 'CREATE', 'DROP', 'RELOAD', 'SHUTDOWN', 'PROCESS'],
  ...['FILE', OPTION, 'REFERENCES', 'INDEX', 'ALTER', 'SHOW DATABASES', 'SUPER'],
  ...['CREATE TEMPORARY TABLES', 'LOCK TABLES', 'EXECUTE', 'REPLICATION SLAVE', 'BINLOG MONITOR'],
  ...['CREATE VIEW', 'SHOW VIEW', 'CREATE ROUTINE', 'ALTER ROUTINE', 'CREATE USER', 'EVENT'],
  ...['TRIGGER', 'CREATE TABLESPACE', 'DELETE HISTORY', 'SET USER', 'FEDERATED ADMIN'],
  ...['CONNECTION ADMIN', 'READ_ONLY ADMIN', 'REPLICATION SLAVE ADMIN'],
  ...['REPLICATION MASTER ADMIN', 'BINLOG ADMIN', 'BINLOG REPLAY', 'SLAVE MONITOR'],
  'SHOW CREATE ROUTINE',
];

/** `SELECT, SUPER on *.*`, `ALL, GRANT OPTION on *.*`; a bit without a name here is `bit 40`. */
function readGlobal(access: number): Grant[] {
  if (access === 0) return [];
  // the first root of a server has all 64 bits, whatever they mean
  if (!Number.isSafeInteger(access)) return ['ALL, GRANT OPTION on *.*'];
  // as text, because & is limited to 32 bits
  const names = Array.from(access.toString(2))
    .toReversed()
    .flatMap((bit, at) => (bit === '1' ? [GLOBAL_PRIVILEGES[at] ?? `bit ${at}`] : []));
  const isAll = GLOBAL_PRIVILEGES.every((name) => name === OPTION || names.includes(name));
  const option = names.includes(OPTION) ? [OPTION] : [];
  return [`${(isAll ? ['ALL', ...option] : names.toSorted()).join(', ')} on *.*`];
}

interface Login {
  plugin?: string;
  authentication_string?: string;
}
interface Priv extends Login {
  access?: number;
  auth_or?: Login[];
  account_locked?: boolean;
  max_user_connections?: number;
  max_questions?: number;
  max_updates?: number;
  max_connections?: number;
  max_statement_time?: number;
  /** 1: TLS, 2: a certificate, 3: a certain one or a cipher */
  ssl_type?: number;
  default_role?: string;
  /** seconds since 1970; 0 after PASSWORD EXPIRE */
  password_last_changed?: number;
}

/** What ALTER USER can demand of a login beyond a password, by `ssl_type`. */
const REQUIRED = ['REQUIRE SSL', 'REQUIRE X509', 'REQUIRE ISSUER, SUBJECT or CIPHER'];

function readRestrictions(priv: Priv): string[] {
  const limits = {
    MAX_QUERIES_PER_HOUR: priv.max_questions,
    MAX_UPDATES_PER_HOUR: priv.max_updates,
    MAX_CONNECTIONS_PER_HOUR: priv.max_connections,
    MAX_STATEMENT_TIME: priv.max_statement_time,
  };
  const required = REQUIRED[(priv.ssl_type ?? 0) - 1];
  return [
    ...(required === undefined ? [] : [required]),
    ...Object.entries(limits).flatMap(([name, most = 0]) => (most > 0 ? [`${name} ${most}`] : [])),
  ];
}

function readAccount(host: string, json: string, grants: Grant[]): DatabaseAccount {
  const priv = JSON.parse(json) as Priv;
  // in auth_or, an empty object stands for the account's first way to log in
  const logins = (priv.auth_or ?? [priv]).map((login) =>
    login.plugin === undefined ? priv : login,
  );
  const restrictions = readRestrictions(priv);
  return {
    host,
    ...(restrictions.length === 0 ? {} : { restrictions }),
    login: [
      ...logins.map(
        ({ plugin, authentication_string: verifier }) => `${plugin ?? ''} ${verifier ?? ''}`,
      ),
      ...(priv.password_last_changed === 0 ? ['expired'] : []),
    ],
    locked: priv.account_locked ?? false,
    maxUserConnections: priv.max_user_connections ?? 0,
    grants: [
      ...grants,
      ...readGlobal(priv.access ?? 0),
      ...(priv.default_role === undefined || priv.default_role === ''
        ? []
        : [`default role ${priv.default_role}`]),
    ].toSorted(),
  };
}

function readGrants(rows: AccountRows): Map<string, Grant[]> {
  const grants = new Map<string, Grant[]>();
  const add = (row: Row, grant: Grant) => {
    const name = nameOf(row);
    const known = grants.get(name);
    if (known === undefined) grants.set(name, [grant]);
    else known.push(grant);
  };
  const namesOf = readerOfPrivileges(rows.privilegeColumns);
  for (const row of rows.db) {
    add(row, `${namesOf(text(row, 'privileges'))} on ${text(row, 'Db')}.*`);
  }
  for (const row of rows.roles_mapping) {
    add(row, `role ${text(row, 'Role')}${row['Admin_option'] === 'Y' ? ' with admin option' : ''}`);
  }
  for (const row of rows.tables_priv) {
    const privileges = [text(row, 'Table_priv'), text(row, 'Column_priv')]
      .filter(Boolean)
      .join(',');
    add(row, `${privileges} on ${text(row, 'Db')}.${text(row, 'Table_name')}`);
  }
  for (const row of rows.procs_priv) {
    add(row, `${text(row, 'Proc_priv')} on ${text(row, 'Db')}.${text(row, 'Routine_name')}`);
  }
  for (const row of rows.proxies_priv) {
    add(row, `PROXY on ${text(row, 'Proxied_user')}@${text(row, 'Proxied_host')}`);
  }
  return grants;
}

/** Reads the privileges of a row of mysql.db. There are few different ones, so each is computed once. */
function readerOfPrivileges(columns: readonly string[]): (flags: string) => string {
  const known = new Map<string, string>();
  return (flags) => {
    const read = known.get(flags) ?? readPrivileges(columns, flags);
    known.set(flags, read);
    return read;
  };
}

function readPrivileges(columns: readonly string[], flags: string): string {
  if (flags.length !== columns.length)
    throw new Error('a row of mysql.db has an unexpected number of privileges');
  const held = columns.filter((_, i) => flags[i] === 'Y');
  const option = held.includes('Grant_priv') ? ['GRANT OPTION'] : [];
  const plain = held.filter((column) => column !== 'Grant_priv');
  if (plain.length === columns.length - 1) return ['ALL', ...option].join(', ');
  if (plain.length === columns.length - 2 && !plain.includes('Event_priv')) {
    return ['ALL but EVENT', ...option].join(', ');
  }
  return [
    ...plain.map((column) => column.slice(0, -'_priv'.length).replaceAll('_', ' ').toUpperCase()),
    ...option,
  ]
    .toSorted()
    .join(', ');
}

function text(row: Row, column: string): string {
  return String(row[column] ?? '');
}

/** Host and user as one key; neither contains a newline. */
function nameOf(row: Row): string {
  return `${text(row, 'User')}\n${text(row, 'Host')}`;
}

/**
 * The statement that gives a grant to an account (its name quoted already). Accepts only the forms that the
 * target wants; throws a RangeError for any other.
 *
 * @param all what ALL means on this server, for a grant of all but one
 */
export function grantStatement(
  grant: Grant,
  account: string,
  quote: (name: string) => string,
  all: readonly string[],
): string {
  const [privileges, pattern] = /^(ALL|ALL but EVENT) on (\S+)\.\*$/.exec(grant)?.slice(1) ?? [];
  if (privileges === undefined || pattern === undefined)
    throw new RangeError(`unknown grant: ${grant}`);
  // each by its name: granting ALL, and then revoking EVENT, would let events begin in between
  const named =
    privileges === 'ALL but EVENT' ? all.filter((each) => each !== 'EVENT').join(', ') : privileges;
  return `GRANT ${named} ON ${quote(pattern)}.* TO ${account}`;
}
