/** Notices that a server hangs. */
import {
  type DatabaseLogin,
  type DatabaseServerPlace,
  openServers,
} from './mariadb-connections.ts';

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
