/** Checks the areas of homes, if this host has them. */
import { join } from 'node:path';
import { type Config, machineOf, readSecret } from '../shared/config.ts';
import {
  AREA_FORBIDS,
  areaPath,
  STAGING,
  STAGING_FORBIDS,
  whyUnsafe,
} from '../backends/files/file-mount.ts';
import { type Owned, statPaths } from '../shared/path-stat.ts';
import { elsewhere, fix, type Line, ok, unreadable } from './line.ts';

/** Less than the time limit of a check, so that each area is reported by itself. */
const LIMIT_MS = 1500;

export async function lookAtAreas(config: Config): Promise<Line[]> {
  const areas = ['toolHomes', 'personHomes'] as const;
  const lines = await Promise.all(
    areas.map((area) => lookAtArea(config, areaPath(config.files, area))),
  );
  return lines.flat();
}

async function lookAtArea(config: Config, path: string): Promise<Line[]> {
  const mark = join(path, STAGING);
  const seen = await statPaths([path, mark], LIMIT_MS);
  switch (seen) {
    case 'no answer':
      return [
        unreadable(`${path}: no answer within ${LIMIT_MS / 1000} s`, 'Look at the file server.'),
      ];
    case 'not for us':
      return [elsewhere(`this user may not look into ${path}`, 'Run this as root.')];
    case 'not there': {
      const mount =
        'Mount it. Only if it was never prepared, run `chamberlain prepare` on the file server.';
      return [
        isFileServer(config)
          ? fix(`${path} has no folder ${STAGING}: it is not mounted, or not prepared`, mount)
          : elsewhere(`${path} is not on this machine, or has no folder ${STAGING}`, mount),
      ];
    }
    default: {
      const [area, staging] = seen as [Owned, Owned];
      const faults = [
        {
          ...{ at: path, why: whyUnsafe(area, AREA_FORBIDS) },
          todo: `Run \`chown root ${path}; chmod go-w ${path}\` on the file server.`,
        },
        {
          ...{ at: mark, why: whyUnsafe(staging, STAGING_FORBIDS) },
          todo: 'Run `chamberlain prepare` on the file server.',
        },
      ].filter(({ why }) => why !== undefined);
      return faults.length === 0
        ? [ok(`${path} is mounted and prepared`)]
        : faults.map(({ at, why, todo }) => fix(`${at}: ${why}`, todo));
    }
  }
}

/** Whether the role homes runs on this machine: then its secret is here. The machine of the realm has all secrets. */
function isFileServer(config: Config): boolean {
  if (machineOf(config, 'homes') !== undefined) return false;
  try {
    return readSecret(config, 'postgres', 'homes') !== '';
  } catch {
    return false;
  }
}
