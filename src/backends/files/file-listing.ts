/** Lists what is in the areas of homes, and who owns it. Nothing is opened or followed. */
import { isUtf8 } from 'node:buffer';
import { closeSync, fstatSync, lstatSync, readdirSync } from 'node:fs';
import type { HomeSighting } from '../../targets/everything.ts';
import { ERASURES } from '../../lifecycle/erasure-list.ts';
import { type Area, type FileServer, itself, openArea, STAGING, unreadable } from './file-mount.ts';

/** An entry of a folder. */
export interface ListedPath {
  name: string;
  uid: number;
  /** when its content was last changed */
  changedAt: Date;
  /** distinguishes it from another of the same name */
  identity: string;
}

/**
 * A folder as it was at the last look: until a name in it is added, removed or changed, the unmanaged names of
 * that look are complete.
 */
export interface FolderMemory {
  /** when a name was last changed; undefined if it may have changed in the very moment of the look */
  changedAtNs?: bigint | undefined;
  unknown?: Buffer[];
}
/** A file system distinguishes two moments that are this far apart. */
const MOMENT_MS = 2000;

/**
 * Lists the entries of a folder that `isOurs` does not know, without our own mark. Nothing else is examined.
 *
 * @param open opens the folder, or throws
 * @param memory of the previous look, so that 40,000 names are not listed again for nothing
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
    // read before the listing: what changes during it is listed again next time
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
      // lost+found is created by mke2fs(8); entries that are gone meanwhile are left out
      if (stats === undefined || (name === 'lost+found' && stats.uid === 0)) return [];
      // without the device number, which may differ after each mount
      const identity = `${stats.ino}:${Math.trunc(stats.birthtimeMs)}`;
      return [{ name, uid: stats.uid, changedAt: stats.mtime, identity }];
    });
  } finally {
    if (folder !== undefined) closeSync(folder.fd);
  }
}

/**
 * Lists both areas, this many names at a time. A name may be any bytes: if it is not ASCII, it is read as
 * Latin-1.
 */
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
        // entries that are gone meanwhile are left out
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
