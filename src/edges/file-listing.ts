/** What stands in the areas of homes, and whose it is. Nothing is opened, nothing followed. */
import { closeSync, lstatSync, readdirSync } from 'node:fs';
import type { HomeSighting } from '../targets/everything.ts';
import { itself, openArea, STAGING, unreadable } from './file-ground.ts';
import type { Area, FileServer } from './file-ground.ts';

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
