/** The role `directory`: LDAP. */
import { readSealKey } from '../../shared/config.ts';
import {
  directorySettings,
  openDirectoryReader,
  openDirectoryWriter,
  type OpenDirectoryReader,
  writerSettings,
} from '../../backends/ldap/directory.ts';
import { ChamberlainError } from '../../shared/errors.ts';
import { rememberUnmanaged } from '../../unmanaged/sightings-table.ts';
import { missingPeople, newestOf, parseMarker } from '../../seals/heartbeat.ts';
import { lookAtHeartbeat } from '../../seals/heartbeat-table.ts';
import { readAllAccounts } from '../../unmanaged/unmanaged-table.ts';
import type { DirectoryReader } from '../../targets/directory-reader.ts';
import { unmanagedOf } from '../../unmanaged/sightings.ts';
import { addSealed, newerSealsIn } from '../../targets/seal.ts';
import { type SealKeys, verifying, verifyPayload } from '../../seals/seal.ts';
import type { RoleParts } from '../../reconcile/role.ts';
import { startMarker } from '../../seals/publish-heartbeat.ts';
import { watchDirectory } from '../../unmanaged/watch-directory.ts';
import { DIRECTORY_TARGETS } from './role.ts';

export const DIRECTORY: RoleParts<DirectoryReader, OpenDirectoryReader> = {
  role: 'directory',
  targets: DIRECTORY_TARGETS,
  concurrency: 4,
  openReader: (config) => openDirectoryReader(directorySettings(config, 'directory-reader')),
  openWriter: (config) => openDirectoryWriter(writerSettings(config)),
  async readEverything(reader, throttle, { pool, realm, ranges, others, config }) {
    const ours = { accounts: await readAllAccounts(pool), realm: realm.realm, ranges, others };
    const everything = await reader.readEverything(throttle, realm.realmGid, ours);
    // afterwards: if the directory was restored while it was read, the heartbeat says so
    const { texts, doubt } = await lookAtHeartbeat(pool, () => reader.heartbeats());
    const missing = doubt === undefined ? missingPeople(everything.people, texts) : undefined;
    if (missing !== undefined) {
      const cause = new Error(missing);
      throw new ChamberlainError('BACKEND_UNREADABLE', 'reading all of the directory', { cause });
    }
    return {
      ...everything,
      readMarkedAt: async () => signedAt(texts, verifying(readSealKey(config))),
      ...(doubt === undefined ? {} : { doubt }),
    };
  },
  newerSeals: (found, { config }) =>
    newerSealsIn(
      found.flatMap(({ steps }) => steps),
      verifying(readSealKey(config)),
    ),
  openWatch: watchDirectory,
  startMore: startMarker,
  together: addSealed,
  remember: (found, pool) => rememberUnmanaged(pool, unmanagedOf(found.findings)),
};

/** The time of the newest heartbeat among these texts that those keys have signed. */
function signedAt(texts: readonly string[], keys: SealKeys): Date | undefined {
  return newestOf(
    texts.map((text) => {
      const marker = verifyPayload(text, keys).ok ? parseMarker(text) : undefined;
      return marker && new Date(marker.at);
    }),
  );
}
