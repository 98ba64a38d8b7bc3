/** Publishes the heartbeat in the directory for the login hosts: see src/seals/heartbeat.ts. */
import { createPublicKey } from 'node:crypto';
import type { Config } from '../shared/config.ts';
import { openDirectoryWriter, writerSettings } from '../backends/ldap/directory.ts';
import type { Log } from '../shared/log.ts';
import { signMarker, signShortMarker } from './heartbeat.ts';
import { type SealKey, verifying } from './seal.ts';
import * as store from './heartbeat-table.ts';
import { openPool } from '../database/connection.ts';
import { startLoop, type Worker } from '../shared/loop.ts';
import { noteMarker } from '../shared/metrics.ts';

/** Login hosts consider the directory stale when the heartbeat is a minute old. */
const EVERY_MS = 3000;
/** Subjects are counted again after this time, because something else may have changed the tables. */
const COUNT_AGAIN_MS = 60_000;

/**
 * One beat:
 *
 * | the heartbeat, and what we know of it (markerDoubt) | then                                                   |
 * | --------------------------------------------------- | ------------------------------------------------------ |
 * | the directory is an older copy                      | nothing is published: login hosts stop trusting it     |
 * | our database is an older copy                       | nothing is published, and the realm is frozen          |
 * | an older copy was accepted, and is still behind     | nothing is published yet                               |
 * | otherwise                                           | the time of publishing is recorded, then it is published |
 *
 * Two of these, on two machines, may run at once: each overwrites only the heartbeat that it has read.
 *
 * Subjects are counted again only after a change that may matter. With too high a count, login hosts distrust the
 * directory. With too low a count, the directory could hide that many. So notices of changes (migrations/0002_work.sql)
 * are received on the same connection that reads everything: if it is lost, so are the counts. After the first notice
 * it stops listening until the next count.
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
      client.query('UNLISTEN chamberlain').catch(() => {}); // a lost connection is noticed elsewhere
    });
  });

  async function count(): Promise<store.Counts> {
    // notices sent before this have arrived when it is answered
    await pool.query('SELECT');
    if (counted === undefined || performance.now() - counted.at >= COUNT_AGAIN_MS) {
      // a notice that arrives meanwhile counts at the next beat
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
    if (doubt?.sentence !== said && doubt !== undefined)
      log.error(doubt, 'the heartbeat is in doubt');
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

/** In the form that is published for the places: SubjectPublicKeyInfo, in base64. */
function publicKeyOf({ privateKey }: SealKey): string {
  return createPublicKey(privateKey).export({ type: 'spki', format: 'der' }).toString('base64');
}
