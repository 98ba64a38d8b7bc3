/** Reads the state of homes that are archived. Changes nothing. */
import { closeSync, lstatSync, readdirSync } from 'node:fs';
import {
  type Archives,
  isBegun,
  isEmptied,
  lookInArchives,
  readDeletions,
  readManifest,
  withArchives,
} from '../container.ts';
import type { SeenDeletion } from '../deletion.ts';
import { toolOf } from '../../identity/names.ts';
import type { ErasedPerson } from '../../lifecycle/erased-person.ts';
import type { HomeManifest } from '../homes-manifest.ts';
import { sha256Of } from '../manifest.ts';
import type { ArchiveHave, AskedArchive } from '../../targets/files-reader.ts';
import { isArchiveOf } from '../../unmanaged/unmanaged-things.ts';
import { isListed, readErasures } from '../../lifecycle/erasure-list.ts';
import { homeArchives } from './file-archive-mount.ts';
import { stagedOf, asideNames } from './file-archive-quarantine.ts';
import { type Area, openArea, stagingOf, unreadable } from '../../backends/files/file-mount.ts';
import type { FileServer } from '../../backends/files/file-mount.ts';
import { lookAtEach, lookAtFolder } from '../../backends/files/file-looking.ts';

type Opened = Archives<HomeManifest>;

/** Throws BACKEND_UNREADABLE if an area or the folder of archives cannot be read, or is not mounted. */
export async function lookAtArchives(
  files: FileServer,
  folder: string,
  asked: readonly AskedArchive[],
): Promise<ArchiveHave[]> {
  if (asked.length === 0) return [];
  return await withArchives(homeArchives(folder), (archives) => {
    const lookAtErasure = erasuresIn(archives);
    return lookAtEach(files, asked, (area, one) => ({
      ...lookAtOne(area, archives, one),
      ...lookAtErasure(area, one),
    }));
  }).catch((cause: unknown) => {
    throw unreadable(cause);
  });
}

/**
 * The deletions that the archives show whose names are not in the set, and whether the home of each was
 * restored. Throws BACKEND_UNREADABLE as above.
 */
export function readHomeDeletions(
  files: FileServer,
  folder: string,
  recorded: ReadonlySet<string>,
): SeenDeletion[] {
  const opened = new Map<Area, { fd: number }>();
  const open = (name: Area) => {
    const area = opened.get(name) ?? openArea(files, name);
    opened.set(name, area);
    return area;
  };
  try {
    return lookInArchives(homeArchives(folder), (archives) =>
      readDeletions(archives, recorded, ({ account, uid, what }, kind) => {
        if (what.kind === 'nothing') return undefined;
        const isTool = kind === 'tool';
        const home = isTool ? toolOf(account) : account;
        const place = lookAtFolder(open(isTool ? 'toolHomes' : 'personHomes'), home);
        return place.kind === 'directory' && place.seen.uid === uid ? 'yes' : 'no';
      }),
    );
  } catch (cause) {
    throw unreadable(cause);
  } finally {
    for (const each of opened.values()) closeSync(each.fd);
  }
}

function lookAtOne(area: { fd: number }, archives: Opened, asked: AskedArchive): ArchiveHave {
  const { left, gone } = asideNames(asked);
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

function lookAtArchive(archives: Opened, asked: AskedArchive): ArchiveHave['archive'] {
  if (asked.manifest === undefined) return isBegun(archives, asked) ? 'unrecorded' : 'absent';
  const bytes = readManifest(archives, asked);
  if (bytes === undefined) return isEmptied(archives, asked) ? 'emptied' : 'absent';
  if (sha256Of(bytes) !== asked.manifest) return 'other';
  return archives.parse(bytes, asked)?.what.kind ?? 'other';
}

/** The names next to the archives, and the list of erasures, read once for all subjects. */
function erasuresIn(archives: Opened): (area: { fd: number }, asked: AskedArchive) => Erased {
  let names: string[] | undefined;
  let listed: readonly ErasedPerson[] | undefined;
  return (area, { home, account, uid, erasure }) => {
    if (erasure === undefined) return {};
    names ??= readdirSync(archives.path);
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

/** Empty if it cannot be read: the code that appends to it reports why. */
function listIn(archives: { fd: number }): readonly ErasedPerson[] {
  try {
    return readErasures(archives);
  } catch {
    return [];
  }
}
