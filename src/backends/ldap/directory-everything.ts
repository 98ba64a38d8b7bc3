/**
 * Everything below the base, read in one walk: a reader that answers a survey of everything from memory, as the
 * directory itself would have answered. Asking slapd for each subject takes ten times as long.
 *
 * An entry is found by what the directory compares case-insensitively, in the normal form that the targets
 * compare.
 */
import { ChamberlainError } from '../../shared/errors.ts';
import { normalName } from '../../identity/names.ts';
import type { Realm } from '../../reconcile/wanted.ts';
import type { Attributes, EntryRef, Place } from '../../reconcile/action.ts';
import {
  readableRef,
  splitRef,
  type AnyRef,
  type DirectoryEntry,
  type DirectoryReader,
} from '../../targets/directory-reader.ts';
import type { Everything } from '../../targets/everything.ts';
import { type Sighting, sightingsOf } from '../../unmanaged/sightings.ts';
import {
  claimsOf,
  type EntryContext,
  isOurs,
  judgeEntry,
  type JudgedEntry,
} from '../../unmanaged/unmanaged-things.ts';
import type { Names } from './directory-names.ts';
import type { SentEntry } from './ldap-pages.ts';

/** The attributes that targets ask for; asking for another is a fault of the program. */
const WALKED: ReadonlySet<string> = new Set([
  ...['objectClass', 'uid', 'cn', 'sn', 'uidNumber', 'gidNumber', 'homeDirectory', 'loginShell'],
  ...['gecos', 'memberOf', 'chamberlainSeal'],
  ...['mail', 'sshPublicKey', 'description', 'member'],
  ...['sudoUser', 'sudoHost', 'sudoCommand', 'sudoOption', 'sudoRunAsUser', 'sudoRunAs'],
  ...['sudoRunAsGroup', 'sudoNotBefore', 'sudoNotAfter', 'sudoOrder'],
  ...['pwdAccountLockedTime', 'pwdPolicySubentry'],
]);

/**
 * What the walk asks for: all attributes, and the operational ones. If asked for by name, slapd takes longer.
 */
export const WALKED_ATTRIBUTES = ['*', 'pwdAccountLockedTime', 'pwdPolicySubentry'] as const;

/** Attributes that the directory compares case-insensitively; it compares the others by their bytes. */
const CASE_IGNORED = new Set(['uid', 'cn', 'sn', 'mail']);
const NUMBERS = ['uidNumber', 'gidNumber'] as const;

const NAMES = new Map([...WALKED].map((name) => [name.toLowerCase(), name]));
/** The name of a walked attribute as it is used here, whatever case the server writes it in. */
const walkedName = (name: string): string | undefined =>
  WALKED.has(name) ? name : NAMES.get(name.toLowerCase());

/** Attributes by whose values targets look for entries. */
const INDEXED = ['uid', 'cn', 'uidNumber', 'gidNumber', 'sudoRunAsUser'] as const;
const IS_INDEXED: ReadonlySet<string> = new Set(INDEXED);
const indexedName = (type: string): string | undefined => {
  const name = walkedName(type);
  return name !== undefined && IS_INDEXED.has(name) ? name : undefined;
};

/** Kept as it was sent, and read when it is asked for. */
interface WalkedEntry {
  sent: SentEntry;
  /** the place directly above it */
  below: Place | undefined;
}
/** An entry of more bytes is kept in its parsed form once read: a large group is asked for again and again. */
const LARGE_BYTES = 10_000;
/** This many entries are kept in their parsed form: several targets ask for the same ones. */
const LAST_READ = 2000;

/** What a walk has read: `people` counts the entries among them that have a number. */
export interface WalkedDirectory extends Everything<DirectoryReader> {
  people: number;
  /** what is not ours; empty if it was not asked for */
  unmanaged: JudgedEntry[];
}

/** What decides which entries are not ours; accounts by name, with their numbers. */
export interface Ours extends EntryContext {
  accounts: ReadonlyMap<string, number>;
}

/** Collects the pages of a walk. */
export interface Walk {
  add(page: readonly SentEntry[]): void;
  end(): WalkedDirectory;
}

interface Walked {
  readonly names: Names;
  readonly realm: string;
  /** the error of `membersOf` for a group that shows no member */
  readonly hidden: string;
  readonly entries: WalkedEntry[];
  /** by attribute and value; an array only where several have the value, for the sake of memory */
  readonly indexes: ReadonlyMap<string, Map<string, WalkedEntry | WalkedEntry[]>>;
  readonly lastRead: Map<WalkedEntry, DirectoryEntry>;
  readonly large: Map<WalkedEntry, DirectoryEntry>;
  readonly members: Map<AnyRef, ReadonlySet<string>>;
}

/**
 * Begins to collect. `hidden` is the error of `membersOf` for a group that shows no member.
 *
 * @param names of the realm whose tree is walked
 */
export function openWalk(
  names: Names,
  { realm, realmGid }: Pick<Realm, 'realm' | 'realmGid'>,
  hidden: string,
  ours?: Ours,
): Walk {
  const walked: Walked = {
    ...{ names, realm, hidden, entries: [], lastRead: new Map(), large: new Map() },
    indexes: new Map(INDEXED.map((attribute) => [attribute, new Map()])),
    members: new Map(),
  };
  const unmanaged: WalkedEntry[] = [];
  const numbers = new Set<number>();
  const sightings: Sighting[] = [];
  let people = 0;
  return {
    add(page) {
      for (const sent of page) {
        const attributes = readAttributes(names, sent, indexedName);
        const entry: WalkedEntry = { sent, below: names.placeOf(sent.dn) };
        walked.entries.push(entry);
        index(walked, entry, attributes);
        for (const attribute of NUMBERS) {
          for (const value of attributes[attribute] ?? []) numbers.add(Number(value));
        }
        if (entry.below === 'people' && attributes['uidNumber'] !== undefined) people += 1;
        if (ours !== undefined && isUnmanaged(names, sent.dn, attributes, ours)) {
          unmanaged.push(entry);
        }
        if (entry.below !== undefined) {
          sightings.push(...sightingsOf(entry.below, { attributes }, realmGid));
        }
      }
    },
    end: () => ({
      ...{ reader: readerOf(walked), sightings, numbers, people },
      unmanaged: unmanaged.map((entry) => ({
        ...{ dn: entry.sent.dn, within: names.within(entry.sent.dn) },
        ...read(walked, entry),
      })),
    }),
  };
}

function readAttributes(
  names: Names,
  sent: SentEntry,
  nameOf: (type: string) => string | undefined,
): Record<string, string[]> {
  const attributes: Record<string, string[]> = {};
  sent.readEach(nameOf, (name, sentValues) => {
    const values = sentValues as string[]; // changed in place: there are some ten for each entry
    for (let i = 0; i < values.length; i++) {
      values[i] = names.fromDirectory(name, sentValues[i] as string | Buffer);
    }
    if (values.length > 1) values.sort();
    if (values.length > 0) attributes[name] = values;
  });
  return attributes;
}

function index({ indexes }: Walked, entry: WalkedEntry, attributes: Attributes): void {
  for (const attribute in attributes) {
    const byValue = indexes.get(attribute);
    if (byValue === undefined) continue;
    for (const value of attributes[attribute] ?? []) {
      const key = keyOf(attribute, value);
      const there = byValue.get(key);
      if (there === undefined) byValue.set(key, entry);
      else if (Array.isArray(there)) there.push(entry);
      else if (there !== entry) byValue.set(key, [there, entry]);
    }
  }
}

/** The class of the entry does not matter here. */
function isUnmanaged(
  names: Names,
  dn: string,
  attributes: Attributes,
  { accounts, ...context }: Ours,
): boolean {
  const ref = names.entry(dn);
  // nearly every entry ends here
  if (isOurs({ claims: claimsOf({ ref, attributes }, context) }, accounts)) return false;
  const entry = { dn, ref, within: names.within(dn), attributes };
  const candidate = judgeEntry(entry, context);
  return candidate !== undefined && !isOurs(candidate, accounts);
}

function readerOf(walked: Walked): DirectoryReader {
  return {
    async find({ place, any, attributes }) {
      requireWalked(attributes);
      const found = new Set<WalkedEntry>();
      for (const { attribute, values } of any) {
        const byValue = walked.indexes.get(attribute);
        if (byValue === undefined) throw new TypeError(`the walk has no index of ${attribute}`);
        for (const value of values) {
          const there = byValue.get(keyOf(attribute, value)) ?? [];
          for (const entry of Array.isArray(there) ? there : [there]) {
            if (place === undefined || entry.below === place) found.add(entry);
          }
        }
      }
      return Array.from(found, (entry) => read(walked, entry, attributes));
    },
    async *list(place, attributes) {
      requireWalked(attributes);
      const listed = walked.entries.filter(({ below }) => below === place);
      yield listed.map((entry) => read(walked, entry, attributes));
    },
    async membersOf(group, asked) {
      const all = membersIn(walked, group);
      return new Set(asked.filter((member) => all.has(valueOf(walked.names, member))));
    },
  };
}

/** A reference in its form as a value: nearly all already have it. */
function valueOf(names: Names, ref: EntryRef): AnyRef {
  return /^[A-Za-z]+\/[a-z]+=[a-z0-9._-]+$/.test(ref) ? ref : names.value(names.dn(ref));
}

function membersIn(walked: Walked, group: EntryRef): ReadonlySet<string> {
  const { members, indexes, realm } = walked;
  const known = members.get(group);
  if (known !== undefined) return known;
  const { attribute, name } = splitRef(group);
  const named = [indexes.get(attribute)?.get(keyOf(attribute, name)) ?? []].flat();
  const entry = named.map((each) => read(walked, each)).find(({ ref }) => ref === group);
  const all = new Set(entry?.attributes['member']);
  if (all.size === 0) {
    const act = `reading the members of ${readableRef(group, realm)}`;
    const cause = new Error(entry === undefined ? 'it is not visible' : walked.hidden);
    throw new ChamberlainError('BACKEND_UNREADABLE', act, { cause });
  }
  members.set(group, all);
  return all;
}

/** @param asked the attributes that the caller needs; if all are indexed, such as the members of groups, only those are read */
function read(
  { names, lastRead, large }: Walked,
  walked: WalkedEntry,
  asked?: readonly string[],
): DirectoryEntry {
  const known = lastRead.get(walked) ?? large.get(walked);
  if (known !== undefined) return known;
  const { sent } = walked;
  const ref = names.entry(sent.dn);
  if (asked?.every((name) => IS_INDEXED.has(name)) === true) {
    return { ref, attributes: readAttributes(names, sent, indexedName) };
  }
  const entry = { ref, attributes: readAttributes(names, sent, walkedName) };
  if (lastRead.size >= LAST_READ) lastRead.clear();
  (sent.sizeBytes > LARGE_BYTES ? large : lastRead).set(walked, entry);
  return entry;
}

function keyOf(attribute: string, value: string): string {
  return CASE_IGNORED.has(attribute) ? normalName(value) : value;
}

function requireWalked(attributes: readonly string[]): void {
  const missing = attributes.filter((attribute) => !WALKED.has(attribute));
  if (missing.length > 0) throw new TypeError(`the walk does not read ${missing.join(', ')}`);
}
