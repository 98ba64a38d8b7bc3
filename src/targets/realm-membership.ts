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
import { unmanagedFinding, isOurs, modifyStep, type EntryWant } from './directory-entry.ts';
import {
  entryRef,
  readableRef,
  type AnyRef,
  type DirectoryEntry,
  type DirectoryReader,
} from './directory-reader.ts';
import type { Target } from './target.ts';
import { accountRef, findInTheWay } from './unix-account.ts';

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

  want(wanted, { realm, realmGid }) {
    const present = wanted.kind === 'person' && wanted.state === 'active' && wanted.realmMember;
    return {
      realm,
      ref: realmGroup(realm),
      number: { attribute: 'gidNumber', value: String(realmGid) },
      present,
      attributes: { member: [accountRef(wanted)] },
    };
  },

  describe({ ref, realm, present, attributes }) {
    const member = readableRef(attributes['member']?.[0] as AnyRef, realm);
    return `${readableRef(ref, realm)}, ${present ? 'with' : 'without'} ${member}`;
  },

  async observe(reader, wanted, settings) {
    const { realm } = settings;
    const ref = realmGroup(realm);
    const [groups, accounts, members] = await Promise.all([
      reader.find({
        place: 'groups',
        any: [{ attribute: 'cn', values: [`project-${realm}`] }],
        attributes: ['cn', 'gidNumber'],
      }),
      reader.find({
        place: 'people',
        any: [{ attribute: 'uid', values: wanted.map((person) => person.account) }],
        attributes: ['uid', 'uidNumber'],
      }),
      reader.membersOf(ref, wanted.map(accountRef)),
    ]);
    const group = groups.find((entry) => entry.ref === ref);
    if (group === undefined) {
      throw new ChamberlainError('BACKEND_UNREADABLE', `reading the realm group ${ref}`, {
        cause: new Error('it does not exist; load the initial tree, see deploy/ldap/tree.ldif'),
      });
    }
    const byRef = new Map(accounts.map((entry) => [entry.ref, entry]));
    const absent = wanted.filter((person) => !byRef.has(accountRef(person)));
    const inTheWay = await findInTheWay(reader, absent, settings);
    return wanted.map((person) => ({
      group,
      member: members.has(accountRef(person)),
      account: byRef.get(accountRef(person)) ?? inTheWay.get(person.uid),
    }));
  },

  plan(want, { group, member, account }, wanted) {
    if (!isOurs(want, group)) return { steps: [], findings: [unmanagedFinding(want, group)] };
    if (member === want.present) return NOTHING_TO_DO;
    const isUnmanaged =
      account !== undefined &&
      !(
        account.ref === accountRef(wanted) &&
        account.attributes['uidNumber']?.includes(String(wanted.uid))
      );
    if (want.present && isUnmanaged) return NOTHING_TO_DO;
    const [remove, add] = want.present ? [[], [accountRef(wanted)]] : [[accountRef(wanted)], []];
    const effect = want.present ? 'change' : 'revoke';
    const step = modifyStep(want, effect, [{ attribute: 'member', remove, add }]);
    return { steps: [step], findings: [] };
  },
};

function realmGroup(realm: string): EntryWant['ref'] {
  return entryRef('groups', 'cn', `project-${realm}`);
}
