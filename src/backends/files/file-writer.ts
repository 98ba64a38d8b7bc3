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
import { constants, fchmodSync, fchownSync, lstatSync, renameSync, writeFileSync } from 'node:fs';
import { unlink } from 'node:fs/promises';
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
import { type CredentialsWriter, ownCredentials, writeCredentials } from './file-credentials.ts';
import {
  areaPath,
  errnoOf,
  ofStaging,
  stale,
  within,
  withMount,
  withOpened,
  withSeen,
} from './file-mount.ts';
import type { FileServer, Mount, Opened } from './file-mount.ts';
import { stageDirectory } from './file-staging.ts';

const { O_CREAT, O_NOFOLLOW, O_TRUNC, O_WRONLY } = constants;

type HomesAction = Extract<Action, { home: HomePath }>;

type ActionOf<Verb extends HomesAction['verb']> = Extract<HomesAction, { verb: Verb }>;

/** What each action does, as an error says it; the path of the home, or of the folder in it, follows. */
const ACTS: Record<HomesAction['verb'], string> = {
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

/** How each action is done. */
type Verbs = {
  [Verb in HomesAction['verb']]: (mount: Mount, action: ActionOf<Verb>) => Promise<void>;
};

/** Opens the writer of the role `homes`. */
export function openFilesWriter(
  files: FileServer,
  credentials: CredentialsWriter,
  archives: ArchiveWriter,
): { do(action: Action): Promise<void>; letGo(): void; close(): Promise<void> } {
  const closing = new AbortController();
  const { signal } = closing;
  const letGo = () => {
    const act = 'interrupting a long step, because the worker stops';
    closing.abort(new ChamberlainError('BACKEND_UNAVAILABLE', act));
  };
  const verbs: Verbs = {
    'dir.create': (mount, action) => createHome(files, mount, action),
    'folder.create': createFolder,
    'path.chmod': (mount, action) =>
      onPath(mount, action, async ({ fd }) => fchmodSync(fd, action.mode)),
    'path.chgrp': (mount, action) =>
      onPath(mount, action, async ({ fd }) => fchownSync(fd, action.seen.uid, action.gid)),
    'path.setAcl': (mount, action) => onPath(mount, action, keepGroupWrite),
    'credentials.write': (mount, action) => writeCredentials(mount, action, credentials),
    'credentials.own': ownCredentials,
    'home.withdraw': moveHomeAside,
    'home.return': returnHome,
    'home.removePart': (_, action) => removeUnrecordedHome(action, archives, signal),
    'home.archive': (mount, action) => archiveHome(mount, action, archives, signal),
    'home.destroy': (mount, action) => destroyHome(mount, action, archives, signal),
    'home.erase': (mount, action) => eraseHome(mount, action, archives, signal),
    'home.restore': (mount, action) => restoreHome(mount, action, archives, signal),
    'home.removeArchive': (mount, action) => removeHomeArchive(mount, action, archives, signal),
  };
  return {
    async do(action) {
      if (!isHomesAction(action)) {
        throw new ChamberlainError('INTERNAL', `${action.verb} is not a verb of the file server`);
      }
      const act = verbs[action.verb] as (mount: Mount, action: HomesAction) => Promise<void>;
      await onMount(files, action, act);
    },
    letGo,
    async close() {
      letGo();
    },
  };
}

function isHomesAction(action: Action): action is HomesAction {
  return Object.hasOwn(ACTS, action.verb);
}

/** Opens the area and the staging folder for one step, and gives any error its code. */
async function onMount(
  files: FileServer,
  action: HomesAction,
  act: (mount: Mount, action: HomesAction) => Promise<void>,
): Promise<void> {
  const path = areaPath(files, action.home.area);
  const inside = 'folder' in action ? `/${action.folder}` : '';
  const what = `${ACTS[action.verb]} ${path}/${action.home.name}${inside}`;
  let isOpen = false;
  try {
    await withMount(files, action.home.area, async (mount) => {
      isOpen = true;
      try {
        await act(mount, action);
      } catch (cause) {
        if (!(await isOfMount(mount, cause))) throw cause;
        throw new ChamberlainError('BACKEND_UNAVAILABLE', what, { cause });
      }
    });
  } catch (cause) {
    if (codeOf(cause) !== 'INTERNAL') throw cause;
    const errno = errnoOf(cause);
    // not mounted, or never prepared
    if (!isOpen && errno !== undefined) {
      throw new ChamberlainError('BACKEND_UNAVAILABLE', what, { cause: ofStaging(cause, path) });
    }
    const ofStale = ['ENOENT', 'ENOTDIR', 'ELOOP', 'EEXIST', 'ENOTEMPTY', 'EISDIR'];
    const moved = ofStale.includes(errno ?? '');
    throw new ChamberlainError(moved ? 'STEP_STALE' : 'STEP_FAILED', what, { cause });
  }
}

/**
 * Whether nothing at all can be written in an area for now: it is mounted read-only, full, or fails. One home alone may
 * give the same errors, because of a damaged block, a quota of its project, or a file system of its own. So a write in
 * the staging folder decides. (A user's quota gives EDQUOT.)
 */
async function isOfMount({ staging }: Mount, cause: unknown): Promise<boolean> {
  const ofMount = ['EIO', 'ENOSPC', 'EROFS', 'ESTALE'];
  const errno = errnoOf(cause) ?? errnoOf((cause as Error | null)?.cause);
  if (codeOf(cause) !== 'INTERNAL' || !ofMount.includes(errno ?? '')) return false;
  const probe = within(staging, 'probe');
  try {
    const flags = O_WRONLY | O_CREAT | O_TRUNC | O_NOFOLLOW;
    await withOpened(probe, flags, async (file) => {
      writeFileSync(file.fd, Buffer.alloc(4096));
      await file.sync();
    });
    return false;
  } catch (error) {
    return ofMount.includes(errnoOf(error) ?? '');
  } finally {
    await unlink(probe).catch(() => {});
  }
}

/** Opens a home, or the folder in it that a step concerns, and acts on it if it is what was seen. */
async function onPath(
  { area }: Mount,
  { folder, home, seen }: { home: HomePath; folder?: string; seen: SeenPath },
  act: (directory: Opened) => Promise<void>,
): Promise<void> {
  if (folder === undefined) return await withSeen(area, home.name, seen, act);
  await withSeen(area, home.name, { uid: seen.uid }, (opened) =>
    withSeen(opened, folder, seen, act),
  );
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
