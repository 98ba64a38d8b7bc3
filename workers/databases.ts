/** The role `databases`: accounts on every configured MariaDB server. */
import type { Config } from '../src/config.ts';
import { readSecret } from '../src/config.ts';
import {
  openDatabasesEyes,
  openDatabasesHands,
  type OpenDatabasesEyes,
} from '../src/edges/mariadb.ts';
import { readVerifier } from '../src/store/credentials.ts';
import type { DatabasesEyes } from '../src/targets/databases-eyes.ts';
import { TARGETS } from '../src/targets/index.ts';
import type { RoleParts } from './role.ts';

export const DATABASES: RoleParts<DatabasesEyes, OpenDatabasesEyes> = {
  role: 'databases',
  targets: TARGETS.databases,
  concurrency: 4,
  openEyes: (config) =>
    openDatabasesEyes(config.databases.servers, login(config, 'databases-eyes')),
  readEverything: (eyes, pace) => eyes.readEverything(pace),
  openHands: (config, { pool }) =>
    openDatabasesHands(config.databases.servers, login(config, 'databases'), (uid, epoch) =>
      readVerifier(pool, uid, epoch),
    ),
};

/** The MariaDB account of that name, the same on every server. */
function login(config: Config, account: 'databases' | 'databases-eyes') {
  return {
    user: `chamberlain_${account.replace('-', '_')}`,
    password: readSecret(config, 'mariadb', account),
  };
}
