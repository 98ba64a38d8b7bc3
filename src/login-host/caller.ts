/**
 * Identifies the caller of `take`, and walks the path to a named file with the caller's own rights, so that the
 * rights of root reveal and open nothing that the caller's own programs could not reach.
 */
import { closeSync, constants, fstatSync, openSync } from 'node:fs';
import { userInfo } from 'node:os';
import {
  AREA_FORBIDS,
  OPEN_TO_LOOK,
  errnoOf,
  itself,
  whyUnsafe,
} from '../backends/files/file-mount.ts';
import { doing } from '../shared/errors.ts';

export const DIRECTORY_TO_LOOK = OPEN_TO_LOOK | constants.O_DIRECTORY;

/** The account that calls `take`, as the name service knows it. */
export interface Caller {
  uid: number;
  gid: number;
  /** the gids of all groups, including the primary one */
  groups: ReadonlySet<number>;
}

/**
 * Asks the name service for this account, and gives the process, which runs as root, this account's groups:
 * those of the session may be out of date. Throws BACKEND_UNREADABLE if the name service knows no such account.
 */
export function identifyCaller(uid: number): Caller {
  const lookUp = () => {
    const { gid } = withRightsOf({ uid, gid: 0 }, () => userInfo());
    (process as unknown as WithInitgroups).initgroups(uid, gid);
    // Node adds the effective group, which would be root's
    const groups = withRightsOf({ uid, gid }, () => process.getgroups!());
    return { uid, gid, groups: new Set(groups) };
  };
  const act = `looking up the account of uid ${uid}`;
  return doing('BACKEND_UNREADABLE', act, lookUp, 'Tell an operator.');
}

/** initgroups(3), which Node has but its types lack. */
interface WithInitgroups {
  initgroups(user: number, extraGroup: number): void;
}

/**
 * Runs `act` with another account's rights: files can be reached exactly as if a program of that account did
 * it.
 */
export function withRightsOf<Result>(who: { uid: number; gid: number }, act: () => Result): Result {
  process.setegid!(who.gid);
  process.seteuid!(who.uid);
  try {
    return act();
  } finally {
    process.seteuid!(0);
    process.setegid!(0);
  }
}

/** An open file or directory, and its name in an open directory. */
export interface Entry {
  directory: number;
  name: Buffer;
  fd: number;
}

/** `directory` is undefined for `.`, `..` and `/`: their parent is not known. */
export type Reached = Omit<Entry, 'directory'> & { directory: number | undefined };

/**
 * Walks the path to a name, one directory after another. A link on the way is followed only in a directory
 * where only root creates names: there the admin made it (`/data` on another disk, for example). Errors are the
 * system's.
 */
export function reach(path: Buffer): Reached {
  if (path.length === 0) throw Object.assign(new Error('empty name'), { code: 'ENOENT' });
  const parts = path
    .toString('latin1')
    .split('/')
    .filter((part) => part !== '')
    .map((part) => Buffer.from(part, 'latin1'));
  const isItself = ['.', '..', undefined].includes(parts.at(-1)?.toString());
  const name = isItself ? undefined : parts.pop();
  let at = openSync(path.toString('latin1').startsWith('/') ? '/' : '.', DIRECTORY_TO_LOOK);
  try {
    for (const part of parts) {
      const next = openOnTheWay(at, part);
      closeSync(at);
      at = next;
    }
    if (name === undefined) return { directory: undefined, name: path, fd: at };
    return { directory: at, name, fd: openSync(pathOf(at, name), OPEN_TO_LOOK) };
  } catch (error) {
    closeSync(at);
    throw error;
  }
}

function openOnTheWay(at: number, part: Buffer): number {
  try {
    return openSync(pathOf(at, part), DIRECTORY_TO_LOOK);
  } catch (error) {
    const isAdmins = whyUnsafe(fstatSync(at), AREA_FORBIDS) === undefined;
    if (errnoOf(error) !== 'ENOTDIR' || !isAdmins) throw error;
    return openSync(pathOf(at, part), DIRECTORY_TO_LOOK & ~constants.O_NOFOLLOW);
  }
}

/** A name of any bytes inside an open directory. */
export function pathOf(directory: number, name: Buffer): Buffer {
  return Buffer.concat([Buffer.from(`${itself({ fd: directory })}/`), name]);
}
