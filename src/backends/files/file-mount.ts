/**
 * What the file backends share: areas, the staging folder in each, and how to reach into a home safely.
 *
 * An area (`/data/project`, `/home`) is root's: only root creates names there, so a tenant cannot swap a home.
 * What is inside a home belongs to the tenant, who may swap it at any moment. So it is reached only through the
 * open descriptor of the home (`/proc/self/fd/<n>/<name>`; Node has no openat), never by a longer path, never
 * through a link, and it is judged only by fstat of what was opened. O_NONBLOCK is for FIFOs and for files with
 * a lease, which would delay an open for 45 s.
 *
 * Everything is created in the staging folder `.chamberlain` (root's, 0700), which is on the same file system.
 * It also marks that an area is mounted: `prepareFileAreas` creates it once, and an area without it is
 * unreadable, not empty.
 */
import { closeSync, constants, fstatSync, fsync, lstatSync, openSync, type Stats } from 'node:fs';
import { promisify } from 'node:util';
import type { HomePath, SeenPath } from '../../reconcile/action.ts';
import { ChamberlainError } from '../../shared/errors.ts';

/** Where homes are on this file server; paths are `root` + area + `/` + name. */
export interface FileServer {
  root: string;
  toolHomes: string;
  personHomes: string;
  /** the initial content of a person's home; only root may write there */
  skel: string;
}

export type Area = HomePath['area'];

export const STAGING = '.chamberlain';

/** For directories and files alike: never through a link, never waiting. */
export const OPEN_SAFELY = constants.O_RDONLY | constants.O_NOFOLLOW | constants.O_NONBLOCK;
export const OPEN_DIRECTORY = OPEN_SAFELY | constants.O_DIRECTORY;

/**
 * Linux's O_PATH, which Node does not name (the same on x86-64 and arm64): a descriptor that can be
 * fstat'ed without opening the file, so that no FIFO, device or lease notices. See open(2).
 */
export const OPEN_TO_LOOK = 0o10000000 | constants.O_NOFOLLOW;

/** The path of an area on this machine. */
export function areaPath(files: FileServer, area: Area): string {
  return files.root.replace(/\/+$/u, '') + files[area];
}

/**
 * The path of a name inside an open directory. Names are always checked here, even if they were checked before.
 */
export function within(directory: { fd: number }, name: string): string {
  if (!/^[A-Za-z0-9_][A-Za-z0-9._-]{0,127}$/u.test(name)) {
    throw new ChamberlainError('INTERNAL', `using ${JSON.stringify(name)} as a file name`);
  }
  return `/proc/self/fd/${directory.fd}/${name}`;
}

/** The staging folder of an open area. No home can have its name, because names do not begin with a dot. */
export function stagingOf(area: { fd: number }): string {
  return `/proc/self/fd/${area.fd}/${STAGING}`;
}

/** The magic link of an open descriptor itself: it leads to what was opened, whatever has its name now. */
export function itself(opened: { fd: number }): string {
  return `/proc/self/fd/${opened.fd}`;
}

export function seenOf(stats: Stats): SeenPath {
  return { ino: stats.ino, uid: stats.uid, gid: stats.gid, mode: stats.mode & 0o7777 };
}

/** The errno of a failed system call, e.g. `ENOENT`. */
export function errnoOf(error: unknown): string | undefined {
  const value = (error as { code?: unknown } | null)?.code;
  return typeof value === 'string' ? value : undefined;
}

/** The kind of something that should be of another kind, as findings and plans name it. */
export function describeKind(stats: Stats): string {
  if (stats.isSymbolicLink()) return 'a symbolic link';
  if (stats.isDirectory()) return 'a directory';
  if (stats.isFIFO()) return 'a FIFO';
  if (stats.isSocket()) return 'a socket';
  if (stats.isBlockDevice() || stats.isCharacterDevice()) return 'a device';
  return 'a file';
}

/** Why a folder that must be root's, or another owner's, cannot be trusted; undefined if it can. */
export function whyUnsafe(
  stats: Pick<Stats, 'uid' | 'mode'>,
  forbidden: number,
  owner = 0,
): string | undefined {
  const name = owner === 0 ? 'root' : `uid ${owner}`;
  if (stats.uid !== owner) return `it belongs to uid ${stats.uid}, not to ${name}`;
  if ((stats.mode & forbidden) !== 0) return `accounts other than ${name} have rights on it`;
  return undefined;
}

/** Only root may create names in an area, or look into its staging folder. */
export const AREA_FORBIDS = 0o022;
export const STAGING_FORBIDS = 0o077;

/**
 * The error of opening or examining the staging folder of an open folder: it names the folder by its path, not by its
 * descriptor. Any other error is returned as it is.
 */
export function ofStaging(cause: unknown, folder: string): unknown {
  const { path, code, message } = cause as Partial<NodeJS.ErrnoException>;
  if (typeof path !== 'string' || !path.endsWith(`/${STAGING}`)) return cause;
  return new Error(
    code === 'ENOENT'
      ? `${folder} has no folder ${STAGING}: it is not mounted, or not prepared`
      : `${message}`.replace(path, `${folder}/${STAGING}`),
  );
}

/** The error for an area that cannot be read or trusted. */
export function unreadable(cause: unknown): ChamberlainError {
  return new ChamberlainError('BACKEND_UNREADABLE', 'reading homes', { cause });
}

/**
 * Opens an area, and checks that it is the one that was prepared: one that is not mounted must not be taken for
 * empty.
 */
export function openArea(files: FileServer, name: Area): { fd: number } {
  const area = { fd: openSync(areaPath(files, name), OPEN_DIRECTORY) };
  try {
    requireSafe(areaPath(files, name), fstatSync(area.fd), lstatSync(stagingOf(area)));
    return area;
  } catch (cause) {
    closeSync(area.fd);
    throw ofStaging(cause, areaPath(files, name));
  }
}

function requireSafe(path: string, area: Stats, staging: Stats): void {
  const unsafe = whyUnsafe(area, AREA_FORBIDS) ?? whyUnsafe(staging, STAGING_FORBIDS);
  if (unsafe !== undefined) throw new Error(`${path} cannot be used: ${unsafe}`);
}

/**
 * An open file or directory. Calls on it that do not wait for the disk are made synchronously
 * (`fstatSync(opened.fd)`): passed to a thread, as Node's promises are, each costs several times as much
 * processor time.
 */
export interface Opened {
  readonly fd: number;
  /** fsync */
  sync(): Promise<void>;
}

const sync = promisify(fsync);

/** Opens something, passes it on and closes it. A file that is created is readable by root only. */
export async function withOpened<Result>(
  path: string,
  flags: number,
  use: (opened: Opened) => Promise<Result>,
): Promise<Result> {
  const fd = openSync(path, flags, 0o600);
  try {
    return await use({ fd, sync: () => sync(fd) });
  } finally {
    closeSync(fd);
  }
}

/** Flushes the names in a folder to disk. */
export async function syncFolder(path: string): Promise<void> {
  await withOpened(path, constants.O_RDONLY | constants.O_DIRECTORY, (opened) => opened.sync());
}

/** An area and its staging folder, both open. */
export interface Mount {
  area: Opened;
  staging: Opened;
}

/** Opens an area and its staging folder, and checks both as `openArea` does. */
export async function withMount<Result>(
  files: FileServer,
  name: Area,
  use: (mount: Mount) => Promise<Result>,
): Promise<Result> {
  const path = areaPath(files, name);
  return await withOpened(path, OPEN_DIRECTORY, (area) =>
    withOpened(stagingOf(area), OPEN_DIRECTORY, async (staging) => {
      requireSafe(path, fstatSync(area.fd), fstatSync(staging.fd));
      return await use({ area, staging });
    }),
  );
}

/** Opens a directory in an open one, and refuses it unless its owner, and its inode if known, are as seen. */
export async function withSeen<Result>(
  parent: Opened,
  name: string,
  seen: { uid: number; ino?: number },
  act: (directory: Opened) => Promise<Result>,
): Promise<Result> {
  return await withOpened(within(parent, name), OPEN_DIRECTORY, async (directory) => {
    const { ino, uid } = fstatSync(directory.fd);
    if (uid !== seen.uid || ino !== (seen.ino ?? ino)) throw stale(name);
    return await act(directory);
  });
}

/** The error for a step that is stale. */
export function stale(name: string): ChamberlainError {
  return new ChamberlainError('STEP_STALE', `${name} has changed since the step was planned`);
}
