/** Keeps the marker of the directory, for the login hosts: see src/seals/heartbeat.ts. */
import { createPublicKey } from 'node:crypto';
import type { Config } from '../shared/config.ts';
import { openDirectoryWriter } from '../backends/ldap/directory.ts';
import type { Log } from '../shared/log.ts';
import { signMarker, signShortMarker } from './heartbeat.ts';
import { type SealKey, verifying } from './seal.ts';
import * as store from './heartbeat-table.ts';
import { openPool } from '../database/connection.ts';
import { writerSettings } from '../backends/ldap/directory-settings.ts';
import { startLoop, type Worker } from '../shared/loop.ts';
import { noteMarker } from '../shared/metrics.ts';

/** Login hosts take the directory for stale when the marker is a minute old. */
const EVERY_MS = 3000;
/** What the counts say may have been changed by other means than ours. */
const COUNT_AGAIN_MS = 60_000;

/**
 * One beat:
 *
 * | the marker and what we know of it (markerDoubt) | then                                                    |
 * | ----------------------------------------------- | ------------------------------------------------------- |
 * | the directory is an older copy                  | nothing is told: login hosts stop trusting it           |
 * | our database is an older copy                   | nothing is told, and the realm is frozen                |
 * | an older copy was accepted, and is behind still | nothing is told yet                                     |
 * | else                                            | our time of publishing is recorded, and then it is told    |
 *
 * Two of them, on two machines, may both run: each writes only over the marker that it has read.
 *
 * Everybody is counted anew only after something that counts may have changed: too high a count and login hosts distrust
 * the directory, too low a one and it may hide that many. So what tells of a change (migrations/0002_work.sql) is heard
 * on the very connection that all is read by: where that is lost, so are the counts. After the first it does not listen
 * until it counts.
 */
export function startMarker(config: Config, log: Log, everyMs = EVERY_MS): Worker {
  const pool = openPool(config, 'directory', { max: 1, durable: false });
  const settings = writerSettings(config);
  const writer = openDirectoryWriter(settings);
  let said: string | undefined;
  let counted: { counts: Promise<store.Counts>; at: number } | undefined;
  pool.on('connect', (client) => {
    counted = undefined;
    client.on('notification', ({ payload }) => {
      if (payload === 'events' || counted === undefined) return;
      counted = undefined;
      client.query('UNLISTEN chamberlain').catch(() => {}); // a connection that is lost says so itself
    });
  });

  async function count(): Promise<store.Counts> {
    // what was told before has come when this is answered
    await pool.query('SELECT');
    if (counted === undefined || performance.now() - counted.at >= COUNT_AGAIN_MS) {
      // what is told meanwhile counts at the next beat
      const counts = pool.query('LISTEN chamberlain').then(() => store.countSubjects(pool));
      counted = { counts, at: performance.now() };
      counted.counts.catch(() => (counted = undefined));
    }
    return await counted.counts;
  }

  async function beat(): Promise<void> {
    const sealKey = settings.sealKey();
    const { texts, seenAt, publishing, doubt } = await store.lookAtHeartbeat(
      pool,
      () => writer.heartbeats(),
      verifying(sealKey),
    );
    noteMarker({ role: 'directory', place: 'directory' }, { doubt, publishing });
    if (doubt?.sentence !== said && doubt !== undefined) log.error(doubt, 'the marker is in doubt');
    said = doubt?.sentence;
    if (doubt !== undefined) {
      await store.writeDoubt(pool, doubt, publishing);
      return;
    }
    if (publishing.acceptedAt !== undefined && (await store.isDirectoryBehind(pool))) return;
    const counts = await count();
    const floors = await store.readFloors(pool);
    const at = await store.beginPublishing(pool, seenAt);
    const { realm } = config;
    const marker = {
      kind: 'heartbeat',
      realm,
      at: at.toISOString(),
      ...counts,
      ...floors,
    } as const;
    if (await writer.tell(signMarker(marker, sealKey), texts)) {
      const text = signShortMarker({ realm, at }, sealKey);
      await store.endPublishing(pool, at, { text, key: publicKeyOf(sealKey) });
    }
  }

  const loop = startLoop('marker', { everyMs, log }, beat);
  return {
    async close() {
      await loop.close();
      await writer.close();
      await pool.end();
    },
  };
}

/** As the places are told of it: SubjectPublicKeyInfo, in base64. */
function publicKeyOf({ privateKey }: SealKey): string {
  return createPublicKey(privateKey).export({ type: 'spki', format: 'der' }).toString('base64');
}
