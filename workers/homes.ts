/** The role `homes`: root on the file server, and the one place where passwords are born. */
import { randomBytes } from 'node:crypto';
import { openFilesHands } from '../src/edges/file-hands.ts';
import { type OpenFilesEyes, openFilesEyes } from '../src/edges/files.ts';
import { makePassword } from '../src/model/credentials.ts';
import { reportArchiveProgress } from '../src/store/archives.ts';
import { recordVerifier } from '../src/store/credentials.ts';
import { sightingOfHome } from '../src/targets/everything.ts';
import type { FilesEyes } from '../src/targets/files-eyes.ts';
import type { Sighting } from '../src/targets/foreign.ts';
import { TARGETS } from '../src/targets/index.ts';
import { keepArchives } from './archive-keeping.ts';
import type { RoleParts } from './role.ts';

export const HOMES: RoleParts<FilesEyes, OpenFilesEyes> = {
  role: 'homes',
  targets: TARGETS.homes,
  concurrency: 4,
  openEyes: (config) => openFilesEyes(config.files, config.archives.homes),
  // looking at homes one by one is fast enough: beforehand only their names and owners are read
  async readEverything(eyes, pace, { realm }) {
    const numbers = new Set<number>();
    const sightings: Sighting[] = [];
    for await (const piece of eyes.listHomes(pace.piece)) {
      for (const home of piece) {
        numbers.add(home.uid).add(home.gid);
        sightings.push(sightingOfHome(home, realm));
      }
      await pace.breathe();
    }
    return { eyes, sightings, numbers };
  },
  openHands: (config, store) =>
    openFilesHands(
      config.files,
      {
        newPassword: () => makePassword(randomBytes),
        recordVerifier: (made) => recordVerifier(store.holderOf(made.account), made),
      },
      {
        folder: config.archives.homes,
        realm: config.realm,
        now: () => new Date(),
        ...keepArchives('homes', store),
        report: (progress) => reportArchiveProgress(store.pool, { ...progress, role: 'homes' }),
      },
    ),
};
