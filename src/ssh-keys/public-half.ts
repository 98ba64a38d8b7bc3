/** The public half of an Ed25519 key in each of the forms in which admins keep their own keys. */
import { createPrivateKey, createPublicKey, type KeyObject } from 'node:crypto';
import { keyOfLine } from './ed25519-key.ts';
import { parseSshKey } from './ssh-key.ts';
import { readerOf } from './ssh-wire.ts';

const OPENSSH = /-----BEGIN OPENSSH PRIVATE KEY-----([^-]*)-----END/u;
/** What that form begins with (PROTOCOL.key of OpenSSH). */
const MAGIC = Buffer.from('openssh-key-v1\0');

/**
 * The public half of what a file holds: the line of a `.pub` file, a private key in OpenSSH's format, with a passphrase or
 * without, or one in PEM without a passphrase. Undefined if it holds no Ed25519 key, or is damaged.
 */
export function publicHalfOf(text: string): KeyObject | undefined {
  const [, body] = OPENSSH.exec(text) ?? [];
  const line = body === undefined ? text : lineIn(Buffer.from(body, 'base64'));
  const parsed = parseSshKey(line);
  if (parsed.ok) return parsed.key.type === 'ssh-ed25519' ? keyOfLine(parsed.key.line) : undefined;
  try {
    const key = createPrivateKey(text);
    return key.asymmetricKeyType === 'ed25519' ? createPublicKey(key) : undefined;
  } catch {
    return undefined;
  }
}

/**
 * The public half stands before what is encrypted: after the cipher, how its key is derived, and the number of keys. ''
 * if the bytes are not a file of one key.
 */
function lineIn(bytes: Buffer): string {
  if (bytes.indexOf(MAGIC) !== 0) return '';
  const reader = readerOf(bytes.subarray(MAGIC.length), () => new Error('cut off'));
  try {
    for (const _ of ['cipher', 'derivation', 'its options']) reader.readField();
    const count = reader.readNumber();
    const blob = reader.readField();
    reader.readField(); // the private half
    return count === 1 && reader.isAtEnd() ? `ssh-ed25519 ${blob.toString('base64')}` : '';
  } catch {
    return '';
  }
}
