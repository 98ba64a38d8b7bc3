/**
 * Gives files to who asks for them: what others have put into a directory of the caller's becomes the
 * caller's, with all that is in it. This runs as root, for a caller who may mean harm, on ground that
 * others change meanwhile. It gives what
 *
 * - lies in a directory that the caller owns: the caller could remove it anyway;
 * - is on the same device as that directory: no mount point is crossed;
 * - has one of the caller's groups: else having been moved here says nothing of its owner's will;
 * - has no other name, unless it is a directory: else it may lie where the caller has no right;
 * - is not setuid or setgid, unless it is a directory;
 * - is a file, a directory, or a link inside what is taken. A link that is named itself is refused,
 *   for who names one means what it leads to; none is followed. FIFOs, sockets, devices are left.
 *
 * The group stays. Node has no openat: names are reached through held directories
 * (`/proc/self/fd/<n>/<name>`), so that what is opened really is in them. All is opened with O_PATH,
 * so that no FIFO, device or lease notices, and given through the descriptor's magic link, which
 * leads to what was looked at, whatever has its name by then. The way to what is named is gone with
 * the caller's own rights: root's serve for the chown, and for what is in directories of the caller's.
 *
 * What remains: a second name made between the last look and the chown. With fs.protected_hardlinks
 * (Debian's default) only those can make it who own the file or may read and write it, so it is
 * worth nothing to them. Setuid bits and capabilities set meanwhile fall by the chown: chown(2).
 */
import { isUtf8 } from 'node:buffer';
import { chownSync, closeSync, fstatSync, lstatSync, openSync, readdirSync } from 'node:fs';
import { OPEN_TO_LOOK, errnoOf, itself } from '../backends/files/file-mount.ts';
import { DIRECTORY_TO_LOOK, pathOf, reach, withRightsOf } from './caller.ts';
import type { Entry, Reached, Caller } from './caller.ts';

/** What has become the caller's, and how much was looked at for it. */
export interface Taken {
  looked: number;
  files: number;
  directories: number;
  links: number;
}

/** How the caller hears of it. */
export interface Tell {
  /** `path` is fit for a terminal */
  refused(path: string, reason: string): void;
  /** after each thing that was looked at */
  progress(taken: Taken): void;
}

interface Task {
  caller: Caller;
  taken: Taken;
  tell: Tell;
}

/** Inode numbers of file servers have 64 bits. */
const EXACT = { bigint: true } as const;

/**
 * Takes each of these, with all that is in it; names without a slash before are in the working
 * directory. What cannot be taken is told, and the others go on.
 */
export function take(names: readonly Buffer[], caller: Caller, tell: Tell): Taken {
  const taken: Taken = { looked: 0, files: 0, directories: 0, links: 0 };
  for (const name of names) {
    try {
      takeNamed(name, { caller, taken, tell });
    } catch (error) {
      tell.refused(showName(name), reasonOf(error));
    }
  }
  return taken;
}

/** A name's bytes for a terminal: control characters, what is not UTF-8, and `\` as escapes. */
export function showName(name: Buffer): string {
  const escape = (letter: string): string => {
    const code = letter.codePointAt(0) ?? 0;
    if (letter === '\\') return '\\\\';
    return code < 0x100 ? `\\x${code.toString(16).padStart(2, '0')}` : `\\u{${code.toString(16)}}`;
  };
  return isUtf8(name)
    ? name.toString('utf8').replace(/[\p{C}\p{Zl}\p{Zp}\\]/gu, escape)
    : name.toString('latin1').replace(/[^\x20-\x7e]|\\/gu, escape);
}

function takeNamed(name: Buffer, task: Task): void {
  const reached = withRightsOf(task.caller, () => reach(name));
  try {
    const outcome = judgeNamed(reached, task);
    if (outcome.refused !== undefined) task.tell.refused(showName(name), outcome.refused);
    else if (outcome.isDirectory) takeContent(reached.fd, name, task);
  } finally {
    closeSync(reached.fd);
    if (reached.directory !== undefined) closeSync(reached.directory);
  }
}

type Outcome = { refused: string } | { refused?: undefined; isDirectory: boolean };

function judgeNamed({ directory, name, fd }: Reached, task: Task): Outcome {
  const stats = fstatSync(fd);
  const isMine = stats.uid === task.caller.uid;
  if (directory === undefined) {
    return isMine
      ? { isDirectory: true }
      : { refused: 'it is not yours: name it from the directory that it lies in' };
  }
  if (stats.isSymbolicLink() && !isMine) {
    return { refused: 'it is a symbolic link: name what it leads to' };
  }
  return give({ directory, name, fd }, task);
}

/** Gives one thing to the caller, unless there is a reason against it. */
function give({ directory, name, fd }: Entry, { caller, taken }: Task): Outcome {
  taken.looked += 1;
  const parent = fstatSync(directory, EXACT);
  const named = lstatSync(pathOf(directory, name), { ...EXACT, throwIfNoEntry: false });
  // The last look: nothing stands between it and the chown.
  const stats = fstatSync(fd, EXACT);
  if (named?.ino !== stats.ino || named.dev !== stats.dev) {
    return { refused: 'it was moved or replaced while it was being taken' };
  }
  const isDirectory = stats.isDirectory();
  if (stats.dev !== parent.dev) {
    return { refused: 'it is on another device than the directory that it lies in' };
  }
  if (Number(stats.uid) === caller.uid) return { isDirectory };
  if (Number(parent.uid) !== caller.uid) {
    return { refused: 'the directory that it lies in is not yours' };
  }
  if (!isDirectory && !stats.isFile() && !stats.isSymbolicLink()) {
    return { refused: 'it is a FIFO, a socket or a device' };
  }
  if (!isDirectory && stats.nlink !== 1n) {
    return { refused: 'it has another name as well (a hard link): copy it instead' };
  }
  if (stats.isFile() && (stats.mode & 0o6000n) !== 0n) {
    return { refused: 'it is setuid or setgid: its owner can run `chmod ug-s`' };
  }
  if (!caller.groups.has(Number(stats.gid))) {
    return { refused: `its group (${stats.gid}) is none of yours: its owner can run \`chgrp\`` };
  }
  chownSync(itself({ fd }), caller.uid, -1);
  taken[isDirectory ? 'directories' : stats.isFile() ? 'files' : 'links'] += 1;
  return { isDirectory };
}

/** A directory on the way down, and the names in it that are still to be taken. */
interface Level {
  name: Buffer;
  ino: bigint;
  dev: bigint;
  waiting: Buffer[];
}

/**
 * Takes what is in a directory of the caller's. It holds one directory at a time, so that a tree may
 * be deeper than a process may have descriptors: the way back is `..`, which must be what it was.
 */
function takeContent(top: number, name: Buffer, task: Task): void {
  const { taken, tell } = task;
  const levels: Level[] = [];
  const shown = (...more: Buffer[]): string =>
    [...levels.map((level) => level.name), ...more].map(showName).join('/');
  const enter = (directory: number, called: Buffer): void => {
    const { ino, dev } = fstatSync(directory, EXACT);
    const level: Level = { name: called, ino, dev, waiting: [] };
    levels.push(level);
    try {
      level.waiting = readdirSync(itself({ fd: directory }), { encoding: 'buffer' });
    } catch (error) {
      tell.refused(shown(), `what is in it cannot be listed (${errnoOf(error)})`);
    }
  };

  let here = openSync(`${itself({ fd: top })}/.`, DIRECTORY_TO_LOOK);
  try {
    enter(here, name);
    for (let level = levels.at(-1); level !== undefined; level = levels.at(-1)) {
      const next = level.waiting.pop();
      if (next !== undefined) {
        const into = takeEntry(here, next, task, () => shown(next));
        tell.progress(taken);
        if (into === undefined) continue;
        closeSync(here);
        here = into;
        enter(here, next);
        continue;
      }
      levels.pop();
      const above = levels.at(-1);
      if (above === undefined) break;
      const back = openSync(pathOf(here, Buffer.from('..')), DIRECTORY_TO_LOOK);
      closeSync(here);
      here = back;
      const { ino, dev } = fstatSync(here, EXACT);
      if (ino !== above.ino || dev !== above.dev) {
        tell.refused(shown(), 'something in it was moved while it was being taken: take it again');
        break;
      }
    }
  } finally {
    closeSync(here);
  }
}

/** Takes one thing in a directory that is held; gives its descriptor where it is a directory. */
function takeEntry(
  directory: number,
  name: Buffer,
  task: Task,
  shown: () => string,
): number | undefined {
  let fd: number | undefined;
  let into: number | undefined;
  try {
    fd = openSync(pathOf(directory, name), OPEN_TO_LOOK);
    const outcome = give({ directory, name, fd }, task);
    if (outcome.refused !== undefined) task.tell.refused(shown(), outcome.refused);
    else if (outcome.isDirectory) into = fd;
  } catch (error) {
    // What has gone since it was listed needs no taking.
    if (errnoOf(error) !== 'ENOENT') task.tell.refused(shown(), reasonOf(error));
  } finally {
    if (fd !== undefined && into === undefined) closeSync(fd);
  }
  return into;
}

function reasonOf(error: unknown): string {
  const errno = errnoOf(error);
  if (errno === 'ENOENT') return 'there is no such file';
  if (errno === 'ENOTDIR') return 'a name on the way to it is a symbolic link, or no directory';
  if (errno === 'EACCES') return 'you may not look there';
  return errno === undefined ? String(error) : `the system refuses (${errno})`;
}
