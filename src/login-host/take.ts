/**
 * Gives files to the account that asks for them: what others have put into a directory of the caller's becomes
 * the caller's, with everything in it. This runs as root, for a caller who may be malicious, in directories
 * that others change meanwhile. It gives a file that
 *
 * - lies in a directory that the caller owns: the caller could remove it anyway;
 * - is on the same device as that directory: no mount point is crossed;
 * - has one of the caller's groups: otherwise its being here does not show that its owner agrees;
 * - has no other name, unless it is a directory: otherwise it may also lie where the caller has no right;
 * - is not setuid or setgid, unless it is a directory;
 * - is a file, a directory, or a link inside what is taken. A link that is named itself is refused, because the
 *   caller who names one means its target; no link is followed. FIFOs, sockets and devices are left.
 *
 * The group stays. Node has no openat: names are reached through held directories (`/proc/self/fd/<n>/<name>`),
 * so that what is opened really is in them. Everything is opened with O_PATH, so that no FIFO, device or lease
 * notices, and given through the descriptor's magic link, which leads to what was checked, whatever has its
 * name by then. The path to a named file is walked with the caller's own rights. Root's rights are used only
 * for the chown, and for what is in directories of the caller's.
 *
 * One gap remains: a second name made between the last check and the chown. With fs.protected_hardlinks
 * (Debian's default), only an account that owns the file, or may read and write it, can make one, so it gains
 * nothing. Setuid bits and capabilities set meanwhile are cleared by the chown: chown(2).
 */
import { isUtf8 } from 'node:buffer';
import { chownSync, closeSync, fstatSync, lstatSync, openSync, readdirSync } from 'node:fs';
import { OPEN_TO_LOOK, errnoOf, itself } from '../backends/files/file-mount.ts';
import { DIRECTORY_TO_LOOK, pathOf, reach, withRightsOf } from './caller.ts';
import type { Entry, Reached, Caller } from './caller.ts';

/** How much has become the caller's, and how much was checked for it. */
export interface Taken {
  looked: number;
  files: number;
  directories: number;
  links: number;
}

/** How the caller is informed. */
export interface Observer {
  /** `path` is safe for a terminal */
  refused(path: string, reason: string): void;
  /** called after each thing that was checked */
  progress(taken: Taken): void;
}

interface Task {
  caller: Caller;
  taken: Taken;
  observer: Observer;
}

/** Inode numbers of file servers have 64 bits. */
const EXACT = { bigint: true } as const;

/**
 * Takes each of these, with everything in it. Names without a leading slash are in the working directory. What
 * cannot be taken is reported, and the others go on.
 */
export function take(names: readonly Buffer[], caller: Caller, observer: Observer): Taken {
  const taken: Taken = { looked: 0, files: 0, directories: 0, links: 0 };
  for (const name of names) {
    try {
      takeNamed(name, { caller, taken, observer });
    } catch (error) {
      observer.refused(showName(name), reasonOf(error));
    }
  }
  return taken;
}

/** A name's bytes for a terminal: control characters, bytes that are not UTF-8, and `\` are escaped. */
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
    if (outcome.refused !== undefined) task.observer.refused(showName(name), outcome.refused);
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
      : { refused: 'it is not yours: go to its parent directory, and give its name there' };
  }
  if (stats.isSymbolicLink() && !isMine) {
    return { refused: 'it is a symbolic link: name its target' };
  }
  return give({ directory, name, fd }, task);
}

/** Gives one thing to the caller, unless something speaks against it. */
function give({ directory, name, fd }: Entry, { caller, taken }: Task): Outcome {
  taken.looked += 1;
  const parent = fstatSync(directory, EXACT);
  const named = lstatSync(pathOf(directory, name), { ...EXACT, throwIfNoEntry: false });
  // the last check: nothing comes between it and the chown
  const stats = fstatSync(fd, EXACT);
  if (named?.ino !== stats.ino || named.dev !== stats.dev) {
    return { refused: 'it was moved or replaced while it was being taken' };
  }
  const isDirectory = stats.isDirectory();
  if (stats.dev !== parent.dev) {
    return { refused: 'it is not on the same device as its parent directory' };
  }
  if (Number(stats.uid) === caller.uid) return { isDirectory };
  if (Number(parent.uid) !== caller.uid) {
    return { refused: 'its parent directory is not yours' };
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
    return { refused: `its group (${stats.gid}) is not one of yours: its owner can run \`chgrp\`` };
  }
  chownSync(itself({ fd }), caller.uid, -1);
  taken[isDirectory ? 'directories' : stats.isFile() ? 'files' : 'links'] += 1;
  return { isDirectory };
}

/** A directory on the way down, and the names in it that must still be taken. */
interface Level {
  name: Buffer;
  ino: bigint;
  dev: bigint;
  waiting: Buffer[];
}

/**
 * Takes the content of a directory of the caller's. It holds one directory at a time, so that a tree may be
 * deeper than a process may have descriptors. The way back is `..`, which must be the directory it came from.
 */
function takeContent(top: number, name: Buffer, task: Task): void {
  const { taken, observer } = task;
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
      observer.refused(shown(), `its content cannot be listed (${errnoOf(error)})`);
    }
  };

  let here = openSync(`${itself({ fd: top })}/.`, DIRECTORY_TO_LOOK);
  try {
    enter(here, name);
    for (let level = levels.at(-1); level !== undefined; level = levels.at(-1)) {
      const next = level.waiting.pop();
      if (next !== undefined) {
        const into = takeEntry(here, next, task, () => shown(next));
        observer.progress(taken);
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
        observer.refused(shown(), 'something in it was moved meanwhile: take it again');
        break;
      }
    }
  } finally {
    closeSync(here);
  }
}

/** Takes one thing in a directory that is held; returns its descriptor if it is a directory. */
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
    if (outcome.refused !== undefined) task.observer.refused(shown(), outcome.refused);
    else if (outcome.isDirectory) into = fd;
  } catch (error) {
    // a file that is gone since the listing needs no taking
    if (errnoOf(error) !== 'ENOENT') task.observer.refused(shown(), reasonOf(error));
  } finally {
    if (fd !== undefined && into === undefined) closeSync(fd);
  }
  return into;
}

function reasonOf(error: unknown): string {
  const errno = errnoOf(error);
  if (errno === 'ENOENT') return 'there is no such file';
  if (errno === 'ENOTDIR') return 'part of the path is a symbolic link, or not a directory';
  if (errno === 'EACCES') return 'you may not look there';
  return errno === undefined ? String(error) : `the system refuses (${errno})`;
}
