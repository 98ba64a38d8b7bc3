/**
 * Counts the tables, and the rows of each, in a dump of mariadb-dump, byte by byte as it comes. This proves
 * that a dump holds everything before the original is dropped.
 *
 * The dump is read as the client would read it, as far as counting needs: statements end with `;`, names are in
 * backticks, texts in quotes with backslashes, bodies of routines between two DELIMITER lines.
 */

export interface DumpReader {
  write(chunk: Uint8Array): void;
  /**
   * The rows of each table that the dump creates. Throws if the dump ends in the middle, or fills a table that
   * it did not create.
   */
  end(): ReadonlyMap<string, number>;
}

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

export function openDumpReader(): DumpReader {
  const tables = new Map<string, number>();
  let place: Place = 'start';
  let head = '';
  let name: number[] = [];
  let table = '';
  let rows = 0;
  let depth = 0;
  /** the quote that began the current text or name */
  let quoted = 0;
  let isEscaped = false;
  /** how much of the searched pattern has been seen */
  let matched = 0;
  /** the beginning of a body's line */
  let line = '';

  function enter(next: Place): void {
    place = next;
    matched = depth = quoted = 0;
    isEscaped = false;
    line = '';
  }

  /** Whether the byte is outside all quotes, and not a quote itself. */
  function isBare(byte: number): boolean {
    if (quoted === 0) {
      if (byte !== QUOTE && byte !== DOUBLE && byte !== BACKTICK) return true;
      quoted = byte;
    } else if (isEscaped) isEscaped = false;
    else if (byte === BACKSLASH && quoted !== BACKTICK) isEscaped = true;
    else if (byte === quoted) quoted = 0;
    return false;
  }

  /**
   * Whether the pattern ends here. Of our patterns, only in `;;;` can more than one beginning match: the last
   * two count.
   */
  function isMatched(pattern: Uint8Array, byte: number): boolean {
    if (byte !== pattern[matched]) matched = matched === 2 && byte === SEMICOLON ? 1 : 0;
    if (byte === pattern[matched]) matched += 1;
    return matched === pattern.length;
  }

  function leaveHead(): void {
    if (head === DELIMITER) enter('body');
    else {
      name = [];
      enter('name');
    }
  }

  function named(): void {
    table = Buffer.from(name).toString('utf8');
    if (head === INSERT) {
      if (!tables.has(table)) throw new Error(`the dump fills ${table} without making it`);
      rows = 0;
      enter('columns');
      return;
    }
    tables.set(table, tables.get(table) ?? 0);
    enter('skip');
  }

  function read(byte: number): void {
    switch (place) {
      case 'start':
        if (byte === NEWLINE || byte === SPACE) return;
        head = '';
        enter('head');
        return read(byte);
      case 'head':
        head += String.fromCharCode(byte);
        if (HEADS.includes(head)) return leaveHead();
        if (HEADS.some((each) => each.startsWith(head))) return;
        enter('skip');
        for (const each of Buffer.from(head, 'latin1')) read(each);
        return;
      case 'name':
        if (byte === BACKTICK) {
          matched += 1; // two stand for one in the name
          if (matched === 2) {
            name.push(byte);
            matched = 0;
          }
        } else if (matched === 1) {
          named();
          read(byte);
        } else name.push(byte);
        return;
      case 'skip':
        if (isBare(byte) && byte === SEMICOLON) enter('start');
        return;
      case 'columns':
        if (!isBare(byte)) return;
        if (byte === OPEN) depth += 1;
        if (byte === CLOSE) depth -= 1;
        if (depth === 0 && isMatched(VALUES, byte)) enter('rows');
        return;
      case 'rows':
        if (!isBare(byte)) return;
        if (byte === OPEN && (depth += 1) === 1) rows += 1;
        if (byte === CLOSE) depth -= 1;
        if (byte === SEMICOLON && depth === 0) {
          tables.set(table, (tables.get(table) ?? 0) + rows);
          enter('start');
        }
        return;
      case 'body':
        if (isMatched(PLAIN_AGAIN, byte)) return enter('start');
        line =
          byte === NEWLINE
            ? ''
            : line.length > COMMAND.length
              ? line
              : line + String.fromCharCode(byte);
        if (line.toLowerCase() === COMMAND && matched !== ENDS_WITH_COMMAND) {
          throw new Error(
            'a routine, trigger or event in it has a line that begins with DELIMITER',
          );
        }
    }
  }

  return {
    write(chunk) {
      for (let at = 0; at < chunk.length; at += 1) {
        // nearly all bytes belong to rows, in texts and between them
        if (place === 'rows' && quoted === QUOTE && !isEscaped) {
          while (at < chunk.length && chunk[at] !== QUOTE && chunk[at] !== BACKSLASH) at += 1;
        } else if (place === 'rows' && quoted === 0) {
          while (at < chunk.length && IN_ROWS[chunk[at] as number] === 0) at += 1;
        }
        if (at === chunk.length) return;
        read(chunk[at] as number);
      }
    },
    end() {
      if (place !== 'start') throw new Error('the dump ends in the middle of a statement');
      return tables;
    },
  };
}
