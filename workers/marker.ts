/** Keeps the marker of the directory, for the login hosts: see src/model/marker.ts. */
import type { Config } from '../src/config.ts';
import { openDirectoryHands } from '../src/edges/directory.ts';
import type { Log } from '../src/log.ts';
import { signMarker } from '../src/model/marker.ts';
import { verifying } from '../src/model/seal.ts';
import * as store from '../src/store/marker.ts';
import { openPool } from '../src/store/postgres.ts';
import { writerSettings } from './directory.ts';
import { startLoop, type Worker } from './loop.ts';

/** Login hosts take the directory for stale when the marker is a minute old. */
const EVERY_MS = 3000;

/**
 * One beat:
 *
 * | the marker and what we know of it (markerDoubt) | then                                                    |
 * | ----------------------------------------------- | ------------------------------------------------------- |
 * | the directory is an older copy                  | nothing is told: login hosts stop trusting it           |
 * | our database is an older copy                   | nothing is told, and the realm is frozen                |
 * | an older copy was accepted, and is behind still | nothing is told yet                                     |
 * | else                                            | our time of telling is recorded, and then it is told    |
 *
 * Two of them, on two machines, may both run: each writes only over the marker that it has read.
 */
export function startMarker(config: Config, log: Log): Worker {
  const pool = openPool(config, 'directory', { max: 1, durable: false });
  const settings = writerSettings(config);
  const hands = openDirectoryHands(settings);
  const keys = verifying(settings.sealKey);
  let said: string | undefined;

  async function beat(): Promise<void> {
    const { texts, seenAt, telling, doubt } = await store.lookAtMarker(
      pool,
      () => hands.told(),
      keys,
    );
    if (doubt?.sentence !== said && doubt !== undefined) log.error(doubt, 'the marker is in doubt');
    said = doubt?.sentence;
    if (doubt !== undefined) {
      await store.writeDoubt(pool, doubt, telling);
      return;
    }
    if (telling.acceptedAt !== undefined && (await store.isDirectoryBehind(pool))) return;
    const read = await store.readMarker(pool);
    const at = await store.beginTelling(pool, seenAt);
    const { realm } = config;
    const marker = { kind: 'heartbeat', realm, at: at.toISOString(), ...read } as const;
    if (await hands.tell(signMarker(marker, settings.sealKey), texts)) {
      await store.endTelling(pool, at);
    }
  }

  const loop = startLoop('marker', { everyMs: EVERY_MS, log }, beat);
  return {
    async close() {
      await loop.close();
      await hands.close();
      await pool.end();
    },
  };
}
