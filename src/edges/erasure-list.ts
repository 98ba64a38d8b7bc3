/**
 * The list of who was erased by law: `erasures.log` in the folder of the archives of homes, which no backup of PostgreSQL
 * puts back. A line of JSON each, only ever added to, and on disk before anything is destroyed.
 */
import {
  closeSync,
  constants,
  fsyncSync,
  ftruncateSync,
  openSync,
  readFileSync,
  writeSync,
} from 'node:fs';
import { ChamberlainError } from '../errors.ts';
import { type ErasedPerson, parseErased } from '../model/erased-person.ts';
import { errnoOf, itself } from './file-ground.ts';

export const ERASURES = 'erasures.log';

/** Adds an erasure, durably, where it is not there; `archives` is the open folder. */
export function noteErasure(archives: { fd: number }, erased: ErasedPerson): void {
  if (isListed(readErasures(archives), erased)) return;
  const fd = openSync(
    `${itself(archives)}/${ERASURES}`,
    constants.O_RDWR | constants.O_APPEND | constants.O_CREAT | constants.O_NOFOLLOW,
    0o600,
  );
  try {
    const before = readFileSync(fd);
    ftruncateSync(fd, before.lastIndexOf('\n') + 1); // what a crash has cut
    writeSync(fd, `${JSON.stringify(erased)}\n`);
    fsyncSync(fd);
  } finally {
    closeSync(fd);
  }
  fsyncSync(archives.fd);
}

/** Those of the list, in its order. What a crash has cut off at its end is no line: nothing was destroyed after it. */
export function readErasures(archives: { fd: number }): ErasedPerson[] {
  const lines = readWhole(`${itself(archives)}/${ERASURES}`)
    .split('\n')
    .slice(0, -1);
  return lines.map((line, n) => {
    try {
      return parseErased(line);
    } catch (cause) {
      const act = `reading line ${n + 1} of ${ERASURES}`;
      throw new ChamberlainError('BACKEND_UNREADABLE', act, { cause });
    }
  });
}

/** Whether the list has that erasure. */
export function isListed(listed: readonly ErasedPerson[], { uid, erasure }: ErasedPerson): boolean {
  return listed.some((each) => each.uid === uid && each.erasure.request === erasure.request);
}

function readWhole(path: string): string {
  try {
    return readFileSync(path, 'utf8');
  } catch (cause) {
    if (errnoOf(cause) !== 'ENOENT') throw cause;
    return '';
  }
}
