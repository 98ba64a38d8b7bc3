/**
 * Acts on homes on the file server, as root: the verbs of the role `homes`.
 *
 * Everything new is created in the staging folder, which no tenant can reach, gets its owner and mode there,
 * and is renamed to its place. So a tenant never sees anything incomplete. Whatever exists already is changed
 * only through an open descriptor, after a check that it is still what the step was planned on (inode and
 * owner); otherwise the step fails with STEP_STALE.
 *
 * Node has no renameat2, so no RENAME_NOREPLACE. If the source is a directory, rename(2) replaces only an empty directory,
 * and in an area only root can have created one between the check and the rename.
 *
 * Durability: one fsync of the parent after the rename. Journaling file systems (ext4, xfs, btrfs) then also
 * write everything that was created before; files with content have an fsync of their own.
 *
 * An interrupted run leaves something of the same name in staging, which the next run for the same account
 * removes. The worker's lock prevents two writers for one account at once.
 */
import { fchmodSync, fchownSync, fstatSync, lstatSync, renameSync } from 'node:fs';
import type { Action, HomePath, SeenPath } from '../../reconcile/action.ts';
import { ChamberlainError, codeOf } from '../../shared/errors.ts';
import { keepGroupWrite } from './file-acls.ts';
import {
  archiveHome,
  type ArchiveWriter,
  destroyHome,
  eraseHome,
  removeHomeArchive,
  removeUnrecordedHome,
  restoreHome,
} from '../../archives/homes/file-archive.ts';
import { moveHomeAside, returnHome } from '../../archives/homes/file-archive-quarantine.ts';
import { ownCredentials, writeCredentials } from './file-credentials.ts';
import type { CredentialsWriter } from './file-credentials.ts';
import {
  AREA_FORBIDS,
  OPEN_DIRECTORY,
  STAGING_FORBIDS,
  areaPath,
  errnoOf,
  ofStaging,
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

type HomesVerb = Extract<Action, { home: HomePath }>['verb'];

/** What each action does, as an error says it; the path of the home, or of the folder in it, follows. */
const ACTS: Record<HomesVerb, string> = {
  'dir.create': 'making',
  'folder.create': 'making',
  'path.chmod': 'changing the mode of',
  'path.chgrp': 'changing the group of',
  'path.setAcl': 'changing the default ACL of',
  'credentials.write': 'writing the credentials file in',
  'credentials.own': 'changing owner or mode of the credentials file in',
  'home.withdraw': 'putting into quarantine',
  'home.return': 'taking out of quarantine',
  'home.removePart': 'removing the unfinished archive of',
  'home.archive': 'archiving',
  'home.destroy': 'removing',
  'home.erase': 'erasing',
  'home.restore': 'restoring',
  'home.removeArchive': 'removing the archive of',
};

/** Opens the writer of the role `homes`. */
export function openFilesWriter(
  files: FileServer,
  credentials: CredentialsWriter,
  archives: ArchiveWriter,
): { do(action: Action): Promise<void>; letGo(): void; close(): Promise<void> } {
  const closing = new AbortController();
  const letGo = () => {
    const act = 'interrupting a long step, because the worker stops';
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
          return await onMount(files, action, () =>
            removeUnrecordedHome(action, archives, closing.signal),
          );
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
          return await onMount(files, action, (mount) =>
            removeHomeArchive(mount, action, archives, closing.signal),
          );
        default:
          throw new ChamberlainError('INTERNAL', `${action.verb} is not a verb of the file server`);
      }
    },
    letGo,
    async close() {
      letGo();
    },
  };
}

/** Opens the area and the staging folder for one step, and gives any error its code. */
async function onMount(
  files: FileServer,
  action: { verb: HomesVerb; home: HomePath; folder?: string },
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
        if (unsafe !== undefined) throw new Error(`${path} cannot be used: ${unsafe}`);
        await act({ area, staging });
      }),
    );
  } catch (cause) {
    if (codeOf(cause) !== 'INTERNAL') throw cause;
    const inside = action.folder === undefined ? '' : `/${action.folder}`;
    const what = `${ACTS[action.verb]} ${path}/${action.home.name}${inside}`;
    // not mounted, or never prepared
    if (!arrived) {
      throw new ChamberlainError('BACKEND_UNAVAILABLE', what, { cause: ofStaging(cause, path) });
    }
    const ofStale = ['ENOENT', 'ENOTDIR', 'ELOOP', 'EEXIST', 'ENOTEMPTY', 'EISDIR'];
    const moved = ofStale.includes(errnoOf(cause) ?? '');
    throw new ChamberlainError(moved ? 'STEP_STALE' : 'STEP_FAILED', what, { cause });
  }
}

/** Opens a home, or the folder in it that a step concerns, and acts on it if it is what was seen. */
async function onPath(
  files: FileServer,
  action: { verb: HomesVerb; home: HomePath; folder?: string; seen: SeenPath },
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
