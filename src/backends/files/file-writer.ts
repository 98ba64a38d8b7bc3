/**
 * Acts on homes on the file server, as root: the verbs of the role `homes`.
 *
 * Everything new is made in the staging folder, where no tenant can reach, gets its owner and mode
 * there, and is renamed to its place: nothing is ever half made where a tenant can see it. What is
 * there already is changed through an open descriptor only, after a look that it is still what
 * the step was planned on (inode and owner), else STEP_STALE.
 *
 * Node has no renameat2, so no RENAME_NOREPLACE. rename(2) replaces nothing but an empty directory
 * by a directory, and in an area only root can have made one in the moment between look and rename.
 *
 * Lasting: one fsync of the parent after the rename. Journaling file systems (ext4, xfs, btrfs)
 * write with it all that was made before; files with contents have a fsync of their own.
 *
 * A cut run leaves something of the same name in staging, which the next one for the same account
 * removes. Two writer for one account at once are excluded by the worker's lock.
 */
import { fchmodSync, fchownSync, fstatSync, lstatSync, renameSync } from 'node:fs';
import type { Action, HomePath, SeenPath } from '../../reconcile/action.ts';
import { ChamberlainError, codeOf } from '../../shared/errors.ts';
import { keepGroupWrite } from './file-acls.ts';
import {
  archiveHome,
  destroyHome,
  eraseHome,
  removeArchive,
  removeUnrecorded,
  restoreHome,
  returnHome,
  moveHomeAside,
} from '../../archives/homes/file-archive.ts';
import type { ArchiveWriter } from '../../archives/homes/file-archive-step.ts';
import { ownCredentials, writeCredentials } from './file-credentials.ts';
import type { CredentialsWriter } from './file-credentials.ts';
import {
  AREA_FORBIDS,
  OPEN_DIRECTORY,
  STAGING_FORBIDS,
  areaPath,
  errnoOf,
  stagingOf,
  stale,
  whyUnsafe,
  within,
  withOpened,
  withSeen,
} from './file-mount.ts';
import type { FileServer, Mount, Opened } from './file-mount.ts';
import { stageDirectory } from './file-staging.ts';

type ActionOf<Verb extends Action['verb']> = Extract<Action, { verb: Verb }>;

/** Opens the writer of the role `homes`. */
export function openFilesWriter(
  files: FileServer,
  credentials: CredentialsWriter,
  archives: ArchiveWriter,
): { do(action: Action): Promise<void>; letGo(): void; close(): Promise<void> } {
  const closing = new AbortController();
  const letGo = () => {
    const act = 'going on with a long step while the worker ends';
    closing.abort(new ChamberlainError('BACKEND_UNAVAILABLE', act));
  };
  return {
    async do(action) {
      switch (action.verb) {
        case 'dir.create':
          return await onMount(files, action, (mount) => createHome(files, mount, action));
        case 'folder.create':
          return await onMount(files, action, (mount) => createFolder(mount, action));
        case 'path.chmod':
          return await onPath(files, action, async (path) => fchmodSync(path.fd, action.mode));
        case 'path.chgrp':
          return await onPath(files, action, async (path) =>
            fchownSync(path.fd, action.seen.uid, action.gid),
          );
        case 'path.setAcl':
          return await onPath(files, action, keepGroupWrite);
        case 'credentials.write':
          return await onMount(files, action, (mount) =>
            writeCredentials(mount, action, credentials),
          );
        case 'credentials.own':
          return await onMount(files, action, (mount) => ownCredentials(mount, action));
        case 'home.withdraw':
          return await onMount(files, action, (mount) => moveHomeAside(mount, action));
        case 'home.return':
          return await onMount(files, action, (mount) => returnHome(mount, action));
        case 'home.removePart':
          return await onMount(files, action, () => removeUnrecorded(action, archives));
        case 'home.archive':
          return await onMount(files, action, (mount) =>
            archiveHome(mount, action, archives, closing.signal),
          );
        case 'home.destroy':
          return await onMount(files, action, (mount) =>
            destroyHome(mount, action, archives, closing.signal),
          );
        case 'home.erase':
          return await onMount(files, action, (mount) =>
            eraseHome(mount, action, archives, closing.signal),
          );
        case 'home.restore':
          return await onMount(files, action, (mount) =>
            restoreHome(mount, action, archives, closing.signal),
          );
        case 'home.removeArchive':
          return await onMount(files, action, (mount) => removeArchive(mount, action, archives));
        default:
          throw new ChamberlainError('INTERNAL', `doing ${action.verb} on the file server`);
      }
    },
    letGo,
    async close() {
      letGo();
    },
  };
}

/** Opens area and staging folder for one step, and gives whatever goes wrong its code. */
async function onMount(
  files: FileServer,
  action: { verb: string; home: HomePath },
  act: (mount: Mount) => Promise<void>,
): Promise<void> {
  const path = areaPath(files, action.home.area);
  let arrived = false;
  try {
    await withOpened(path, OPEN_DIRECTORY, (area) =>
      withOpened(stagingOf(area), OPEN_DIRECTORY, async (staging) => {
        arrived = true;
        const unsafe =
          whyUnsafe(fstatSync(area.fd), AREA_FORBIDS) ??
          whyUnsafe(fstatSync(staging.fd), STAGING_FORBIDS);
        if (unsafe !== undefined) throw new Error(`${path} is not used: ${unsafe}`);
        await act({ area, staging });
      }),
    );
  } catch (cause) {
    if (codeOf(cause) !== 'INTERNAL') throw cause;
    const what = `${action.verb} in ${path}/${action.home.name}`;
    // Not mounted, or never prepared.
    if (!arrived) throw new ChamberlainError('BACKEND_UNAVAILABLE', what, { cause });
    const ofStale = ['ENOENT', 'ENOTDIR', 'ELOOP', 'EEXIST', 'ENOTEMPTY', 'EISDIR'];
    const moved = ofStale.includes(errnoOf(cause) ?? '');
    throw new ChamberlainError(moved ? 'STEP_STALE' : 'STEP_FAILED', what, { cause });
  }
}

/** Opens a home, or the folder in it that a step is about, and acts on it if it is what was seen. */
async function onPath(
  files: FileServer,
  action: { verb: string; home: HomePath; folder?: string; seen: SeenPath },
  act: (directory: Opened) => Promise<void>,
): Promise<void> {
  const { folder, home, seen } = action;
  await onMount(files, action, async ({ area }) => {
    if (folder === undefined) return await withSeen(area, home.name, seen, act);
    await withSeen(area, home.name, { uid: seen.uid }, (opened) =>
      withSeen(opened, folder, seen, act),
    );
  });
}

function refuseIfThere(path: string, name: string): void {
  if (lstatSync(path, { throwIfNoEntry: false }) !== undefined) throw stale(name);
}

async function createHome(
  files: FileServer,
  { area, staging }: Mount,
  action: ActionOf<'dir.create'>,
): Promise<void> {
  const { name } = action.home;
  const place = within(area, name);
  refuseIfThere(place, name);
  const staged = within(staging, `${name}.home`);
  await stageDirectory(staged, {
    ...action,
    skeleton: action.skeleton ? files.skel : undefined,
  });
  renameSync(staged, place);
  await area.sync();
}

async function createFolder(
  { area, staging }: Mount,
  action: ActionOf<'folder.create'>,
): Promise<void> {
  const { folder, home, seen } = action;
  await withSeen(area, home.name, seen, async (opened) => {
    const place = within(opened, folder);
    refuseIfThere(place, folder);
    const staged = within(staging, `${home.name}.${folder}.folder`);
    await stageDirectory(staged, { ...action, folders: [], skeleton: undefined });
    renameSync(staged, place);
    await opened.sync();
  });
}
