/** An Ed25519 public key in the two forms in which admins' own keys are written: PEM, and a line of OpenSSH (RFC 8709). */
import { createPrivateKey, createPublicKey, type KeyObject } from 'node:crypto';
import { fieldOf, fingerprintOfBlob } from './ssh-wire.ts';

const TYPE = 'ssh-ed25519';
/** Before the 32 bytes of the key: SubjectPublicKeyInfo of RFC 8410, and the blob of RFC 8709. */
const SPKI = Buffer.from('302a300506032b6570032100', 'hex');
/** Before the 32 bytes of the private half: PrivateKeyInfo of RFC 8410. */
const PKCS8 = Buffer.from('302e020100300506032b657004220420', 'hex');
const BLOB = Buffer.concat([fieldOf(Buffer.from(TYPE)), Buffer.from([0, 0, 0, 32])]);

/** The blob that OpenSSH and its agent know the key by; `key` is the public or the private half. */
export function blobOf(key: KeyObject): Buffer {
  const publicHalf = key.type === 'private' ? createPublicKey(key) : key;
  const spki = publicHalf.export({ type: 'spki', format: 'der' });
  return Buffer.concat([BLOB, spki.subarray(SPKI.length)]);
}

/** The line without a comment, as it is kept. */
export function lineOf(key: KeyObject): string {
  return `${TYPE} ${blobOf(key).toString('base64')}`;
}

/** As `ssh-keygen -l` prints it. */
export function fingerprintOf(key: KeyObject): string {
  return fingerprintOfBlob(blobOf(key));
}

/** The key of a line that `lineOf` made, or that `parseSshKey` accepted as one of this type. */
export function keyOfLine(line: string): KeyObject {
  const raw = Buffer.from(line.split(' ')[1] ?? '', 'base64').subarray(BLOB.length);
  return createPublicKey({ key: Buffer.concat([SPKI, raw]), format: 'der', type: 'spki' });
}

/** The key of a private half, as OpenSSH's format has it: 32 bytes. */
export function keyOfSeed(seed: Buffer): KeyObject {
  return createPrivateKey({ key: Buffer.concat([PKCS8, seed]), format: 'der', type: 'pkcs8' });
}
