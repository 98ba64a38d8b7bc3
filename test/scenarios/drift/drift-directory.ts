/**
 * Drift of whole entries of the directory: removed, renamed, duplicated; also of locks, members and keys.
 */
import {
  change,
  entry,
  groupDn,
  remove,
  rename,
  ruleDn,
  type DriftCase,
  type Hand,
} from './drift-case.ts';
import { keyOf } from './drift-world.ts';

const realmGroup = ({ base }: Hand) => `cn=project-tools,ou=groups,${base}`;
const personDn = (name: string, { base }: Hand) => `uid=${name},ou=people,${base}`;
const lockPolicy = ({ base }: Hand) => `cn=disabled,ou=ppolicies,${base}`;
const lock = (dn: string, hand: Hand) =>
  change(
    dn,
    ['replace', 'pwdPolicySubentry', lockPolicy(hand)],
    ['replace', 'pwdAccountLockedTime', '000001010000Z'],
  );
const unlock = (dn: string) =>
  change(dn, ['delete', 'pwdAccountLockedTime'], ['delete', 'pwdPolicySubentry']);

const GONE: readonly DriftCase[] = [
  {
    what: 'the account of a person deleted',
    of: 'person',
    damage: ({ dn }, hand) => hand.ldif(remove(dn)),
    shows: ['create unix-account', 'change seal', 'change ssh-keys'],
  },
  {
    what: 'the account of a tool deleted',
    of: 'tool',
    damage: ({ dn }, hand) => hand.ldif(remove(dn)),
    shows: ['create unix-account', 'change seal'],
  },
  {
    what: 'the group of a tool deleted',
    of: 'tool',
    damage: (subject, hand) => hand.ldif(remove(groupDn(subject, hand))),
    shows: ['create unix-group'],
  },
  {
    what: 'the sudo rule of a tool deleted',
    of: 'tool',
    damage: (subject, hand) => hand.ldif(remove(ruleDn(subject, hand))),
    shows: ['create sudo-rule'],
  },
  {
    what: 'all entries of a tool deleted from the directory',
    of: 'tool',
    damage: (subject, hand) =>
      hand.ldif([subject.dn, groupDn(subject, hand), ruleDn(subject, hand)].map(remove).join('\n')),
    shows: ['create unix-group', 'create unix-account', 'change seal', 'create sudo-rule'],
  },
];

const LOCKS: readonly DriftCase[] = [
  {
    what: 'a person locked by hand',
    of: 'person',
    damage: ({ dn }, hand) => hand.ldif(lock(dn, hand)),
    shows: ['change unix-account'],
  },
  {
    what: 'a suspended person unlocked by hand',
    of: 'person',
    is: 'suspended',
    damage: ({ dn }, hand) => hand.ldif(unlock(dn)),
    shows: ['revoke unix-account'],
  },
  {
    what: 'a key given back to a suspended person',
    of: 'person',
    is: 'suspended',
    damage: ({ dn, name }, hand) => hand.ldif(change(dn, ['add', 'sshPublicKey', keyOf(name)])),
    shows: ['revoke ssh-keys'],
  },
  {
    what: 'a suspended person made a realm member again',
    of: 'person',
    is: 'suspended',
    damage: ({ dn }, hand) => hand.ldif(change(realmGroup(hand), ['add', 'member', dn])),
    shows: ['revoke realm-membership'],
  },
  {
    what: 'a tool locked by hand',
    of: 'tool',
    damage: ({ dn }, hand) => hand.ldif(lock(dn, hand)),
    shows: ['change unix-account'],
  },
  {
    what: 'a disabled tool enabled by hand: unlocked, its shell, its sudo rule',
    of: 'tool',
    is: 'disabled',
    damage: (subject, hand) =>
      hand.ldif(
        [
          change(
            subject.dn,
            ['delete', 'pwdPolicySubentry'],
            ['replace', 'loginShell', '/bin/bash'],
          ),
          entry(ruleDn(subject, hand), {
            objectClass: 'sudoRole',
            cn: `runas-${subject.account}`,
            sudoUser: `%${subject.account}`,
            sudoHost: 'ALL',
            sudoCommand: 'ALL',
            sudoOption: '!authenticate',
            sudoRunAsUser: subject.account,
          }),
        ].join('\n'),
      ),
    shows: ['revoke unix-account', 'revoke sudo-rule'],
  },
  {
    what: 'a disabled tool marked by hand for deletion at once, as other programs read the mark',
    of: 'tool',
    is: 'disabled',
    damage: ({ dn }, hand) =>
      hand.ldif(change(dn, ['add', 'pwdAccountLockedTime', '000001010000Z'])),
    shows: ['change unix-account'],
  },
  {
    what: 'the reason of a disabled tool changed by hand',
    of: 'tool',
    is: 'disabled',
    damage: ({ dn }, hand) => hand.ldif(change(dn, ['replace', 'gecos', 'disabled - for fun'])),
    shows: ['change unix-account'],
  },
  {
    what: 'a gecos that somebody else has set on a tool',
    of: 'tool',
    damage: ({ dn }, hand) => hand.ldif(change(dn, ['add', 'gecos', 'A tool of ours,,,'])),
    shows: [],
  },
];

const CLASSES: readonly DriftCase[] = [
  {
    what: 'an additional object class',
    of: 'person',
    damage: ({ dn }, hand) => hand.ldif(change(dn, ['add', 'objectClass', 'shadowAccount'])),
    shows: [],
  },
  {
    what: 'an object class removed',
    of: 'tool',
    covers: 'unix-account tool objectClass',
    damage: ({ dn }, hand) => hand.ldif(change(dn, ['delete', 'objectClass', 'shadowAccount'])),
    shows: ['change unix-account'],
  },
  {
    what: 'the object class of keys removed, with the keys',
    of: 'person',
    covers: 'unix-account person objectClass',
    damage: ({ dn }, hand) =>
      hand.ldif(change(dn, ['delete', 'sshPublicKey'], ['delete', 'objectClass', 'ldapPublicKey'])),
    shows: ['change unix-account', 'change ssh-keys'],
  },
  ...(['person', 'tool'] as const).map((of): DriftCase => ({
    what: `the object class of seals removed, with the seal of a ${of}`,
    of,
    covers: `seal ${of} objectClass`,
    damage: ({ dn }, hand) =>
      hand.ldif(
        change(dn, ['delete', 'chamberlainSeal'], ['delete', 'objectClass', 'chamberlainSealed']),
      ),
    shows: ['change seal'],
  })),
  {
    what: 'no longer a unix account: the class and its attributes removed',
    of: 'person',
    damage: ({ dn }, hand) =>
      hand.ldif(
        change(
          dn,
          ['delete', 'objectClass', 'posixAccount'],
          ...['uidNumber', 'gidNumber', 'homeDirectory', 'loginShell'].map(
            (attribute) => ['delete', attribute] as ['delete', string],
          ),
        ),
      ),
    shows: ['NAME_FOREIGN unix-account'],
    decide: ({ dn }, hand) => hand.ldif(remove(dn)),
  },
  {
    what: 'no longer a unix group: its class and number removed',
    of: 'tool',
    covers: 'unix-group tool objectClass',
    damage: (subject, hand) =>
      hand.ldif(
        change(
          groupDn(subject, hand),
          ['delete', 'objectClass', 'posixGroup'],
          ['delete', 'gidNumber'],
        ),
      ),
    shows: ['NAME_FOREIGN unix-group'],
    decide: (subject, hand) => hand.ldif(remove(groupDn(subject, hand))),
  },
  {
    what: 'the class of a sudo rule replaced',
    of: 'tool',
    damage: (subject, hand) =>
      hand.ldif(change(ruleDn(subject, hand), ['replace', 'objectClass', 'device'])),
    shows: 'refused',
  },
  {
    what: 'something else in the place of a sudo rule',
    of: 'tool',
    covers: 'sudo-rule tool objectClass',
    damage: (subject, hand) =>
      hand.ldif(
        [
          remove(ruleDn(subject, hand)),
          entry(ruleDn(subject, hand), { objectClass: 'device', cn: `runas-${subject.account}` }),
        ].join('\n'),
      ),
    shows: ['NAME_FOREIGN sudo-rule'],
    decide: (subject, hand) => hand.ldif(remove(ruleDn(subject, hand))),
  },
  {
    what: 'an account of another structural class, as other tools make them',
    of: 'person',
    damage: ({ dn, name, uid }, hand) =>
      hand.ldif(
        [
          remove(dn),
          entry(dn, {
            objectClass: ['account', 'posixAccount'],
            uid: name,
            cn: `The ${name}`,
            uidNumber: String(uid),
            gidNumber: '500',
            homeDirectory: `/home/${name}`,
            loginShell: '/bin/bash',
          }),
        ].join('\n'),
      ),
    shows: ['change seal', 'NAME_FOREIGN unix-account'],
    decide: ({ dn }, hand) => hand.ldif(remove(dn)),
  },
];

const MEMBERS: readonly DriftCase[] = [
  {
    what: 'a maintainer removed from the group',
    of: 'tool',
    damage: (subject, hand) =>
      hand.ldif(change(groupDn(subject, hand), ['delete', 'member', personDn('alice', hand)])),
    shows: ['change unix-group'],
  },
  {
    what: 'the tool itself removed from its group',
    of: 'tool',
    damage: (subject, hand) =>
      hand.ldif(change(groupDn(subject, hand), ['delete', 'member', subject.dn])),
    shows: ['change unix-group'],
  },
  {
    what: 'a person who is not a maintainer added to the group',
    of: 'tool',
    damage: (subject, hand) =>
      hand.ldif(change(groupDn(subject, hand), ['add', 'member', personDn('steward', hand)])),
    shows: ['revoke unix-group'],
  },
  {
    what: 'a member that no longer exists, and one that is not an account',
    of: 'tool',
    damage: (subject, hand) =>
      hand.ldif(
        change(groupDn(subject, hand), [
          'add',
          'member',
          personDn('long-gone', hand),
          `cn=admin,${hand.base}`,
        ]),
      ),
    shows: ['revoke unix-group'],
  },
  {
    what: 'all members replaced by one who should not be a member',
    of: 'tool',
    damage: (subject, hand) =>
      hand.ldif(change(groupDn(subject, hand), ['replace', 'member', personDn('steward', hand)])),
    shows: ['revoke unix-group'],
  },
  {
    what: 'removed from the realm group',
    of: 'person',
    covers: 'realm-membership person member',
    damage: ({ dn }, hand) => hand.ldif(change(realmGroup(hand), ['delete', 'member', dn])),
    shows: ['change realm-membership'],
  },
  {
    what: 'in the realm group without access',
    of: 'person',
    is: 'without access',
    damage: ({ dn }, hand) => hand.ldif(change(realmGroup(hand), ['add', 'member', dn])),
    shows: ['revoke realm-membership'],
  },
];

const KEYS: readonly DriftCase[] = [
  {
    what: 'a second key smuggled in after a line end',
    of: 'person',
    damage: ({ dn, name }, hand) =>
      hand.ldif(change(dn, ['replace', 'sshPublicKey', `${keyOf(name)} x\n${keyOf('mallory')}`])),
    shows: ['revoke ssh-keys', 'change ssh-keys'],
  },
  {
    what: 'an option added to a key',
    of: 'person',
    damage: ({ dn, name }, hand) =>
      hand.ldif(change(dn, ['replace', 'sshPublicKey', `command="/bin/sh" ${keyOf(name)}`])),
    shows: ['revoke ssh-keys', 'change ssh-keys'],
  },
  {
    what: 'the same key twice, once with a comment',
    of: 'person',
    damage: ({ dn, name }, hand) =>
      hand.ldif(change(dn, ['add', 'sshPublicKey', `${keyOf(name)} ${name}@home`])),
    shows: ['revoke ssh-keys'],
  },
  {
    what: 'a comment at the end of a key, as in an imported directory',
    of: 'person',
    damage: ({ dn, name }, hand) =>
      hand.ldif(change(dn, ['replace', 'sshPublicKey', `${keyOf(name)} laptop`])),
    shows: [],
  },
  {
    what: 'a value that is not a key',
    of: 'person',
    damage: ({ dn }, hand) => hand.ldif(change(dn, ['add', 'sshPublicKey', 'ask me for the key'])),
    shows: ['revoke ssh-keys'],
  },
  {
    what: 'bytes that are not text among the keys',
    of: 'person',
    damage: ({ dn }, hand) =>
      hand.ldif(
        `dn: ${dn}\nchangetype: modify\nadd: sshPublicKey\nsshPublicKey:: ${Buffer.from([0, 255, 254]).toString('base64')}\n`,
      ),
    shows: ['revoke ssh-keys'],
  },
  {
    what: 'a description that is not the label of a key',
    of: 'person',
    damage: ({ dn }, hand) => hand.ldif(change(dn, ['add', 'description', 'grows beans'])),
    shows: [],
  },
];

const RENAMED: readonly DriftCase[] = [
  {
    what: "a person's account moved to another place",
    of: 'person',
    damage: ({ dn, name }, hand) =>
      hand.ldif(
        `dn: ${dn}\nchangetype: modrdn\nnewrdn: uid=${name}\ndeleteoldrdn: 1\nnewsuperior: ou=groups,${hand.base}\n`,
      ),
    shows: ['NAME_FOREIGN unix-account'],
    decide: ({ name }, hand) =>
      hand.ldif(
        `dn: uid=${name},ou=groups,${hand.base}\nchangetype: modrdn\nnewrdn: uid=${name}\n` +
          `deleteoldrdn: 1\nnewsuperior: ou=people,${hand.base}\n`,
      ),
  },
  {
    what: "only the letter case of a person's account changed",
    of: 'person',
    damage: ({ dn, name }, hand) => hand.ldif(rename(dn, `uid=${name.toUpperCase()}`)),
    shows: ['NAME_FOREIGN unix-account'],
    decide: ({ dn, name }, hand) => hand.ldif(rename(dn, `uid=${name}`)),
  },
  {
    what: 'only the letter case of a display name changed',
    of: 'person',
    damage: ({ dn, name }, hand) => hand.ldif(change(dn, ['replace', 'cn', `THE ${name}`])),
    shows: ['change unix-account'],
  },
];

const group = (cn: string, gid: number, hand: Hand): string =>
  entry(`cn=${cn},ou=groups,${hand.base}`, {
    objectClass: ['groupOfNames', 'posixGroup'],
    cn,
    gidNumber: String(gid),
    member: `cn=chamberlain,${hand.base}`,
  });

const SIDE_CONDITIONS: readonly DriftCase[] = [
  {
    what: 'another group with the same name, in another place',
    of: 'tool',
    damage: ({ account }, hand) =>
      hand.ldif(group(account.toUpperCase(), hand.freeNumber('tool'), hand)),
    shows: ['NAME_FOREIGN unix-group (advisory)'],
    decide: ({ account }, hand) =>
      hand.ldif(remove(`cn=${account.toUpperCase()},ou=groups,${hand.base}`)),
  },
  {
    what: 'another group with the same number',
    of: 'tool',
    damage: ({ name, uid }, hand) => hand.ldif(group(`other-${name}`, uid, hand)),
    shows: ['ID_FOREIGN unix-group (advisory)'],
    decide: ({ name }, hand) => hand.ldif(remove(`cn=other-${name},ou=groups,${hand.base}`)),
  },
  {
    what: 'another account with the same number: two people with one uid',
    of: 'person',
    damage: ({ name, uid }, hand) =>
      hand.ldif(
        entry(`uid=twin-${name},ou=people,${hand.base}`, {
          objectClass: ['inetOrgPerson', 'posixAccount'],
          uid: `twin-${name}`,
          cn: `Twin of ${name}`,
          sn: 'twin',
          uidNumber: String(uid),
          gidNumber: '500',
          homeDirectory: `/home/twin-${name}`,
        }),
      ),
    shows: ['ID_FOREIGN unix-account (advisory)'],
    decide: ({ name }, hand) => hand.ldif(remove(`uid=twin-${name},ou=people,${hand.base}`)),
  },
  {
    what: 'drift of the right entry, and another entry with the same number',
    of: 'tool',
    damage: (subject, hand) =>
      hand.ldif(
        [
          group(`beside-${subject.name}`, subject.uid, hand),
          change(groupDn(subject, hand), ['add', 'member', personDn('steward', hand)]),
        ].join('\n'),
      ),
    shows: ['revoke unix-group', 'ID_FOREIGN unix-group (advisory)'],
    decide: ({ name }, hand) => hand.ldif(remove(`cn=beside-${name},ou=groups,${hand.base}`)),
  },
];

const RULES: readonly DriftCase[] = [
  {
    what: 'a sudo rule that also allows acting as root',
    of: 'tool',
    damage: (subject, hand) =>
      hand.ldif(change(ruleDn(subject, hand), ['add', 'sudoRunAsUser', 'root'])),
    shows: ['revoke sudo-rule', 'create sudo-rule'],
  },
  {
    what: 'a sudo rule that allows acting as anybody',
    of: 'tool',
    damage: (subject, hand) =>
      hand.ldif(change(ruleDn(subject, hand), ['replace', 'sudoRunAsUser', 'ALL'])),
    shows: ['revoke sudo-rule', 'create sudo-rule'],
  },
  {
    what: 'a sudo rule with another name that lets somebody act as the tool',
    of: 'tool',
    damage: ({ account, name }, hand) =>
      hand.ldif(
        entry(`cn=backdoor-${name},ou=sudoers,cn=tools,ou=projects,${hand.base}`, {
          objectClass: 'sudoRole',
          cn: `backdoor-${name}`,
          sudoUser: 'mallory',
          sudoHost: 'ALL',
          sudoCommand: 'ALL',
          sudoRunAsUser: account,
        }),
      ),
    shows: ['NAME_FOREIGN sudo-rule (advisory)'],
    decide: ({ name }, hand) =>
      hand.ldif(remove(`cn=backdoor-${name},ou=sudoers,cn=tools,ou=projects,${hand.base}`)),
  },
];

export const DIRECTORY_CASES: readonly DriftCase[] = [
  ...RULES,
  ...GONE,
  ...LOCKS,
  ...CLASSES,
  ...MEMBERS,
  ...KEYS,
  ...RENAMED,
  ...SIDE_CONDITIONS,
];
