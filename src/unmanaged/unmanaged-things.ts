/**
 * Judges which things in our places are unmanaged: entries, homes, archives, database users. Pure: only the
 * database knows which accounts are ours.
 */
import { oddityOf } from './sightings.ts';
import type { SeenThing, UnmanagedKind } from './unmanaged.ts';
import type { ListedPath } from '../backends/files/file-listing.ts';
import type { Attributes, EntryRef, Place } from '../reconcile/action.ts';
import type { Report } from '../reconcile/report.ts';
import { readableRef, splitRef, type AnyRef } from '../targets/directory-reader.ts';

/** An entry to be judged. */
export interface JudgedEntry {
  dn: string;
  ref: AnyRef;
  /** the place that contains it, at any depth */
  within: Place | undefined;
  attributes: Attributes;
}

/** What an entry is, unless it is ours. */
export interface Candidate {
  kind: UnmanagedKind;
  name: string | undefined;
  number: number | undefined;
  /** it is ours if this account is ours and has one of the numbers; undefined: it cannot be ours */
  claims: { account: string; numbers: readonly number[] | undefined } | undefined;
}

/** The context in which an entry is judged. */
export interface EntryContext {
  realm: string;
  /** of numbers of people and tools */
  ranges: readonly Range[];
  /** of numbers that other realms give */
  others: readonly Range[];
}
interface Range {
  first: number;
  last: number;
}

/** The attributes that `judgeEntry` looks at. */
export const JUDGED_ATTRIBUTES = ['objectClass', 'uid', 'cn', 'uidNumber', 'gidNumber'] as const;

/**
 * | entry                                              | result                                     |
 * | -------------------------------------------------- | ------------------------------------------ |
 * | seeded with the tree                               | ignored                                    |
 * | another project's group: `cn=project-…,ou=groups`, | ignored                                    |
 * | without a number from our ranges                   |                                            |
 * | named like the entry of an account                 | unmanaged, unless the account is ours and  |
 * |                                                    | has that number; a rule has none           |
 * | with a number of another realm                     | ignored                                    |
 * | any other in a place of ours, at any depth         | unmanaged                                  |
 * | elsewhere, with a number from our ranges           | unmanaged                                  |
 * | any other                                          | ignored                                    |
 */
export function judgeEntry(
  { ref, within, attributes }: JudgedEntry,
  { realm, ranges, others }: EntryContext,
): Candidate | undefined {
  const uids = numbersOf(attributes['uidNumber']);
  const gids = numbersOf(attributes['gidNumber']);
  const inRange = [...uids, ...gids].find((id) => isIn(ranges, id));
  if (inRange === undefined && [...uids, ...gids].some((id) => isIn(others, id))) return undefined;
  const isInPlace = within !== undefined && within !== 'policies' && within !== 'base';
  if (!isInPlace && inRange === undefined) return undefined;
  const kind = kindOf(attributes);
  const isGroup = kind === 'group';
  const number = inRange ?? (isGroup ? gids[0] : uids[0]);
  const [cn, uid] = [attributes['cn']?.[0], attributes['uid']?.[0]];
  const candidate = { kind, name: isGroup ? cn : (uid ?? cn), number, claims: undefined };
  if (ref.startsWith('dn:')) return candidate;
  const { place, attribute, name } = splitRef(ref as EntryRef);
  switch (`${place}/${attribute}`) {
    case 'groups/cn': {
      if (name === `project-${realm}`) return undefined;
      return name.startsWith('project-') && inRange === undefined ? undefined : candidate;
    }
    case 'toolGroups/ou':
      return name === 'people' ? undefined : candidate;
    default:
      return { ...candidate, claims: claimsOf({ ref, attributes }, { realm }) };
  }
}

/** The account that an entry would belong to, by its name and place. */
export function claimsOf(
  { ref, attributes }: Pick<JudgedEntry, 'ref' | 'attributes'>,
  { realm }: Pick<EntryContext, 'realm'>,
): Candidate['claims'] {
  if (ref.startsWith('dn:')) return undefined;
  const { place, attribute, name } = splitRef(ref as EntryRef);
  const isTool = name.startsWith(`${realm}.`);
  const claim = (number: 'uidNumber' | 'gidNumber') => ({
    account: name,
    numbers: numbersOf(attributes[number]),
  });
  switch (`${place}/${attribute}`) {
    case 'people/uid':
      return isTool ? undefined : claim('uidNumber');
    case 'toolAccounts/uid':
      return isTool ? claim('uidNumber') : undefined;
    case 'toolGroups/cn':
      return isTool ? claim('gidNumber') : undefined;
    case 'sudoRules/cn':
      return name.startsWith(`runas-${realm}.`)
        ? { account: name.slice('runas-'.length), numbers: undefined }
        : undefined;
    default:
      return undefined;
  }
}

/** Whether an entry is ours. `accounts` holds the numbers of our accounts, by name. */
export function isOurs(
  { claims }: Pick<Candidate, 'claims'>,
  accounts: ReadonlyMap<string, number>,
): boolean {
  if (claims === undefined) return false;
  const uid = accounts.get(claims.account);
  return uid !== undefined && claims.numbers?.includes(uid) !== false;
}

/** Whether a number lies in one of the ranges. */
export function isIn(ranges: readonly Range[], id: number): boolean {
  return ranges.some(({ first, last }) => first <= id && id <= last);
}

function kindOf(attributes: Attributes): UnmanagedKind {
  const oddity = oddityOf({ attributes });
  if (oddity !== undefined) return oddity === 'oversized' ? 'oversized entry' : oddity;
  const { objectClass = [] } = attributes;
  const classes = new Set(objectClass.map((each) => each.toLowerCase()));
  const has = (...names: string[]) => names.some((name) => classes.has(name));
  if (has('sudorole')) return 'rule';
  if (has('posixaccount', 'person', 'inetorgperson', 'account', 'shadowaccount')) return 'account';
  return has('posixgroup', 'groupofnames', 'groupofuniquenames') ? 'group' : 'entry';
}

function numbersOf(values: readonly string[] = []): number[] {
  return values.map(Number).filter((id) => Number.isSafeInteger(id) && id > 0 && id < 2 ** 31);
}

/** A member of one of our groups that is not wanted there. */
export function memberThing(
  { dn, name }: { dn: string; name: string | undefined },
  groupDn: string,
  made: Pick<SeenThing, 'madeBy' | 'madeAt'>,
): SeenThing {
  return { object: `${dn} in ${groupDn}`, kind: 'member', name, identity: groupDn, ...made };
}

/** The archive to which a name in the folder of archives belongs: `<account>.<n>`, or a temporary name beside it. */
export function archiveOfName(name: string): string {
  const [, hidden] = /^\.(.+\.\d+)(?:\.part|\..+\.(?:loading|returned))$/u.exec(name) ?? [];
  return hidden ?? name;
}

/** Whether a name in the folder of archives belongs to any archive of the account, complete or not. */
export function isArchiveOf(account: string, name: string): boolean {
  const archive = archiveOfName(name);
  return archive.startsWith(`${account}.`) && /^\d+$/u.test(archive.slice(account.length + 1));
}

/**
 * The unmanaged things that no finding and no step about a subject reports already: a finding reports an entry that is
 * in the way of an account, a step reports a member that it removes.
 *
 * @param base the suffix of the directory
 */
export function notReportedOf<Thing extends { object: string }>(
  things: readonly Thing[],
  { findings, steps }: Pick<Report, 'findings' | 'steps'>,
  { realm, base }: { realm: string; base: string },
): Thing[] {
  const dnOf = (ref: AnyRef) =>
    ref.startsWith('dn:') ? ref.slice('dn:'.length) : `${readableRef(ref, realm)},${base}`;
  const reported = new Set(findings.map(({ object }) => `${object},${base}`));
  for (const { action } of steps) {
    if (action.verb !== 'ldap.modify') continue;
    const gone = action.changes.filter(({ attribute }) => attribute === 'member');
    for (const ref of gone.flatMap(({ remove }) => remove)) {
      reported.add(`${dnOf(ref as AnyRef)} in ${dnOf(action.entry)}`);
    }
  }
  return things.filter(({ object }) => !reported.has(object));
}

/** Whom a number belongs to. */
export function describeOwner(uid: number, account?: string): string {
  if (uid === 0) return 'root';
  return account === undefined ? `uid ${uid}` : `uid ${uid} (${account})`;
}

/** What stands in a folder of archives and is none of ours. */
export function archiveThings(found: readonly ListedPath[], folder: string): SeenThing[] {
  return found.map(({ name, uid, changedAt, identity }) => ({
    ...{ object: `${folder}/${name}`, kind: 'archive', identity },
    ...{ madeBy: describeOwner(uid), madeAt: changedAt },
  }));
}
