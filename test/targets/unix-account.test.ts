import { describe, expect, test } from '@jest/globals';
import type { AccountName } from '../../src/identity/names.ts';
import type { Wanted } from '../../src/reconcile/wanted.ts';
import type { Attributes } from '../../src/reconcile/action.ts';
import type { DirectoryEntry, DirectoryReader } from '../../src/targets/directory-reader.ts';
import { disabledGecos, observeAccounts, unixAccount } from '../../src/targets/unix-account.ts';
import { entry, linesOf, person, REALM, tool } from './directory-cases.ts';

const PERSON: Attributes = {
  objectClass: ['inetOrgPerson', 'ldapPublicKey', 'person', 'posixAccount'],
  uid: ['alice'],
  cn: ['Alice Under'],
  sn: ['Alice Under'],
  uidNumber: ['1003'],
  gidNumber: ['500'],
  homeDirectory: ['/home/alice'],
  loginShell: ['/bin/bash'],
  mail: ['alice@example.org'],
};
const TOOL: Attributes = {
  objectClass: ['person', 'posixAccount', 'shadowAccount', 'top'],
  uid: ['tools.bot'],
  cn: ['tools.bot'],
  sn: ['tools.bot'],
  uidNumber: ['50001'],
  gidNumber: ['50001'],
  homeDirectory: ['/data/project/bot'],
  loginShell: ['/bin/bash'],
};
const LOCK: Attributes = {
  pwdAccountLockedTime: ['000001010000Z'],
  pwdPolicySubentry: ['policies/cn=disabled'],
};
const LOCKING = 'pwdAccountLockedTime +000001010000Z; pwdPolicySubentry +cn=disabled';
/** A locked tool: without a time, because other programs would count from it. */
const DISABLED: Attributes = {
  pwdPolicySubentry: ['policies/cn=disabled'],
  loginShell: ['/bin/disabledtoolshell'],
};
const DISABLING = 'pwdPolicySubentry +cn=disabled; loginShell /bin/bash → /bin/disabledtoolshell';
/** When the deletion of a tool was requested, and how the directory stores that. */
const REQUESTED = { deleteRequestedAt: new Date('2026-11-24T21:11:05.678Z') };
const TIME: Attributes = { pwdAccountLockedTime: ['20261124211105Z'] };
const ALICE = 'uid=alice,ou=people';
const BOT = 'uid=tools.bot,ou=people,ou=servicegroups';

const alice = (changes: Attributes = {}) => entry('people/uid=alice', { ...PERSON, ...changes });
const bot = (changes: Attributes = {}) =>
  entry('toolAccounts/uid=tools.bot', { ...TOOL, ...changes });
const planned = (wanted: Wanted, have: DirectoryEntry[]) =>
  unixAccount.plan(unixAccount.want(wanted, REALM), have, wanted);

describe('unix-account', () => {
  test.each<[string, Wanted, DirectoryEntry[], string[]]>([
    ['makes a person', person(), [], [`create ${ALICE}: absent → present`]],
    ['makes a tool', tool(), [], [`create ${BOT}: absent → present`]],
    ['leaves a person who is as wanted', person(), [alice()], []],
    ['leaves a tool that is as wanted', tool(), [bot()], []],
    [
      'says which groups hold a person',
      person({ memberOf: ['tools.bot' as AccountName] }),
      [alice()],
      [`change ${ALICE}: objectClass +chamberlainMember; memberOf +cn=project-tools +cn=tools.bot`],
    ],
    [
      'first removes those that they are no longer in',
      person({ memberOf: ['tools.new' as AccountName] }),
      [
        alice({
          objectClass: [...(PERSON['objectClass'] ?? []), 'chamberlainMember'],
          memberOf: ['groups/cn=project-tools', 'toolGroups/cn=tools.bot'],
        }),
      ],
      [`revoke ${ALICE}: memberOf −cn=tools.bot`, `change ${ALICE}: memberOf +cn=tools.new`],
    ],
    [
      'no group holds a person who is no realm member, or suspended',
      person({ realmMember: false, memberOf: [] }),
      [alice({ memberOf: ['groups/cn=project-tools'] })],
      [`revoke ${ALICE}: memberOf −cn=project-tools`],
    ],
    [
      'says which groups hold a tool, its own among them',
      tool({ memberOf: ['tools.other', 'tools.bot'] as AccountName[] }),
      [bot({ memberOf: ['toolGroups/cn=tools.bot'] })],
      [`change ${BOT}: objectClass +chamberlainMember; memberOf +cn=tools.other`],
    ],
    ['leaves attributes that it does not manage', person(), [alice({ description: ['x'] })], []],
    [
      'changes what differs in one modify',
      person({ displayName: 'Alice Over' }),
      [alice({ loginShell: ['/bin/sh'], mail: [] })],
      [
        `change ${ALICE}: cn Alice Under → Alice Over; sn Alice Under → Alice Over; ` +
          'loginShell /bin/sh → /bin/bash; mail +alice@example.org',
      ],
    ],
    [
      'removes a second value of a single-valued attribute',
      person(),
      [alice({ mail: ['alice@example.org', 'eve@example.org'] })],
      [`change ${ALICE}: mail −eve@example.org`],
    ],
    [
      'reports a second name, and removes none',
      person(),
      [alice({ uid: ['alice', 'root'], loginShell: ['/bin/sh'] })],
      [`change ${ALICE}: loginShell /bin/sh → /bin/bash`, `NAME_FOREIGN ${ALICE} (advisory)`],
    ],
    [
      'reports an account of another structural class, which no modify mends, and locks it',
      person({ state: 'suspended' }),
      [alice({ objectClass: ['account', 'posixAccount'], loginShell: ['/bin/sh'] })],
      [`revoke ${ALICE}: ${LOCKING}`, `NAME_FOREIGN ${ALICE}`],
    ],
    [
      'locks a suspended person first, and separately from other differences',
      person({ state: 'suspended' }),
      [alice({ loginShell: ['/bin/sh'] })],
      [`revoke ${ALICE}: ${LOCKING}`, `change ${ALICE}: loginShell /bin/sh → /bin/bash`],
    ],
    ['leaves a locked person locked', person({ state: 'suspended' }), [alice(LOCK)], []],
    [
      'locks permanently if a lock would expire',
      person({ state: 'suspended' }),
      [alice({ ...LOCK, pwdAccountLockedTime: ['20260101000000Z'] })],
      [`revoke ${ALICE}: pwdAccountLockedTime 20260101000000Z → 000001010000Z`],
    ],
    [
      'unlocks a reinstated person, the time before the policy',
      person(),
      [alice(LOCK)],
      [`change ${ALICE}: pwdAccountLockedTime −000001010000Z; pwdPolicySubentry −cn=disabled`],
    ],
    [
      'leaves a policy that somebody else has set',
      person(),
      [alice({ pwdPolicySubentry: ['policies/cn=strict'] })],
      [],
    ],
    [
      'creates a suspended person locked',
      person({ state: 'suspended' }),
      [],
      [`create ${ALICE}: absent → present`],
    ],
    [
      'locks a disabled tool and gives it the shell that says so',
      tool({ state: 'disabled' }),
      [bot()],
      [`revoke ${BOT}: ${DISABLING}`],
    ],
    ['leaves a disabled tool without a time', tool({ state: 'disabled' }), [bot(DISABLED)], []],
    [
      'enables a tool',
      tool(),
      [bot(DISABLED)],
      [
        `change ${BOT}: loginShell /bin/disabledtoolshell → /bin/bash; ` +
          'pwdPolicySubentry −cn=disabled',
      ],
    ],
    [
      'takes from a disabled tool the time that others read as "delete at once"',
      tool({ state: 'disabled' }),
      [bot({ ...DISABLED, pwdAccountLockedTime: ['000001010000Z'] })],
      [`change ${BOT}: pwdAccountLockedTime −000001010000Z`],
    ],
    [
      'locks a tool whose deletion was requested, with the time of that, in one modify',
      tool({ state: 'disabled', ...REQUESTED }),
      [bot()],
      [`revoke ${BOT}: pwdAccountLockedTime +20261124211105Z; ${DISABLING}`],
    ],
    [
      'gives a tool that was disabled before the time of the request',
      tool({ state: 'disabled', ...REQUESTED }),
      [bot(DISABLED)],
      [`change ${BOT}: pwdAccountLockedTime +20261124211105Z`],
    ],
    [
      'replaces any other time by that of the request',
      tool({ state: 'archived', ...REQUESTED }),
      [bot({ ...DISABLED, pwdAccountLockedTime: ['000001010000Z'] })],
      [`change ${BOT}: pwdAccountLockedTime 000001010000Z → 20261124211105Z`],
    ],
    [
      'leaves the time of the request while the tool is archived',
      tool({ state: 'archived', ...REQUESTED }),
      [bot({ ...DISABLED, ...TIME })],
      [],
    ],
    [
      'removes the time from a tool that is being restored, and leaves it locked',
      tool({ state: 'archived' }),
      [bot({ ...DISABLED, ...TIME })],
      [`change ${BOT}: pwdAccountLockedTime −20261124211105Z`],
    ],
    [
      'enables a tool that was to be deleted, the time before the policy',
      tool(),
      [bot({ ...DISABLED, ...TIME })],
      [
        `change ${BOT}: pwdAccountLockedTime −20261124211105Z; ` +
          'loginShell /bin/disabledtoolshell → /bin/bash; pwdPolicySubentry −cn=disabled',
      ],
    ],
    [
      'says why a tool is disabled, by the modify that locks it',
      tool({ state: 'disabled', disabledReason: 'It floods' }),
      [bot()],
      [`revoke ${BOT}: ${DISABLING}; gecos +disabled - It floods`],
    ],
    [
      'writes another reason without locking again',
      tool({ state: 'archived', disabledReason: 'It goes' }),
      [bot({ ...DISABLED, gecos: ['disabled - It floods'] })],
      [`change ${BOT}: gecos disabled - It floods → disabled - It goes`],
    ],
    [
      'removes the reason with the lock',
      tool(),
      [bot({ ...DISABLED, gecos: ['disabled - It floods'] })],
      [
        `change ${BOT}: ` +
          'loginShell /bin/disabledtoolshell → /bin/bash; gecos −disabled - It floods; ' +
          'pwdPolicySubentry −cn=disabled',
      ],
    ],
    [
      'removes the reason if none is known any more',
      tool({ state: 'disabled' }),
      [bot({ ...DISABLED, gecos: ['disabled - It floods'] })],
      [`change ${BOT}: gecos −disabled - It floods`],
    ],
    ['leaves a gecos that somebody else gave a tool', tool(), [bot({ gecos: ['Bot,,,'] })], []],
    [
      'replaces a gecos that somebody else gave by the reason',
      tool({ state: 'disabled', disabledReason: 'It floods' }),
      [bot({ ...DISABLED, gecos: ['Bot,,,'] })],
      [`change ${BOT}: gecos Bot,,, → disabled - It floods`],
    ],
    ['leaves a person any gecos', person(), [alice({ gecos: ['disabled - x'] })], []],
    [
      'deletes a deleted person',
      person({ state: 'deleted' }),
      [alice()],
      [`destroy ${ALICE}: present → absent`],
    ],
    [
      'reports the name with another number',
      person(),
      [alice({ uidNumber: ['0'] })],
      [`NAME_FOREIGN ${ALICE}`],
    ],
    [
      'reports an entry of the name that is not a unix account',
      person(),
      [entry('people/uid=alice', { objectClass: ['inetOrgPerson'], uid: ['alice'] })],
      [`NAME_FOREIGN ${ALICE}`],
    ],
    [
      'reports the name elsewhere',
      tool(),
      [entry('people/uid=tools.bot', TOOL)],
      ['NAME_FOREIGN uid=tools.bot,ou=people'],
    ],
    [
      'reports the number under another name, and creates nothing',
      person(),
      [entry('people/uid=eve', { ...PERSON, uid: ['eve'], cn: ['Eve'] })],
      ['ID_FOREIGN uid=eve,ou=people'],
    ],
    [
      'reports every one of several',
      person(),
      [alice({ uidNumber: ['7'] }), entry('people/uid=eve', { ...PERSON, uid: ['eve'] })],
      [`NAME_FOREIGN ${ALICE}`, 'ID_FOREIGN uid=eve,ou=people'],
    ],
    [
      'reports a display name that another has',
      person(),
      [entry('people/uid=eve', { ...PERSON, uid: ['eve'], uidNumber: ['7'], gidNumber: ['7'] })],
      ['NAME_FOREIGN uid=eve,ou=people'],
    ],
    [
      'locks ours even if another has our number',
      person({ state: 'suspended' }),
      [alice(), entry('dn:uid=eve,o=far', { ...PERSON, uid: ['eve'] })],
      [`revoke ${ALICE}: ${LOCKING}`, 'ID_FOREIGN uid=eve,o=far (advisory)'],
    ],
  ])('%s', (_, wanted, have, lines) => {
    expect(linesOf(planned(wanted, have))).toEqual(lines);
  });

  test.each<[string, Wanted, Attributes]>([
    ['a person', person(), PERSON],
    ['a tool', tool(), TOOL],
    ['a suspended person', person({ state: 'suspended' }), { ...PERSON, ...LOCK }],
    ['a disabled tool', tool({ state: 'disabled' }), { ...TOOL, ...DISABLED }],
    [
      'an archived tool, with the reason',
      tool({ state: 'archived', disabledReason: 'It goes', ...REQUESTED }),
      { ...TOOL, ...DISABLED, ...TIME, gecos: ['disabled - It goes'] },
    ],
  ])('adds %s in the shape of the realm, without keys', (_, wanted, attributes) => {
    const ref = unixAccount.want(wanted, REALM).ref;
    expect(planned(wanted, []).steps[0]?.action).toEqual({
      ...{ verb: 'ldap.add', entry: ref, attributes },
    });
  });

  test.each<[string, DirectoryEntry, string]>([
    [
      'another number in our place',
      alice({ uidNumber: ['7'] }),
      'uid=alice,ou=people has uidNumber 7, not 1003: ' +
        "set uidNumber to 1003, or rename the entry if it is not Chamberlain's",
    ],
    [
      'our number under another name',
      entry('people/uid=eve', { ...PERSON, uid: ['eve'] }),
      'uid=eve,ou=people (uidNumber 1003) is not managed by Chamberlain, but has the number of ' +
        'uid=alice,ou=people (uidNumber 1003): ' +
        'restore its name and place, or give it another number if it belongs to something else',
    ],
    [
      'our name and number in another place',
      entry('groups/uid=alice', PERSON),
      'uid=alice,ou=groups (uidNumber 1003) is not managed by Chamberlain, but has the name of ' +
        'uid=alice,ou=people (uidNumber 1003): ' +
        'restore its name and place, or rename it and give it another number if it belongs to something else',
    ],
    [
      'our name in another place, another number',
      entry('dn:uid=Alice,o=far', { ...PERSON, uid: ['Alice'], uidNumber: ['7'] }),
      'uid=Alice,o=far (uidNumber 7) is not managed by Chamberlain, but has the name of ' +
        'uid=alice,ou=people (uidNumber 1003): rename or remove it',
    ],
    [
      'our display name',
      entry('people/uid=eve', { ...PERSON, uid: ['eve'], uidNumber: ['7'] }),
      'uid=eve,ou=people (uidNumber 7) is not managed by Chamberlain, but has the display name of ' +
        'uid=alice,ou=people (uidNumber 1003): rename or remove it',
    ],
  ])(
    'says in a finding what is there, what should be, and what to do: %s',
    (_, found, sentence) => {
      const [finding] = planned(person(), [found]).findings;
      expect(finding?.sentence).toBe(sentence);
    },
  );

  test.each([
    [
      'our name and number',
      'groups/uid=alice',
      'rename it and give it another number, or remove it',
    ],
    ['our number', 'people/uid=eve', 'give it another number, or remove it'],
  ] as const)('next to ours, an entry with %s is not to be restored', (_, ref, todo) => {
    const other = entry(ref, { ...PERSON, uid: [ref.replace(/^.*=/u, '')] });
    const [finding] = planned(person(), [alice(), other]).findings;
    expect(finding?.sentence).toMatch(new RegExp(`: ${todo}$`, 'u'));
  });

  test.each<[string, Wanted, DirectoryEntry, string[]]>([
    ['of a person', person(), alice({ gidNumber: ['501'] }), [`ID_FOREIGN ${ALICE}`]],
    [
      'next to what can be repaired',
      person({ state: 'suspended' }),
      alice({ gidNumber: ['501'], loginShell: ['/bin/zsh'] }),
      [
        `revoke ${ALICE}: ${LOCKING}`,
        `change ${ALICE}: loginShell /bin/zsh → /bin/bash`,
        `ID_FOREIGN ${ALICE}`,
      ],
    ],
    ['that is missing', person(), alice({ gidNumber: [] }), [`change ${ALICE}: gidNumber +500`]],
    [
      'of a deleted person',
      person({ state: 'deleted' }),
      alice({ gidNumber: ['501'] }),
      [`destroy ${ALICE}: present → absent`],
    ],
  ])('leaves another gidNumber to an admin: %s', (_, wanted, found, lines) => {
    const plan = planned(wanted, [found]);
    expect(linesOf(plan)).toEqual(lines);
    for (const { sentence } of plan.findings) {
      expect(sentence).toBe(
        "uid=alice,ou=people has gidNumber 501, not 500: set it back as the directory's " +
          'administrator, with the relax control (ldapmodify -e relax)',
      );
    }
  });

  test('says what blocks an absent account', async () => {
    const renamed = entry('people/uid=ALICE', { ...PERSON, uid: ['ALICE'] });
    const reader = { find: () => Promise.resolve([renamed]) } as unknown as DirectoryReader;
    const other = person({ uid: 1009, account: 'zoe' as AccountName, displayName: 'Zoe' });
    const query = { attributes: ['uid', 'uidNumber'] };
    expect(await observeAccounts(reader, [other, person()], REALM, query)).toEqual([
      undefined,
      renamed,
    ]);
    const ours = entry('people/uid=alice', PERSON);
    let asked = 0;
    const once = {
      find: () =>
        (asked += 1) === 1 ? Promise.resolve([ours]) : Promise.reject(new Error('asked')),
    } as unknown as DirectoryReader;
    expect(await observeAccounts(once, [person()], REALM, query)).toEqual([ours]);
  });

  test('treats a display name that another of our subjects has as a rename in progress', async () => {
    const ours = { ...PERSON, uid: ['eve'], uidNumber: ['1004'] };
    const found = [
      entry('people/uid=eve', ours),
      entry('people/uid=mal', { ...ours, gidNumber: [] }),
    ];
    const reader = { find: () => Promise.resolve(found) } as unknown as DirectoryReader;
    expect(await unixAccount.observe(reader, [person(), tool()], REALM)).toEqual([[found[1]], []]);
  });

  test.each([
    ['It floods', 'disabled - It floods'],
    ['  two\n\tlines ', 'disabled - two lines'],
    ['see https://x.example/1', 'disabled - see https?//x.example/1'],
    ['Zoë: 悪い', 'disabled - Zoe? ??'],
    ['\u001b[31m\u202e', 'disabled - ?[31m?'],
    ['：', 'disabled - ?'],
    ['x'.repeat(999), `disabled - ${'x'.repeat(189)}`],
    [`${'x'.repeat(188)} y`, `disabled - ${'x'.repeat(188)}`],
  ])('gives a reason as one line of ASCII: %j', (reason, gecos) => {
    expect(disabledGecos(reason)).toBe(gecos);
  });

  test('refuses to plan for a person who was read without the display name', () => {
    const { displayName: _, ...wanted } = person();
    expect(() => unixAccount.want(wanted, REALM)).toThrow('without the display name');
  });
});
