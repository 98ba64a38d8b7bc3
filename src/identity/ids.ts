/**
 * Numbers of accounts and groups. A subject of ours, person or tool, is known by its uid in the
 * database, in jobs and in events: a uid is never reused, names may look alike.
 */

/** A unix uid or gid of ours. */
export type PosixId = number & { readonly __brand: 'PosixId' };

/** Numbers with a meaning of their own: root, Debian's nobody, and (uint16_t)-1. */
const NEVER = new Set([0, 65534, 65535]);

/** Accepts a number as a uid or gid: a whole number below 2^31, none that the system keeps for itself. */
export function parsePosixId(value: number): PosixId {
  if (!Number.isInteger(value) || value <= 0 || value >= 2 ** 31 || NEVER.has(value)) {
    throw new RangeError(`${value} is not a uid that an account may have`);
  }
  return value as PosixId;
}

/** The database user of an account (facts of the realm: tools `s<uid>`, people `u<uid>`). */
export function databaseUser(kind: 'person' | 'tool', uid: number): string {
  return `${kind === 'tool' ? 's' : 'u'}${uid}`;
}
