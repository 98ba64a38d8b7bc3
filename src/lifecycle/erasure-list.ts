/**
 * The list of who was erased by law: `erasures.log` in the folder of the archives of homes, which no backup of PostgreSQL
 * puts back. A line of JSON each, only ever added to, and on disk before a home or an archive is destroyed.
 */
import {
  closeSync,
  constants,
  fsyncSync,
  ftruncateSync,
  openSync,
  readFileSync,
  writeFileSync,
} from 'node:fs';
import { type ErasedPerson, parseErased } from './erased-person.ts';
import { itself, OPEN_SAFELY } from '../backends/files/file-mount.ts';

export const ERASURES = 'erasures.log';

const TO_WRITE = constants.O_RDWR | constants.O_APPEND | constants.O_CREAT | constants.O_NOFOLLOW;

/** Makes the list, with nobody in it, where there is none. */
export function prepareErasures(archives: { fd: number }): void {
  closeSync(openSync(`${itself(archives)}/${ERASURES}`, TO_WRITE, 0o600));
}

/** Adds an erasure, durably, where it is not there; `archives` is the open folder. */
export function noteErasure(archives: { fd: number }, erased: ErasedPerson): void {
  prepareErasures(archives);
  if (isListed(readErasures(archives), erased)) return;
  const fd = openSync(`${itself(archives)}/${ERASURES}`, TO_WRITE, 0o600);
  try {
    const before = readFileSync(fd);
    ftruncateSync(fd, before.lastIndexOf('\n') + 1); // what a crash has cut
    writeFileSync(fd, `${JSON.stringify(erased)}\n`);
    fsyncSync(fd);
  } finally {
    closeSync(fd);
  }
  fsyncSync(archives.fd);
}

/**
 * Those of the list, in its order. What a crash has cut off at its end is no line: nothing was destroyed after it. Throws
 * where there is no list, or a line of it is none.
 */
export function readErasures(archives: { fd: number }): ErasedPerson[] {
  const fd = openSync(`${itself(archives)}/${ERASURES}`, OPEN_SAFELY);
  try {
    const lines = readFileSync(fd, 'utf8').split('\n').slice(0, -1);
    return lines.map((line, n) => {
      try {
        return parseErased(line);
      } catch (cause) {
        throw new Error(`line ${n + 1} of ${ERASURES} is none: put the list back from a copy`, {
          cause,
        });
      }
    });
  } finally {
    closeSync(fd);
  }
}

/** Whether the list has that erasure. */
export function isListed(listed: readonly ErasedPerson[], { uid, erasure }: ErasedPerson): boolean {
  return listed.some((each) => each.uid === uid && each.erasure.request === erasure.request);
}
