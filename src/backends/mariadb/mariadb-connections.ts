/**
 * A few connections to each database server. The only file that uses the package `mariadb`.
 *
 * The package's own pool is not used: if a server refuses, it retries for the whole time-out, and after
 * failures it waits up to 10 s before it tries again. Here a refusal is an error at once, and the next piece of
 * work tries again.
 */
import { connect as openSocket, type Socket } from 'node:net';
import { createConnection } from 'mariadb';
import { type Secret, secretNow } from '../../secrets/secret.ts';
import { isThisMachine, tlsOptions } from '../../shared/tls.ts';
import { unlessAborted } from '../../shared/unless-aborted.ts';

/** What the backend uses of a connection. */
export interface Connection {
  query<T>(sql: string, values?: unknown): Promise<T>;
  escapeId(name: string): string;
}

/** Where a server is: a unix socket, or a host, which is reached by TLS unless it is this machine. */
export interface DatabaseServerPlace {
  name: string;
  socket?: string | undefined;
  host?: string | undefined;
  port?: number | undefined;
  /** of the authority that signs the certificate of a host; by default the system's */
  caFile?: string | undefined;
}

export interface DatabaseLogin {
  user: string;
  password: Secret;
}

export interface Servers {
  /** Lends a connection for one piece of work. */
  use<T>(server: string, work: (connection: Connection) => Promise<T>): Promise<T>;
  close(): Promise<void>;
}

/** Another piece of work is finding out whether the server is back. */
class NotAnswering extends Error {}

/** The server was not reached, refused the login, was lost on the way, or answered too late. */
export function isUnavailable(error: unknown): boolean {
  const { fatal, sqlState, syscall } = error as {
    fatal?: boolean;
    sqlState?: string;
    syscall?: string;
  };
  return (
    error instanceof NotAnswering ||
    fatal === true ||
    sqlState?.startsWith('08') === true ||
    syscall !== undefined
  );
}

/**
 * The server answers, but changes no account for now, whichever it is. Only for statements about accounts: they write
 * tables that belong to no subject, and wait for no lock that a tenant can hold. (Measured: MariaDB 11.8.)
 *
 * | errno | what the server says                 | when                                                             |
 * | ----- | ------------------------------------ | ---------------------------------------------------------------- |
 * | 1290  | it runs with the option --read-only  | `read_only`: a failover, maintenance. The code is also that of   |
 * |       |                                      | other options, so the message decides; it always names the option|
 * | 1792  | the transaction is read-only         | `tx_read_only`, since we begin no transaction                    |
 * | 1205  | waited too long for a lock           | `BACKUP STAGE BLOCK_COMMIT` (mariabackup). Not while a tenant    |
 * |       |                                      | has locked its own tables                                        |
 * | 1114  | the table is full                    | the disk is full, and the tables of accounts are InnoDB's. Aria's|
 * |       |                                      | wait, and the connection times out                               |
 * | 1021  | the disk is full                     | not met: by its definition                                       |
 * | 1213  | a deadlock                           | not met: as a cluster says of statements that conflict           |
 * | 1836  | it runs in read-only mode            | not met: by its definition                                       |
 *
 * With `innodb_read_only`, and tables of accounts that are InnoDB's, ALTER USER fails with 1396, as for an account that
 * does not exist: that is not told apart.
 */
export function cannotWriteAccounts(error: unknown): boolean {
  const { errno, sqlMessage } = error as { errno?: number; sqlMessage?: string | null };
  if (errno === 1290) return sqlMessage?.includes('--read-only') === true;
  return errno !== undefined && [1021, 1114, 1205, 1213, 1792, 1836].includes(errno);
}

interface OpenConnection extends Connection {
  isValid(): boolean;
  end(): Promise<void>;
  /** Closes the connection at once, whatever the server does; the work in progress fails. */
  drop(): void;
  /** Drops the connection, and ends its statement on the server. Throws if the server could not be asked. */
  cut(): Promise<void>;
}

const CONNECT_TIMEOUT_MS = 3_000;
/** Work fails after this much silence on the socket: a stopped server does not refuse, it hangs. */
const OPERATION_TIMEOUT_MS = 5_000;
/** When an unused connection is closed; the socket's time-out continues, so this must be shorter. */
const IDLE_MS = 2_000;

/** Opens no connection yet. At most `limit` to each server. */
export function openServers(
  places: readonly DatabaseServerPlace[],
  login: DatabaseLogin,
  limit: number,
): Servers {
  const pools = new Map(places.map((place) => [place.name, openPool(place, login, limit)]));
  return {
    async use(server, work) {
      const pool = pools.get(server);
      if (pool === undefined) throw new TypeError(`no database server ${server} is configured`);
      return await pool.use(work);
    },
    async close() {
      await Promise.all([...pools.values()].map((pool) => pool.close()));
    },
  };
}

/** Runs `work` on a connection of its own. */
export async function onServer<T>(
  place: DatabaseServerPlace,
  login: DatabaseLogin,
  work: (connection: Connection) => Promise<T>,
): Promise<T> {
  const servers = openServers([place], login, 1);
  try {
    return await servers.use(place.name, work);
  } finally {
    await servers.close();
  }
}

function openPool(place: DatabaseServerPlace, login: DatabaseLogin, limit: number) {
  const idle = new Map<OpenConnection, NodeJS.Timeout>();
  const queue: (() => void)[] = [];
  let inUse = 0;
  // A server that hangs costs each piece of work the whole time-out. So once it has not answered, one piece of
  // work at a time finds out whether it answers again, and all others fail at once.
  let silent = false;
  let isProbing = false;
  const closing = new AbortController();

  function take(): OpenConnection | undefined {
    for (const [connection, timer] of [...idle].toReversed()) {
      clearTimeout(timer);
      idle.delete(connection);
      if (connection.isValid()) return connection;
    }
    return undefined;
  }

  async function open(): Promise<OpenConnection> {
    const connecting = connect(place, login);
    const cut = cutOf(connecting);
    closing.signal.addEventListener('abort', cut);
    try {
      return await unlessAborted(connecting, closing.signal);
    } finally {
      closing.signal.removeEventListener('abort', cut);
    }
  }

  function giveBack(connection: OpenConnection): void {
    if (!connection.isValid()) return;
    if (closing.signal.aborted) return void connection.cut().catch(() => {});
    const timer = setTimeout(() => {
      idle.delete(connection);
      void end(connection);
    }, IDLE_MS);
    idle.set(connection, timer.unref());
  }

  return {
    async use<T>(work: (connection: Connection) => Promise<T>): Promise<T> {
      const probes = silent;
      if (probes && isProbing) throw new NotAnswering(`${place.name} does not answer`);
      if (probes) isProbing = true;
      if (inUse >= limit) await new Promise<void>((resolve) => queue.push(resolve));
      else inUse += 1;
      try {
        if (silent && !probes) throw new NotAnswering(`${place.name} does not answer`);
        const connection = take() ?? (await open());
        try {
          const result = await unlessAborted(work(connection), closing.signal);
          silent = false;
          return result;
        } finally {
          giveBack(connection);
        }
      } catch (error) {
        if (isUnavailable(error)) silent = true;
        throw error;
      } finally {
        if (probes) isProbing = false;
        const next = queue.shift();
        if (next === undefined) inUse -= 1;
        else next();
      }
    },
    /** Closes unused connections, and cuts those in use: a server that hangs must not delay this. */
    async close(): Promise<void> {
      closing.abort(
        new NotAnswering(`${place.name} did not answer before the connections were closed`),
      );
      const connections = [...idle.keys()];
      for (const timer of idle.values()) clearTimeout(timer);
      idle.clear();
      await Promise.all(connections.map(end));
    },
  };
}

/**
 * Lends a connection of its own for work whose statements may take hours. If `signal` aborts, the statement on
 * the server is ended, too, and the signal's reason is thrown.
 */
export async function usePatiently<T>(
  place: DatabaseServerPlace,
  login: DatabaseLogin,
  signal: AbortSignal,
  work: (connection: Connection) => Promise<T>,
): Promise<T> {
  signal.throwIfAborted();
  const connecting = connect(place, login, 0);
  const cut = cutOf(connecting);
  signal.addEventListener('abort', cut);
  try {
    const connection = await unlessAborted(connecting, signal);
    try {
      // for a server that hangs, the package never reports that a statement was cut
      return await unlessAborted(work(connection), signal);
    } finally {
      if (!signal.aborted) await unlessAborted(end(connection), signal);
    }
  } catch (error) {
    signal.throwIfAborted();
    throw error;
  } finally {
    signal.removeEventListener('abort', cut);
  }
}

/** Cuts a connection, even one that is established only after the cut. */
function cutOf(connecting: Promise<OpenConnection>): () => void {
  return () => void connecting.then((connection) => connection.cut()).catch(() => {});
}

async function connect(
  place: DatabaseServerPlace,
  login: DatabaseLogin,
  socketTimeout = OPERATION_TIMEOUT_MS,
): Promise<OpenConnection> {
  let socket: Socket | undefined;
  const connection = await createConnection({
    stream(use) {
      socket = place.socket === undefined ? openSocket(portOf(place)) : openSocket(place.socket);
      use(undefined, socket);
    },
    user: login.user,
    password: secretNow(login.password),
    ...tlsOf(place),
    connectTimeout: CONNECT_TIMEOUT_MS,
    socketTimeout,
    sessionVariables: {
      // without NO_AUTO_CREATE_USER, a GRANT to an account that was dropped creates it, without a password
      sql_mode: 'STRICT_ALL_TABLES,NO_AUTO_CREATE_USER,NO_ENGINE_SUBSTITUTION',
      lock_wait_timeout: 4,
    },
    logParam: false,
    autoJsonMap: false,
    arrayParenthesis: false,
  });
  // the work in progress gets its own error; an unused connection that breaks is found to be invalid
  connection.on('error', () => undefined);
  const drop = () => void socket?.destroy(new Error('the connection was cut'));
  return Object.assign(connection, {
    drop,
    // The package's `destroy` does the same, but if the server is lost before it has answered the KILL, it
    // throws where nobody can catch it, and the process ends.
    async cut() {
      drop();
      const killer = await connect(place, login);
      try {
        await killer.query(`KILL ${connection.threadId}`);
      } finally {
        killer.drop();
      }
    },
  });
}

function portOf({ host = 'localhost', port = 3306 }: DatabaseServerPlace) {
  return { host, port, noDelay: true };
}

function tlsOf({ socket, host = 'localhost', caFile }: DatabaseServerPlace) {
  if (socket !== undefined || isThisMachine(host)) return {};
  // without `ca`, the package would trust a certificate that anybody has signed; `host` is the name in the certificate
  return { host, ssl: tlsOptions({ host, caFile }) };
}

async function end(connection: OpenConnection): Promise<void> {
  try {
    await connection.end();
  } catch {
    connection.drop();
  }
}
