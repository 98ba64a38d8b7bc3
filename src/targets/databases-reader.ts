/**
 * What the target of the role `databases` sees: the accounts of each database server, in one normal form,
 * however the server stores them.
 */

/**
 * What an account may do, one text each:
 *
 * - `role labsdbuser`, `role labsdbuser with admin option`: a role that it may take
 * - `default role labsdbuser`: the role that it has from the start
 * - `SELECT, SHOW VIEW on %\_p.*`: privileges, sorted, on a database or a pattern (`_` and `%` are wildcards,
 *   unless escaped by `\`). All that the server knows except GRANT OPTION are `ALL`; without EVENT, too, they
 *   are `ALL but EVENT`
 * - anything else (`… on *.*`, on tables and routines, `PROXY on …`): the target wants none of these, so the
 *   text is only for people
 */
export type Grant = string;

/** One account, a user name with a host. */
export interface DatabaseAccount {
  /** `%` is any; a role has '' */
  host: string;
  /**
   * Ways to log in, any of which is enough: `mysql_native_password *<40 hex digits>`, and `expired` if the
   * password must be changed first.
   */
  login: string[];
  locked: boolean;
  /** 0 is the server's own limit */
  maxUserConnections: number;
  /** what else may refuse a login or end a statement, as ALTER USER names it; left out if there is nothing */
  restrictions?: string[];
  /** sorted */
  grants: Grant[];
}

/** What is on one server. */
export interface DatabaseServerView {
  /** the accounts of each user that was asked for; empty if the user does not exist */
  users: ReadonlyMap<string, DatabaseAccount[]>;
  /** the hosts of accounts without a user name */
  anonymousHosts: string[];
  /** rights of names on host `%` that have no account, as an interrupted DROP USER leaves them */
  leftovers: ReadonlyMap<string, Grant[]>;
}

/** Reads in bulk. Each answer is complete, or it throws BACKEND_UNREADABLE. */
export interface DatabasesReader {
  look(server: string, users: readonly string[]): Promise<DatabaseServerView>;
}

/** An archive of databases as it is on disk. */
export interface DatabasesArchive {
  /** SHA-256 of its manifest as it is on disk now, hex */
  manifest: string;
  /** what it holds, by server; a server is named if it was read, whether it had anything or not */
  servers: ReadonlyMap<string, { databases: string[]; isReturned: boolean }>;
}

/** Reads which databases exist, by name only, never their content. Throws BACKEND_UNREADABLE as above. */
export interface DatabaseArchiveReader {
  /** The names of the databases `<user>__…` of each user that has any, sorted. */
  lookForDatabases(
    server: string,
    users: readonly string[],
  ): Promise<ReadonlyMap<string, string[]>>;
  /**
   * The archive of that name; undefined if there is none. `emptied`: only its empty folder is there, because its
   * removal was interrupted.
   */
  lookAtArchive(
    account: string,
    archival: number,
  ): Promise<DatabasesArchive | 'emptied' | undefined>;
  /** Whether something is left of an unfinished archive of that name. */
  isPartThere(account: string, archival: number): Promise<boolean>;
  /** Whether anything is left of any archive of the account, recorded or not. */
  isAnyThere(account: string): Promise<boolean>;
}
