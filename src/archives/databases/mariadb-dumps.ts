/** Dumps a database into a compressed file, reads it back whole, and loads it again, by the client programs. */
import { closeSync, constants, fsync, openSync } from 'node:fs';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { type ArchivedDatabase, type Inventory } from '../databases-manifest.ts';
import { beginningsOfLines } from '../lines.ts';
import type { LongStep } from '../archive-keeping.ts';
import { archiveDamaged, readHashed } from '../container.ts';
import { syncFolder } from '../../backends/files/file-mount.ts';
import type {
  DatabaseLogin,
  DatabaseServerPlace,
} from '../../backends/mariadb/mariadb-connections.ts';
import type { Tenant } from '../../backends/mariadb/mariadb-tenant.ts';
import {
  LOGIN_ARGUMENT,
  placeArguments,
  withLogin,
} from '../../backends/mariadb/mariadb-programs.ts';
import { runPrograms } from '../../shared/run-programs.ts';

const DUMP_ARGUMENTS = [
  ...['--single-transaction', '--quick', '--routines', '--triggers', '--events', '--hex-blob'],
  ...['--skip-comments', '--default-character-set=utf8mb4', '--max-allowed-packet=1G'],
  '--complete-insert', // for countRows
  '--skip-add-locks', // a table whose default is a sequence cannot be filled while it alone is locked
];

/** Otherwise tables and rows that the server took once, with checks off or in an older version, would be refused. */
const AS_IT_WAS = 'innodb_strict_mode = 0, check_constraint_checks = 0';

/**
 * No statement of the file can reach a file or a program here: the client takes no commands from it, and sends
 * no file.
 */
const LOAD_ARGUMENTS = [
  ...['--batch', '--binary-mode', '--comments', '--local-infile=0'],
  ...['--default-character-set=utf8mb4', '--max-allowed-packet=1G'],
];

/**
 * Dumps a database into a new file, and reads it back from disk. Throws unless it then holds each table with as
 * many rows as were counted.
 */
export async function dumpDatabase(
  {
    place,
    login,
    folder,
    file,
    database,
    holds,
    total,
  }: {
    place: DatabaseServerPlace;
    login: DatabaseLogin;
    folder: string;
    file: string;
    database: string;
    holds: Inventory;
    /** about how many bytes it has */
    total: number;
  },
  step: LongStep,
): Promise<{ bytes: number; sha256: string }> {
  const path = join(folder, file);
  const out = openSync(path, constants.O_WRONLY | constants.O_CREAT | constants.O_EXCL, 0o600);
  let dumped = 0;
  const between = (chunk: Uint8Array) =>
    step.report(`dumping ${database}`, (dumped += chunk.length), total);
  try {
    const history = holds.tables.some(({ type }) => type === 'SYSTEM VERSIONED');
    const args = [
      ...[LOGIN_ARGUMENT, ...placeArguments(place), ...DUMP_ARGUMENTS],
      ...(history ? ['--dump-history'] : []),
      ...['--', database],
    ];
    await withLogin(folder, login, (options) =>
      runPrograms(
        [
          { name: 'mariadb-dump', args, options },
          { name: 'zstd', args: ['-q'], stdout: out },
        ],
        { between, signal: step.signal },
      ),
    );
    // gigabytes may have to be written: the other jobs of the role go on meanwhile
    await promisify(fsync)(out);
  } finally {
    closeSync(out);
  }
  await syncFolder(folder);
  const { rows, ...hashed } = await readBack(path, database, step);
  const difference = whatIsMissing(holds, rows);
  if (difference !== undefined) throw new Error(`the dump of ${database}: ${difference}`);
  return hashed;
}

async function readBack(
  path: string,
  database: string,
  step: LongStep,
): Promise<{ rows: ReadonlyMap<string, number>; bytes: number; sha256: string }> {
  const { see, rows } = countRows();
  const { pieces, read } = readHashed(path, step, `reading ${database} back`);
  const { signal } = step;
  await runPrograms([{ name: 'zstd', args: ['-dcq'] }], { from: pieces, into: see, signal });
  return { rows: rows(), ...read() };
}

/** The beginning of a statement that creates or fills a table, as far as the name was read, and to its end. */
const STATEMENT = /^(?:INSERT INTO|CREATE (?:TABLE|SEQUENCE)) `/u;
const NAMED = /^(\w+) \w+ `((?:[^`]|``)*)`(?!`)/u;
/** One of the lines with which mariadb-dump ends: they restore the session's settings. */
const LAST = /^\/\*\S+ SET \w+=@OLD_\w+ \*\/;$/u;

/**
 * Counts the tables in a dump, and the rows of each, by its lines: mariadb-dump writes the first row on the
 * line of INSERT (--complete-insert), and each other row on a line of its own. It escapes line breaks in values,
 * but not in names. Bodies are between two DELIMITER lines, and `requireLoadable` has looked that no line in a
 * body is one.
 */
function countRows(): { see: (chunk: Buffer) => void; rows: () => ReadonlyMap<string, number> } {
  const tables = new Map<string, number>();
  let isBody = false;
  let [statement, last] = ['', ''];
  /** the table whose rows these are */
  let filled: string | undefined;
  const see = beginningsOfLines((line) => {
    if (line.startsWith('DELIMITER ')) isBody = line !== 'DELIMITER ;';
    if (isBody) return;
    if (line !== '') last = line;
    if (line.startsWith('/*')) filled = undefined;
    if (filled !== undefined && line.startsWith('(')) {
      tables.set(filled, (tables.get(filled) ?? 0) + 1);
    }
    if (statement !== '') statement += `\n${line}`;
    else if (STATEMENT.test(line)) statement = line;
    const [, verb, quoted] = NAMED.exec(statement) ?? [];
    if (quoted === undefined) return;
    statement = '';
    const name = Buffer.from(quoted.replaceAll('``', '`'), 'latin1').toString('utf8');
    const before = verb === 'CREATE' ? -1 : tables.get(name);
    if (before === undefined) throw new Error(`the dump fills ${name} without making it`);
    tables.set(name, before + 1);
    filled = verb === 'CREATE' ? undefined : name;
  });
  return {
    see,
    rows() {
      if (isBody || !LAST.test(last)) throw new Error('the dump has no end: it was cut short');
      return tables;
    },
  };
}

function whatIsMissing(holds: Inventory, rows: ReadonlyMap<string, number>): string | undefined {
  for (const { name, rows: counted } of holds.tables) {
    const dumped = rows.get(name);
    if (dumped === undefined) return `it lacks the table ${name}`;
    if (dumped !== counted) return `it holds ${dumped} of ${counted} rows of the table ${name}`;
  }
  return undefined;
}

/**
 * Loads a database, which must exist, from its dump. Throws unless the file is the one that the manifest
 * describes.
 */
export async function loadDatabase(
  {
    place,
    tenant,
    path,
    piece,
    scratch,
  }: {
    place: DatabaseServerPlace;
    tenant: Tenant;
    path: string;
    piece: ArchivedDatabase;
    /** a folder of our own */
    scratch: string;
  },
  step: LongStep,
): Promise<void> {
  const { database, file, sha256, holds } = piece;
  const { pieces, read } = readHashed(join(path, file), step, `loading ${database}`);
  const args = [LOGIN_ARGUMENT, ...placeArguments(place), ...LOAD_ARGUMENTS];
  // otherwise an event whose only time is past would not be created; in the first second of 1970, none is past
  const time = holds.events.length > 0 ? ', timestamp = 1' : '';
  const begin = `SET ROLE ${tenant.role}; SET ${AS_IT_WAS}${time}`;
  await withLogin(scratch, tenant, (options) =>
    runPrograms(
      [
        { name: 'zstd', args: ['-dcq'] },
        {
          name: 'mariadb',
          args: [...args, `--init-command=${begin}`, `--database=${database}`],
          options,
        },
      ],
      { from: pieces, signal: step.signal },
    ),
  );
  if (read().sha256 !== sha256) throw archiveDamaged(join(path, file), 'it was changed');
}
