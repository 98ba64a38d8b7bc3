/**
 * The files of one secret. They alone record how far its rotation is: NAME.next is a secret that will replace NAME,
 * NAME.old is one that NAME has replaced and that the server still accepts.
 */
import { hash } from 'node:crypto';
import { once } from 'node:events';
import { existsSync, linkSync, readFileSync, statSync } from 'node:fs';
import { createServer } from 'node:net';
import { dirname, join } from 'node:path';
import { type Config, nextOf, oldOf } from '../shared/config.ts';
import { cannotRead, ChamberlainError } from '../shared/errors.ts';
import { flushFolder, moveInto, removeFile, replaceFile } from '../shared/durable-file.ts';

export interface SecretFiles {
  path: string;
  /** without the line end, as every program reads it */
  now: string;
  next: string | undefined;
  hasOld: boolean;
}

/** Throws CONFIG_INVALID if the secret is not on this machine, or this user may not read it. */
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

/**
 * Runs `act` unless another run changes the same secret. Two runs would each give the server a password unknown to the
 * other.
 */
export async function alone<T>(
  config: Pick<Config, 'secrets'>,
  name: string,
  act: () => Promise<T>,
): Promise<T> {
  // an abstract address (unix(7), at most 107 bytes) is released when the process ends, however it ends
  const held = createServer().listen(`\0chamberlain-${hash('sha256', join(config.secrets, name))}`);
  try {
    await once(held, 'listening');
  } catch {
    throw new ChamberlainError(
      'STEP_FAILED',
      `another run is replacing ${name}, or changes the users of Redis`,
      {
        action: 'Wait until it has finished.',
      },
    );
  }
  try {
    return await act();
  } finally {
    held.close();
  }
}

/** Writes NAME.next. The users who may read the present secret may read it too. */
export function writeNext(path: string, text: string): void {
  write(path, () => {
    const { mode, uid, gid } = statSync(path);
    replaceFile(nextOf(path), text, { mode: mode & 0o777, uid, gid }, true);
  });
}

/** Replaces NAME by NAME.next. If `keepsOld`, the present secret is kept as NAME.old. */
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
      action: 'Run the command as root, because the new file must keep owner and mode.',
    });
  }
}
