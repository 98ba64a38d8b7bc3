/**
 * Counts the tables, and the rows of each, in a dump of mariadb-dump, byte by byte as it comes. This proves
 * that a dump holds everything before the original is dropped.
 *
 * The dump is read as the client would read it, as far as counting needs: statements end with `;`, names are in
 * backticks, texts in quotes with backslashes, bodies of routines between two DELIMITER lines.
 */

const [BACKTICK, QUOTE, DOUBLE, BACKSLASH, OPEN, CLOSE, SEMICOLON, NEWLINE, SPACE] = [
  ...Buffer.from('`\'"\\();\n '),
] as [number, number, number, number, number, number, number, number, number];

/** 1 for each byte that has a meaning between the texts of rows. */
const IN_ROWS = new Uint8Array(256);
for (const byte of [BACKTICK, QUOTE, DOUBLE, OPEN, CLOSE, SEMICOLON]) IN_ROWS[byte] = 1;

const INSERT = 'INSERT INTO `';
const MAKES = ['CREATE TABLE `', 'CREATE SEQUENCE `'];
const DELIMITER = 'DELIMITER ;;\n';
const HEADS = [INSERT, ...MAKES, DELIMITER];
const VALUES = Buffer.from('VALUES');
/** How the dump ends a body. */
const PLAIN_AGAIN = Buffer.from(';;\nDELIMITER ;\n');
/** A line that begins like this is a command to the client that reads it, wherever it is. */
const COMMAND = 'delimiter';
const ENDS_WITH_COMMAND = ';;\n'.length + COMMAND.length;

/**
 * start: before a statement · head: in its first word · name: in the table's name · skip: to its end · columns:
 * before VALUES · rows: after it · body: until the delimiter is `;` again
 */
type Place = 'start' | 'head' | 'name' | 'skip' | 'columns' | 'rows' | 'body';

/** A dump as far as it has come. */
export interface Dump {
  readonly tables: Map<string, number>;
  place: Place;
  /** the first word of the statement, as far as it was read */
  head: string;
  /** the bytes of the table's name */
  name: number[];
  table: string;
  rows: number;
  depth: number;
  /** the quote that began the current text or name */
  quoted: number;
  isEscaped: boolean;
  /** how much of the searched pattern has been seen */
  matched: number;
  /** the beginning of a body's line */
  line: string;
}

export function newDump(): Dump {
  return {
    ...{ tables: new Map(), place: 'start', head: '', name: [], table: '', rows: 0, depth: 0 },
    ...{ quoted: 0, isEscaped: false, matched: 0, line: '' },
  };
}

export function readDump(dump: Dump, chunk: Uint8Array): void {
  for (let at = 0; at < chunk.length; at += 1) {
    // nearly all bytes belong to rows, in texts and between them
    if (dump.place === 'rows' && dump.quoted === QUOTE && !dump.isEscaped) {
      while (at < chunk.length && chunk[at] !== QUOTE && chunk[at] !== BACKSLASH) at += 1;
    } else if (dump.place === 'rows' && dump.quoted === 0) {
      while (at < chunk.length && IN_ROWS[chunk[at] as number] === 0) at += 1;
    }
    if (at === chunk.length) return;
    read(dump, chunk[at] as number);
  }
}

/**
 * The rows of each table that the dump creates. Throws if the dump ends in the middle, or fills a table that
 * it did not create.
 */
export function rowsOf({ place, tables }: Dump): ReadonlyMap<string, number> {
  if (place !== 'start') throw new Error('the dump ends in the middle of a statement');
  return tables;
}

function read(dump: Dump, byte: number): void {
  switch (dump.place) {
    case 'start':
      if (byte === NEWLINE || byte === SPACE) return;
      dump.head = '';
      enter(dump, 'head');
      return read(dump, byte);
    case 'head':
      dump.head += String.fromCharCode(byte);
      if (HEADS.includes(dump.head)) return leaveHead(dump);
      if (HEADS.some((each) => each.startsWith(dump.head))) return;
      enter(dump, 'skip');
      for (const each of Buffer.from(dump.head, 'latin1')) read(dump, each);
      return;
    case 'name':
      if (byte === BACKTICK) {
        dump.matched += 1; // two stand for one in the name
        if (dump.matched === 2) {
          dump.name.push(byte);
          dump.matched = 0;
        }
      } else if (dump.matched === 1) {
        named(dump);
        read(dump, byte);
      } else dump.name.push(byte);
      return;
    case 'skip':
      if (isBare(dump, byte) && byte === SEMICOLON) enter(dump, 'start');
      return;
    case 'columns':
      if (!isBare(dump, byte)) return;
      if (byte === OPEN) dump.depth += 1;
      if (byte === CLOSE) dump.depth -= 1;
      if (dump.depth === 0 && isMatched(dump, VALUES, byte)) enter(dump, 'rows');
      return;
    case 'rows':
      if (!isBare(dump, byte)) return;
      if (byte === OPEN && (dump.depth += 1) === 1) dump.rows += 1;
      if (byte === CLOSE) dump.depth -= 1;
      if (byte === SEMICOLON && dump.depth === 0) {
        dump.tables.set(dump.table, (dump.tables.get(dump.table) ?? 0) + dump.rows);
        enter(dump, 'start');
      }
      return;
    case 'body':
      if (isMatched(dump, PLAIN_AGAIN, byte)) return enter(dump, 'start');
      dump.line =
        byte === NEWLINE
          ? ''
          : dump.line.length > COMMAND.length
            ? dump.line
            : dump.line + String.fromCharCode(byte);
      if (dump.line.toLowerCase() === COMMAND && dump.matched !== ENDS_WITH_COMMAND) {
        throw new Error('a routine, trigger or event in it has a line that begins with DELIMITER');
      }
  }
}

function leaveHead(dump: Dump): void {
  if (dump.head === DELIMITER) enter(dump, 'body');
  else {
    dump.name = [];
    enter(dump, 'name');
  }
}

function named(dump: Dump): void {
  const { tables } = dump;
  dump.table = Buffer.from(dump.name).toString('utf8');
  if (dump.head === INSERT) {
    if (!tables.has(dump.table)) throw new Error(`the dump fills ${dump.table} without making it`);
    dump.rows = 0;
    enter(dump, 'columns');
    return;
  }
  tables.set(dump.table, tables.get(dump.table) ?? 0);
  enter(dump, 'skip');
}

function enter(dump: Dump, next: Place): void {
  dump.place = next;
  dump.matched = dump.depth = dump.quoted = 0;
  dump.isEscaped = false;
  dump.line = '';
}

/** Whether the byte is outside all quotes, and not a quote itself. */
function isBare(dump: Dump, byte: number): boolean {
  if (dump.quoted === 0) {
    if (byte !== QUOTE && byte !== DOUBLE && byte !== BACKTICK) return true;
    dump.quoted = byte;
  } else if (dump.isEscaped) dump.isEscaped = false;
  else if (byte === BACKSLASH && dump.quoted !== BACKTICK) dump.isEscaped = true;
  else if (byte === dump.quoted) dump.quoted = 0;
  return false;
}

/**
 * Whether the pattern ends here. Of our patterns, only in `;;;` can more than one beginning match: the last
 * two count.
 */
function isMatched(dump: Dump, pattern: Uint8Array, byte: number): boolean {
  if (byte !== pattern[dump.matched])
    dump.matched = dump.matched === 2 && byte === SEMICOLON ? 1 : 0;
  if (byte === pattern[dump.matched]) dump.matched += 1;
  return dump.matched === pattern.length;
}
