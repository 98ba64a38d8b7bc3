/** The limit of a database account's connections while they are being ended. */

/** No realm allows so many more, so that nobody is kept out meanwhile, and no limit is taken for it. */
const BEYOND = 1_000_000;

/**
 * What the limit is from the statement that closes a way in, in that same statement, until the
 * account's connections have ended: a run that is cut between leaves a difference that a survey sees.
 *
 * @param maxUserConnections the limit before and after
 */
export function limitWhileEnding(maxUserConnections: number): number {
  return maxUserConnections + BEYOND;
}
