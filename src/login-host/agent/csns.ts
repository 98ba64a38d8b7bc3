/**
 * Change sequence numbers of the directory (draft-ietf-ldup-model): which changes are new, and whether a server
 * is older than it was.
 */

/** The last change that was seen of each writing server, by its id. */
export type Csns = Readonly<Record<string, string>>;

/** `20261124175931.123456Z#000000#001#000000`: time, count, server, modification. */
export function parseCsns(values: readonly string[]): Csns {
  return Object.fromEntries(
    values.flatMap((value) => {
      const [, server] = /^\d{14}\.\d{6}Z#[0-9a-f]{6}#([0-9a-f]{3})#[0-9a-f]{6}$/.exec(value) ?? [];
      return server === undefined ? [] : [[server, value]];
    }),
  );
}

/** Why this is an older copy than was seen before, or another directory; undefined if it is neither. */
export function olderThan(now: Csns, known: Csns): string | undefined {
  if (Object.keys(now).length === 0) return 'the directory shows no contextCSN';
  for (const [server, csn] of Object.entries(known)) {
    const present = now[server];
    if (present === undefined || present < csn) {
      return `the directory is an older copy: it has ${present ?? 'no change'} of server ${server}, and had ${csn} before`;
    }
  }
  return undefined;
}

/**
 * The CSN from which changes must be read: the lowest known CSN of the servers that have new changes. If one of
 * these servers was not known before, it is the lowest CSN of all known servers.
 */
export function changesFrom(now: Csns, known: Csns): string | undefined {
  const lowest = (csns: readonly string[]) => csns.toSorted()[0];
  const from = Object.entries(now).flatMap(([server, csn]) =>
    known[server] === csn ? [] : [known[server] ?? lowest(Object.values(known)) ?? csn],
  );
  return lowest(from);
}
