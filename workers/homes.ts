/** The role `homes`: root on the file server, and the one place where passwords are born. */
import { randomBytes } from 'node:crypto';
import { openFilesHands } from '../src/edges/file-hands.ts';
import { openFilesEyes } from '../src/edges/files.ts';
import { makePassword } from '../src/model/credentials.ts';
import { recordVerifier } from '../src/store/credentials.ts';
import { openPool } from '../src/store/postgres.ts';
import type { FilesEyes } from '../src/targets/files-eyes.ts';
import { TARGETS } from '../src/targets/index.ts';
import type { RoleParts } from './role.ts';

const CONCURRENCY = 8;

export const HOMES: RoleParts<FilesEyes> = {
  role: 'homes',
  targets: TARGETS.homes,
  concurrency: CONCURRENCY,
  openEyes: (config) => openFilesEyes(config.files),
  openHands(config) {
    // a verifier lasts before its file has its place
    const durable = openPool(config, 'homes', { max: CONCURRENCY, durable: true });
    const hands = openFilesHands(config.files, {
      newPassword: () => makePassword(randomBytes),
      recordVerifier: (uid, epoch, verifier) => recordVerifier(durable, uid, epoch, verifier),
    });
    return {
      do: (action) => hands.do(action),
      async close() {
        await hands.close();
        await durable.end();
      },
    };
  },
};
