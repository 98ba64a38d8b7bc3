/** The public half of an Ed25519 key in each of the forms in which admins keep their own keys. */
import { createPrivateKey, createPublicKey, type KeyObject } from 'node:crypto';
import { keyOfLine } from './ed25519-key.ts';
import { parseSshKey } from './ssh-key.ts';

const OPENSSH = '-----BEGIN OPENSSH PRIVATE KEY-----';
/** What that form begins with (PROTOCOL.key of OpenSSH). */
const MAGIC = Buffer.from('openssh-key-v1\0');

/** Whether a file holds the public half alone, as a `.pub` file does. */
export const isPublicHalf = (text: string): boolean => text.startsWith('ssh-');

/**
 * The public half of what a file holds: the line of a `.pub` file, a private key in OpenSSH's format, with
 * a passphrase or without, or one in PEM without a passphrase. Undefined if it holds no Ed25519 key.
 */
export function publicHalfOf(text: string): KeyObject | undefined {
  if (isPublicHalf(text) || text.includes(OPENSSH)) {
    const parsed = parseSshKey(isPublicHalf(text) ? text : lineIn(text));
    const isFit = parsed.ok && parsed.key.type === 'ssh-ed25519';
    return isFit ? keyOfLine(parsed.key.line) : undefined;
  }
  try {
    const key = createPrivateKey(text);
    return key.asymmetricKeyType === 'ed25519' ? createPublicKey(key) : undefined;
  } catch {
    return undefined;
  }
}

/** The public half stands before what is encrypted: after the cipher, how its key is derived, and the number of keys. */
function lineIn(text: string): string {
  const bytes = Buffer.from(text.replaceAll(/-----.*?-----|\s/gu, ''), 'base64');
  let at = MAGIC.length;
  const readField = () => {
    const begin = at + 4;
    at = begin + (begin <= bytes.length ? bytes.readUInt32BE(at) : 0);
    return bytes.subarray(begin, at);
  };
  for (const _ of ['cipher', 'derivation', 'its options']) readField();
  at += 4; // one key
  return `ssh-ed25519 ${readField().toString('base64')}`;
}
