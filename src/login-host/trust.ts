/**
 * Decides whether what is read of the directory may be trusted: only then are lines renewed, and
 * only then does a person who is not there lose his file.
 *
 * | seen                                                        | then                                  |
 * | ----------------------------------------------------------- | ------------------------------------- |
 * | contextCSN lower than the last one, or gone                 | an older copy: nothing of it is taken |
 * | no marker, or one that is not of now                        | not trusted                           |
 * | this host's clock is behind what it was                     | not trusted                           |
 * | fewer people than the marker says                           | not trusted                           |
 * | keys, or accounts that can be taken, of fewer than half     | hidden: nothing of it is taken        |
 * | else                                                        | trusted                               |
 */
import type { Marker } from '../model/marker.ts';

/** How old the marker may be, and how far this clock may be behind its writer's. */
const MARKER_MAX_AGE_MS = 60_000;
/** A clock that is set right by so much has not gone back. */
const CLOCK_SLACK_MS = 2000;

/** Of each writing server (by its id), the last change that was seen. */
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

/** Why this is an older copy than was seen before; undefined where it is none. */
export function olderThan(now: Csns, known: Csns): string | undefined {
  if (Object.keys(now).length === 0) return 'the directory shows no contextCSN';
  for (const [server, csn] of Object.entries(known)) {
    const present = now[server];
    if (present === undefined || present < csn) {
      return `the directory is at ${present ?? 'no change'} of server ${server}, and was at ${csn}: an older copy`;
    }
  }
  return undefined;
}

/**
 * The CSN from which on changes are to be read: the lowest known of the servers that have new ones. Of
 * one that was not known, all that was written since anything was.
 */
export function changesFrom(now: Csns, known: Csns): string | undefined {
  const lowest = (csns: readonly string[]) => csns.toSorted()[0];
  const from = Object.entries(now).flatMap(([server, csn]) =>
    known[server] === csn ? [] : [known[server] ?? lowest(Object.values(known)) ?? csn],
  );
  return lowest(from);
}

/** Why lines may not be renewed by this marker, at this time; undefined where they may. */
export function staleness(
  marker: Marker | undefined,
  now: number,
  lastClock: number,
): string | undefined {
  if (now < lastClock - CLOCK_SLACK_MS) {
    return `this host's clock has gone back by ${Math.round((lastClock - now) / 1000)} s`;
  }
  if (marker === undefined) {
    return 'the directory role has left no marker that can be read (is `chamberlain work directory` running?)';
  }
  const age = now - Date.parse(marker.at);
  if (Math.abs(age) <= MARKER_MAX_AGE_MS) return undefined;
  const by = Math.round(Math.abs(age) / 1000);
  return age > 0
    ? `the directory role has not been heard of for ${by} s (does it run? is this host's clock right?)`
    : `the directory role's marker is ${by} s ahead of this host's clock`;
}

/** Why people are missing, so that an absence is none; undefined where nobody is. */
export function shortness(people: number, marker: Marker | undefined): string | undefined {
  if (marker === undefined || people >= marker.people) return undefined;
  return `the directory shows ${people} people where there are ${marker.people}`;
}

/**
 * Why entries do not show what is in them, so that not even what they show may be believed; undefined
 * where they do. Half is the bound: what is hidden is hidden in all, and one person whose keys somebody
 * has deleted by hand must not hold up the others.
 */
export function concealment(
  { taken, keyed }: { taken: number; keyed: number },
  marker: Marker | undefined,
): string | undefined {
  if (marker === undefined) return undefined;
  if (keyed < marker.keyed / 2) {
    return `the directory shows keys of ${keyed} people where ${marker.keyed} have some (access rules?)`;
  }
  if (taken < marker.people / 2) {
    return `of ${marker.people} people no more than ${taken} are taken: see what is refused, and ids, realmGid and homes in login-host.yaml`;
  }
  return undefined;
}
