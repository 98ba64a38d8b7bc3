/** Passwords and keys: when they are read, and what a server keeps of a password. Pure. */
import { createHash, createHmac, pbkdf2Sync } from 'node:crypto';

/** A password, or what reads it for each connection anew: whoever changes it restarts nothing. */
export type Secret = string | (() => string);

/** The password as it is now. */
export function secretNow(secret: Secret): string {
  return typeof secret === 'function' ? secret() : secret;
}

/**
 * What PostgreSQL keeps of a password (RFC 5803 by way of pg_authid), so that the password itself is in no
 * statement that a server could log.
 *
 * @param salt 16 random bytes
 */
export function scramVerifier(password: string, salt: Uint8Array): string {
  const iterations = 4096;
  const salted = pbkdf2Sync(password, salt, iterations, 32, 'sha256');
  const hmac = (text: string): Buffer => createHmac('sha256', salted).update(text).digest();
  const storedKey = createHash('sha256').update(hmac('Client Key')).digest('base64');
  const serverKey = hmac('Server Key').toString('base64');
  return `SCRAM-SHA-256$${iterations}:${Buffer.from(salt).toString('base64')}$${storedKey}:${serverKey}`;
}

/**
 * What slapd keeps of a password: `{SSHA}`. The passwords are long and random, so that a slow hash would add
 * nothing but slow binds.
 *
 * @param salt 16 random bytes
 */
export function saltedSha1(password: string, salt: Uint8Array): string {
  const digest = createHash('sha1').update(password).update(salt).digest();
  return `{SSHA}${Buffer.concat([digest, salt]).toString('base64')}`;
}

/** What an ACL file of Redis keeps of a password. */
export function redisHash(password: string): string {
  return createHash('sha256').update(password).digest('hex');
}
