/**
 * The list of people who were erased as the law requires: `erasures.log` in the folder of the archives of homes. It is
 * there because restoring a backup of PostgreSQL does not change it. It has one line of JSON for each person, lines are
 * only ever appended, and a line is on disk before a home or an archive is destroyed.
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

/** Creates an empty list if there is none. */
export function prepareErasures(archives: { fd: number }): void {
  closeSync(openSync(`${itself(archives)}/${ERASURES}`, TO_WRITE, 0o600));
}

/** Appends an erasure durably, unless it is listed already. `archives` is the open folder. */
export function noteErasure(archives: { fd: number }, erased: ErasedPerson): void {
  prepareErasures(archives);
  if (isListed(readErasures(archives), erased)) return;
  const fd = openSync(`${itself(archives)}/${ERASURES}`, TO_WRITE, 0o600);
  try {
    const before = readFileSync(fd);
    ftruncateSync(fd, before.lastIndexOf('\n') + 1); // removes a line that a crash cut off
    writeFileSync(fd, `${JSON.stringify(erased)}\n`);
    fsyncSync(fd);
  } finally {
    closeSync(fd);
  }
  fsyncSync(archives.fd);
}

/**
 * Reads the people on the list, in its order. A line at the end that a crash cut off is skipped: nothing was destroyed
 * after it. Throws if there is no list, or if a line is not valid.
 */
export function readErasures(archives: { fd: number }): ErasedPerson[] {
  const fd = openSync(`${itself(archives)}/${ERASURES}`, OPEN_SAFELY);
  try {
    const lines = readFileSync(fd, 'utf8').split('\n').slice(0, -1);
    return lines.map((line, n) => {
      try {
        return parseErased(line);
      } catch (cause) {
        throw new Error(
          `line ${n + 1} of ${ERASURES} is not valid: restore the file from a backup`,
          {
            cause,
          },
        );
      }
    });
  } finally {
    closeSync(fd);
  }
}

/** Whether the list contains that erasure. */
export function isListed(listed: readonly ErasedPerson[], { uid, erasure }: ErasedPerson): boolean {
  return listed.some((each) => each.uid === uid && each.erasure.request === erasure.request);
}
