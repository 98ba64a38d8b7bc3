/** What stands in the areas of homes, and whose it is. Nothing is opened, nothing followed. */
import { isUtf8 } from 'node:buffer';
import { closeSync, fstatSync, lstatSync, readdirSync } from 'node:fs';
import type { HomeSighting } from '../../targets/everything.ts';
import { ERASURES } from '../../lifecycle/erasure-list.ts';
import { itself, openArea, STAGING, unreadable } from './file-mount.ts';
import type { Area, FileServer } from './file-mount.ts';

/** What stands in a folder under a name. */
export interface ListedPath {
  name: string;
  uid: number;
  /** when what is in it was changed last */
  changedAt: Date;
  /** tells it from another of the same name */
  identity: string;
}

/** A folder as it was at a look: until a name in it comes, goes or changes, those that were not known are all there is. */
export interface FolderMemory {
  /** when a name was last changed; undefined: it may have been in the very moment of the look */
  changedAtNs?: bigint | undefined;
  unknown?: Buffer[];
}
/** A file system tells two moments apart that are so far from each other. */
const MOMENT_MS = 2000;

/**
 * What stands in a folder, but for our own mark, of what `isOurs` does not know. Nothing else is looked at.
 *
 * @param open opens the folder, or throws
 * @param memory of the look before: 40,000 names are not listed anew for nothing
 */
export async function listUnmanaged(
  open: () => { fd: number },
  isOurs: (names: readonly string[]) => Promise<(name: string) => boolean>,
  memory: FolderMemory = {},
): Promise<ListedPath[]> {
  let folder: { fd: number } | undefined;
  try {
    const now = Date.now();
    folder = open();
    const inFolder = Buffer.from(`${itself(folder)}/`);
    // before: what is changed while it is listed is listed once more
    const { ctimeNs, ctimeMs } = fstatSync(folder.fd, { bigint: true });
    const isAsBefore = memory.changedAtNs === ctimeNs;
    const entries =
      (isAsBefore ? memory.unknown : undefined) ??
      readdirSync(itself(folder), { encoding: 'buffer' });
    const names = entries.map((entry) => entry.toString(isUtf8(entry) ? 'utf8' : 'latin1'));
    const isKnown = await isOurs(names);
    memory.unknown = entries.filter((_, at) => !isKnown(names[at] as string));
    memory.changedAtNs = Number(ctimeMs) < now - MOMENT_MS ? ctimeNs : undefined;
    return entries.flatMap((entry, at) => {
      const name = names[at] as string;
      if (name === STAGING || name === ERASURES || isKnown(name)) return [];
      const stats = lstatSync(Buffer.concat([inFolder, entry]), { throwIfNoEntry: false });
      // what mke2fs(8) makes; what went away meanwhile is not there
      if (stats === undefined || (name === 'lost+found' && stats.uid === 0)) return [];
      // not the device, whose number may be another after each mount
      const identity = `${stats.ino}:${Math.trunc(stats.birthtimeMs)}`;
      return [{ name, uid: stats.uid, changedAt: stats.mtime, identity }];
    });
  } finally {
    if (folder !== undefined) closeSync(folder.fd);
  }
}

/** Lists both areas, so many names at a time. A name may be any bytes: what is no ASCII reads as Latin-1. */
export async function* listHomes(files: FileServer, piece: number): AsyncGenerator<HomeSighting[]> {
  for (const area of ['toolHomes', 'personHomes'] as const) yield* listArea(files, area, piece);
}

async function* listArea(
  files: FileServer,
  name: Area,
  piece: number,
): AsyncGenerator<HomeSighting[]> {
  let area: { fd: number } | undefined;
  try {
    area = openArea(files, name);
    const inArea = Buffer.from(`${itself(area)}/`);
    const entries = readdirSync(itself(area), { encoding: 'buffer' });
    for (let at = 0; at < entries.length; at += piece) {
      const seen: HomeSighting[] = [];
      for (const entry of entries.slice(at, at + piece)) {
        const text = entry.toString('latin1');
        if (text === STAGING) continue;
        // what went away meanwhile is not there
        const stats = lstatSync(Buffer.concat([inArea, entry]), { throwIfNoEntry: false });
        if (stats === undefined) continue;
        seen.push({ area: name, name: text, uid: stats.uid, gid: stats.gid });
      }
      yield seen;
    }
  } catch (cause) {
    throw unreadable(cause);
  } finally {
    if (area !== undefined) closeSync(area.fd);
  }
}
