/** Keeps the marker of the directory, for the login hosts: see src/model/marker.ts. */
import type { Config } from '../src/config.ts';
import { openDirectoryHands } from '../src/edges/directory.ts';
import type { Log } from '../src/log.ts';
import { formatMarker } from '../src/model/marker.ts';
import { readMarker } from '../src/store/marker.ts';
import { openPool } from '../src/store/postgres.ts';
import { directorySettings } from './directory.ts';
import { startLoop, type Worker } from './loop.ts';

/** Login hosts take the directory for stale when the marker is a minute old. */
const EVERY_MS = 3000;

/** Two of them, on two machines, write the same. */
export function startMarker(config: Config, log: Log): Worker {
  const pool = openPool(config, 'directory', { max: 1, durable: false });
  const hands = openDirectoryHands(directorySettings(config, 'directory'));
  const loop = startLoop('marker', { everyMs: EVERY_MS, paceMs: 0, log }, async () => {
    await hands.tell(formatMarker({ at: new Date().toISOString(), ...(await readMarker(pool)) }));
  });
  return {
    async close() {
      await loop.close();
      await hands.close();
      await pool.end();
    },
  };
}
