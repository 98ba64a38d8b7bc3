/**
 * The folder of key files: one file for each person, replaced by rename, so that whoever reads sees
 * the old file or the new one. Synchronous: 30,000 files take a second so, and five by promises.
 *
 * The agent's user owns the folder, and nobody else may write it; the group (setgid) may read.
 */
import {
  closeSync,
  fsyncSync,
  lstatSync,
  openSync,
  readdirSync,
  readFileSync,
  renameSync,
  unlinkSync,
  writeFileSync,
} from 'node:fs';
import { join } from 'node:path';
import { ChamberlainError } from '../errors.ts';

/** No name of a person begins so: nobody can be given an unfinished file. */
const UNFINISHED = '.new';

export interface KeyFolder {
  /** The names of all that is there but unfinished files. */
  names(): string[];
  /** A file's text; undefined where there is none that is a regular file. */
  read(name: string): string | undefined;
  write(name: string, text: string): void;
  /** Removes a file; one that is not there is no error. */
  remove(name: string): void;
  /** Returns when all that was written and removed would outlive a loss of power. */
  sync(): void;
}

/** Throws CONFIG_INVALID where the folder is not there, or others can write it. */
export function openKeyFolder(folder: string): KeyFolder {
  let stat;
  try {
    stat = lstatSync(folder);
  } catch (cause) {
    throw new ChamberlainError('CONFIG_INVALID', `looking at ${folder}`, { cause });
  }
  if (!stat.isDirectory() || (stat.mode & 0o022) !== 0 || stat.uid !== process.getuid?.()) {
    throw new ChamberlainError(
      'CONFIG_INVALID',
      `${folder} must be a folder of uid ${process.getuid?.()} that nobody else may write`,
    );
  }
  const unfinished = join(folder, UNFINISHED);
  remove(unfinished);
  return {
    names: () => readdirSync(folder).filter((name) => name !== UNFINISHED),
    read(name) {
      const path = join(folder, name);
      try {
        return lstatSync(path).isFile() ? readFileSync(path, 'utf8') : undefined;
      } catch (error) {
        if ((error as NodeJS.ErrnoException).code === 'ENOENT') return undefined;
        throw error;
      }
    },
    write(name, text) {
      writeFileSync(unfinished, text, { mode: 0o640, flag: 'w' });
      renameSync(unfinished, join(folder, name));
    },
    remove: (name) => remove(join(folder, name)),
    sync() {
      const fd = openSync(folder, 'r');
      try {
        fsyncSync(fd);
      } finally {
        closeSync(fd);
      }
    },
  };
}

function remove(path: string): void {
  try {
    unlinkSync(path);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'ENOENT') throw error;
  }
}
