/** Reads everything in the directory that an import needs. Throws BACKEND_UNREADABLE unless it is complete. */
import type { Realm } from '../reconcile/wanted.ts';
import type { Place } from '../reconcile/action.ts';
import type { DirectoryEntry, DirectoryReader } from '../targets/directory-reader.ts';
import type { Everything } from '../targets/everything.ts';
import { readRealmGroup } from '../targets/realm-membership.ts';
import { requireMembers } from '../targets/unix-group.ts';

export interface SeenDirectory {
  people: DirectoryEntry[];
  toolAccounts: DirectoryEntry[];
  toolGroups: DirectoryEntry[];
  /** accounts and groups elsewhere below the base. They are never imported, but may conflict */
  unmanaged: DirectoryEntry[];
  /** the groups of other projects, and the realm's own group without its members */
  groups: DirectoryEntry[];
  realmGroup: DirectoryEntry;
  realmMembers: ReadonlySet<string>;
}

const ACCOUNT =
  'objectClass uid cn sn uidNumber gidNumber loginShell pwdAccountLockedTime pwdPolicySubentry';

/** The attributes that are read of each place. */
const READ = {
  people: `${ACCOUNT} mail sshPublicKey description`.split(' '),
  toolAccounts: ACCOUNT.split(' '),
  toolGroups: 'objectClass cn gidNumber member'.split(' '),
  groups: 'objectClass cn gidNumber'.split(' '),
} as const satisfies Partial<Record<Place, readonly string[]>>;

/**
 * @param reader has read everything beforehand
 * @param numbers every number that occurs anywhere in the directory
 */
export async function readDirectory(
  { reader, numbers }: Pick<Everything<DirectoryReader>, 'reader' | 'numbers'>,
  realm: Realm,
): Promise<SeenDirectory> {
  const all = async (place: keyof typeof READ): Promise<DirectoryEntry[]> => {
    const entries: DirectoryEntry[] = [];
    for await (const page of reader.list(place, READ[place])) entries.push(...page);
    return entries;
  };
  const people = await all('people');
  const toolAccounts = await all('toolAccounts');
  const toolGroups = await all('toolGroups');
  const groups = await all('groups');
  const known = new Set([...people, ...toolAccounts, ...toolGroups, ...groups].map((e) => e.ref));
  const values = [...numbers].map(String);
  const numbered = await reader.find({
    any: [
      { attribute: 'uidNumber', values },
      { attribute: 'gidNumber', values },
    ],
    attributes: ['objectClass', 'uid', 'cn', 'uidNumber', 'gidNumber'],
  });
  const realmGroup = await readRealmGroup(reader, realm, [...READ.groups, 'member']);
  const members = realmGroup.attributes['member'] ?? [];
  requireMembers([...toolGroups, realmGroup], realm.realm);
  return {
    people,
    toolAccounts,
    toolGroups,
    unmanaged: numbered.filter((entry) => !known.has(entry.ref)),
    groups,
    realmGroup: { ...realmGroup, attributes: { ...realmGroup.attributes, member: [] } },
    realmMembers: new Set(members),
  };
}
