/**
 * Looks for entries and members in the directory that are not ours.
 *
 * | what is looked at                            | a cheap look                      | with a survey of everything |
 * | -------------------------------------------- | --------------------------------- | --------------------------- |
 * | entries                                      | what others have changed since    | all, as they were read      |
 * |                                              | the last look; at first, ever     |                             |
 * | what is listed                               | whether it is there still         | all                         |
 * | the realm group's members                    | if it was changed, by anybody     | the same                    |
 * | members of a tool's group                    | if others have changed it, or one | where one is listed         |
 * |                                              | is listed                         |                             |
 *
 * A member of a tool's group that nobody wants is drift as well. The realm group is looked at whoever has
 * changed it, since the directory role changes it too, one member at a time.
 */
import type { OpenDirectoryEyes, TracedEntry } from '../src/edges/directory.ts';
import type { Looked, SeenThing } from '../src/model/unmanaged.ts';
import type { WantedTool } from '../src/model/wanted.ts';
import type { EntryRef } from '../src/plan/action.ts';
import { withClient } from '../src/store/postgres.ts';
import { isAtRest, readAccounts, readListed, readRealmMembers } from '../src/store/unmanaged.ts';
import { readWanted } from '../src/store/wanted.ts';
import { type AnyRef, entryRef, splitRef } from '../src/targets/directory-eyes.ts';
import { accountRef } from '../src/targets/unix-account.ts';
import {
  isOurs,
  judgeEntry,
  type JudgedEntry,
  memberThing,
  type Candidate,
} from '../src/targets/unmanaged.ts';
import type { Watch, Watching } from './unmanaged.ts';

const PLACE = 'directory';
/** So many of what is listed are looked at in one cheap look; a survey looks at all. */
const MOST_LOOKED_AT = 200;

export function watchDirectory(
  eyes: OpenDirectoryEyes,
  { pool, realm, ranges, others }: Watching,
): Watch<unknown> {
  const ground = { realm: realm.realm, ranges, others };
  const realmGroup = entryRef('groups', 'cn', `project-${realm.realm}`);
  let since: string | undefined;
  let realmCsn: string | undefined;
  /** DNs of groups that could not be judged yet, since the directory role was at them */
  let later = new Set<string>();

  async function look(
    candidates: readonly JudgedEntry[] | undefined,
  ): Promise<Omit<Looked, 'place'>> {
    const listed = await readListed(pool, 'directory', PLACE);
    const entries = listed.filter(({ kind }) => kind !== 'member');
    const changed = candidates === undefined ? await eyes.changedByOthers(since) : undefined;
    const found = new Map((changed?.entries ?? []).map((entry) => [entry.dn, entry]));
    const asked =
      candidates?.map(({ dn }) => dn) ??
      entries
        .map(({ object }) => object)
        .filter((dn) => !found.has(dn))
        .slice(0, MOST_LOOKED_AT);
    for (const entry of await eyes.trace(asked)) found.set(entry.dn, entry);
    const things = await thingsAmong([...found.values()]);

    const csn = await eyes.readCsn(realmGroup);
    const groups = new Set([
      ...later,
      ...listed.flatMap(({ identity, kind }) => (kind === 'member' ? (identity ?? []) : [])),
      ...(changed?.entries ?? [])
        .filter(({ ref }) => ref.startsWith('toolGroups/cn='))
        .map(({ dn }) => dn),
      ...(csn === realmCsn ? [] : [eyes.dnOf(realmGroup)]),
    ]);
    const members = await membersOf([...groups]);

    const all = [...things, ...members.things];
    const objects = new Set(all.map(({ object }) => object));
    const looked = new Set([...found.keys(), ...asked]);
    const gone = listed.filter(
      ({ object, kind, identity }) =>
        !objects.has(object) &&
        (kind === 'member' ? !members.later.has(identity ?? '') : looked.has(object)),
    );
    since = changed?.next ?? since;
    realmCsn = csn;
    later = members.later;
    // members of a group that could not be judged stay
    const isWhole = candidates !== undefined && members.later.size === 0;
    return { things: all, gone: isWhole ? 'the rest' : gone.map((row) => row.object) };
  }

  async function thingsAmong(entries: readonly TracedEntry[]): Promise<SeenThing[]> {
    const judged = entries.flatMap((entry): [TracedEntry, Candidate][] => {
      const candidate = judgeEntry(entry, ground);
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

  /** Members that nobody wants, of groups that are ours; a group that is gone has none. */
  async function membersOf(dns: string[]): Promise<{ things: SeenThing[]; later: Set<string> }> {
    const things: SeenThing[] = [];
    const notYet = new Set<string>();
    for (const group of await Promise.all(dns.map(async (dn) => (await eyes.trace([dn]))[0]))) {
      if (group === undefined) continue;
      const wanted = await wantedIn(group);
      if (wanted === 'later') notYet.add(group.dn);
      if (wanted === 'later' || wanted === undefined) continue;
      const made = { madeBy: group.changedBy, madeAt: group.changedBy && group.changedAt };
      for (const ref of group.members.filter((each) => !wanted(each))) {
        const member = { dn: eyes.dnOf(ref), name: nameOf(ref) };
        things.push(memberThing(member, group.dn, { ...made, madeAt: made.madeAt || undefined }));
      }
    }
    return { things, later: notYet };
  }

  async function wantedIn({
    ref,
    attributes,
    members,
  }: TracedEntry): Promise<((member: AnyRef) => boolean) | 'later' | undefined> {
    if (ref === realmGroup) {
      const names = members.flatMap((member) => nameOf(member, 'people') ?? []);
      const wanted = await readRealmMembers(pool, names);
      return (member) =>
        member === 'base/cn=chamberlain' || wanted.has(nameOf(member, 'people') ?? '');
    }
    if (!ref.startsWith('toolGroups/cn=')) return undefined;
    const account = splitRef(ref as EntryRef).name;
    const uid = (await readAccounts(pool, [account])).get(account);
    if (uid === undefined || !attributes['gidNumber']?.includes(String(uid))) return undefined;
    if (!(await isAtRest(pool, uid))) return 'later';
    const [tool] = await withClient(pool, (client) => readWanted(client, 'directory', [uid]));
    const wanted = new Set<AnyRef>(
      ((tool as WantedTool | undefined)?.members ?? []).map(accountRef),
    );
    wanted.add(entryRef('toolAccounts', 'uid', account));
    return (member) => wanted.has(member);
  }

  return (everything) => [{ place: PLACE, looking: look(everything?.unmanaged) }];
}

/** The name of an account that a reference is of. */
function nameOf(ref: AnyRef, only?: 'people'): string | undefined {
  if (ref.startsWith('dn:')) return undefined;
  const { place, attribute, name } = splitRef(ref as EntryRef);
  if (attribute !== 'uid' || (only !== undefined && place !== only)) return undefined;
  return name;
}
