/**
 * A set of backups: a folder `chamberlain-<realm>-<time>` with these files, each encrypted with age.
 *
 *     roles.sql       the PostgreSQL roles in the dump, without passwords
 *     database.dump   PostgreSQL, from one snapshot, in the custom format of pg_dump
 *     archives.json   the archives that PostgreSQL knows, with their digests: JSON lines
 *     directory.ldif  the directory, read after that snapshot, for slapadd
 *     secrets.tar     the folder of secrets
 *     config.yaml     the configuration
 *     manifest.json   the list of the others, with their digests; written last
 *
 * A folder whose name begins with a dot is not a set: it is being made, or was never completed.
 */
import * as z from 'zod';
import { ARCHIVING_ROLES } from '../roles/index.ts';

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
  /** the size before encryption, and the digest of the same bytes */
  bytes: count,
  sha256: z.string().regex(/^[0-9a-f]{64}$/),
});
export type Piece = z.infer<typeof piece>;

const manifest = z.strictObject({
  version: z.literal(1),
  realm: z.string(),
  /** when the snapshot of PostgreSQL was taken; RFC 3339, UTC */
  at: z.string(),
  /** the last migration of the database; a program that has this migration can use the set */
  migration: z.string(),
  database: z.string(),
  /** rows of each table */
  tables: z.record(z.string(), count),
  /** the number of entries of the directory */
  entries: count,
  /** the names of the secret files */
  secrets: z.array(z.string()),
  archives: count,
  pieces: z.array(piece).length(PIECES.length),
});
export type Manifest = z.infer<typeof manifest>;

/** Parses a manifest. Undefined if it is not valid or has another version. */
export function parseManifest(text: string): Manifest | undefined {
  try {
    return manifest.parse(JSON.parse(text));
  } catch {
    return undefined;
  }
}

/** An archive that PostgreSQL knows and that is still kept. */
const archive = z.strictObject({
  subject: z.int(),
  account: z.string(),
  archival: z.int(),
  role: z.enum(ARCHIVING_ROLES),
  manifestSha256: z.string(),
  /** where it is, as the role sees it */
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

/** The name of a set, such as `chamberlain-tools-20261129T221700Z`. */
export function setName(realm: string, at: Date): string {
  const stamp = at.toISOString().replace(/\.\d+/, '').replaceAll(/[-:]/g, '');
  return `chamberlain-${realm}-${stamp}`;
}
