/**
 * Looks for unmanaged entries and members in the directory.
 *
 * | what is looked at                            | a cheap look                      | with a survey of everything |
 * | -------------------------------------------- | --------------------------------- | --------------------------- |
 * | entries                                      | what others have changed since    | all, as they were read      |
 * |                                              | the last look; at first, ever     |                             |
 * | what is listed                               | whether it still exists           | all                         |
 * | the realm group's members                    | if anybody has changed the group  | the same                    |
 * | members of a tool's group                    | if others have changed it, or one | where one is listed         |
 * |                                              | is listed                         |                             |
 *
 * An unwanted member of a tool's group is drift as well. The realm group is looked at no matter who has changed it,
 * because the directory role changes it too, one member at a time.
 */
import type { OpenDirectoryReader, TracedEntry } from '../backends/ldap/directory.ts';
import type { Looked, SeenThing } from './unmanaged.ts';
import type { WantedTool } from '../reconcile/wanted.ts';
import type { EntryRef } from '../reconcile/action.ts';
import { type Pool, withClient } from '../database/connection.ts';
import { readAccounts, readAtRest, readListed, readRealmMembers } from './unmanaged-table.ts';
import { readWanted } from '../reconcile/wanted-queries.ts';
import { type AnyRef, entryRef, splitRef } from '../targets/directory-reader.ts';
import { accountRef } from '../targets/unix-account.ts';
import {
  type EntryContext,
  isOurs,
  judgeEntry,
  type JudgedEntry,
  memberThing,
  type Candidate,
} from './unmanaged-things.ts';
import type { Watch, Watching } from './watch.ts';

const PLACE = 'directory';
/** How many listed entries one cheap look checks; a survey checks all. */
const MOST_LOOKED_AT = 200;
/** How many groups are read together: if others have made the tree, the first look reads those of all tools. */
const GROUPS_AT_ONCE = 100;
/** The beginning of the reference of a tool's group. */
const TOOL_GROUP = 'toolGroups/cn=';

type IsWanted = (member: AnyRef) => boolean;

interface DirectoryWatch {
  readonly reader: OpenDirectoryReader;
  readonly pool: Pool;
  readonly context: EntryContext;
  readonly realmGroup: EntryRef;
  /** the change sequence numbers that the last look reached, for all entries and for the realm group */
  since: string | undefined;
  realmCsn: string | undefined;
  /** DNs of groups that could not be judged yet, because the directory role was working on them */
  later: ReadonlySet<string>;
}

export function watchDirectory(
  reader: OpenDirectoryReader,
  { pool, realm: { realm }, ranges, others }: Watching,
): Watch<unknown> {
  const of: DirectoryWatch = {
    ...{ reader, pool, context: { realm, ranges, others } },
    realmGroup: entryRef('groups', 'cn', `project-${realm}`),
    ...{ since: undefined, realmCsn: undefined, later: new Set() },
  };
  return (everything) => [{ place: PLACE, looking: look(of, everything?.unmanaged) }];
}

async function look(
  of: DirectoryWatch,
  candidates: readonly JudgedEntry[] | undefined,
): Promise<Omit<Looked, 'place'>> {
  const { reader, pool, realmGroup } = of;
  const listed = await readListed(pool, 'directory', PLACE);
  const entries = listed.filter(({ kind }) => kind !== 'member').map(({ object }) => object);
  const isListed = new Set(entries);
  /** the DNs of listed entries that were looked at */
  const looked = new Set<string>();
  const things: SeenThing[] = [];
  const groups = new Set([
    ...of.later,
    ...listed.flatMap(({ identity, kind }) => (kind === 'member' ? (identity ?? []) : [])),
  ]);

  // read first, so that what changes meanwhile is read again
  const next = candidates === undefined ? await reader.readNextCsn() : undefined;
  if (candidates === undefined) {
    for await (const page of reader.changedByOthers(of.since)) {
      things.push(...(await thingsAmong(of, page)));
      for (const { dn, ref } of page) {
        if (isListed.has(dn)) looked.add(dn);
        if (ref.startsWith(TOOL_GROUP)) groups.add(dn);
      }
    }
  }
  const asked =
    candidates?.map(({ dn }) => dn) ??
    entries.filter((dn) => !looked.has(dn)).slice(0, MOST_LOOKED_AT);
  for (const dn of asked) looked.add(dn);
  things.push(...(await thingsAmong(of, await reader.trace(asked))));

  const csn = await reader.readCsn(realmGroup);
  if (csn !== of.realmCsn) groups.add(reader.dnOf(realmGroup));
  const members = await membersOf(of, [...groups]);

  const all = [...things, ...members.things];
  const objects = new Set(all.map(({ object }) => object));
  const gone = listed.filter(
    ({ object, kind, identity }) =>
      !objects.has(object) &&
      (kind === 'member' ? !members.later.has(identity ?? '') : looked.has(object)),
  );
  of.since = next ?? of.since;
  of.realmCsn = csn;
  of.later = members.later;
  // members of a group that could not be judged stay listed
  const isWhole = candidates !== undefined && members.later.size === 0;
  return { things: all, gone: isWhole ? 'the rest' : gone.map((row) => row.object) };
}

async function thingsAmong(
  { pool, context }: DirectoryWatch,
  entries: readonly TracedEntry[],
): Promise<SeenThing[]> {
  const judged = entries.flatMap((entry): [TracedEntry, Candidate][] => {
    const candidate = judgeEntry(entry, context);
    return candidate === undefined ? [] : [[entry, candidate]];
  });
  const accounts = await readAccounts(
    pool,
    judged.flatMap(([, { claims }]) => claims?.account ?? []),
  );
  return judged
    .filter(([, candidate]) => !isOurs(candidate, accounts))
    .map(([{ dn, createdBy, createdAt, uuid }, { kind, name, number }]) => ({
      ...{ object: dn, kind, name, number },
      ...{ madeBy: createdBy, madeAt: createdAt, identity: uuid },
    }));
}

/** The unwanted members of our groups; a group that is gone has none. */
async function membersOf(
  of: DirectoryWatch,
  dns: readonly string[],
): Promise<{ things: SeenThing[]; later: Set<string> }> {
  const { reader, realmGroup } = of;
  const things: SeenThing[] = [];
  const notYet = new Set<string>();
  for (let at = 0; at < dns.length; at += GROUPS_AT_ONCE) {
    const groups = await reader.trace(dns.slice(at, at + GROUPS_AT_ONCE));
    const toolsWanted = await wantedOfTools(of, groups);
    for (const group of groups) {
      const wanted =
        group.ref === realmGroup ? await wantedInRealm(of, group) : toolsWanted.get(group);
      if (wanted === 'later') notYet.add(group.dn);
      if (wanted === 'later' || wanted === undefined) continue;
      const made = { madeBy: group.changedBy, madeAt: group.changedBy && group.changedAt };
      for (const ref of group.members.filter((each) => !wanted(each))) {
        const member = { dn: reader.dnOf(ref), name: nameOf(ref) };
        things.push(memberThing(member, group.dn, { ...made, madeAt: made.madeAt || undefined }));
      }
    }
  }
  return { things, later: notYet };
}

async function wantedInRealm(
  { pool }: DirectoryWatch,
  { members }: TracedEntry,
): Promise<IsWanted> {
  const names = members.flatMap((member) => nameOf(member, 'people') ?? []);
  const wanted = await readRealmMembers(pool, names);
  return (member) => member === 'base/cn=chamberlain' || wanted.has(nameOf(member, 'people') ?? '');
}

/** Which members are wanted in the groups of our tools; `later` while the directory role works on a group. */
async function wantedOfTools(
  { pool }: DirectoryWatch,
  groups: readonly TracedEntry[],
): Promise<Map<TracedEntry, IsWanted | 'later'>> {
  const named = groups
    .filter(({ ref }) => ref.startsWith(TOOL_GROUP))
    .map((group) => ({ group, account: splitRef(group.ref as EntryRef).name }));
  const uids = await readAccounts(
    pool,
    named.map(({ account }) => account),
  );
  const ours = named.flatMap(({ group, account }) => {
    const uid = uids.get(account);
    const isOur = uid !== undefined && group.attributes['gidNumber']?.includes(String(uid));
    return isOur ? [{ group, account, uid }] : [];
  });
  if (ours.length === 0) return new Map();
  const atRest = await readAtRest(
    pool,
    ours.map(({ uid }) => uid),
  );
  const tools = await withClient(pool, (client) => readWanted(client, 'directory', [...atRest]));
  const membersByUid = new Map((tools as WantedTool[]).map(({ uid, members }) => [uid, members]));
  return new Map(
    ours.map(({ group, account, uid }): [TracedEntry, IsWanted | 'later'] => {
      if (!atRest.has(uid)) return [group, 'later'];
      const wanted = new Set<AnyRef>((membersByUid.get(uid) ?? []).map(accountRef));
      wanted.add(entryRef('toolAccounts', 'uid', account));
      return [group, (member) => wanted.has(member)];
    }),
  );
}

/** The name of the account that a reference names. */
function nameOf(ref: AnyRef, only?: 'people'): string | undefined {
  if (ref.startsWith('dn:')) return undefined;
  const { place, attribute, name } = splitRef(ref as EntryRef);
  if (attribute !== 'uid' || (only !== undefined && place !== only)) return undefined;
  return name;
}
