/** Which portal is served next when several wait. Pure. */

/** How many jobs are taken from a portal's two queues. */
export interface Share {
  urgent: number;
  other: number;
}

/**
 * Allots `most` places to portals, one at a time and in turn, beginning with the portal at `turn`. Urgent jobs first.
 * Returns also whose turn is next: the portal after the last one that got a place, so that one beside portals for which
 * nothing waits does not get the places of these, too.
 */
export function allot(
  waiting: readonly Share[],
  most: number,
  turn: number,
): { shares: Share[]; next: number } {
  const shares = waiting.map(() => ({ urgent: 0, other: 0 }));
  let next = turn;
  let left = most;
  for (let found = true; left > 0 && found;) {
    found = false;
    for (let n = 0; n < waiting.length && left > 0; n += 1) {
      const at = (turn + n) % waiting.length;
      const [waits, share] = [waiting[at], shares[at]] as [Share, Share];
      if (share.urgent < waits.urgent) share.urgent += 1;
      else if (share.other < waits.other) share.other += 1;
      else continue;
      found = true;
      left -= 1;
      next = (at + 1) % waiting.length;
    }
  }
  return { shares, next };
}
