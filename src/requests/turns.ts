/** Who is served next, of several that wait. Pure. */

/** How many jobs of a portal's two queues are taken. */
export interface Share {
  urgent: number;
  other: number;
}

/** Allots `most` places to portals in turn, one at a time, from the one whose turn it is; what is urgent first. */
export function allot(waiting: readonly Share[], most: number, turn: number): Share[] {
  const shares = waiting.map(() => ({ urgent: 0, other: 0 }));
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
    }
  }
  return shares;
}
