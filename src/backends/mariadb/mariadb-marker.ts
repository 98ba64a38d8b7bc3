/**
 * The marker of a MariaDB server (src/seals/heartbeat.ts): a row of `mysql.chamberlain_marker`, which
 * deploy/mariadb creates. It is next to the accounts, so if an older copy of those is restored, the older
 * marker comes back with it.
 */
import { ChamberlainError } from '../../shared/errors.ts';
import { withoutSecrets } from './mariadb.ts';
import {
  type Connection,
  type DatabaseLogin,
  type DatabaseServerPlace,
  openServers,
} from './mariadb-connections.ts';

const NO_SUCH_TABLE = 1146;
/** ER_TABLEACCESS_DENIED_ERROR: without a right to the table, also the answer if it does not exist */
const DENIED = 1142;
/** ER_DUP_ENTRY */
const THERE_ALREADY = 1062;

const errnoOf = (error: unknown) => (error as { errno?: number }).errno ?? 0;

/**
 * Opens the markers of servers; no connection is made before the first call.
 *
 * @param options.whenDenied whether an account without a right to the table sees no marker, so that an older copy without
 *   the table is noticed, or cannot read it
 */
export function openServerMarkers(
  places: readonly DatabaseServerPlace[],
  login: DatabaseLogin,
  name: string,
  { whenDenied }: { whenDenied: 'none' | 'unreadable' },
) {
  const servers = openServers(places, login, 1);

  async function use<T>(server: string, act: string, work: (connection: Connection) => Promise<T>) {
    try {
      return await servers.use(server, work);
    } catch (error) {
      const cause = withoutSecrets(error);
      throw new ChamberlainError('BACKEND_UNREADABLE', `${act} the marker of ${server}`, { cause });
    }
  }

  return {
    /** Undefined if there is no marker, or no table for it. */
    read: (server: string): Promise<string | undefined> =>
      use(server, 'reading', async (connection) => {
        try {
          const [row] = await connection.query<{ marker: string }[]>(
            'SELECT marker FROM mysql.chamberlain_marker WHERE realm = ?',
            [name],
          );
          return row?.marker;
        } catch (error) {
          const errno = errnoOf(error);
          if (errno === NO_SUCH_TABLE || (errno === DENIED && whenDenied === 'none'))
            return undefined;
          throw error;
        }
      }),

    /** Returns false, and writes nothing, if the marker is not the one that was read. */
    write: (server: string, marker: string, instead: string | undefined): Promise<boolean> =>
      use(server, 'writing', async (connection) => {
        try {
          const { affectedRows } = await connection.query<{ affectedRows: number }>(
            instead === undefined
              ? 'INSERT INTO mysql.chamberlain_marker (marker, realm) VALUES (?, ?)'
              : 'UPDATE mysql.chamberlain_marker SET marker = ? WHERE realm = ? AND marker = ?',
            [marker, name, ...(instead === undefined ? [] : [instead])],
          );
          return affectedRows === 1;
        } catch (error) {
          if (errnoOf(error) === THERE_ALREADY) return false;
          throw error;
        }
      }),

    close: () => servers.close(),
  };
}
