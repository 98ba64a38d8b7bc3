/** The role `homes`: root on the file server, and the one place where passwords are born. */
import { randomBytes } from 'node:crypto';
import { openFilesHands } from '../src/edges/file-hands.ts';
import { openFilesEyes } from '../src/edges/files.ts';
import { makePassword } from '../src/model/credentials.ts';
import { recordVerifier } from '../src/store/credentials.ts';
import type { FilesEyes } from '../src/targets/files-eyes.ts';
import { TARGETS } from '../src/targets/index.ts';
import type { RoleParts } from './role.ts';

export const HOMES: RoleParts<FilesEyes> = {
  role: 'homes',
  targets: TARGETS.homes,
  concurrency: 4,
  openEyes: (config) => openFilesEyes(config.files),
  openHands: (config, { holderOf }) =>
    openFilesHands(config.files, {
      newPassword: () => makePassword(randomBytes),
      recordVerifier: (uid, epoch, verifier) => recordVerifier(holderOf(uid), uid, epoch, verifier),
    }),
};
