/**
 * Decides whether what is read of the directory may be trusted: only then are lines renewed, and
 * only then does a person who is not there lose his file.
 *
 * | seen                                                        | then                                  |
 * | ----------------------------------------------------------- | ------------------------------------- |
 * | contextCSN lower than the last one, or gone                 | an older copy: nothing of it is taken |
 * | no marker, or one that is not of now                        | not trusted                           |
 * | this host's clock is behind what it was                     | not trusted                           |
 * | fewer people than the marker says, or not half of the keys  | a short answer: nothing of it is taken|
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

/** The CSN from which on changes are to be read: the lowest known of the servers that have new ones. */
export function changesFrom(now: Csns, known: Csns): string | undefined {
  const from = Object.entries(now).flatMap(([server, csn]) =>
    known[server] === csn ? [] : [known[server] ?? csn],
  );
  return from.length === 0 ? undefined : from.reduce((a, b) => (a < b ? a : b));
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

/** Why an answer is not whole; undefined where it may be. */
export function shortness(
  seen: { people: number; keyed: number },
  marker: Marker | undefined,
): string | undefined {
  if (marker === undefined) return undefined;
  if (seen.people < marker.people) {
    return `the directory shows ${seen.people} people where there are ${marker.people}`;
  }
  // one whose keys somebody has deleted by hand must not hold up all others; hidden keys are all hidden
  if (seen.keyed < marker.keyed / 2) {
    return `the directory shows keys of ${seen.keyed} people where ${marker.keyed} have some`;
  }
  return undefined;
}
