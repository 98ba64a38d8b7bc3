/** What `chamberlain doctor` checks on a MariaDB server, and whether a server hangs. */
import {
  type DatabaseLogin,
  type DatabaseServerPlace,
  onServer,
  openServers,
} from './mariadb-connections.ts';

export interface ReaderHealth {
  version: string;
  /** by the server's clock, in milliseconds since the epoch */
  clock: number;
  connections: number;
  mostConnections: number;
  /** hosts of accounts without a name, which take precedence over `'s50001'@'%'` */
  anonymousHosts: string[];
}

/** Reads as `chamberlain_databases_reader`. */
export async function readReaderHealth(
  place: DatabaseServerPlace,
  login: DatabaseLogin,
): Promise<ReaderHealth> {
  return await onServer(place, login, async (connection) => {
    const [row] = await connection.query<Record<string, string | number>[]>(
      `SELECT VERSION() AS version, CAST(UNIX_TIMESTAMP(SYSDATE(6)) AS CHAR) AS clock,
                @@max_connections AS most`,
    );
    const [threads] = await connection.query<Record<string, string | number>[]>(
      `SHOW GLOBAL STATUS LIKE 'Threads_connected'`,
    );
    const anonymous = await connection.query<{ Host: string }[]>(
      `SELECT Host FROM mysql.global_priv WHERE User = '' AND JSON_VALUE(Priv, '$.is_role') IS NULL`,
    );
    return {
      version: String(row?.['version']),
      clock: Number(row?.['clock']) * 1000,
      connections: Number(threads?.['Value']),
      mostConnections: Number(row?.['most']),
      anonymousHosts: anonymous.map(({ Host }) => Host),
    };
  });
}

/** What an account was granted, as `SHOW GRANTS` writes it: this may include its password's verifier. */
export async function readGrants(
  place: DatabaseServerPlace,
  login: DatabaseLogin,
): Promise<string> {
  return await onServer(place, login, async (connection) => {
    const rows = await connection.query<Record<string, string>[]>('SHOW GRANTS');
    return rows.map((row) => Object.values(row)[0]).join(';\n');
  });
}

/** A server must have failed to answer this many times in a row: each failure takes its own time-out. */
const MOST_SILENT = 3;

/** A check that fails if a server hangs: nothing else ends a statement that may take hours. */
export function watchServers(
  places: readonly DatabaseServerPlace[],
  login: DatabaseLogin,
): () => Promise<void> {
  const silent = new Map<string, number>();
  return async () => {
    const servers = openServers(places, login, 1);
    try {
      await Promise.all(
        places.map(async ({ name }) => {
          try {
            await servers.use(name, (connection) => connection.query('SELECT 1'));
            silent.delete(name);
          } catch (error) {
            const count = (silent.get(name) ?? 0) + 1;
            silent.set(name, count);
            if (count >= MOST_SILENT) throw error;
          }
        }),
      );
    } finally {
      await servers.close();
    }
  };
}
