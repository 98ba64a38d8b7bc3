/** The role `directory`: LDAP. */
import type { Config } from '../src/config.ts';
import { readSecret } from '../src/config.ts';
import { openDirectoryEyes, openDirectoryHands } from '../src/edges/directory.ts';
import { rememberForeign } from '../src/store/foreign-sightings.ts';
import type { DirectoryEyes } from '../src/targets/directory-eyes.ts';
import { foreignOf, lookForForeign } from '../src/targets/foreign.ts';
import { TARGETS } from '../src/targets/index.ts';
import type { RoleParts } from './role.ts';

export const DIRECTORY: RoleParts<DirectoryEyes> = {
  role: 'directory',
  targets: TARGETS.directory,
  concurrency: 4,
  openEyes: (config) => openDirectoryEyes(directorySettings(config, 'directory-eyes')),
  openHands: (config) => openDirectoryHands(directorySettings(config, 'directory')),
  async lookAround(eyes, pool, realm) {
    for await (const seen of lookForForeign(eyes, realm)) await rememberForeign(pool, seen);
  },
  remember: (found, pool) => rememberForeign(pool, foreignOf(found.findings)),
};

/** How the directory is reached as one of the role's two accounts. */
export function directorySettings(config: Config, account: 'directory' | 'directory-eyes') {
  return {
    uri: config.ldap.uri,
    base: config.ldap.base,
    realm: config.realm,
    caFile: config.ldap.caFile,
    password: readSecret(config, 'ldap', account),
  };
}
