/**
 * What the target of the role `databases` sees: the accounts of each database server, in one
 * normal form, whatever way the server keeps them.
 */

/**
 * What an account may do, one text each:
 *
 * - `role labsdbuser`, `role labsdbuser with admin option`: a role that it may take
 * - `default role labsdbuser`: the role that it has from the start
 * - `SELECT, SHOW VIEW on %\_p.*`: privileges, sorted, on a database or a pattern (`_` and `%` are
 *   wildcards, `\` takes that away); all that the server knows but GRANT OPTION are `ALL`, and
 *   without EVENT too `ALL but EVENT`
 * - anything else (`… on *.*`, on tables and routines, `PROXY on …`): the target wants none such, so
 *   the text is for people only
 */
export type Grant = string;

/** One account, a user name with a host. */
export interface DatabaseAccount {
  /** `%` is any; a role has '' */
  host: string;
  /**
   * Ways to log in, any of which will do: `mysql_native_password *<40 hex digits>`, and `expired`
   * where the password must be changed first.
   */
  login: string[];
  locked: boolean;
  /** 0 is the server's own limit */
  maxUserConnections: number;
  /** sorted */
  grants: Grant[];
}

/** What is on one server. */
export interface DatabaseServerView {
  /** the accounts of each user that was asked for; none: the user is not there */
  users: ReadonlyMap<string, DatabaseAccount[]>;
  /** the hosts of accounts without a user name */
  anonymousHosts: string[];
  /** what names on host `%` may do without having an account, as a DROP USER that was cut leaves it */
  leftovers: ReadonlyMap<string, Grant[]>;
}

/** Reads in bulk. Each answer is complete, or it throws BACKEND_UNREADABLE. */
export interface DatabasesReader {
  look(server: string, users: readonly string[]): Promise<DatabaseServerView>;
}

/** An archive of databases as it lies there. */
export interface DatabasesArchive {
  /** SHA-256 of its manifest as it is on disk now, hex */
  manifest: string;
  /** what it holds, by server; a server is named if it was looked at, whether it had anything or not */
  servers: ReadonlyMap<string, { databases: string[]; isReturned: boolean }>;
}

/** Looks at databases by name alone, never into them. Throws BACKEND_UNREADABLE as above. */
export interface DatabaseArchiveReader {
  /** The names of the databases `<user>__…` of each user that has any, sorted. */
  lookForDatabases(
    server: string,
    users: readonly string[],
  ): Promise<ReadonlyMap<string, string[]>>;
  /** The archive of that name; undefined where there is none. */
  lookAtArchive(account: string, archival: number): Promise<DatabasesArchive | undefined>;
  /** Whether something is left of an archive of that name that was being made. */
  isPartThere(account: string, archival: number): Promise<boolean>;
  /** Whether anything is left of any archive of the account, recorded or not. */
  isAnyThere(account: string): Promise<boolean>;
}
