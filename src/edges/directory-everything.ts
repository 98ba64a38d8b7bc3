/**
 * Everything below the base, read in one walk: eyes that answer a survey of everything from memory, as
 * the directory's own would have answered, where asking slapd for each subject takes ten times as long.
 *
 * An entry is found by what the directory compares without regard to case, in the normal form that the
 * targets compare by.
 */
import { ChamberlainError } from '../errors.ts';
import { normalName } from '../model/names.ts';
import type { Realm } from '../model/wanted.ts';
import type { Attributes, EntryRef, Place } from '../plan/action.ts';
import {
  readableRef,
  type AnyRef,
  type DirectoryEntry,
  type DirectoryEyes,
} from '../targets/directory-eyes.ts';
import type { Everything } from '../targets/everything.ts';
import { type Sighting, sightingsOf } from '../targets/foreign.ts';
import type { Names } from './directory-names.ts';
import type { LdapEntry } from './ldap.ts';

/** What targets ask for; to ask for another attribute is a fault of the program. */
const WALKED: ReadonlySet<string> = new Set([
  ...['objectClass', 'uid', 'cn', 'sn', 'uidNumber', 'gidNumber', 'homeDirectory', 'loginShell'],
  ...['mail', 'sshPublicKey', 'description', 'member'],
  ...['sudoUser', 'sudoHost', 'sudoCommand', 'sudoOption', 'sudoRunAsUser', 'sudoRunAs'],
  ...['sudoRunAsGroup', 'sudoNotBefore', 'sudoNotAfter', 'sudoOrder'],
  ...['pwdAccountLockedTime', 'pwdPolicySubentry'],
]);

/**
 * What the walk asks for: all, and the operational ones. By name, the library would go through the list
 * for each entry: 8 % of a survey instead of 4.
 */
export const WALKED_ATTRIBUTES = ['*', 'pwdAccountLockedTime', 'pwdPolicySubentry'] as const;

/** Attributes that the directory compares without regard to case; the others by their bytes. */
const CASE_IGNORED = new Set(['uid', 'cn', 'sn', 'mail']);
const NUMBERS = ['uidNumber', 'gidNumber'] as const;

const NAMES = new Map([...WALKED].map((name) => [name.toLowerCase(), name]));
/** As a walked attribute is called here, whatever case the server writes it in. */
const walkedName = (name: string): string | undefined =>
  WALKED.has(name) ? name : NAMES.get(name.toLowerCase());

/** Attributes by whose values targets look for entries. */
const INDEXED = ['uid', 'cn', 'uidNumber', 'gidNumber', 'sudoUser', 'sudoRunAsUser'] as const;

/** Kept as text, one object instead of thirty: 60,000 take 53 MiB instead of 86. */
interface WalkedEntry {
  ref: AnyRef;
  /** the place that it lies right below */
  below: Place | undefined;
  /** in JSON; those of a large group are kept as they are */
  attributes: string | Attributes;
}
/** An entry with more text than that is kept as it is: it is asked for again and again. */
const LARGE = 10_000;
/** So many entries are kept as they were last read: several targets ask for the same ones. */
const LAST_READ = 2000;

/** Collects the pages of a walk. */
export interface Walk {
  add(page: readonly LdapEntry[]): void;
  end(): Everything<DirectoryEyes>;
}

/**
 * Begins to collect. `hidden` is what `membersOf` fails with where a group shows no member.
 *
 * @param names of the realm whose tree is walked
 */
export function openWalk(
  names: Names,
  { realm, realmGid }: Pick<Realm, 'realm' | 'realmGid'>,
  hidden: string,
): Walk {
  const entries: WalkedEntry[] = [];
  const byRef = new Map<AnyRef, WalkedEntry>();
  const indexes = new Map(
    INDEXED.map((attribute) => [
      attribute as string,
      new Map<string, WalkedEntry | WalkedEntry[]>(),
    ]),
  );
  const lastRead = new Map<AnyRef, DirectoryEntry>();
  const numbers = new Set<number>();
  const sightings: Sighting[] = [];
  const members = new Map<AnyRef, ReadonlySet<string>>();

  function readAttributes(entry: LdapEntry): Record<string, string[]> {
    const attributes: Record<string, string[]> = {};
    for (const name of entry.attributes()) {
      const attribute = walkedName(name);
      if (attribute === undefined) continue;
      const values = entry.values(name).map((value) => names.fromDirectory(attribute, value));
      if (values.length > 1) values.sort();
      if (values.length > 0) attributes[attribute] = values;
    }
    return attributes;
  }

  function index(entry: WalkedEntry, attributes: Attributes): void {
    for (const [attribute, byValue] of indexes) {
      for (const value of attributes[attribute] ?? []) {
        const key = keyOf(attribute, value);
        const there = byValue.get(key);
        if (there === undefined) byValue.set(key, entry);
        else if (Array.isArray(there)) there.push(entry);
        else if (there !== entry) byValue.set(key, [there, entry]);
      }
    }
  }

  function read({ ref, attributes }: WalkedEntry): DirectoryEntry {
    if (typeof attributes !== 'string') return { ref, attributes };
    const known = lastRead.get(ref);
    if (known !== undefined) return known;
    if (lastRead.size >= LAST_READ) lastRead.clear();
    const entry = { ref, attributes: JSON.parse(attributes) as Attributes };
    lastRead.set(ref, entry);
    return entry;
  }

  const eyes: DirectoryEyes = {
    async find({ place, any, attributes }) {
      requireWalked(attributes);
      const found = new Set<WalkedEntry>();
      for (const { attribute, values } of any) {
        const byValue = indexes.get(attribute);
        if (byValue === undefined) throw new TypeError(`not looked for by ${attribute}`);
        for (const value of values) {
          const there = byValue.get(keyOf(attribute, value));
          if (there === undefined) continue;
          for (const entry of Array.isArray(there) ? there : [there]) {
            if (place === undefined || entry.below === place) found.add(entry);
          }
        }
      }
      return [...found].map(read);
    },

    async *list(place, attributes) {
      requireWalked(attributes);
      yield entries.filter(({ below }) => below === place).map(read);
    },

    async membersOf(group, asked) {
      const all = membersIn(group);
      return new Set(asked.filter((member) => all.has(valueOf(member))));
    },
  };

  /** A reference as it stands among values: nearly all are so already. */
  function valueOf(ref: EntryRef): AnyRef {
    return /^[A-Za-z]+\/[a-z]+=[a-z0-9._-]+$/.test(ref) ? ref : names.value(names.dn(ref));
  }

  function membersIn(group: EntryRef): ReadonlySet<string> {
    const known = members.get(group);
    if (known !== undefined) return known;
    const entry = byRef.get(group);
    const all = new Set(entry === undefined ? [] : read(entry).attributes['member']);
    if (all.size === 0) {
      const why = entry !== undefined ? hidden : 'it cannot be seen';
      throw new ChamberlainError(
        'BACKEND_UNREADABLE',
        `reading the members of ${readableRef(group, realm)}`,
        { cause: new Error(why) },
      );
    }
    members.set(group, all);
    return all;
  }

  return {
    add(page) {
      for (const found of page) {
        const attributes = readAttributes(found);
        const text = JSON.stringify(attributes);
        const entry: WalkedEntry = {
          ref: names.entry(found.dn),
          below: names.placeOf(found.dn),
          attributes: text.length > LARGE ? attributes : text,
        };
        entries.push(entry);
        byRef.set(entry.ref, entry);
        index(entry, attributes);
        for (const attribute of NUMBERS) {
          for (const value of attributes[attribute] ?? []) numbers.add(Number(value));
        }
        if (entry.below !== undefined) {
          sightings.push(...sightingsOf(entry.below, { attributes }, realmGid));
        }
      }
    },
    end: () => ({ eyes, sightings, numbers }),
  };
}

function keyOf(attribute: string, value: string): string {
  return CASE_IGNORED.has(attribute) ? normalName(value) : value;
}

function requireWalked(attributes: readonly string[]): void {
  const missing = attributes.filter((attribute) => !WALKED.has(attribute));
  if (missing.length > 0) throw new TypeError(`not read by the walk: ${missing.join(', ')}`);
}
