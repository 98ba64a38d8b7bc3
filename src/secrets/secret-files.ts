/**
 * The files of one secret. How far its rotation has come stands in them alone: NAME.next is a secret that is to take the
 * place of NAME, NAME.old one that it has taken the place of, and that the server still takes.
 */
import { existsSync, linkSync, readFileSync, statSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { type Config, nextOf, oldOf } from '../shared/config.ts';
import { cannotRead, ChamberlainError } from '../shared/errors.ts';
import {
  flushFolder,
  moveInto,
  removeFile,
  replaceFile,
} from '../login-host/helper/replace-file.ts';

export interface SecretFiles {
  path: string;
  /** without the end of the line, as it is read everywhere */
  now: string;
  next: string | undefined;
  hasOld: boolean;
}

/** Throws CONFIG_INVALID where the secret is not here, or not for this user. */
export function readSecretFiles(config: Pick<Config, 'secrets'>, name: string): SecretFiles {
  const path = join(config.secrets, name);
  try {
    const now = readText(path);
    const next = existsSync(nextOf(path)) ? readText(nextOf(path)) : undefined;
    return { path, now, next, hasOld: existsSync(oldOf(path)) };
  } catch (cause) {
    throw cannotRead('secret', path, cause);
  }
}

function readText(path: string): string {
  return readFileSync(path, 'utf8').replace(/\r?\n$/, '');
}

/** Writes a secret beside the present one, for those who may read that. */
export function writeNext(path: string, text: string): void {
  write(path, () => {
    const { mode, uid, gid } = statSync(path);
    replaceFile(nextOf(path), text, { mode: mode & 0o777, uid, gid }, true);
  });
}

/** The secret that lies beside takes the place of the present one, which is kept as the old one if `keepsOld`. */
export function takeNext(path: string, { keepsOld }: { keepsOld: boolean }): void {
  write(path, () => {
    if (keepsOld && !existsSync(oldOf(path))) linkSync(path, oldOf(path));
    moveInto(nextOf(path), path);
  });
}

export function removeOld(path: string): void {
  write(path, () => removeFile(oldOf(path)));
}

function write(path: string, act: () => void): void {
  try {
    act();
    flushFolder(dirname(path));
  } catch (cause) {
    throw new ChamberlainError('STEP_FAILED', `replacing the secret ${path}`, {
      cause,
      action: 'Run it as root: the file keeps its owner and mode.',
    });
  }
}
