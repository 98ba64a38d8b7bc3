/**
 * Numbers of accounts and groups. The database, jobs and events identify a person or tool by its uid, because a uid is
 * never reused and names may look alike.
 */

/** A unix uid or gid of ours. */
export type PosixId = number & { readonly __brand: 'PosixId' };

/** Numbers with a special meaning: root, Debian's nobody, and (uint16_t)-1. */
const NEVER = new Set([0, 65534, 65535]);

/** Accepts a whole number below 2^31 as a uid or gid, unless the system reserves it. */
export function parsePosixId(value: number): PosixId {
  if (!Number.isInteger(value) || value <= 0 || value >= 2 ** 31 || NEVER.has(value)) {
    throw new RangeError(`${value} is not a uid that an account may have`);
  }
  return value as PosixId;
}

/** The database user of an account: `s<uid>` for a tool, `u<uid>` for a person. */
export function databaseUser(kind: 'person' | 'tool', uid: number): string {
  return `${kind === 'tool' ? 's' : 'u'}${uid}`;
}
