/**
 * The database servers: a reader that reads the tables of accounts, and a writer that changes accounts.
 *
 * The writer changes only accounts of our grammar (`s<uid>`, `u<uid>` on any host), and reads verifiers, never
 * passwords. A verifier is a parameter, which the package does not log (`logParam: false`), and a server's
 * messages are passed on without anything that looks like one.
 */
import { setTimeout as sleep } from 'node:timers/promises';
import { ChamberlainError, codeOf, isUnreachable } from '../../shared/errors.ts';
import { limitWhileEnding } from '../../targets/connection-limit.ts';
import type { Action } from '../../reconcile/action.ts';
import type { DatabasesReader } from '../../targets/databases-reader.ts';
import type { Everything, Throttle } from '../../targets/everything.ts';
import { grantStatement, type Row } from './mariadb-accounts.ts';
import { loadingRole, readOwnPrivileges } from './mariadb-inventory.ts';
import {
  beginSurvey,
  digestAccounts,
  everythingOf,
  listUsers,
  type ListedUser,
  lookAt,
  type ServerSurvey,
} from './mariadb-reading.ts';
import {
  cannotWriteAccounts,
  type Connection,
  type DatabaseLogin,
  type DatabaseServerPlace,
  isUnavailable,
  openServers,
} from './mariadb-connections.ts';

/** A killed connection may take this many checks to go, this far apart. */
const GONE_LOOKS = 40;
const GONE_INTERVAL_MS = 50;

const VERIFIER = /\*[0-9A-Fa-f]{40}/g;

// ---- reader -------------------------------------------------------------------------------------

/** The reader of the role `databases`; `readEverything` reads which users have accounts on every server. */
export interface OpenDatabasesReader extends DatabasesReader {
  readEverything(throttle: Throttle): Promise<Everything<DatabasesReader>>;
  /** The accounts of a server whose names have our form, on any host. */
  listUsers(server: string): Promise<ListedUser[]>;
  /** Changes whenever any account of a server changes. */
  digestAccounts(server: string): Promise<string>;
  close(): Promise<void>;
}

/** Opens the reader; no connection is made before the first call. */
export function openDatabasesReader(
  places: readonly DatabaseServerPlace[],
  login: DatabaseLogin,
  connections = 2,
): OpenDatabasesReader {
  const servers = openServers(places, login, connections);
  const reading = async <T>(server: string, read: (connection: Connection) => Promise<T>) => {
    try {
      return await servers.use(server, read);
    } catch (cause) {
      throw new ChamberlainError('BACKEND_UNREADABLE', `reading the accounts of ${server}`, {
        cause: withoutSecrets(cause),
        context: { server },
      });
    }
  };
  return {
    look: (server, users) => reading(server, (connection) => lookAt(connection, users)),
    async readEverything({ yieldTurn }) {
      const surveys = new Map<string, ServerSurvey>();
      const failures = new Map<string, unknown>();
      // one after another: if a server fails, only that server is unreadable
      for (const { name } of places) {
        try {
          surveys.set(name, await beginSurvey((read) => reading(name, read)));
        } catch (error) {
          if (codeOf(error) !== 'BACKEND_UNREADABLE') throw error;
          failures.set(name, error);
        }
        await yieldTurn();
      }
      return everythingOf(surveys, failures);
    },
    listUsers: (server) => reading(server, listUsers),
    digestAccounts: (server) => reading(server, digestAccounts),
    close: () => servers.close(),
  };
}

// ---- writer ------------------------------------------------------------------------------------

type ActionOf<Verb extends Action['verb']> = Extract<Action, { verb: Verb }>;
type DatabaseAction = Extract<Action, { verb: `db.${string}` }>;
/** What is recorded: the verifier, and the previous one while that still works. */
interface Recorded {
  verifier: string;
  previous?: string;
}
/** What each verb does, as an error says it. */
const ACTS: Record<DatabaseAction['verb'], string> = {
  'db.createUser': 'creating',
  'db.dropUser': 'dropping',
  'db.setVerifier': 'changing the password of',
  'db.setLimit': 'changing the connection limit of',
  'db.grant': 'granting rights to',
  'db.revoke': 'revoking rights of',
  'db.setLocked': 'locking or unlocking',
};
type ReadVerifier = (uid: number, epoch: number) => Promise<Recorded | undefined>;

/**
 * Opens the writer. `readVerifier` returns what is recorded for an account and epoch, or undefined if another
 * epoch is recorded by now.
 */
export function openDatabasesWriter(
  places: readonly DatabaseServerPlace[],
  login: DatabaseLogin,
  readVerifier: ReadVerifier,
  connections = 4,
): { do(action: Action): Promise<void>; close(): Promise<void> } {
  const servers = openServers(places, login, connections);
  return {
    async do(action) {
      if (!isDatabaseAction(action))
        throw new TypeError(`${action.verb} is not a verb of databases`);
      if (!/^[su][1-9][0-9]{0,9}$/.test(action.user))
        throw new TypeError('not one of our database users');
      const act = `${ACTS[action.verb]} ${action.user} on ${action.server}`;
      const context = { server: action.server, user: action.user };
      try {
        const verifiers = 'epoch' in action ? await verifiersOf(action, readVerifier) : [];
        await servers.use(action.server, (connection) => change(connection, action, verifiers));
      } catch (error) {
        const code = codeOf(error);
        if (code !== 'INTERNAL') throw error;
        throw new ChamberlainError(isServers(error) ? 'BACKEND_UNAVAILABLE' : 'STEP_FAILED', act, {
          cause: withoutSecrets(error),
          context,
        });
      }
    },
    close: () => servers.close(),
  };
}

/** Whether the server cannot do any such step for now. */
function isServers(error: unknown): boolean {
  return isUnavailable(error) || cannotWriteAccounts(error);
}

function isDatabaseAction(action: Action): action is DatabaseAction {
  return action.verb.startsWith('db.');
}

/** The verifiers that must be accepted, the newest first. */
async function verifiersOf(
  { uid, epoch, overlaps, user, server }: ActionOf<'db.createUser' | 'db.setVerifier'>,
  readVerifier: ReadVerifier,
): Promise<string[]> {
  const recorded = await readVerifier(uid, epoch);
  if (recorded === undefined) throw stale(user, server, 'another password was created meanwhile');
  const { verifier, previous } = recorded;
  if ((previous !== undefined) !== overlaps) {
    throw stale(user, server, 'the previous password has expired meanwhile');
  }
  const verifiers = previous === undefined ? [verifier] : [verifier, previous];
  if (!verifiers.every((each) => /^\*[0-9A-F]{40}$/.test(each))) {
    throw new TypeError(`the verifier of ${user} is invalid`);
  }
  return verifiers;
}

/** The clause that lets any one of several passwords in, with a parameter for each. */
export function identifiedBy(verifiers: readonly string[]): string {
  if (verifiers.length === 1) return 'IDENTIFIED BY PASSWORD ?';
  return `IDENTIFIED VIA ${verifiers.map(() => 'mysql_native_password USING ?').join(' OR ')}`;
}

async function change(
  connection: Connection,
  action: DatabaseAction,
  verifiers: string[],
): Promise<void> {
  const { user, server } = action;
  const account = accountName(connection, user);
  const grant = (grants: readonly string[]) => give(connection, user, grants);
  const run = async (statements: readonly string[], values?: string[]) => {
    for (const sql of statements) await connection.query(sql, values);
  };
  try {
    switch (action.verb) {
      case 'db.createUser':
        return await createUser(connection, action, verifiers);
      case 'db.setVerifier': {
        const set = `ALTER USER ${account} ${identifiedBy(verifiers)}`;
        const { ends } = action;
        if (ends === undefined) return await run([set], verifiers);
        const { maxUserConnections: limit } = ends;
        await run([`${set} ${limitOf(limitWhileEnding(limit))}`], verifiers);
        await endConnections(connection, user);
        return await run([`ALTER USER ${account} ${limitOf(limit)}`]);
      }
      case 'db.setLimit':
        if (action.ends) await endConnections(connection, user);
        return await run([`ALTER USER ${account} ${limitOf(action.maxUserConnections)}`]);
      case 'db.grant':
        return await grant(action.grants);
      case 'db.revoke':
        // locked until it is done: wherever it is interrupted, no connection has more rights than the account
        await run([`ALTER USER ${account} ACCOUNT LOCK`]);
        await endConnections(connection, user);
        await run([`REVOKE ALL PRIVILEGES, GRANT OPTION FROM ${account}`]);
        // an event may have begun
        await endConnections(connection, user);
        await grant(action.keep);
        return await run(action.locked ? [] : [`ALTER USER ${account} ACCOUNT UNLOCK`]);
      case 'db.setLocked': {
        if (!action.locked) return await run([`ALTER USER ${account} ACCOUNT UNLOCK`]);
        // another limit until the connections have ended, so that an interrupted run leaves a difference
        const limit = action.maxUserConnections;
        await run([`ALTER USER ${account} ${limitOf(limitWhileEnding(limit))} ACCOUNT LOCK`]);
        // events run in a locked account, too; a running one ends with the connections, because it has one
        await run(
          action.withoutEventsOn.map(
            (pattern) => `REVOKE EVENT ON ${connection.escapeId(pattern)}.* FROM ${account}`,
          ),
        );
        await endConnections(connection, user);
        return await run([`ALTER USER ${account} ${limitOf(limit)}`]);
      }
      case 'db.dropUser':
        // DROP USER leaves connections open: first no new ones, then none at all, then no account
        await run([`ALTER USER ${account} ACCOUNT LOCK`]);
        await endConnections(connection, user);
        await run([`DROP USER ${account}`]);
        await run([`DROP ROLE IF EXISTS ${loadingRole(user)}`]);
        if (await isThere(connection, user)) throw new Error('it still exists');
        return;
    }
  } catch (error) {
    if (isServers(error)) throw error;
    // servers have a different error code for each statement on an unexpected account, so look it up
    const there = await isThere(connection, user);
    if (there === (action.verb === 'db.createUser')) {
      throw stale(user, server, there ? 'it was created meanwhile' : 'it was dropped meanwhile');
    }
    throw error;
  }
}

/**
 * Creates an account with its rights. Never with OR REPLACE, which drops grants, nor with IF NOT EXISTS, which
 * would take another's account for ours. An unlocked account is created by its first GRANT, if it has any:
 * among 40,000 accounts that takes the server 19 ms, while CREATE USER, which also looks through all rights for
 * those of the name (a finding here), and GRANT take 28. A GRANT with a password for an existing account needs
 * UPDATE on mysql.*, so it is refused.
 */
async function createUser(
  connection: Connection,
  { user, locked, maxUserConnections, grants }: ActionOf<'db.createUser'>,
  verifiers: readonly string[],
): Promise<void> {
  const login = `${identifiedBy(verifiers)} ${limitOf(maxUserConnections)}`;
  const given = await grantStatements(connection, user, grants);
  const [first, ...others] = given;
  const create = `CREATE USER ${accountName(connection, user)} ${login} ACCOUNT ${locked ? 'LOCK' : 'UNLOCK'}`;
  const byGrant = first !== undefined && !locked;
  const statements = byGrant ? [`${first} ${login}`, ...others] : [create, ...given];
  await runTogether(connection, statements, verifiers);
}

/** Our account of a user, quoted. */
export function accountName(connection: Connection, user: string): string {
  return `${connection.escapeId(user)}@${connection.escapeId('%')}`;
}

/** Gives a user's account grants of the forms that the target wants. */
export async function give(
  connection: Connection,
  user: string,
  grants: readonly string[],
): Promise<void> {
  await runTogether(connection, await grantStatements(connection, user, grants));
}

async function grantStatements(
  connection: Connection,
  user: string,
  grants: readonly string[],
): Promise<string[]> {
  const all = grants.some((grant) => grant.startsWith('ALL but '))
    ? await readOwnPrivileges(connection, user)
    : [];
  const quote = (name: string) => connection.escapeId(name);
  return grants.map((grant) => grantStatement(grant, accountName(connection, user), quote, all));
}

/** Runs statements one after another, in one round trip, up to the first that fails. */
async function runTogether(
  connection: Connection,
  statements: readonly string[],
  values?: readonly string[],
): Promise<void> {
  if (statements.length === 0) return;
  await connection.query(`BEGIN NOT ATOMIC ${statements.join('; ')}; END`, values);
}

function limitOf(maxUserConnections: number): string {
  if (!Number.isInteger(maxUserConnections) || maxUserConnections < 0) {
    throw new RangeError(`not a limit of connections: ${maxUserConnections}`);
  }
  return `WITH MAX_USER_CONNECTIONS ${maxUserConnections}`;
}

export async function isThere(connection: Connection, user: string): Promise<boolean> {
  const sql = "SELECT 1 FROM mysql.global_priv WHERE Host = '%' AND User = ?";
  return (await connection.query<Row[]>(sql, [user])).length > 0;
}

/**
 * Ends a user's connections, and checks that they are gone. One that still rolls back runs nothing more. If
 * there were none, as is usual, the check is left out, because it takes ten times as long as the KILL.
 */
export async function endConnections(connection: Connection, user: string): Promise<void> {
  const left =
    "SELECT 1 FROM information_schema.processlist WHERE USER = ? AND COMMAND <> 'Killed' LIMIT 1";
  for (let look = 0; look < GONE_LOOKS; look += 1) {
    const kill = `KILL USER ${connection.escapeId(user)}`;
    const { affectedRows: killed } = await connection.query<{ affectedRows: number }>(kill);
    if (killed === 0) return;
    if ((await connection.query<Row[]>(left, [user])).length === 0) return;
    await sleep(GONE_INTERVAL_MS);
  }
  throw new Error(`connections of ${user} did not end`);
}

function stale(user: string, server: string, what: string): ChamberlainError {
  return new ChamberlainError('STEP_STALE', `changing ${user} on ${server}`, {
    cause: new Error(what),
    context: { server, user },
  });
}

/**
 * The server's message alone: without the statement, and without anything like a verifier. The error of a connection
 * stays one.
 */
export function withoutSecrets(error: unknown): Error {
  const { sqlMessage, message, code } = error as {
    sqlMessage?: string;
    message?: string;
    code?: string;
  };
  if (isUnreachable(error)) {
    const { syscall } = error as NodeJS.ErrnoException;
    return Object.assign(new Error(message), { code, syscall });
  }
  const text = (sqlMessage ?? message ?? 'unknown').replace(VERIFIER, '*…');
  return new Error(code === undefined || code === null ? text : `${text} (${code})`);
}
