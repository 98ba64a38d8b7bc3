/** What the manifests of homes and of databases have in common: canonical JSON, whose SHA-256 is recorded. */
import { createHash } from 'node:crypto';
import type * as z from 'zod';
import { canonicalJson } from '../shared/canonical-json.ts';

/** Identifies an archive. */
export interface ArchiveName {
  account: string;
  archival: number;
}

/** The name of an archive's folder. */
export function archiveName({ account, archival }: ArchiveName): string {
  return `${account}.${archival}`;
}

export function sha256Of(bytes: Buffer | string): string {
  return createHash('sha256').update(bytes).digest('hex');
}

/** The text of a manifest, over which its hash is computed. */
export function renderManifest(manifest: object): string {
  return `${canonicalJson(manifest)}\n`;
}

/** Reads what `renderManifest` wrote. Undefined if the schema does not fit. */
export function parseAs<T>(schema: z.ZodType<T>, bytes: Buffer): T | undefined {
  try {
    return schema.parse(JSON.parse(bytes.toString('utf8')));
  } catch {
    return undefined;
  }
}

/**
 * Reads a manifest. Undefined if it is not one of that archive or, where `uid` is given, of that account's
 * number.
 */
export function parseManifestAs<T extends ArchiveName & { uid: number }>(
  schema: z.ZodType<T>,
  bytes: Buffer,
  { account, archival, uid }: ArchiveName & { uid?: number },
): T | undefined {
  const manifest = parseAs(schema, bytes);
  if (manifest?.account !== account || manifest.archival !== archival) return undefined;
  return uid === undefined || manifest.uid === uid ? manifest : undefined;
}
