/** What a caller needs for a route, and what a caller may read. Pure. */
import type { Portal } from '../shared/config.ts';

/**
 * What a route needs. `none`: not even a token; whoever has one is known all the same. `token`: a valid token.
 * The others must be among the `reads` of the caller:
 *
 * - `public`: who and what there is: names, titles, states, memberships
 * - `own`: the requests that the caller sent
 * - `mail`: people's mail addresses as well
 * - `all`: everything, whoever it belongs to
 */
export type Right = 'none' | 'token' | Portal['reads'][number];

/** Who makes a call. */
export interface Caller {
  /** the portal; of an admin's own key, `admin.<shell name>` */
  name: string;
  /** whose own key it is */
  admin: string | undefined;
  reads: readonly Portal['reads'][number][];
  /** undefined: as many as every portal */
  mostCallsPerMinute?: number | undefined;
}

/** Whether somebody has a right; undefined: nobody who is known. `all` includes every other one. */
export function mayCall(caller: Caller | undefined, right: Right): boolean {
  if (right === 'none') return true;
  if (caller === undefined) return false;
  return right === 'token' || caller.reads.includes(right) || caller.reads.includes('all');
}
