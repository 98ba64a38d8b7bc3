/** Reads everything in the directory that an import needs. Throws BACKEND_UNREADABLE unless it is complete. */
import { ChamberlainError } from '../shared/errors.ts';
import type { Realm } from '../reconcile/wanted.ts';
import type { EntryRef, Place } from '../reconcile/action.ts';
import {
  entryRef,
  type DirectoryEntry,
  type DirectoryReader,
} from '../targets/directory-reader.ts';
import type { Everything } from '../targets/everything.ts';

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
  const ref = realmGroupRef(realm.realm);
  const realmGroup = await readRealmGroup(reader, realm);
  const members = realmGroup.attributes['member'] ?? [];
  requireMembers([...toolGroups, realmGroup]);
  return {
    people,
    toolAccounts,
    toolGroups,
    unmanaged: numbered.filter((entry) => !known.has(entry.ref)),
    groups,
    realmGroup: { ref, attributes: { ...realmGroup.attributes, member: [] } },
    realmMembers: new Set(members),
  };
}

function realmGroupRef(realm: string): EntryRef {
  return entryRef('groups', 'cn', `project-${realm}`);
}

async function readRealmGroup(reader: DirectoryReader, { realm }: Realm): Promise<DirectoryEntry> {
  const ref = realmGroupRef(realm);
  const found = await reader.find({
    place: 'groups',
    any: [{ attribute: 'cn', values: [`project-${realm}`] }],
    attributes: ['objectClass', 'cn', 'gidNumber', 'member'],
  });
  const group = found.find((entry) => entry.ref === ref);
  if (group !== undefined) return group;
  throw new ChamberlainError('BACKEND_UNREADABLE', `reading the realm group ${ref}`, {
    cause: new Error('it does not exist; load the initial tree, see deploy/ldap/tree.ldif'),
  });
}

/** A groupOfNames always has a member (RFC 4519, section 3.5), so an empty one means that access rules hide members. */
function requireMembers(groups: readonly DirectoryEntry[]): void {
  const blind = groups.find(
    ({ attributes }) =>
      attributes['objectClass']?.some((name) => /^groupOfNames$/i.test(name)) === true &&
      (attributes['member'] ?? []).length === 0,
  );
  if (blind === undefined) return;
  throw new ChamberlainError('BACKEND_UNREADABLE', `reading the members of ${blind.ref}`);
}
