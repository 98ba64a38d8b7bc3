/** Passwords and keys: when they are read, and the form in which a server stores a password. Pure. */
import { createHash, createHmac, pbkdf2Sync } from 'node:crypto';

/** A password, or a function that reads it again for each connection, so that no restart is needed after a change. */
export type Secret = string | (() => string);

/** The current password. */
export function secretNow(secret: Secret): string {
  return typeof secret === 'function' ? secret() : secret;
}

/**
 * The form in which PostgreSQL stores a password (RFC 5803, in pg_authid). With it, the password itself is in no
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
 * The form in which slapd stores a password: `{SSHA}`. The passwords are long and random, so a slow hash would only
 * make binds slow.
 *
 * @param salt 16 random bytes
 */
export function saltedSha1(password: string, salt: Uint8Array): string {
  const digest = createHash('sha1').update(password).update(salt).digest();
  return `{SSHA}${Buffer.concat([digest, salt]).toString('base64')}`;
}

/** The password of our own programs for the user of a portal that was added by request. */
export function passwordForPortal(secret: string, user: string): string {
  return createHmac('sha256', secret).update(user).digest('hex');
}

/** The form in which an ACL file of Redis stores a password. */
export function redisHash(password: string): string {
  return createHash('sha256').update(password).digest('hex');
}
