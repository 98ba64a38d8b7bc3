/** What a survey of everything reads beforehand, and what it learns besides the state of the subjects. Pure. */
import type { SeenDeletion } from '../archives/deletion.ts';
import type { ErasedPerson } from '../lifecycle/erased-person.ts';
import type { MarkerDoubt } from '../seals/heartbeat.ts';
import type { Realm, Wanted } from '../reconcile/wanted.ts';
import { normalName } from '../identity/names.ts';
import type { Sighting } from '../unmanaged/sightings.ts';
import type { JudgedEntry } from '../unmanaged/unmanaged-things.ts';

/** Everything that a role can see, read at once. */
export interface Everything<Reader> {
  /** answers from what was read, as the role's own reader would have answered then */
  reader: Reader;
  /** each account, group, home or database user that exists, ours or not */
  sightings: Sighting[];
  /** each number in use: of accounts, groups, owners */
  numbers: ReadonlySet<number>;
  /** of the directory: the entries that are not ours */
  unmanaged?: readonly JudgedEntry[];
  /** of the homes: who was erased by law. Throws BACKEND_UNREADABLE if that cannot be read */
  readErased?: () => ErasedPerson[];
  /** of homes and databases: the deletions that unrecorded archives show. Throws in the same way */
  readDeletions?: () => Promise<SeenDeletion[]>;
  /**
   * the time of the newest marker that the role's places show; undefined if there is none. Throws in the same
   * way
   */
  readMarkedAt?: () => Promise<Date | undefined>;
  /** why no action may be based on what was read */
  doubt?: MarkerDoubt;
}

/** How a long survey proceeds: in pieces, with a pause between two of them. */
export interface Throttle {
  /** entries, rows or paths of one piece */
  piece: number;
  /** returns when the next piece may begin; throws if nobody waits for the answer any more */
  yieldTurn: () => Promise<void>;
}

/** Anything that is in an area of homes. */
export interface HomeSighting {
  area: 'toolHomes' | 'personHomes';
  name: string;
  uid: number;
  gid: number;
}

/** Of all sightings, the names and numbers that no subject has: a request must not get them. */
export function unmanagedAmong(
  sightings: readonly Sighting[],
  subjects: ReadonlyMap<string, number>,
  { realmGid }: Pick<Realm, 'realmGid'>,
): Sighting[] {
  const ids = new Set(subjects.values()).add(realmGid);
  const found = new Map<string, Sighting>();
  for (const sighting of sightings) {
    const name =
      sighting.name === undefined || subjects.has(sighting.name) || !mayBeAName(sighting.name)
        ? undefined
        : sighting.name;
    const id =
      sighting.id === undefined || ids.has(sighting.id) || !mayBeAnId(sighting.id)
        ? undefined
        : sighting.id;
    if (name !== undefined || id !== undefined)
      found.set(`${id ?? ''} ${name ?? ''}`, { name, id });
  }
  return [...found.values()];
}

/** The names of subjects in the one namespace, in normal form, with their numbers. */
export function namesOfSubjects(wanted: readonly Wanted[]): [name: string, uid: number][] {
  return wanted.map(({ account, uid }) => [normalName(account), uid]);
}

/** A home as a sighting: its name as the account that it would be, and its owner. */
export function sightingOfHome(
  { area, name, uid }: HomeSighting,
  { realm }: Pick<Realm, 'realm'>,
): Sighting {
  // a name that no home of ours could have reserves nothing
  const fits = /^[a-z][a-z0-9_-]{0,63}$/.test(name);
  const account = area === 'toolHomes' ? `${realm}.${name}` : name;
  return { name: fits ? account : undefined, id: uid };
}

/** The number in the name of a database user of our grammar, `s<uid>` or `u<uid>`. */
export function numberOfUser(user: string): number | undefined {
  const number = /^[su]([1-9][0-9]{0,9})$/.exec(user)?.[1];
  return number === undefined ? undefined : Number(number);
}

/** Of all numbers, those that are in a range and belong to no subject, in order. */
export function unmanagedNumbersAmong(
  numbers: ReadonlySet<number>,
  ranges: readonly { first: number; last: number }[],
  subjects: ReadonlyMap<string, number>,
  { realmGid }: Pick<Realm, 'realmGid'>,
): number[] {
  const ours = new Set(subjects.values()).add(realmGid);
  return [...numbers]
    .filter((id) => !ours.has(id) && ranges.some(({ first, last }) => first <= id && id <= last))
    .toSorted((a, b) => a - b);
}

/**
 * Whether a request could ask for the name; PostgreSQL does not store U+0000, and cannot index very long texts.
 */
function mayBeAName(name: string): boolean {
  return name.length <= 255 && !name.includes('\0');
}

function mayBeAnId(id: number): boolean {
  return Number.isSafeInteger(id) && id > 0 && id < 2 ** 31;
}
