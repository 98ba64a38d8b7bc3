/** Files that readers always find whole, old or new, even if a process dies while it writes them. */
import {
  closeSync,
  constants,
  fchmodSync,
  fchownSync,
  fstatSync,
  fsyncSync,
  openSync,
  readdirSync,
  readFileSync,
  readSync,
  renameSync,
  rmSync,
  unlinkSync,
  writeSync,
} from 'node:fs';
import { join } from 'node:path';

export interface FileRights {
  mode: number;
  /** root's by default */
  gid?: number;
  /** that of the process by default */
  uid?: number;
}

/**
 * Writes a temporary file, sets its owner and mode, and renames it into place. Throws as node:fs does; the old
 * file then stays.
 *
 * @param flush whether it must survive a power loss: the text does, and the name does once `flushFolder` has
 *   returned
 */
export function replaceFile(path: string, text: string, rights: FileRights, flush = false): void {
  const temporary = `${path}.new`;
  writeNew(temporary, [text], rights, flush);
  moveInto(temporary, path);
}

/**
 * Writes a file that `moveInto` will put in place of another. Throws as node:fs does, and then leaves no file.
 */
export function writeNew(
  temporary: string,
  pieces: Iterable<string>,
  { mode, gid = 0, uid }: FileRights,
  flush = false,
): void {
  removeFile(temporary); // left by a run that was interrupted
  const { O_WRONLY, O_CREAT, O_EXCL } = constants;
  const fd = openSync(temporary, O_WRONLY | O_CREAT | O_EXCL, 0o600);
  try {
    try {
      for (const piece of pieces) writeAll(fd, piece);
      if (uid !== undefined) fchownSync(fd, uid, gid);
      else if (gid !== 0) fchownSync(fd, -1, gid);
      fchmodSync(fd, mode);
      if (flush) fsyncSync(fd);
    } finally {
      closeSync(fd);
    }
  } catch (error) {
    removeFile(temporary);
    throw error;
  }
}

export function moveInto(temporary: string, path: string): void {
  try {
    renameSync(temporary, path);
  } catch (error) {
    removeFile(temporary);
    throw error;
  }
}

/** Reads a text. Undefined if there is no file. */
export function readIfThere(path: string): string | undefined {
  try {
    return readFileSync(path, 'utf8');
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return undefined;
    throw error;
  }
}

/**
 * The beginning of a regular file that somebody else has made: at most `most` bytes, and one more, which says that it
 * is longer. Throws as node:fs does, or says that it is no regular file; a FIFO is not waited for.
 */
export function readBeginning(path: string, most: number): Buffer {
  const fd = openSync(path, constants.O_RDONLY | constants.O_NONBLOCK);
  try {
    if (!fstatSync(fd).isFile()) throw new Error(`${path} is not a regular file`);
    const bytes = Buffer.alloc(most + 1);
    let length = 0;
    for (let read = -1; read !== 0 && length < bytes.length; length += read) {
      read = readSync(fd, bytes, length, bytes.length - length, null);
    }
    return bytes.subarray(0, length);
  } finally {
    closeSync(fd);
  }
}

/** Removes a file. It is no error if there is none. */
export function removeFile(path: string): void {
  try {
    unlinkSync(path);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'ENOENT') throw error;
  }
}

/**
 * Removes what dead processes have left half made in a folder; one of these may have had our own pid.
 *
 * @param leftover matches the names; its first group is the pid
 */
export function removeLeftovers(folder: string, leftover: RegExp): void {
  for (const name of readdirSync(folder)) {
    const [, pid] = leftover.exec(name) ?? [];
    if (pid === undefined || (Number(pid) !== process.pid && isAlive(Number(pid)))) continue;
    rmSync(join(folder, name), { recursive: true, force: true });
  }
}

/** Whether there is a process with that pid. */
export function isAlive(pid: number): boolean {
  try {
    return process.kill(pid, 0);
  } catch (error) {
    return (error as NodeJS.ErrnoException).code !== 'ESRCH';
  }
}

/** Returns when everything renamed and removed in a folder would survive a power loss. */
export function flushFolder(folder: string): void {
  const fd = openSync(folder, constants.O_RDONLY | constants.O_DIRECTORY);
  try {
    fsyncSync(fd);
  } finally {
    closeSync(fd);
  }
}

/**
 * Writes at a position, or at the current one; returns how many bytes it wrote. A disk that becomes full takes
 * a part, and the next call fails.
 */
export function writeAll(fd: number, text: string | Buffer, position?: number): number {
  const bytes = typeof text === 'string' ? Buffer.from(text) : text;
  for (let at = 0; at < bytes.length;) {
    at += writeSync(fd, bytes, at, undefined, position === undefined ? null : position + at);
  }
  return bytes.length;
}
