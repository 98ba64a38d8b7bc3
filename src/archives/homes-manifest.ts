/** The manifest of an archived home: what the archive holds, and what it was made of. */
import * as z from 'zod';
import { type ArchiveName, parseManifestAs } from './manifest.ts';

const schema = z.strictObject({
  version: z.literal(1),
  account: z.string(),
  uid: z.int(),
  archival: z.int(),
  /** RFC 3339, UTC */
  madeAt: z.string(),
  /** of all keys that the person ever had; left out by older versions */
  fingerprints: z.array(z.string()).optional(),
  what: z.union([
    /** there was no home, or it belonged to another account and was left */
    z.strictObject({ kind: z.literal('nothing') }),
    z.strictObject({
      kind: z.literal('home'),
      area: z.enum(['toolHomes', 'personHomes']),
      name: z.string(),
      entries: z.strictObject({
        directories: z.int(),
        files: z.int(),
        /** further names of files that are counted as such */
        hardLinks: z.int(),
        symbolicLinks: z.int(),
        fifos: z.int(),
        devices: z.int(),
      }),
      /** of the files, each counted once, including holes */
      bytes: z.int(),
      /** what an archive cannot hold */
      leftOut: z.strictObject({ sockets: z.int() }),
    }),
  ]),
  files: z.array(
    z.strictObject({ name: z.literal('home.tar.zst'), bytes: z.int(), sha256: z.string() }),
  ),
  /** the first line of each program's version output; for tar also the options that it packed with */
  programs: z.strictObject({ tar: z.string(), zstd: z.string() }),
});
export type HomeManifest = z.infer<typeof schema>;

/** Reads a manifest, as `parseManifestAs` does. */
export function parseManifest(
  bytes: Buffer,
  of: ArchiveName & { uid?: number },
): HomeManifest | undefined {
  return parseManifestAs(schema, bytes, of);
}
