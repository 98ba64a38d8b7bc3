/**
 * What a set of backups is: a folder `chamberlain-<realm>-<time>` with these files, each encrypted by age.
 *
 *     roles.sql       the PostgreSQL roles that the dump names, without passwords
 *     database.dump   PostgreSQL, of one snapshot, in the custom format of pg_dump
 *     archives.json   the archives that PostgreSQL knows, with their digests: JSON lines
 *     directory.ldif  the directory, read after that snapshot, as slapadd takes it
 *     secrets.tar     the folder of secrets
 *     config.yaml     the configuration
 *     manifest.json   what the others are, with their digests; written last
 *
 * A folder that begins with a dot is none: it is being made, or was never finished.
 */
import { z } from 'zod';

export const MANIFEST = 'manifest.json';
const PIECES = [
  'roles.sql',
  'database.dump',
  'archives.json',
  'directory.ldif',
  'secrets.tar',
  'config.yaml',
] as const;
export type PieceName = (typeof PIECES)[number];

const count = z.int().min(0);

const piece = z.strictObject({
  name: z.enum(PIECES),
  /** of what is encrypted, in clear */
  bytes: count,
  sha256: z.string().regex(/^[0-9a-f]{64}$/),
});
export type Piece = z.infer<typeof piece>;

const manifest = z.strictObject({
  version: z.literal(1),
  realm: z.string(),
  /** when the snapshot of PostgreSQL was taken; RFC 3339, UTC */
  at: z.string(),
  /** the last migration of the database: a program that knows it can use the set */
  migration: z.string(),
  database: z.string(),
  /** rows of each table */
  tables: z.record(z.string(), count),
  /** of the directory */
  entries: count,
  /** the names of the files */
  secrets: z.array(z.string()),
  archives: count,
  pieces: z.array(piece).length(PIECES.length),
});
export type Manifest = z.infer<typeof manifest>;

/** Reads a manifest; undefined where it is none, or of another version. */
export function parseManifest(text: string): Manifest | undefined {
  try {
    return manifest.parse(JSON.parse(text));
  } catch {
    return undefined;
  }
}

/** An archive that PostgreSQL knows, and that is kept still. */
const archive = z.strictObject({
  subject: z.int(),
  account: z.string(),
  archival: z.int(),
  role: z.enum(['homes', 'databases']),
  manifestSha256: z.string(),
  /** where it lies, as the role sees it */
  path: z.string(),
  bytes: count,
});
export type ListedArchive = z.infer<typeof archive>;

export function renderArchives(archives: readonly ListedArchive[]): string {
  return archives.map((each) => `${JSON.stringify(each)}\n`).join('');
}

export function parseArchives(text: string): ListedArchive[] {
  const lines = text.split('\n').filter((line) => line !== '');
  return lines.map((line) => archive.parse(JSON.parse(line)));
}

/** What a set of that realm and time is called, such as `chamberlain-tools-20261129T221700Z`. */
export function setName(realm: string, at: Date): string {
  const stamp = at.toISOString().replace(/\.\d+/, '').replaceAll(/[-:]/g, '');
  return `chamberlain-${realm}-${stamp}`;
}
