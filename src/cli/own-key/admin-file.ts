/** What an admin's own machine knows: the realm, the admin, the key, and where the API is. It needs no secret. */
import { homedir } from 'node:os';
import { join } from 'node:path';
import * as z from 'zod/mini';
import { absolutePath, filled, loadYaml, unixName } from '../../shared/config-values.ts';
import { fingerprintOf } from '../../ssh-keys/ed25519-key.ts';
import type { Signer } from '../submission.ts';
import { openOwnKey } from './own-key.ts';
import { ownSigner } from './submitter.ts';

const schema = z.strictObject({
  realm: unixName,
  person: filled,
  /** as `openOwnKey` reads it */
  key: absolutePath,
  /** the origin of the API, such as https://realm.example.org:8466 */
  api: z.optional(z.url({ protocol: /^https?$/u })),
  /** the authority that the API's certificate is from, in PEM; by default those of Node.js */
  caFile: z.optional(absolutePath),
});
export type AdminFile = z.infer<typeof schema>;

/** The folder of the admin's own files, below the home. */
export function adminFolder(): string {
  return join(process.env['XDG_CONFIG_HOME'] || join(homedir(), '.config'), 'chamberlain');
}

export function adminFilePath(): string {
  return join(adminFolder(), 'admin.yaml');
}

/** Reads and checks the file. Throws CONFIG_INVALID. */
export function loadAdminFile(): AdminFile {
  return loadYaml(adminFilePath(), schema);
}

/** Opens the key of the file. */
export async function openAdminSigner({ person, key }: AdminFile): Promise<Signer> {
  const { publicKey, signing } = await openOwnKey(key);
  return ownSigner(person, fingerprintOf(publicKey), signing);
}
