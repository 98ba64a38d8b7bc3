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
  /** root's by default */
  gid?: number;
}

/**
 * Writes the file beside, `<path>.new` unless said otherwise, gives it owner and mode, and renames it into place.
 * Throws as node:fs does; then the old one stands, and nothing is left beside it.
 *
 * @param flush it must outlive a loss of power: the file does, and the new name once its folder is flushed
 */
export function replaceFile(
  path: string,
  text: string | Uint8Array,
  { mode, gid = 0 }: FileRights,
  { beside = `${path}.new`, flush = false }: { beside?: string; flush?: boolean } = {},
): void {
  writeBeside(beside, text, { mode, gid }, flush);
  try {
    renameSync(beside, path);
  } catch (error) {
    removeFile(beside);
    throw error;
  }
}

/** What `replaceFile` does before it renames. */
export function writeBeside(
  beside: string,
  text: string | Uint8Array,
  { mode, gid = 0 }: FileRights,
  flush = false,
): void {
  removeFile(beside); // of a run that was cut
  const { O_WRONLY, O_CREAT, O_EXCL } = constants;
  const fd = openSync(beside, O_WRONLY | O_CREAT | O_EXCL, 0o600);
  try {
    try {
      if (gid !== 0) fchownSync(fd, -1, gid);
      writeAll(fd, text);
      fchmodSync(fd, mode);
      if (flush) fsyncSync(fd);
    } finally {
      closeSync(fd);
    }
  } catch (error) {
    removeFile(beside);
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

function writeAll(fd: number, text: string | Uint8Array): void {
  const bytes = typeof text === 'string' ? Buffer.from(text) : text;
  // a disk that gets full takes a part, and says so at the next call
  for (let at = 0; at < bytes.length;) at += writeSync(fd, bytes, at);
}
