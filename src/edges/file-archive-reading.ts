/** Looks at homes that are put away. Changes nothing. */
import { closeSync, lstatSync, readdirSync } from 'node:fs';
import type { ErasedPerson } from '../model/erased-person.ts';
import { parseManifest } from '../model/homes-manifest.ts';
import type { ArchiveHave, AskedArchive } from '../targets/files-eyes.ts';
import { isArchiveOf } from '../targets/unmanaged.ts';
import { isListed, readErasures } from './erasure-list.ts';
import { stagedOf, withdrawnNames } from './file-archive.ts';
import { isBegun, isEmptied, openArchives, readManifest, sha256Of } from './file-archive-ground.ts';
import { itself, stagingOf, unreadable } from './file-ground.ts';
import type { FileServer } from './file-ground.ts';
import { lookAtEach, lookAtFolder } from './files.ts';

/** Throws BACKEND_UNREADABLE where an area or the folder of archives cannot be read, or is not mounted. */
export async function lookAtArchives(
  files: FileServer,
  folder: string,
  asked: readonly AskedArchive[],
): Promise<ArchiveHave[]> {
  if (asked.length === 0) return [];
  let archives: { fd: number } | undefined;
  try {
    archives = openArchives(folder);
    const opened = archives;
    const lookAtErasure = erasuresIn(opened);
    return await lookAtEach(files, asked, (area, one) => ({
      ...lookAtOne(area, opened, one),
      ...lookAtErasure(area, one),
    }));
  } catch (cause) {
    throw unreadable(cause);
  } finally {
    if (archives !== undefined) closeSync(archives.fd);
  }
}

function lookAtOne(
  area: { fd: number },
  archives: { fd: number },
  asked: AskedArchive,
): ArchiveHave {
  const { left, gone } = withdrawnNames(asked);
  const isStaged = (name: string) =>
    lstatSync(`${stagingOf(area)}/${name}`, { throwIfNoEntry: false }) !== undefined;
  const place = lookAtFolder(area, asked.home.name);
  return {
    place: place.kind === 'directory' ? { kind: place.kind, seen: place.seen } : place,
    left: isStaged(left),
    going: isStaged(gone),
    archive: lookAtArchive(archives, asked),
  };
}

function lookAtArchive(archives: { fd: number }, asked: AskedArchive): ArchiveHave['archive'] {
  if (asked.manifest === undefined) return isBegun(archives, asked) ? 'unrecorded' : 'absent';
  const bytes = readManifest(archives, asked);
  if (bytes === undefined) return isEmptied(archives, asked) ? 'emptied' : 'absent';
  if (sha256Of(bytes) !== asked.manifest) return 'other';
  return parseManifest(bytes, asked)?.what.kind ?? 'other';
}

/** The names beside the archives, and the list, read once for all that are asked about. */
function erasuresIn(archives: {
  fd: number;
}): (area: { fd: number }, asked: AskedArchive) => Erased {
  let names: string[] | undefined;
  let listed: readonly ErasedPerson[] | undefined;
  return (area, { home, account, uid, erasure }) => {
    if (erasure === undefined) return {};
    names ??= readdirSync(itself(archives));
    listed ??= listIn(archives);
    return {
      isListed: isListed(listed, { uid, account, erasure }),
      leftovers:
        stagedOf(readdirSync(stagingOf(area)), home).length > 0 ||
        names.some((name) => isArchiveOf(account, name)),
    };
  };
}

type Erased = Pick<ArchiveHave, 'isListed' | 'leftovers'>;

/** Nobody where it cannot be read: whoever adds to it says why. */
function listIn(archives: { fd: number }): readonly ErasedPerson[] {
  try {
    return readErasures(archives);
  } catch {
    return [];
  }
}
