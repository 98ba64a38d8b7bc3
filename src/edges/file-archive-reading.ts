/** Looks at homes that are put away. Changes nothing. */
import { closeSync, lstatSync, readdirSync } from 'node:fs';
import { parseManifest } from '../model/homes-manifest.ts';
import type { ArchiveHave, AskedArchive } from '../targets/files-eyes.ts';
import { isListed, readErasures } from './erasure-list.ts';
import { stagedOf, withdrawnNames } from './file-archive.ts';
import {
  archivesAmong,
  isBegun,
  isEmptied,
  openArchives,
  readManifest,
  sha256Of,
} from './file-archive-ground.ts';
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
    return await lookAtEach(files, asked, (area, one) => ({
      ...lookAtOne(area, opened, one),
      ...(one.erasure === undefined ? {} : lookAtErasure(area, opened, one)),
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

function lookAtErasure(
  area: { fd: number },
  archives: { fd: number },
  asked: AskedArchive,
): Pick<ArchiveHave, 'isListed' | 'leftovers'> {
  return {
    isListed: isNoted(archives, asked),
    leftovers:
      stagedOf(readdirSync(stagingOf(area)), asked.home).length > 0 ||
      archivesAmong(readdirSync(itself(archives)), asked.account).length > 0,
  };
}

/** Whether the list names the erasure; where it cannot be read, whoever adds to it says why. */
function isNoted(archives: { fd: number }, { erasure, ...asked }: AskedArchive): boolean {
  try {
    return erasure !== undefined && isListed(readErasures(archives), { ...asked, erasure });
  } catch {
    return false;
  }
}
