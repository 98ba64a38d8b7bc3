/** Looks at the areas of homes, where this host has them. */
import { lstat } from 'node:fs/promises';
import { join } from 'node:path';
import { type Config, readSecret } from '../config.ts';
import {
  AREA_FORBIDS,
  areaPath,
  errnoOf,
  STAGING,
  STAGING_FORBIDS,
  whyUnsafe,
} from '../edges/file-ground.ts';
import { elsewhere, fix, type Line, ok } from './line.ts';

export async function lookAtAreas(config: Config): Promise<Line[]> {
  const lines: Line[] = [];
  for (const area of ['toolHomes', 'personHomes'] as const) {
    const path = areaPath(config.files, area);
    const mark = join(path, STAGING);
    try {
      const faults = [
        [path, whyUnsafe(await lstat(path), AREA_FORBIDS)],
        [mark, whyUnsafe(await lstat(mark), STAGING_FORBIDS)],
      ].filter(([, why]) => why !== undefined);
      lines.push(
        ...(faults.length === 0
          ? [ok(`${path} is there, with its mark`)]
          : faults.map(([at, why]) =>
              fix(
                `${at}: ${why}`,
                'Only root may write there, and only root may look into the mark.',
              ),
            )),
      );
    } catch (error) {
      const errno = errnoOf(error);
      if (errno !== 'ENOENT' && errno !== 'EACCES') throw error;
      const mount = 'Mount it, and run `chamberlain prepare` on the file server, once.';
      lines.push(
        errno === 'EACCES'
          ? elsewhere(`${path} is not for this user to look at`, 'Run this as root.')
          : isFileServer(config)
            ? fix(`${path} has no mark: it is not mounted, or not prepared`, mount)
            : elsewhere(`${path} is not here, or has no mark`, mount),
      );
    }
  }
  return lines;
}

/** Whether the role homes works here: then its secret is. */
function isFileServer(config: Config): boolean {
  try {
    return readSecret(config, 'postgres', 'homes') !== '';
  } catch {
    return false;
  }
}
