/** The role `directory`: LDAP. */
import { readSealKey } from '../src/shared/config.ts';
import { directorySettings, writerSettings } from '../src/backends/ldap/directory-settings.ts';
import {
  openDirectoryEyes,
  openDirectoryHands,
  type OpenDirectoryEyes,
} from '../src/backends/ldap/directory.ts';
import { ChamberlainError } from '../src/shared/errors.ts';
import { rememberForeign } from '../src/unmanaged/foreign-sightings-table.ts';
import { missingPeople, newestOf, parseMarker } from '../src/seals/marker.ts';
import { lookAtMarker } from '../src/seals/marker-table.ts';
import { readAllAccounts } from '../src/unmanaged/unmanaged-table.ts';
import type { DirectoryEyes } from '../src/targets/directory-eyes.ts';
import { foreignOf } from '../src/unmanaged/foreign.ts';
import { addSealed, newerSealsIn } from '../src/targets/seal.ts';
import { type SealKeys, verifying, verifyPayload } from '../src/seals/seal.ts';
import { TARGETS } from '../src/targets/index.ts';
import type { RoleParts } from '../src/reconcile/role.ts';
import { watchDirectory } from '../src/unmanaged/watch-directory.ts';

export const DIRECTORY: RoleParts<DirectoryEyes, OpenDirectoryEyes> = {
  role: 'directory',
  targets: TARGETS.directory,
  concurrency: 4,
  openEyes: (config) => openDirectoryEyes(directorySettings(config, 'directory-eyes')),
  openHands: (config) => openDirectoryHands(writerSettings(config)),
  async readEverything(eyes, pace, { pool, realm, ranges, others, config }) {
    const ours = { accounts: await readAllAccounts(pool), realm: realm.realm, ranges, others };
    const everything = await eyes.readEverything(pace, realm.realmGid, ours);
    // afterwards: what was brought back while it was read is told by the marker too
    const { texts, doubt } = await lookAtMarker(pool, () => eyes.told());
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
  together: addSealed,
  remember: (found, pool) => rememberForeign(pool, foreignOf(found.findings)),
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
