/** Recognizes private keys, so that a person who pasted one learns that they must stop using it. */
import { createPrivateKey } from 'node:crypto';

/** Each entry is a list of patterns that must all match. No pattern looks far ahead, so that no paste takes long. */
const MARKS: readonly (readonly RegExp[])[] = [
  // PEM (PKCS#1, PKCS#8, SEC1, OpenSSH, PGP), SSH.com; also if the dashes or line ends were lost
  [/(?:BEGIN|END)\s{1,3}(?:[A-Z0-9]{1,20}\s{1,3}){0,3}PRIVATE\s{1,3}KEY/i],
  // PuTTY, any part of the file
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

/** Whether a text is or contains a private key in a common format. */
export function isPrivateKey(text: string): boolean {
  return (
    MARKS.some((patterns) => patterns.every((pattern) => pattern.test(text))) || isPrivateDer(text)
  );
}

/**
 * Whether a text is the body of a PEM file without its BEGIN and END lines. DER begins with a SEQUENCE, which is M in
 * base64.
 */
function isPrivateDer(text: string): boolean {
  const body = text.replace(/\s/g, '');
  if (!/^M[A-Za-z0-9+/]{40,}={0,2}$/.test(body)) return false;
  const key = Buffer.from(body, 'base64');
  return (['pkcs8', 'pkcs1', 'sec1'] as const).some((type) => {
    try {
      createPrivateKey({ key, format: 'der', type });
      return true;
    } catch (error) {
      // A key that needs a passphrase is a private key too.
      return (error as { code?: string }).code === 'ERR_MISSING_PASSPHRASE';
    }
  });
}
