/** What the formats and protocols of SSH share: fields with their length (RFC 4251, section 5), and fingerprints. */
import { createHash } from 'node:crypto';

/** A field: its length in four bytes, and its bytes. */
export function fieldOf(bytes: Buffer): Buffer {
  const length = Buffer.alloc(4);
  length.writeUInt32BE(bytes.length);
  return Buffer.concat([length, bytes]);
}

/** The fingerprint of a public key in the format of RFC 4253, section 6.6, as `ssh-keygen -l` prints it. */
export function fingerprintOfBlob(blob: Buffer): string {
  return `SHA256:${createHash('sha256').update(blob).digest('base64').replace(/=+$/u, '')}`;
}

/** Reads bytes from the beginning on. */
export interface Reader {
  /** of four bytes */
  readNumber(): number;
  readField(): Buffer;
  isAtEnd(): boolean;
}

/** @param cutOff what is thrown where the bytes end too soon */
export function readerOf(bytes: Buffer, cutOff: () => Error): Reader {
  let at = 0;
  const take = (length: number): Buffer => {
    if (at + length > bytes.length) throw cutOff();
    at += length;
    return bytes.subarray(at - length, at);
  };
  const readNumber = () => take(4).readUInt32BE();
  return { readNumber, readField: () => take(readNumber()), isAtEnd: () => at === bytes.length };
}
