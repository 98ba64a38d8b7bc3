/** Values for the metrics that the leader of a work reads from PostgreSQL, by the rights of its role. */
import type { Config } from '../shared/config.ts';
import type { Log } from '../shared/log.ts';
import { openSource, READ_WITHIN_MS, type Reading } from '../shared/metrics.ts';
import { openPool, type Pool } from './connection.ts';

/**
 * Reads on a connection of its own, which cannot write, is opened by the first read, and ends half a minute after the
 * last one. So a read delays no work, and costs nothing while nobody reads the metrics.
 */
export function openPostgresSource(
  { config, work, log }: { config: Config; work: 'intake' | 'relay' | 'sweep'; log: Log },
  read: (pool: Pool) => Promise<readonly Reading[]>,
): { close(): void } {
  const pool = openPool(config, work, { max: 1, durable: false, readsWithinMs: READ_WITHIN_MS });
  const source = openSource({ work, server: 'postgresql', read: () => read(pool) }, log);
  return {
    close() {
      source.close();
      void pool.end(); // a read in progress has its limit
    },
  };
}
