/** An Ed25519 public key, as configurations and requests have it. */
import { createPublicKey } from 'node:crypto';
import * as z from 'zod/mini';
import { keyOfLine, lineOf } from './ed25519-key.ts';

const PUBLIC_KEY =
  /^\s*-----BEGIN PUBLIC KEY-----\n[A-Za-z0-9+/=\n]+\n-----END PUBLIC KEY-----\s*$/;
const LINE = /^\s*(?<line>ssh-ed25519 [A-Za-z0-9+/=]{68})(?: [^\n]*)?\s*$/;

/**
 * PEM, as `openssl pkey -pubout` prints it, or a line as in a .pub file; the result is PEM. A private key is refused:
 * Node.js would derive the public one from it.
 */
export const ed25519PublicKey = z.pipe(
  z
    .string()
    .check(
      z.refine(
        (text) => pemOf(text) !== undefined,
        'is not an Ed25519 public key in PEM, or a line of OpenSSH',
      ),
    ),
  z.transform((text) => pemOf(text) ?? ''),
);

function pemOf(text: string): string | undefined {
  const line = LINE.exec(text)?.groups?.['line'];
  try {
    if (line === undefined) {
      const isOne = PUBLIC_KEY.test(text) && createPublicKey(text).asymmetricKeyType === 'ed25519';
      return isOne ? text : undefined;
    }
    const key = keyOfLine(line);
    return lineOf(key) === line
      ? key.export({ type: 'spki', format: 'pem' }).toString()
      : undefined;
  } catch {
    return undefined;
  }
}
