/** The limit of a database account's connections, in words, and while they are being ended. */
import { count } from '../shared/printable.ts';

/** A limit in words. To MariaDB, 0 is no limit. */
export function describeLimit(maxUserConnections: number): string {
  return maxUserConnections === 0
    ? 'no limit'
    : `at most ${count(maxUserConnections, 'connection')}`;
}

/**
 * No realm allows this many more, so nobody is kept out meanwhile, and it cannot be mistaken for a real limit.
 */
const BEYOND = 1_000_000;

/**
 * The limit from the statement that closes a way in, set by that same statement, until the account's
 * connections have ended. If a run is interrupted in between, a survey sees the difference.
 *
 * @param maxUserConnections the limit before and after
 */
export function limitWhileEnding(maxUserConnections: number): number {
  return maxUserConnections + BEYOND;
}
