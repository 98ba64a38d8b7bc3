/** Looks at the areas of homes, where this host has them. */
import { spawn } from 'node:child_process';
import { join } from 'node:path';
import { type Config, readSecret } from '../config.ts';
import {
  AREA_FORBIDS,
  areaPath,
  STAGING,
  STAGING_FORBIDS,
  whyUnsafe,
} from '../edges/file-ground.ts';
import { elsewhere, fix, type Line, ok, unreadable } from './line.ts';

/** Less than a check may take: each area is told by itself. */
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
  const seen = await statFrom([path, mark]);
  switch (seen) {
    case 'no answer':
      return [
        unreadable(`${path}: no answer within ${LIMIT_MS / 1000} s`, 'Look at the file server.'),
      ];
    case 'not for us':
      return [elsewhere(`${path} is not for this user to look at`, 'Run this as root.')];
    case 'not there': {
      const mount = 'Mount it, and run `chamberlain prepare` on the file server, once.';
      return [
        isFileServer(config)
          ? fix(`${path} has no mark: it is not mounted, or not prepared`, mount)
          : elsewhere(`${path} is not here, or has no mark`, mount),
      ];
    }
    default: {
      const [area, staging] = seen as [Owned, Owned];
      const faults = [
        [path, whyUnsafe(area, AREA_FORBIDS)],
        [mark, whyUnsafe(staging, STAGING_FORBIDS)],
      ].filter(([, why]) => why !== undefined);
      return faults.length === 0
        ? [ok(`${path} is there, with its mark`)]
        : faults.map(([at, why]) =>
            fix(
              `${at}: ${why}`,
              'Only root may write there, and only root may look into the mark.',
            ),
          );
    }
  }
}

/** Whose a path is, and its mode with the file type. */
interface Owned {
  uid: number;
  mode: number;
}

/**
 * Looks at paths without following a link, in a program of its own: a call that waits for a file server
 * cannot be broken off, and Node does not end before its own calls have. Throws what `stat` complains of.
 */
async function statFrom(
  paths: readonly string[],
): Promise<Owned[] | 'not there' | 'not for us' | 'no answer'> {
  const child = spawn('stat', ['-c', '%u %f', '--', ...paths], {
    cwd: '/',
    env: { PATH: process.env['PATH'], LC_ALL: 'C' },
    stdio: ['ignore', 'pipe', 'pipe'],
    detached: true,
  });
  const text = { out: '', err: '' };
  child.stdout.setEncoding('utf8').on('data', (part: string) => (text.out += part));
  child.stderr.setEncoding('utf8').on('data', (part: string) => (text.err += part));
  const end = await new Promise<number | null | 'no answer'>((resolve, reject) => {
    const timer = setTimeout(() => {
      child.kill('SIGKILL');
      resolve('no answer'); // one that waits for a server may outlive that
    }, LIMIT_MS);
    child.on('error', reject);
    child.on('close', (code) => {
      clearTimeout(timer);
      resolve(code);
    });
  });
  if (end === 'no answer') return end;
  if (end === 0) {
    return text.out
      .trimEnd()
      .split('\n')
      .map((line) => {
        const [uid = '', mode = ''] = line.split(' ');
        return { uid: Number(uid), mode: Number.parseInt(mode, 16) };
      });
  }
  if (text.err.includes('Permission denied')) return 'not for us';
  if (text.err.includes('No such file or directory')) return 'not there';
  throw new Error(text.err.trim().split('\n')[0] ?? 'looking at homes');
}

/** Whether the role homes works here: then its secret is. */
function isFileServer(config: Config): boolean {
  try {
    return readSecret(config, 'postgres', 'homes') !== '';
  } catch {
    return false;
  }
}
