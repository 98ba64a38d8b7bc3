/**
 * Where the archives of homes are, and what is there.
 *
 * `config.archives.homes` is root's own folder (0700). It holds a folder `<account>.<archival>` for each
 * archived home, with `manifest.json` and the files that this lists, and `.chamberlain`, which shows
 * that the folder is mounted, so that an unmounted folder does not look empty. While an archive is made, it is
 * the hidden sibling `.<account>.<archival>.part`: a folder with the name of an archive is complete.
 */
import {
  closeSync,
  fchmodSync,
  fchownSync,
  fstatSync,
  lstatSync,
  openSync,
  readdirSync,
  readSync,
} from 'node:fs';
import { mkdir } from 'node:fs/promises';
import { ChamberlainError } from '../../shared/errors.ts';
import { type ArchiveName, archiveName } from '../manifest.ts';
import { prepareErasures } from '../../lifecycle/erasure-list.ts';
import {
  errnoOf,
  itself,
  ofStaging,
  OPEN_DIRECTORY,
  OPEN_SAFELY,
  STAGING,
  STAGING_FORBIDS,
  whyUnsafe,
  within,
  withOpened,
} from '../../backends/files/file-mount.ts';

export const MANIFEST = 'manifest.json';
/** A manifest has a kilobyte or so. */
const MANIFEST_MAX_BYTES = 1024 * 1024;

/** The folder in which it is made: hidden, and not a name that `within` would accept. */
export function partOf(archives: { fd: number }, archive: ArchiveName): string {
  const whole = within(archives, archiveName(archive));
  return `${itself(archives)}/.${whole.slice(whole.lastIndexOf('/') + 1)}.part`;
}

/** Opens the folder of archives. Throws a system error, or an error if others have rights on the folder. */
export function openArchives(folder: string): { fd: number } {
  const archives = { fd: openSync(folder, OPEN_DIRECTORY) };
  try {
    const unsafe =
      whyUnsafe(fstatSync(archives.fd), STAGING_FORBIDS) ??
      whyUnsafe(lstatSync(`${itself(archives)}/${STAGING}`), STAGING_FORBIDS);
    if (unsafe !== undefined) throw new Error(`${folder} cannot be used: ${unsafe}`);
    return archives;
  } catch (cause) {
    closeSync(archives.fd);
    throw ofStaging(cause, folder);
  }
}

/** The bytes of the manifest of an archive; undefined if there is no such file, or one that is too long. */
export function readManifest(archives: { fd: number }, archive: ArchiveName): Buffer | undefined {
  let fd: number | undefined;
  try {
    fd = openSync(`${within(archives, archiveName(archive))}/${MANIFEST}`, OPEN_SAFELY);
    const { size } = fstatSync(fd);
    if (size > MANIFEST_MAX_BYTES) return undefined;
    const bytes = Buffer.alloc(size);
    return bytes.subarray(0, readSync(fd, bytes, 0, size, 0));
  } catch (cause) {
    if (['ENOENT', 'ENOTDIR', 'ELOOP'].includes(errnoOf(cause) ?? '')) return undefined;
    throw cause;
  } finally {
    if (fd !== undefined) closeSync(fd);
  }
}

/** Whether the folder of an archive exists and is empty: only the last act of its removal is missing. */
export function isEmptied(archives: { fd: number }, archive: ArchiveName): boolean {
  try {
    return readdirSync(within(archives, archiveName(archive))).length === 0;
  } catch (cause) {
    if (['ENOENT', 'ENOTDIR'].includes(errnoOf(cause) ?? '')) return false;
    throw cause;
  }
}

/** Whether anything of an archive exists, complete or not. */
export function isBegun(archives: { fd: number }, archive: ArchiveName): boolean {
  return [partOf(archives, archive), within(archives, archiveName(archive))].some(
    (place) => lstatSync(place, { throwIfNoEntry: false }) !== undefined,
  );
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
      closeSync(openArchives(folder).fd);
    });
  } catch (cause) {
    throw new ChamberlainError('STEP_FAILED', `preparing ${folder} for archives`, { cause });
  }
}

function unlessThere(error: unknown): void {
  if (errnoOf(error) !== 'EEXIST') throw error;
}
