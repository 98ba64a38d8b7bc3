/** The manifest of an archive of databases: what was on the servers, and which file holds it. */
import * as z from 'zod';
import { type ArchiveName, parseAs, parseManifestAs } from './manifest.ts';
import { count } from '../shared/printable.ts';

const table = z.strictObject({
  name: z.string(),
  /** as `information_schema.TABLES` calls it: `BASE TABLE`, `SYSTEM VERSIONED`, `SEQUENCE` */
  type: z.string(),
  engine: z.string(),
  /** including those of its history; 0 for a sequence, and if the rows are elsewhere (`holdsRows`) */
  rows: z.int().min(0),
});

const inventory = z.strictObject({
  charset: z.string(),
  collation: z.string(),
  comment: z.string(),
  tables: z.array(table),
  views: z.array(z.string()),
  triggers: z.array(z.string()),
  /** `PROCEDURE name`, `FUNCTION name`, `PACKAGE name` … */
  routines: z.array(z.string()),
  events: z.array(z.string()),
  /**
   * those of them whose definer is another account than the user, who may not create such: `VIEW name of
   * root@localhost`
   */
  others: z.array(z.string()).optional(),
});

/** By kind and name, such as `table cities`: a hash of the content. */
const contents = z.record(z.string(), z.string());

const piece = z.strictObject({
  server: z.string(),
  database: z.string(),
  /** what was there, each list sorted */
  holds: inventory,
  /** left out by older versions */
  contents: contents.optional(),
  file: z.string().regex(/^[a-z0-9._-]+\.sql\.zst$/),
  bytes: z.int().min(0),
  sha256: z.string().regex(/^[0-9a-f]{64}$/),
});

const manifest = z.strictObject({
  version: z.literal(1),
  account: z.string(),
  uid: z.int().min(1),
  user: z.string(),
  archival: z.int().min(1),
  /** RFC 3339, UTC; older versions left it and the next field out */
  madeAt: z.string().optional(),
  /** of all keys that the person ever had */
  fingerprints: z.array(z.string()).optional(),
  /** every server that may hold databases of the user, with its own version string */
  servers: z.array(z.strictObject({ name: z.string(), version: z.string() })),
  databases: z.array(piece),
});

export type ArchivedTable = z.infer<typeof table>;
export type Inventory = z.infer<typeof inventory>;
export type Contents = z.infer<typeof contents>;
/** One database of an archive. */
export type ArchivedDatabase = z.infer<typeof piece>;
export type DatabasesManifest = z.infer<typeof manifest>;

/** Reads a manifest, as `parseManifestAs` does. */
export function parseManifest(bytes: Buffer, of: ArchiveName): DatabasesManifest | undefined {
  return parseManifestAs(manifest, bytes, of);
}

/** Reads the part of a manifest that describes one database. */
export function parsePiece(bytes: Buffer): ArchivedDatabase | undefined {
  return parseAs(piece, bytes);
}

/** Engines whose rows are elsewhere: mariadb-dump leaves them out (--no-data-med). */
const HOLDS_NO_ROWS = new Set([
  'MRG_MyISAM',
  'MRG_MYISAM',
  'MRG_ISAM',
  'CONNECT',
  'OQGRAPH',
  'SPIDER',
  'VP',
  'FEDERATED',
]);

/** Whether a table has rows of its own. */
export function holdsRows({ type, engine }: Pick<ArchivedTable, 'type' | 'engine'>): boolean {
  return type !== 'SEQUENCE' && !HOLDS_NO_ROWS.has(engine);
}

/** Describes the first difference between two inventories, for people; undefined if they are equal. */
export function differenceOf(was: Inventory, is: Inventory): string | undefined {
  for (const name of ['charset', 'collation', 'comment'] as const) {
    if (was[name] !== is[name]) return `its ${name} was ${was[name]}, and is ${is[name]}`;
  }
  return (
    tableDifference(was.tables, is.tables) ??
    LISTS.map((list) => listDifference(list, was[list], is[list])).find(
      (each) => each !== undefined,
    )
  );
}

/** Why `is` is not a part of `was`: something is new, or grew; undefined if it is a part. */
export function whatCame(was: Inventory, is: Inventory): string | undefined {
  const known = new Map(was.tables.map((each) => [each.name, each]));
  for (const { name, rows } of is.tables) {
    const before = known.get(name);
    // until a view is created, a table may have its place
    if (before === undefined && !was.views.includes(name)) return `the table ${name} is new`;
    if (before !== undefined && rows > before.rows)
      return `the table ${name} has ${count(rows, 'row')} instead of ${before.rows}`;
  }
  for (const list of LISTS) {
    const came = is[list].find((name) => !was[list].includes(name));
    if (came !== undefined) return `the ${SINGULAR[list]} ${came} is new`;
  }
  return undefined;
}

/** Compares contents: why not everything that exists is in an archive; undefined if it is. */
export function whatIsOther(was: Contents | undefined, is: Contents): string | undefined {
  if (was === undefined)
    return 'its archive was made by an older version, which did not record contents';
  const other = Object.keys(is).find((what) => was[what] !== is[what]);
  return other === undefined ? undefined : `the content of the ${other} differs from its archive`;
}

const LISTS = ['views', 'triggers', 'routines', 'events'] as const;
const SINGULAR = { views: 'view', triggers: 'trigger', routines: 'routine', events: 'event' };

function tableDifference(
  was: readonly ArchivedTable[],
  is: readonly ArchivedTable[],
): string | undefined {
  const now = new Map(is.map((each) => [each.name, each]));
  for (const before of was) {
    const after = now.get(before.name);
    if (after === undefined) return `the table ${before.name} is gone`;
    if (after.rows !== before.rows)
      return `the table ${before.name} had ${count(before.rows, 'row')}, and has ${after.rows}`;
    if (after.type !== before.type || after.engine !== before.engine)
      return `the table ${before.name} was replaced`;
  }
  const names = new Set(was.map(({ name }) => name));
  const came = is.find(({ name }) => !names.has(name));
  return came === undefined ? undefined : `the table ${came.name} is new`;
}

function listDifference(
  list: (typeof LISTS)[number],
  was: readonly string[],
  is: readonly string[],
): string | undefined {
  const gone = was.find((name) => !is.includes(name));
  if (gone !== undefined) return `the ${SINGULAR[list]} ${gone} is gone`;
  const came = is.find((name) => !was.includes(name));
  return came === undefined ? undefined : `the ${SINGULAR[list]} ${came} is new`;
}
