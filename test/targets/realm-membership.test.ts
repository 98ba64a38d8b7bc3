import { describe, expect, test } from '@jest/globals';
import type { DirectoryReader } from '../../src/targets/directory-reader.ts';
import { realmMembership, type MembershipHave } from '../../src/targets/realm-membership.ts';
import { entry, linesOf, person, REALM } from './directory-cases.ts';

const OBJECT = 'cn=project-tools,ou=groups';
const GROUP = entry('groups/cn=project-tools', { cn: ['project-tools'], gidNumber: ['500'] });
const OURS = entry('people/uid=alice', { uid: ['alice'], uidNumber: ['1003'] });
const have = (member: boolean, account: MembershipHave['account'] = OURS): MembershipHave => ({
  group: GROUP,
  member,
  account,
});
const planned = (changes: Parameters<typeof person>[0], found: MembershipHave) => {
  const wanted = person(changes);
  return realmMembership.plan(realmMembership.want(wanted, REALM), found, wanted);
};
const JOINS = [`change ${OBJECT}: member +uid=alice`];
const LEAVES = [`revoke ${OBJECT}: member −uid=alice`];

describe('realm-membership', () => {
  test.each<[string, Parameters<typeof person>[0], MembershipHave, string[]]>([
    ['adds a realm member', {}, have(false), JOINS],
    [
      'adds a person whose account must still be created',
      {},
      { ...have(false), account: undefined },
      JOINS,
    ],
    ['leaves a member', {}, have(true), []],
    ['leaves one who was never admitted', { realmMember: false }, have(false), []],
    [
      'revokes the access of a person who is no longer a member',
      { realmMember: false },
      have(true),
      LEAVES,
    ],
    ['revokes the access of a suspended person', { state: 'suspended' }, have(true), LEAVES],
    ['revokes the access of a deleted person', { state: 'deleted' }, have(true), LEAVES],
    [
      'gives no access to an account that is not ours',
      {},
      have(false, entry('people/uid=alice', { uidNumber: ['7'] })),
      [],
    ],
    [
      'gives no access while the account stands under another name',
      {},
      have(false, entry('people/uid=alice2', { uid: ['alice2'], uidNumber: ['1003'] })),
      [],
    ],
    [
      'revokes access even if the account is not ours',
      { realmMember: false },
      have(true, entry('people/uid=alice', { uidNumber: ['7'] })),
      LEAVES,
    ],
    [
      'reports a realm group with another number, and leaves it',
      {},
      { ...have(false), group: entry('groups/cn=project-tools', { gidNumber: ['7'] }) },
      [`NAME_FOREIGN ${OBJECT}`],
    ],
  ])('%s', (_, changes, found, lines) => {
    expect(linesOf(planned(changes, found))).toEqual(lines);
  });

  test('changes one value, and only while the group is ours', () => {
    expect(planned({}, have(false)).steps[0]?.action).toEqual({
      verb: 'ldap.modify',
      entry: 'groups/cn=project-tools',
      expect: { gidNumber: '500' },
      changes: [{ attribute: 'member', remove: [], add: ['people/uid=alice'] }],
    });
  });

  test('looks for what blocks an absent account', async () => {
    const renamed = entry('people/uid=ALICE', { uid: ['ALICE'], uidNumber: ['1003'] });
    const reader: Partial<DirectoryReader> = {
      find: ({ place }) =>
        Promise.resolve(place === 'groups' ? [GROUP] : place === 'people' ? [] : [renamed]),
      membersOf: () => Promise.resolve(new Set()),
    };
    expect(await realmMembership.observe(reader as DirectoryReader, [person()], REALM)).toEqual([
      { group: GROUP, member: false, account: renamed },
    ]);
  });

  test('is unreadable, not empty, if there is no realm group', async () => {
    const reader: Partial<DirectoryReader> = {
      find: () => Promise.resolve([]),
      membersOf: () => Promise.resolve(new Set()),
    };
    await expect(
      realmMembership.observe(reader as DirectoryReader, [person()], REALM),
    ).rejects.toMatchObject({ code: 'BACKEND_UNREADABLE' });
  });
});
