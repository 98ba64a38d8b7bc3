/**
 * A person's access to the realm: one `member` value of the realm group, `cn=project-<realm>,ou=groups`. The
 * group itself is seeded with the tree, with a placeholder member (`cn=chamberlain`, the heartbeat's entry), so
 * that it is never empty; it is not created here.
 *
 * | person                        | wanted     |
 * | ----------------------------- | ---------- |
 * | active and a realm member     | a member   |
 * | any other                     | no member  |
 *
 * | account in the directory | add a member          | remove a member |
 * | ------------------------ | --------------------- | --------------- |
 * | ours, or absent          | yes, after the account| yes             |
 * | not ours, or elsewhere   | no: another's access  | yes             |
 */
import { ChamberlainError } from '../shared/errors.ts';
import { NOTHING_TO_DO } from '../reconcile/plan.ts';
import type { Realm } from '../reconcile/wanted.ts';
import { unmanagedFinding, isOurs, modifyStep, type EntryWant } from './directory-entry.ts';
import {
  entryRef,
  readableRef,
  type AnyRef,
  type DirectoryEntry,
  type DirectoryReader,
} from './directory-reader.ts';
import type { Target } from './target.ts';
import { accountOf, accountRef, observeAccounts } from './unix-account.ts';

export interface MembershipHave {
  /** the realm group */
  group: DirectoryEntry;
  member: boolean;
  account: DirectoryEntry | undefined;
}

export const realmMembership: Target<DirectoryReader, EntryWant, MembershipHave> = {
  name: 'realm-membership',
  of: ['person'],
  needs: ['unix-account'],

  want(wanted, realm) {
    const present = wanted.kind === 'person' && wanted.state === 'active' && wanted.realmMember;
    return {
      realm: realm.realm,
      ref: realmGroup(realm),
      number: { attribute: 'gidNumber', value: String(realm.realmGid) },
      present,
      attributes: { member: [accountRef(wanted)] },
    };
  },

  describe({ ref, realm, present, attributes }) {
    const member = readableRef(attributes['member']?.[0] as AnyRef, realm);
    return `${readableRef(ref, realm)}, ${present ? 'with' : 'without'} ${member}`;
  },

  async observe(reader, wanted, realm) {
    const attributes = ['uid', 'uidNumber'];
    const [group, accounts, members] = await Promise.all([
      readRealmGroup(reader, realm, ['cn', 'gidNumber']),
      observeAccounts(reader, wanted, realm, { place: 'people', attributes }),
      reader.membersOf(realmGroup(realm), wanted.map(accountRef)),
    ]);
    return wanted.map((person, i) => ({
      group,
      member: members.has(accountRef(person)),
      account: accounts[i],
    }));
  },

  plan(want, { group, member, account }, wanted) {
    if (!isOurs(want, group)) return { steps: [], findings: [unmanagedFinding(want, group)] };
    if (member === want.present) return NOTHING_TO_DO;
    const isUnmanaged = account !== undefined && !isOurs(accountOf(wanted), account);
    if (want.present && isUnmanaged) return NOTHING_TO_DO;
    const [remove, add] = want.present ? [[], [accountRef(wanted)]] : [[accountRef(wanted)], []];
    const effect = want.present ? 'change' : 'revoke';
    const step = modifyStep(want, effect, [{ attribute: 'member', remove, add }]);
    return { steps: [step], findings: [] };
  },
};

/** Reads the realm group. Throws BACKEND_UNREADABLE if it does not exist. */
export async function readRealmGroup(
  reader: DirectoryReader,
  realm: Realm,
  attributes: readonly string[],
): Promise<DirectoryEntry> {
  const ref = realmGroup(realm);
  const any = [{ attribute: 'cn', values: [`project-${realm.realm}`] }];
  const groups = await reader.find({ place: 'groups', any, attributes });
  const group = groups.find((entry) => entry.ref === ref);
  if (group !== undefined) return group;
  throw new ChamberlainError(
    'BACKEND_UNREADABLE',
    `reading the realm group ${readableRef(ref, realm.realm)}`,
    {
      cause: new Error('it does not exist; load the initial tree, see deploy/ldap/tree.ldif'),
    },
  );
}

function realmGroup({ realm }: Realm): EntryWant['ref'] {
  return entryRef('groups', 'cn', `project-${realm}`);
}
