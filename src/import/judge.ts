/**
 * Judges what a directory shows: what is imported, what is known already, and what stays unmanaged and why. Pure.
 *
 * | a name, number or display name that is valid alone   | then                                        |
 * | ---------------------------------------------------- | ------------------------------------------- |
 * | name and number are ours                             | known: left as it is                        |
 * | our name with another number, or our number with     | NAME_TAKEN, ID_TAKEN                        |
 * | another name                                         |                                             |
 * | another entry of any kind has the same               | NAME_TAKEN, ID_TAKEN: neither is imported   |
 * | a key that another entry or a row of ours has        | KEY_TAKEN: both are imported without it     |
 * | a member that is neither imported nor known          | MEMBER_UNKNOWN: imported without it         |
 * | a known tool's member who maintains the tool         | nothing                                     |
 * | a known tool's member who does not in our database   | MAINTAINER_UNKNOWN: left out                |
 * | a known person in the realm group who is not a realm | PERSON_NOT_REALM_MEMBER: left out           |
 * | member in our database                               |                                             |
 * | an account elsewhere, with a number in our ranges    | NAME_INVALID                                |
 *
 * A person's number is compared with the numbers of accounts, a tool's also with those of groups, because a person has
 * no group with that number.
 */
import type { Realm } from '../reconcile/wanted.ts';
import { type AccountName, normalName } from '../identity/names.ts';
import type { KnownRealm, ImportBatch } from './import-batch.ts';
import { type AnyRef, readableRef, type DirectoryEntry } from '../targets/directory-reader.ts';
import { accountRef } from '../targets/unix-account.ts';
import type { SeenDirectory } from './directory.ts';
import { hasClass } from '../targets/directory-entry.ts';
import { readNumber } from './account.ts';
import {
  fingerprintsOf,
  isAccountLike,
  readPerson,
  type PeopleContext,
  type SeenPerson,
} from './person.ts';
import { type Fault, listSome, type Refusal } from './refusal.ts';
import { pairTools, readTool, type SeenTool, type ToolsContext } from './tool.ts';

export interface ImportContext extends PeopleContext, ToolsContext {}

/** Every entry by itself. It is read once, and judged against our database as often as needed. */
export interface ReadEntries {
  people: SeenPerson[];
  tools: SeenTool[];
  refusals: Refusal[];
  /** entries by the fingerprints of their keys, including entries that cannot be imported */
  keyHolders: Map<string, DirectoryEntry[]>;
}

export interface Judgement {
  people: SeenPerson[];
  tools: SeenTool[];
  maintainers: ImportBatch['maintainers'];
  realmMembers: number[];
  /** how many known subjects the directory shows */
  known: { people: number; tools: number };
  refusals: Refusal[];
  /** shell names of people who had keys in the directory and are imported without any */
  keyless: string[];
}

export function readEntries(seen: SeenDirectory, context: ImportContext): ReadEntries {
  const read: ReadEntries = { people: [], tools: [], refusals: [], keyHolders: new Map() };
  for (const entry of seen.people) {
    const result = isAccountLike(entry) ? readPerson(entry, context) : undefined;
    if (result !== undefined && 'person' in result) read.people.push(result.person);
    else if (result !== undefined) read.refusals.push(result.refusal);
    const fingerprints =
      result !== undefined && 'person' in result
        ? result.person.keys.map(({ fingerprint }) => fingerprint)
        : fingerprintsOf(entry, context);
    for (const fingerprint of fingerprints) addHolder(read.keyHolders, fingerprint, entry);
  }
  for (const pair of pairTools(seen.toolGroups, seen.toolAccounts, context.realm)) {
    const result = readTool(pair, context);
    if ('tool' in result) read.tools.push(result.tool);
    else read.refusals.push(result.refusal);
  }
  read.refusals.push(...seen.unmanaged.flatMap((entry) => refuseUnmanaged(entry, context)));
  return read;
}

/**
 * Only the entries with these references. Other entries may still conflict with them, but are not reported.
 */
export function onlyEntries(
  read: ReadEntries,
  refs: ReadonlySet<AnyRef>,
  realm: string,
): ReadEntries {
  const objects = objectsOf(refs, realm);
  return {
    ...read,
    people: read.people.filter(({ entry }) => refs.has(entry.ref)),
    tools: read.tools.filter(({ entry, group }) => refs.has(entry.ref) || refs.has(group.ref)),
    refusals: read.refusals.filter(({ object }) => objects.has(object)),
  };
}

/** A judgement with only the refusals about the entries with these references. */
export function onlyRefusals(
  judgement: Judgement,
  refs: ReadonlySet<AnyRef>,
  realm: string,
): Judgement {
  const objects = objectsOf(refs, realm);
  return { ...judgement, refusals: judgement.refusals.filter((each) => objects.has(each.object)) };
}

function objectsOf(refs: ReadonlySet<AnyRef>, realm: string): Set<string> {
  return new Set([...refs].map((ref) => readableRef(ref, realm)));
}

/** Refuses an account outside the known places whose number could be a person's or a tool's. */
function refuseUnmanaged(entry: DirectoryEntry, context: ImportContext): Refusal[] {
  if (!hasClass(entry, 'posixAccount')) return [];
  const part = (['person', 'tool'] as const).find(
    (kind) =>
      typeof readNumber(entry, 'uidNumber', kind === 'person' ? context.people : context.tools) ===
      'number',
  );
  if (part === undefined) return [];
  const object = readableRef(entry.ref, context.realm);
  const sentence = `accounts must be directly below ${part === 'person' ? 'ou=people' : 'ou=people,ou=servicegroups'}`;
  return [{ part, code: 'NAME_INVALID', object, sentence }];
}

/** The entries of the whole directory that have a number, a name or a display name; and the display names here. */
interface Holders {
  uids: ReadonlyMap<string, DirectoryEntry[]>;
  gids: ReadonlyMap<string, DirectoryEntry[]>;
  names: ReadonlyMap<string, DirectoryEntry[]>;
  groupNames: ReadonlyMap<string, DirectoryEntry[]>;
  displayNames: ReadonlyMap<string, DirectoryEntry[]>;
  displayNamesOfOurs: ReadonlySet<string>;
}

function holdersIn(seen: SeenDirectory, ours: KnownRealm): Holders {
  const unmanagedAccounts = seen.unmanaged.filter((entry) => hasClass(entry, 'posixAccount'));
  const unmanagedGroups = seen.unmanaged.filter((entry) => hasClass(entry, 'posixGroup'));
  const numbered = [...seen.people, ...seen.toolAccounts, ...unmanagedAccounts];
  const grouped = [...seen.toolGroups, ...seen.groups, ...unmanagedGroups];
  const named = seen.people.filter((entry) => isAccountLike(entry));
  return {
    uids: holdersOf(numbered, 'uidNumber'),
    gids: holdersOf(grouped, 'gidNumber'),
    names: holdersOf(numbered, 'uid'),
    groupNames: holdersOf(grouped, 'cn'),
    displayNames: holdersOf(named, 'cn'),
    displayNamesOfOurs: new Set(ours.people.map(({ displayNameKey }) => displayNameKey)),
  };
}

export function judge(
  read: ReadEntries,
  seen: SeenDirectory,
  ours: KnownRealm,
  realm: Realm,
  { admin }: Pick<ImportContext, 'admin'>,
): Judgement {
  const refusals = [...read.refusals];
  const holders = holdersIn(seen, ours);
  const knownPeople = new Map(ours.people.map((person) => [person.shellName as string, person]));
  const knownTools = new Map(ours.tools.map((tool) => [tool.account as string, tool]));
  const newPeople = read.people.filter((p) => knownPeople.get(p.shellName)?.uid !== p.uid);
  const newTools = read.tools.filter((t) => knownTools.get(t.account)?.uid !== t.uid);
  const isFree = (refusal: Refusal | undefined): boolean => {
    if (refusal !== undefined) refusals.push(refusal);
    return refusal === undefined;
  };
  const free = newPeople.filter((each) => isFree(refusePerson(each, holders, ours, realm)));
  const people = withoutSharedKeys(free, read.keyHolders, ours, realm, refusals);
  // for known people too: the values are still in the directory, and a plan removes them
  const isNew = new Set(newPeople);
  for (const person of [...read.people.filter((each) => !isNew.has(each)), ...free]) {
    refusals.push(...person.leftOut);
  }
  const tools = newTools.filter((each) => isFree(refuseTool(each, holders, ours, realm)));
  for (const tool of tools) refusals.push(...tool.leftOut);
  const membership = judgeMembers({ people, tools }, read, seen, ours, realm, admin);
  return {
    ...{ people, tools, ...membership },
    known: {
      people: read.people.length - newPeople.length,
      tools: read.tools.length - newTools.length,
    },
    refusals: [...refusals, ...membership.refusals],
    keyless: people
      .filter(({ keys, entry }) => keys.length === 0 && entry.attributes['sshPublicKey']?.length)
      .map(({ shellName }) => shellName),
  };
}

function refusePerson(
  { entry, shellName: name, uid, displayName }: SeenPerson,
  { uids, names, displayNames, displayNamesOfOurs }: Holders,
  ours: KnownRealm,
  realm: Realm,
): Refusal | undefined {
  const key = normalName(displayName);
  const shown = JSON.stringify(displayName);
  if (displayNamesOfOurs.has(key)) {
    const object = readableRef(entry.ref, realm.realm);
    const sentence = `another person here has the display name ${shown}`;
    return { part: 'person', code: 'NAME_TAKEN', object, sentence };
  }
  return refuseTaken({ part: 'person', entry, name, uid }, ours, realm, [
    { code: 'ID_TAKEN', what: `the number ${uid} too`, entries: uids.get(String(uid)) ?? [] },
    { code: 'NAME_TAKEN', what: `the name ${name} too`, entries: names.get(name) ?? [] },
    {
      code: 'NAME_TAKEN',
      what: `the display name ${shown} too (letter case, blanks and letter forms do not count)`,
      entries: displayNames.get(key) ?? [],
    },
  ]);
}

function refuseTool(
  { entry, group, account: name, uid }: SeenTool,
  { uids, gids, names, groupNames }: Holders,
  ours: KnownRealm,
  realm: Realm,
): Refusal | undefined {
  const number = String(uid);
  const others = (...entries: (DirectoryEntry[] | undefined)[]) =>
    entries.flatMap((some) => some ?? []).filter((each) => each !== group);
  return refuseTaken({ part: 'tool', entry, name, uid }, ours, realm, [
    {
      code: 'ID_TAKEN',
      what: `the number ${number} too`,
      entries: others(uids.get(number), gids.get(number)),
    },
    {
      code: 'NAME_TAKEN',
      what: `the name ${name} too`,
      entries: others(names.get(name), groupNames.get(name)),
    },
  ]);
}

/** Refuses a subject that is not the only one with its name and number. */
function refuseTaken(
  {
    part,
    entry,
    name,
    uid,
  }: { part: Refusal['part']; entry: DirectoryEntry; name: string; uid: number },
  ours: KnownRealm,
  { realm }: Realm,
  others: { code: Refusal['code']; what: string; entries: DirectoryEntry[] }[],
): Refusal | undefined {
  const refusal = (code: Refusal['code'], sentence: string): Refusal => ({
    ...{ part, code, object: readableRef(entry.ref, realm), sentence },
  });
  const number = ours.names.get(name);
  if (number !== undefined) {
    return refusal(
      'NAME_TAKEN',
      `${name} already exists here with the number ${number}, not ${uid}`,
    );
  }
  if (ours.ids.has(uid)) {
    return refusal('ID_TAKEN', `the number ${uid} already belongs to another account here`);
  }
  for (const { code, what, entries } of others) {
    const rest = entries.filter((each) => each !== entry);
    if (rest.length === 0) continue;
    const whose = listSome(rest.map(({ ref }) => readableRef(ref, realm)));
    return refusal(code, `${whose} ${rest.length === 1 ? 'has' : 'have'} ${what}`);
  }
  return undefined;
}

/** Entries by each value of an attribute, in normal form. */
function holdersOf(
  entries: readonly DirectoryEntry[],
  attribute: string,
): Map<string, DirectoryEntry[]> {
  const holders = new Map<string, DirectoryEntry[]>();
  for (const entry of entries) {
    const keys = new Set((entry.attributes[attribute] ?? []).map(normalName));
    for (const key of keys) addHolder(holders, key, entry);
  }
  return holders;
}

function addHolder(
  holders: Map<string, DirectoryEntry[]>,
  key: string,
  entry: DirectoryEntry,
): void {
  const known = holders.get(key);
  if (known === undefined) holders.set(key, [entry]);
  else known.push(entry);
}

/** Leaves out keys that two people have from both, because nobody can tell whose they are. */
function withoutSharedKeys(
  people: readonly SeenPerson[],
  holders: ReadonlyMap<string, readonly DirectoryEntry[]>,
  ours: KnownRealm,
  { realm }: Realm,
  refusals: Refusal[],
): SeenPerson[] {
  return people.map((person) => {
    const keys = person.keys.filter(({ fingerprint }) => {
      const others = (holders.get(fingerprint) ?? []).filter((each) => each !== person.entry);
      if (others.length === 0 && !ours.fingerprints.has(fingerprint)) return true;
      const whose =
        others.length === 0
          ? 'another person here has or had it'
          : `${listSome(others.map(({ ref }) => readableRef(ref, realm)))} ${others.length === 1 ? 'has' : 'have'} it too`;
      refusals.push({
        part: 'key',
        code: 'KEY_TAKEN',
        object: readableRef(person.entry.ref, realm),
        sentence: `its key ${fingerprint} is left out: ${whose}`,
      });
      return false;
    });
    return keys.length === person.keys.length ? person : { ...person, keys };
  });
}

/**
 * Judges the members of new tools' groups, and new people in the realm group. For known subjects our database decides,
 * because a person who can write to the directory must not become a maintainer or an admin through the next import.
 */
function judgeMembers(
  imported: Pick<Judgement, 'people' | 'tools'>,
  read: ReadEntries,
  seen: SeenDirectory,
  ours: KnownRealm,
  realm: Realm,
  admin: string,
): Pick<Judgement, 'maintainers' | 'realmMembers' | 'refusals'> {
  const maintainers: Judgement['maintainers'] = [];
  const realmMembers: number[] = [];
  const refusals: Refusal[] = [];
  const refuse = (object: string, ref: string, { code, sentence }: Fault) => {
    const what = readableRef(ref as AnyRef, realm.realm);
    refusals.push({ part: 'member', code, object, sentence: `its member ${what} ${sentence}` });
  };
  const there = new Set([...seen.people, ...seen.toolAccounts].map(({ ref }) => ref.toLowerCase()));
  const unknown = (ref: string): Fault => {
    const isAccount = /^(?:people|toolAccounts)\/uid=/.test(ref);
    const sentence = there.has(ref.toLowerCase())
      ? 'is left out: it is not imported itself'
      : isAccount
        ? 'is left out: there is no such entry'
        : 'is left out: only accounts of people and tools may be members';
    return { code: 'MEMBER_UNKNOWN', sentence };
  };
  const subjects = subjectsOf(imported, ours);
  for (const { group, account, name } of read.tools) {
    const own = subjects.get(refOf('tool', account));
    if (own === undefined) continue;
    for (const ref of group.attributes['member'] ?? []) {
      if (ref === refOf('tool', account)) continue;
      const member = subjects.get(ref);
      const object = readableRef(group.ref, realm.realm);
      if (member === undefined) {
        refuse(object, ref, unknown(ref));
      } else if (name === admin && member.kind === 'tool') {
        const sentence = 'is left out: it is a tool, and only people may be admins';
        refuse(object, ref, { code: 'ADMIN_TOOL', sentence });
      } else if (own.isNew) {
        maintainers.push({ tool: own.uid, maintainer: member.uid });
      } else if (!ours.maintainers.has(`${own.uid} ${member.uid}`)) {
        const sentence = 'is left out: send a request to add it (maintainer.add)';
        refuse(object, ref, { code: 'MAINTAINER_UNKNOWN', sentence });
      }
    }
  }
  const realmGroup = readableRef(seen.realmGroup.ref, realm.realm);
  const membersOfOurs = new Set(
    ours.people.filter(({ realmMember }) => realmMember).map(({ uid }) => uid),
  );
  for (const ref of seen.realmMembers) {
    if (ref === 'base/cn=chamberlain') continue; // the placeholder from the initial tree
    const member = subjects.get(ref);
    if (member?.kind !== 'person') {
      refuse(realmGroup, ref, unknown(ref));
    } else if (member.isNew) {
      realmMembers.push(member.uid);
    } else if (!membersOfOurs.has(member.uid)) {
      const sentence = 'is left out: send a request for access (access.request)';
      refuse(realmGroup, ref, { code: 'PERSON_NOT_REALM_MEMBER', sentence });
    }
  }
  return { maintainers, realmMembers, refusals };
}

/** Whether the realm would have no admin after the import: an active realm member who maintains the admin tool. */
export function lacksAdmin(
  { people, tools, maintainers, realmMembers }: Judgement,
  ours: KnownRealm,
  admin: string,
): boolean {
  const tool = [...tools, ...ours.tools].find(({ name }) => name === admin)?.uid;
  const members = new Set(realmMembers);
  for (const { uid, realmMember } of ours.people) if (realmMember) members.add(uid);
  const maintained = new Set(ours.maintainers);
  for (const each of maintainers) maintained.add(`${each.tool} ${each.maintainer}`);
  return ![...people, ...ours.people].some(
    ({ uid, state }) => state === 'active' && members.has(uid) && maintained.has(`${tool} ${uid}`),
  );
}

interface PossibleMember {
  uid: number;
  kind: 'person' | 'tool';
  isNew: boolean;
}

/** By reference: known subjects, and new ones. */
function subjectsOf(
  { people, tools }: Pick<Judgement, 'people' | 'tools'>,
  ours: KnownRealm,
): Map<string, PossibleMember> {
  const subjects = new Map<string, PossibleMember>();
  const add = (account: string, member: PossibleMember) =>
    subjects.set(refOf(member.kind, account), member);
  for (const { uid, shellName, state } of ours.people) {
    if (state !== 'deleted') add(shellName, { uid, kind: 'person', isNew: false });
  }
  for (const { uid, account, state } of ours.tools) {
    if (state !== 'deleted') add(account, { uid, kind: 'tool', isNew: false });
  }
  for (const { uid, shellName } of people) add(shellName, { uid, kind: 'person', isNew: true });
  for (const { uid, account } of tools) add(account, { uid, kind: 'tool', isNew: true });
  return subjects;
}

function refOf(kind: 'person' | 'tool', account: string): string {
  return accountRef({ kind, account: account as AccountName });
}
