/**
 * The marker of an area of homes (src/seals/heartbeat.ts): a file in the staging folder, which belongs to root,
 * on the same file system as the homes. If an older copy of the area is restored, the older marker comes back
 * with it.
 */
import { constants, fchmodSync, readFileSync, writeFileSync } from 'node:fs';
import { rename } from 'node:fs/promises';
import { ChamberlainError } from '../../shared/errors.ts';
import {
  type Area,
  areaPath,
  errnoOf,
  type FileServer,
  ofStaging,
  OPEN_SAFELY,
  type Opened,
  within,
  withMount,
  withOpened,
} from './file-mount.ts';

const { O_CREAT, O_NOFOLLOW, O_TRUNC, O_WRONLY } = constants;

/** Opens the markers of areas. */
export function openAreaMarkers(files: FileServer, realm: string) {
  const name = `marker.${realm}`;

  async function inStaging<T>(area: Area, act: string, work: (staging: Opened) => Promise<T>) {
    try {
      return await withMount(files, area, ({ staging }) => work(staging));
    } catch (cause) {
      const path = areaPath(files, area);
      throw new ChamberlainError('BACKEND_UNREADABLE', `${act} the marker of ${path}`, {
        cause: ofStaging(cause, path),
      });
    }
  }

  async function readIn(staging: Opened): Promise<string | undefined> {
    try {
      return await withOpened(within(staging, name), OPEN_SAFELY, async (file) =>
        readFileSync(file.fd, 'utf8'),
      );
    } catch (error) {
      if (errnoOf(error) === 'ENOENT') return undefined;
      throw error;
    }
  }

  return {
    /** Undefined if there is none. */
    read: (area: Area): Promise<string | undefined> => inStaging(area, 'reading', readIn),

    /** Returns false, and writes nothing, if the marker is not the one that was read. */
    write: (area: Area, marker: string, instead: string | undefined): Promise<boolean> =>
      inStaging(area, 'writing', async (staging) => {
        if ((await readIn(staging)) !== instead) return false;
        const made = within(staging, `${name}.new`);
        await withOpened(made, O_WRONLY | O_CREAT | O_TRUNC | O_NOFOLLOW, async (file) => {
          fchmodSync(file.fd, 0o600);
          writeFileSync(file.fd, marker);
          await file.sync();
        });
        await rename(made, within(staging, name));
        await staging.sync();
        return true;
      }),

    async close() {},
  };
}
