import { createPublicKey, generateKeyPairSync, randomInt } from 'node:crypto';
import { readFileSync, renameSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';

const ALPHABET = 'ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789';

/** The password in `folder/name`; created (32 of [A-Za-z0-9], mode 0600, no line end) if there is none. */
export function ensurePassword(folder: string, name: string): string {
  return ensureFile(join(folder, name), () =>
    Array.from({ length: 32 }, () => ALPHABET[randomInt(ALPHABET.length)]).join(''),
  );
}

/**
 * The public half (SPKI, PEM) of the Ed25519 key in `file` (PKCS8, PEM, mode 0600), which is created if there
 * is none.
 */
export function ensureSigningKey(file: string): string {
  const pem = ensureFile(file, () =>
    generateKeyPairSync('ed25519').privateKey.export({ type: 'pkcs8', format: 'pem' }).toString(),
  );
  return createPublicKey(pem).export({ type: 'spki', format: 'pem' }).toString();
}

function ensureFile(file: string, make: () => string): string {
  try {
    const text = readFileSync(file, 'utf8');
    if (text !== '') return text;
  } catch (cause) {
    if ((cause as NodeJS.ErrnoException).code !== 'ENOENT') throw cause;
  }
  const text = make();
  writeFileSync(`${file}.new`, text, { mode: 0o600, flush: true });
  renameSync(`${file}.new`, file);
  return text;
}
