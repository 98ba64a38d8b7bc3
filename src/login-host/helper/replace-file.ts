/** Replaces a file so that whoever reads finds the old one or the new one, whole. */
import {
  closeSync,
  constants,
  fchmodSync,
  fchownSync,
  fsyncSync,
  openSync,
  renameSync,
  unlinkSync,
  writeSync,
} from 'node:fs';

export interface FileRights {
  mode: number;
  /** root's where none is named */
  gid?: number;
  /** that of the process where none is named */
  uid?: number;
}

/**
 * Writes the file temporary, gives it its owner and mode, and renames it into place. Throws as node:fs does; then the
 * old one stands.
 *
 * @param flush it must outlive a loss of power: the text does, and the name once `flushFolder` has returned
 */
export function replaceFile(path: string, text: string, rights: FileRights, flush = false): void {
  const temporary = `${path}.new`;
  writeNew(temporary, [text], rights, flush);
  moveInto(temporary, path);
}

/** Writes a file that takes another's place by `moveInto`. Throws as node:fs does, and leaves none then. */
export function writeNew(
  temporary: string,
  pieces: Iterable<string>,
  { mode, gid = 0, uid }: FileRights,
  flush = false,
): void {
  removeFile(temporary); // of a run that was cut
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

/** Removes a file; one that is not there is no error. */
export function removeFile(path: string): void {
  try {
    unlinkSync(path);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'ENOENT') throw error;
  }
}

/** Returns when what was renamed and removed in a folder would outlive a loss of power. */
export function flushFolder(folder: string): void {
  const fd = openSync(folder, constants.O_RDONLY | constants.O_DIRECTORY);
  try {
    fsyncSync(fd);
  } finally {
    closeSync(fd);
  }
}

/**
 * Writes at a position, or at the current one; returns how many bytes it wrote. A disk that becomes full takes a part,
 * and fails at the next call.
 */
export function writeAll(fd: number, text: string, position?: number): number {
  const bytes = Buffer.from(text);
  for (let at = 0; at < bytes.length;) {
    at += writeSync(fd, bytes, at, undefined, position === undefined ? null : position + at);
  }
  return bytes.length;
}
