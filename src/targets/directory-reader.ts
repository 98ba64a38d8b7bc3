/**
 * What the directory's targets read through, and how they name entries: by place and name. They know no DN
 * syntax; only the backend builds DNs and filters.
 */
import type { Attributes, EntryRef, Place } from '../reconcile/action.ts';

/** An entry that may be anywhere: `dn:<DN>` if it is in none of the realm's places. */
export type AnyRef = EntryRef | `dn:${string}`;

/** An entry as it was read: only the attributes asked for, each sorted, empty if it has none. */
export interface DirectoryEntry {
  /** exact bytes of the name, so that `TOOLS.X` is not `tools.x` */
  ref: AnyRef;
  attributes: Attributes;
}

export interface DirectoryQuery {
  /** only directly below this place; otherwise anywhere below the base */
  place?: Place;
  /** the entry has one of these values, by the directory's own matching (most ignore case) */
  any: readonly { attribute: string; values: readonly string[] }[];
  attributes: readonly string[];
}

/**
 * Reads in bulk. Each answer is complete, or it throws BACKEND_UNREADABLE: what is not in an answer is not in
 * the directory.
 */
export interface DirectoryReader {
  find(query: DirectoryQuery): Promise<DirectoryEntry[]>;
  /** Everything directly below a place, page by page, for surveys of everything. */
  list(place: Place, attributes: readonly string[]): AsyncIterable<DirectoryEntry[]>;
  /** Those of `members` that the group has; throws if there is no such group. */
  membersOf(group: EntryRef, members: readonly EntryRef[]): Promise<ReadonlySet<EntryRef>>;
}

/** The path of each place: naming attributes and values below the base DN, innermost first. */
export function placePath(place: Place, realm: string): readonly (readonly [string, string])[] {
  const paths: Record<Place, readonly (readonly [string, string])[]> = {
    people: [['ou', 'people']],
    toolAccounts: [
      ['ou', 'people'],
      ['ou', 'servicegroups'],
    ],
    toolGroups: [['ou', 'servicegroups']],
    groups: [['ou', 'groups']],
    sudoRules: [
      ['ou', 'sudoers'],
      ['cn', realm],
      ['ou', 'projects'],
    ],
    policies: [['ou', 'ppolicies']],
    base: [],
  };
  return paths[place];
}

export const PLACES: readonly Place[] = [
  'people',
  'toolAccounts',
  'toolGroups',
  'groups',
  'sudoRules',
  'policies',
  'base',
];

export function entryRef(place: Place, attribute: string, name: string): EntryRef {
  return `${place}/${attribute}=${name}`;
}

/** Splits `<place>/<attribute>=<name>`. The name may contain any character. */
export function splitRef(ref: EntryRef): { place: Place; attribute: string; name: string } {
  const slash = ref.indexOf('/');
  const equals = ref.indexOf('=', slash);
  const place = ref.slice(0, slash) as Place;
  if (equals < 0 || !PLACES.includes(place)) throw new TypeError(`not an entry reference: ${ref}`);
  return { place, attribute: ref.slice(slash + 1, equals), name: ref.slice(equals + 1) };
}

/** For people: `cn=tools.x,ou=servicegroups`, the DN without the base; or the whole DN. */
export function readableRef(ref: AnyRef, realm: string): string {
  if (ref.startsWith('dn:')) return ref.slice('dn:'.length);
  const { place, attribute, name } = splitRef(ref as EntryRef);
  const above = placePath(place, realm).map(([type, value]) => `${type}=${value}`);
  return [`${attribute}=${name}`, ...above].join(',');
}
