/**
 * A program: copies a tar stream of GNU tar's posix format, and gives entries that are too deep a shorter name.
 *
 *   node file-archive-shorten.ts PIECES < tar > tar
 *
 * Entries deeper than LONGEST in a folder `./a/b` are named `./PIECES/<n>/…` instead, and so are hard links to
 * them. Before the first of them comes `./PIECES/<n>.to`, a symbolic link to that folder, which shows where
 * they are moved later. A piece may be in one of a lower number. Everything else is copied byte for byte.
 *
 * POSIX.1-2017, pax, "pax Header Block": names that are not short and ASCII are in a header of type `x` before
 * the file's own, as records `<length> <keyword>=<value>\n`.
 */
import { createHash } from 'node:crypto';
import { readSync, writeSync } from 'node:fs';

/** XFS stores no symbolic link longer than 1024 bytes. */
const LONGEST = 900;
const BLOCK = 512;
const PIECE_BYTES = 1024 * 1024;

/** Header fields: offset and length. */
const SIZE = [124, 12] as const;
const CHECKSUM = [148, 8] as const;
const TYPE = 156;

const [pieces = ''] = process.argv.slice(2);
/** By a hash of the folder's name: a hostile tree has many of them, and long ones. */
const cuts = new Map<string, number>();

/** Fills a buffer from the input; returns how many bytes there were. */
function fill(into: Buffer): number {
  let done = 0;
  while (done < into.length) {
    const read = readSync(0, into, done, into.length - done, null);
    if (read === 0) break;
    done += read;
  }
  return done;
}

function take(size: number): Buffer {
  const bytes = Buffer.alloc(size);
  if (fill(bytes) < size) throw new Error('the archive ends too early');
  return bytes;
}

function write(bytes: Buffer): void {
  for (let done = 0; done < bytes.length;) done += writeSync(1, bytes, done);
}

function copy(size: number): void {
  for (let left = size; left > 0; left -= PIECE_BYTES) write(take(Math.min(left, PIECE_BYTES)));
}

function inBlocks(size: number): number {
  return Math.ceil(size / BLOCK) * BLOCK;
}

/** Octal; base 256 if it is more than 8 GiB and no `x` header gives it. */
function sizeIn(header: Buffer): number {
  const field = header.subarray(SIZE[0], SIZE[0] + SIZE[1]);
  if (((field[0] ?? 0) & 0x80) !== 0) return Number(field.readBigUInt64BE(SIZE[1] - 8));
  return Number.parseInt(field.toString('latin1'), 8) || 0;
}

/** Writes a header of type `x`, or of the given type, with that many bytes to follow. */
function writeHeader(like: Buffer, type: string, size: number): void {
  const header = Buffer.from(like);
  header.write(type, TYPE, 'latin1');
  header.write(`${size.toString(8).padStart(SIZE[1] - 1, '0')}\0`, SIZE[0], 'latin1');
  header.fill(' ', CHECKSUM[0], CHECKSUM[0] + CHECKSUM[1]);
  const sum = header.reduce((total, byte) => total + byte, 0);
  header.write(`${sum.toString(8).padStart(6, '0')}\0 `, CHECKSUM[0], 'latin1');
  write(header);
}

function writeRecords(like: Buffer, records: readonly (readonly [string, string])[]): void {
  const lines = records.map(([keyword, value]) => {
    const bare = ` ${keyword}=${value}\n`.length;
    let length = bare + String(bare).length;
    length = bare + String(length).length;
    return `${length} ${keyword}=${value}\n`;
  });
  const body = Buffer.from(lines.join(''), 'latin1');
  writeHeader(like, 'x', body.length);
  write(body);
  write(Buffer.alloc(inBlocks(body.length) - body.length));
}

function readRecords(body: Buffer): [keyword: string, value: string][] {
  const records: [string, string][] = [];
  for (let at = 0; at < body.length;) {
    const blank = body.indexOf(' ', at);
    const length = Number(body.toString('latin1', at, blank));
    if (!(length > 0)) throw new Error('a header of the archive is not in the format of tar');
    const equals = body.indexOf('=', blank);
    records.push([
      body.toString('latin1', blank + 1, equals),
      body.toString('latin1', equals + 1, at + length - 1),
    ]);
    at += length;
  }
  return records;
}

/** The shorter name of a file; the link to its folder has been written by then. */
function shortened(name: string, like: Buffer): string {
  const slash = name.endsWith('/') ? '/' : '';
  let short = slash === '' ? name : name.slice(0, -1);
  while (short.length > LONGEST) {
    const at = short.lastIndexOf('/', LONGEST);
    const folder = short.slice(0, at);
    const hash = createHash('sha256').update(folder, 'latin1').digest('base64');
    let number = cuts.get(hash);
    if (number === undefined) {
      number = cuts.size + 1;
      cuts.set(hash, number);
      writeRecords(like, [
        ['path', `./${pieces}/${number}.to`],
        ['linkpath', `../${folder}`],
      ]);
      writeHeader(like, '2', 0);
    }
    short = `./${pieces}/${number}${short.slice(at)}`;
  }
  return short + slash;
}

const header = Buffer.alloc(BLOCK);
let extended: { like: Buffer; records: [string, string][] } | undefined;
for (;;) {
  if (fill(header) < BLOCK || header.every((byte) => byte === 0)) break;
  const type = String.fromCharCode(header[TYPE] ?? 0);
  if (type === 'x') {
    const size = sizeIn(header);
    const body = take(inBlocks(size)).subarray(0, size);
    extended = { like: Buffer.from(header), records: readRecords(body) };
    continue;
  }
  if (extended !== undefined) {
    const { like, records } = extended;
    const isName = (keyword: string) =>
      keyword === 'path' || (keyword === 'linkpath' && type === '1');
    writeRecords(
      like,
      records.map(([keyword, value]) => [
        keyword,
        isName(keyword) ? shortened(value, like) : value,
      ]),
    );
  }
  write(header);
  const stated = extended?.records.find(([keyword]) => keyword === 'size')?.[1];
  if (!'123456'.includes(type))
    copy(inBlocks(stated === undefined ? sizeIn(header) : Number(stated)));
  extended = undefined;
}
write(Buffer.alloc(2 * BLOCK));
// the padding after the end
while (fill(header) === BLOCK);
