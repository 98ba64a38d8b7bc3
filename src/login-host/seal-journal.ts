/**
 * The file `seals`: a line for each seal that was taken, and for each disappearance that was honoured. The last line
 * of a uid counts. It is the helper's own, and what a restart begins with: nothing of it is verified again.
 *
 * | line                          | says                                                 |
 * | ----------------------------- | ---------------------------------------------------- |
 * | `<key> <signature> <payload>` | the seal as it stood in the directory                |
 * | `!<key> …`                    | the same; not every key or member of it was taken    |
 * | `?<key> …`                    | the same; nothing was taken that the one before it   |
 * |                               | does not say as well                                 |
 * | `gone <uid> <name> <number>`  | it has disappeared; the highest number of its seals  |
 *
 * A line that was cut, by a loss of power or a full disk, costs itself alone.
 */
import { closeSync, fsyncSync, ftruncateSync, openSync, readSync } from 'node:fs';
import { dirname } from 'node:path';
import { flushFolder, moveInto, removeFile, writeAll } from './replace-file.ts';

const CHUNK_BYTES = 2 ** 18;
const LINE_END = 10;
/** A file that has no more to spare is not worth being written anew. */
const SPARE_BYTES = 2 ** 22;
const UID =
  /^(?:[!?]?[0-9a-f]{16} \S+ \{"kind":"\w+","realm":"[^"]*","name":"[^"]*","uid":(\d+),|gone (\d+) )/;

export interface SealJournal {
  /**
   * Adds lines. Throws as node:fs does; then none of them is there.
   *
   * @param flush they must outlive a loss of power
   */
  append(lines: readonly string[], flush: boolean): void;
  /**
   * Writes it anew, with the last line of each uid, if more than half of it is not needed, or some of it could not be
   * read. Throws as node:fs does.
   */
  tidy(): void;
  close(): void;
}

/**
 * Opens it, and hands each line to `take`, which says whether it could read it. `unread` are those that it could not,
 * but for a last one that was cut. Throws as node:fs does.
 */
export function openSealJournal(
  path: string,
  take: (line: string) => boolean,
): { journal: SealJournal; unread: number } {
  let fd = openSync(path, 'a+', 0o600);
  let unread = 0;
  const needed = new Map<number, number>();
  let size = forEachLine(fd, (line, bytes) => {
    if (!take(line)) unread += 1;
    const key = keyOf(line);
    if (key !== undefined) needed.set(key, bytes);
  });
  ftruncateSync(fd, size);
  let neededBytes = needed.values().reduce((sum, bytes) => sum + bytes, 0);
  needed.clear();

  /** Copies the last line of each uid; returns how many bytes they have. */
  function copyNeeded(to: number): number {
    const last = new Map<number, number>();
    let index = 0;
    forEachLine(fd, (line) => {
      const key = keyOf(line);
      if (key !== undefined) last.set(key, index);
      index += 1;
    });
    const lines: string[] = [];
    let length = 0;
    let written = 0;
    const write = (): void => {
      written += writeLines(to, lines.splice(0));
      length = 0;
    };
    index = 0;
    forEachLine(fd, (line) => {
      const key = keyOf(line);
      const isLast = key !== undefined && last.get(key) === index;
      if (isLast && (key > 0 || index > (last.get(-key) ?? 0))) {
        lines.push(line);
        length += line.length;
      }
      index += 1;
      if (length > CHUNK_BYTES) write();
    });
    write();
    fsyncSync(to);
    return written;
  }

  const journal: SealJournal = {
    append(lines, flush) {
      try {
        const written = writeLines(fd, lines);
        if (flush) fsyncSync(fd);
        size += written;
      } catch (error) {
        ftruncateSync(fd, size); // half a line would take the next one with it
        throw error;
      }
    },
    tidy() {
      if (unread === 0 && size <= 2 * neededBytes + SPARE_BYTES) return;
      const beside = `${path}.new`;
      removeFile(beside);
      const next = openSync(beside, 'ax+', 0o600);
      try {
        neededBytes = copyNeeded(next);
        moveInto(beside, path);
      } catch (error) {
        closeSync(next);
        removeFile(beside);
        throw error;
      }
      closeSync(fd);
      fd = next;
      size = neededBytes;
      unread = 0;
      flushFolder(dirname(path));
    },
    close: () => closeSync(fd),
  };
  return { journal, unread };
}

/** The uid; below 0 of a line that needs the one before it. */
function keyOf(line: string): number | undefined {
  const [, sealed, gone] = UID.exec(line) ?? [];
  const uid = sealed ?? gone;
  if (uid === undefined) return undefined;
  return line.startsWith('?') ? -Number(uid) : Number(uid);
}

/** Reads line by line, whatever the size of the file; returns how many bytes whole lines have. */
function forEachLine(fd: number, take: (line: string, bytes: number) => void): number {
  let buffer = Buffer.allocUnsafe(CHUNK_BYTES);
  let size = 0;
  for (let kept = 0; ;) {
    // a line that fills the buffer: none of ours
    if (kept === buffer.length) buffer = Buffer.concat([buffer], 2 * buffer.length);
    const read = readSync(fd, buffer, kept, buffer.length - kept, size + kept);
    if (read === 0) return size;
    const bytes = buffer.subarray(0, kept + read);
    let from = 0;
    for (let end = bytes.indexOf(LINE_END); end !== -1; end = bytes.indexOf(LINE_END, from)) {
      take(bytes.toString('utf8', from, end), end + 1 - from);
      from = end + 1;
    }
    size += from;
    kept = bytes.length - from;
    buffer.copyWithin(0, from, bytes.length);
  }
}

/** Not in one piece: it may be megabytes. */
function writeLines(fd: number, lines: readonly string[]): number {
  let written = 0;
  let piece = '';
  for (const line of lines) {
    piece += `${line}\n`;
    if (piece.length < CHUNK_BYTES) continue;
    written += writeAll(fd, piece);
    piece = '';
  }
  return written + writeAll(fd, piece);
}
