/** Tells private keys, so that who pasted one learns that it must be thrown away. */
import { createPrivateKey } from 'node:crypto';

/** Each is a list of patterns that all occur; none looks far ahead, so that no paste takes long. */
const MARKS: readonly (readonly RegExp[])[] = [
  // PEM (PKCS#1, PKCS#8, SEC1, OpenSSH, PGP), SSH.com; also where the dashes or line ends were lost
  [/(?:BEGIN|END)\s{1,3}(?:[A-Z0-9]{1,20}\s{1,3}){0,3}PRIVATE\s{1,3}KEY/i],
  // PuTTY, whichever part of the file
  [/PuTTY-User-Key-File-\d|^Private-(?:Lines|MAC|Hash):/m],
  // OpenSSH's own format without its PEM lines: base64 of "openssh-key-v1"
  [/b3BlbnNzaC1rZXktdjE/],
  // protocol 1 · DNSSEC · age
  [/SSH PRIVATE KEY FILE FORMAT|Private-key-format: v1|AGE-SECRET-KEY-1/i],
  // signify, minisign
  [/untrusted comment:/, /secret key/],
  // JWK
  [/"kty"/, /"d"\s{0,9}:/],
  // XML of .NET
  [/<RSAKeyValue>/, /<D>/],
];

/** Whether a text is, or holds, a private key in a format that people have them in. */
export function isPrivateKey(text: string): boolean {
  return (
    MARKS.some((patterns) => patterns.every((pattern) => pattern.test(text))) || isPrivateDer(text)
  );
}

/** The body of a PEM file without its lines: DER begins with a SEQUENCE, base64 of which with M. */
function isPrivateDer(text: string): boolean {
  const body = text.replace(/\s/g, '');
  if (!/^M[A-Za-z0-9+/]{40,}={0,2}$/.test(body)) return false;
  const key = Buffer.from(body, 'base64');
  return (['pkcs8', 'pkcs1', 'sec1'] as const).some((type) => {
    try {
      createPrivateKey({ key, format: 'der', type });
      return true;
    } catch (error) {
      // A key that wants a passphrase is one.
      return (error as { code?: string }).code === 'ERR_MISSING_PASSPHRASE';
    }
  });
}
