/**
 * The file `seals`: a line for each seal that was accepted, and for each disappearance that was honoured. The
 * last line of a uid counts. Only the helper writes it, and a restart begins with it: nothing in it is verified
 * again.
 *
 * | line                          | says                                                 |
 * | ----------------------------- | ---------------------------------------------------- |
 * | `<key> <signature> <payload>` | the seal as it was in the directory                  |
 * | `!<key> …`                    | the same; some keys or members of it were refused    |
 * | `?<key> …`                    | the same; only what the line before it also says     |
 * |                               | was accepted                                         |
 * | `gone <uid> <name> <number>`  | it has disappeared; the highest number of its seals  |
 * | `missing <uid> …`             | the same, but its processes go on                    |
 *
 * If a power loss cuts a line, only that line is lost. After the last line there are NUL bytes as room for
 * more. On ext4 and XFS, which write in place, this room stays when the disk becomes full, so that a loss
 * (`isLoss`) survives a restart. Half of the room is kept for losses.
 */
import {
  closeSync,
  constants,
  fstatSync,
  fsyncSync,
  ftruncateSync,
  openSync,
  readSync,
  writeSync,
} from 'node:fs';
import { dirname } from 'node:path';
import { flushFolder, moveInto, removeFile, writeAll } from '../../shared/durable-file.ts';

/** Within the helper's own folder. */
export const JOURNAL_FILE = 'seals';

const CHUNK_BYTES = 2 ** 18;
const LINE_END = 10;
const ROOM = 0;
/** Enough for some 5,000 seals. */
const ROOM_BYTES = 2 ** 21;
/** A file with less than this to save is not rewritten. */
const SPARE_BYTES = 2 ** 22;
const UID =
  /^(?:[!?]?[0-9a-f]{16} \S+ \{"kind":"\w+","realm":"[^"]*","name":"[^"]*","uid":(\d+),|(?:gone|missing) (\d+) )/;

export interface SealJournal {
  readonly path: string;
  fd: number;
  /** of all whole lines, in bytes, and of those that are needed */
  size: number;
  neededBytes: number;
  /** the room after them */
  room: number;
  /** the disk had no more room; each further attempt would fill it for other programs for a moment */
  isFull: boolean;
  /** the lines that could not be read, without a last one that was cut */
  unread: number;
}

/**
 * Opens the file, and passes each line to `take`, which returns whether it could read it. Throws as node:fs does.
 */
export function openSealJournal(path: string, take: (line: string) => boolean): SealJournal {
  const fd = openSync(path, constants.O_RDWR | constants.O_CREAT, 0o600);
  let unread = 0;
  const needed = new Map<number, number>();
  const size = forEachLine(fd, (line, bytes) => {
    if (!take(line)) unread += 1;
    const key = keyOf(line);
    if (key !== undefined) needed.set(key, bytes);
  });
  if (isCutWithin(fd, size)) unread += 1;
  const room = fstatSync(fd).size - size;
  const neededBytes = needed.values().reduce((sum, bytes) => sum + bytes, 0);
  const journal = { path, fd, size, neededBytes, room, isFull: false, unread };
  makeRoom(journal);
  return journal;
}

/**
 * Appends lines. Throws as node:fs does; then none of them is in the file.
 *
 * @param isLoss whether they must survive a power loss, and find room on a full disk
 */
export function appendLines(journal: SealJournal, lines: readonly string[], isLoss: boolean): void {
  if (lacksRoom(journal) && !isLoss) throw noRoom();
  const { fd, size } = journal;
  try {
    const written = writeLines(fd, lines, size);
    if (isLoss) fsyncSync(fd);
    journal.size += written;
    journal.room = Math.max(0, journal.room - written);
  } catch (error) {
    clearRoom(fd, size, journal.room); // half a line would spoil the next one
    ftruncateSync(fd, size + journal.room);
    throw error;
  }
}

/**
 * Rewrites the file with the last line of each uid, if more than half of it is not needed, or if some of it
 * could not be read. Throws as node:fs does.
 */
export function tidyJournal(journal: SealJournal): void {
  const { path, fd } = journal;
  journal.isFull = false;
  lacksRoom(journal);
  if (journal.unread === 0 && journal.size <= 2 * journal.neededBytes + SPARE_BYTES) return;
  const temporary = `${path}.new`;
  removeFile(temporary);
  const next = openSync(temporary, 'wx+', 0o600);
  try {
    journal.neededBytes = copyNeeded(fd, next);
    moveInto(temporary, path);
  } catch (error) {
    closeSync(next);
    removeFile(temporary);
    throw error;
  }
  closeSync(fd);
  Object.assign(journal, { fd: next, size: journal.neededBytes, room: 0 });
  makeRoom(journal);
  journal.unread = 0;
  flushFolder(dirname(path));
}

/** Makes room for lines that are not losses. Throws if there is no room, and as node:fs does. */
export function requireRoom(journal: SealJournal): void {
  journal.isFull = false;
  if (lacksRoom(journal)) throw noRoom();
}

/** Makes as much room as there should be. If the disk is full, the existing room stays. */
function makeRoom(journal: SealJournal): void {
  if (journal.isFull) return;
  try {
    clearRoom(journal.fd, journal.size, ROOM_BYTES);
    journal.room = ROOM_BYTES;
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'ENOSPC') throw error;
    journal.isFull = true;
    ftruncateSync(journal.fd, journal.size + journal.room);
  }
}

/** Whether there is only room for losses; tries to make more first. */
function lacksRoom(journal: SealJournal): boolean {
  if (journal.room < ROOM_BYTES / 2) makeRoom(journal);
  return journal.room < ROOM_BYTES / 2;
}

/** Copies the last line of each uid; returns their length in bytes. */
function copyNeeded(fd: number, to: number): number {
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
    written += writeLines(to, lines.splice(0), written);
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

function noRoom(): Error {
  return new Error('ENOSPC: the room that is left is reserved for lines that take something away');
}

function clearRoom(fd: number, size: number, bytes: number): void {
  const piece = Buffer.alloc(CHUNK_BYTES);
  for (let at = 0; at < bytes;) {
    at += writeSync(fd, piece, 0, Math.min(CHUNK_BYTES, bytes - at), size + at);
  }
}

/** Whether anything but NULs follows the first NUL: lines after a page that was lost in a power loss. */
function isCutWithin(fd: number, size: number): boolean {
  const buffer = Buffer.allocUnsafe(CHUNK_BYTES);
  let isInRoom = false;
  for (let at = size; ;) {
    const read = readSync(fd, buffer, 0, CHUNK_BYTES, at);
    if (read === 0) return false;
    at += read;
    let bytes = buffer.subarray(0, read);
    const begin = isInRoom ? 0 : bytes.indexOf(ROOM);
    if (begin === -1) continue;
    isInRoom = true;
    bytes = bytes.subarray(begin);
    if (!bytes.equals(Buffer.alloc(bytes.length))) return true;
  }
}

/** The uid; negative for a line that needs the one before it. */
function keyOf(line: string): number | undefined {
  const [, sealed, gone] = UID.exec(line) ?? [];
  const uid = sealed ?? gone;
  if (uid === undefined) return undefined;
  return line.startsWith('?') ? -Number(uid) : Number(uid);
}

/** Reads line by line, whatever the size of the file; returns the length of all whole lines in bytes. */
function forEachLine(fd: number, take: (line: string, bytes: number) => void): number {
  let buffer = Buffer.allocUnsafe(CHUNK_BYTES);
  let size = 0;
  for (let kept = 0; ;) {
    // a line that fills the buffer is not ours
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
    if (bytes[from] === ROOM) return size;
    kept = bytes.length - from;
    buffer.copyWithin(0, from, bytes.length);
  }
}

/** Not in one piece: it may be megabytes. */
function writeLines(fd: number, lines: readonly string[], position: number): number {
  let written = 0;
  let piece = '';
  for (const line of lines) {
    piece += `${line}\n`;
    if (piece.length < CHUNK_BYTES) continue;
    written += writeAll(fd, piece, position + written);
    piece = '';
  }
  return written + writeAll(fd, piece, position + written);
}
