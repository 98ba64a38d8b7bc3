/** What `chamberlain doctor` checks on a MariaDB server. */
import { type DatabaseLogin, type DatabaseServerPlace, onServer } from './mariadb-connections.ts';

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
