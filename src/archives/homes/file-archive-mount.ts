/**
 * Where the archives of homes are: in `config.archives.homes`, root's own folder (0700). `.chamberlain` in it shows
 * that it is mounted, so that an unmounted folder does not look empty.
 */
import { closeSync, fchmodSync, fchownSync } from 'node:fs';
import { mkdir } from 'node:fs/promises';
import { ChamberlainError } from '../../shared/errors.ts';
import { type ArchivePlace, openArchives } from '../container.ts';
import { type HomeManifest, parseManifest } from '../homes-manifest.ts';
import { prepareErasures } from '../../lifecycle/erasure-list.ts';
import { PREPARE_AGAIN } from '../../backends/files/file-acls.ts';
import {
  errnoOf,
  itself,
  OPEN_DIRECTORY,
  STAGING,
  withOpened,
} from '../../backends/files/file-mount.ts';

/** The archives of homes in that folder. */
export function homeArchives(path: string): ArchivePlace<HomeManifest> {
  return {
    ...{ role: 'homes', path, isRoots: true, resumes: false, parse: parseManifest },
    filesOf: ({ files }) => files.map(({ name: file, ...one }) => ({ file, ...one })),
  };
}

/** Prepares the folder of archives, as root, if it is mounted. It may be called again. */
export async function prepareArchives(folder: string): Promise<void> {
  try {
    await mkdir(folder.slice(0, folder.lastIndexOf('/')) || '/', { recursive: true, mode: 0o755 });
    await mkdir(folder, 0o700).catch(unlessThere);
    await withOpened(folder, OPEN_DIRECTORY, async (opened) => {
      fchownSync(opened.fd, 0, 0);
      fchmodSync(opened.fd, 0o700);
      await mkdir(`${itself(opened)}/${STAGING}`, 0o700).catch(unlessThere);
      prepareErasures(opened);
      await opened.sync();
      closeSync(openArchives(homeArchives(folder)).fd);
    });
  } catch (cause) {
    throw new ChamberlainError('STEP_FAILED', `preparing ${folder} for archives`, {
      cause,
      action: PREPARE_AGAIN,
    });
  }
}

function unlessThere(error: unknown): void {
  if (errnoOf(error) !== 'EEXIST') throw error;
}
