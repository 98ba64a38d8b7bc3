/**
 * The unix account of a person, `uid=<shell name>,ou=people`, or of a tool,
 * `uid=<realm>.<n>,ou=people,ou=servicegroups`. Keys are not its business (ssh-keys writes them).
 *
 * | subject | state     | wanted                                                          |
 * | ------- | --------- | --------------------------------------------------------------- |
 * | person  | active    | the account, unlocked                                           |
 * | person  | suspended | the account, locked                                             |
 * | tool    | active    | the account, unlocked, shell /bin/bash                          |
 * | tool    | disabled  | the account, locked, a shell that says so                       |
 * | both    | deleted   | absent                                                          |
 *
 * Locked is `pwdPolicySubentry: cn=disabled,ou=ppolicies` and `pwdAccountLockedTime: 000001010000Z`
 * (slapo-ppolicy(5): locked for good, until an administrator unlocks). Locking is a step of its own,
 * before all others; unlocking removes pwdAccountLockedTime first.
 */
import type { Realm, Wanted, WantedPerson, WantedTool } from '../model/wanted.ts';
import type { Attributes } from '../plan/action.ts';
import { entriesFor, planEntry, type Change, type EntryWant } from './directory-entry.ts';
import { entryRef, type DirectoryEntry, type DirectoryEyes } from './directory-eyes.ts';
import type { Target } from './target.ts';

const LOCKED_FOR_GOOD = '000001010000Z';
const DISABLED_POLICY = entryRef('policies', 'cn', 'disabled');
const DISABLED_SHELL = '/bin/disabledtoolshell';
const SHELL = '/bin/bash';

const READ = (
  'objectClass uid cn sn uidNumber gidNumber homeDirectory loginShell mail ' +
  // operational: told only where they are asked for by name
  'pwdAccountLockedTime pwdPolicySubentry'
).split(' ');

const LOCKS = new Set(['pwdAccountLockedTime', 'pwdPolicySubentry']);

export const unixAccount: Target<DirectoryEyes, EntryWant, DirectoryEntry[]> = {
  name: 'unix-account',
  role: 'directory',
  of: ['person', 'tool'],
  needs: [],

  want(wanted, realm) {
    const locked = wanted.state !== 'active';
    const shape = wanted.kind === 'person' ? personShape(wanted, realm) : toolShape(wanted, realm);
    return {
      target: 'unix-account',
      realm: realm.realm,
      ref: accountRef(wanted),
      number: { attribute: 'uidNumber', value: String(wanted.uid) },
      present: wanted.state !== 'deleted',
      // The order of the lock's attributes is the order in which an unlock removes them.
      attributes: {
        pwdAccountLockedTime: locked ? [LOCKED_FOR_GOOD] : [],
        ...(locked ? { pwdPolicySubentry: [DISABLED_POLICY] } : {}),
        ...shape,
      },
      ...(locked ? {} : { without: { pwdPolicySubentry: [DISABLED_POLICY] } }),
    };
  },

  async observe(eyes, wanted, realm) {
    const names = wanted.flatMap((subject) => displayNameOf(subject) ?? []);
    const found = await eyes.find({
      any: [
        { attribute: 'uid', values: wanted.map((subject) => subject.account) },
        { attribute: 'uidNumber', values: wanted.map((subject) => String(subject.uid)) },
        { attribute: 'cn', values: names },
      ],
      attributes: READ,
    });
    const byAccount = entriesFor(wanted, found, (subject) => [
      ['uid', subject.account],
      ['uidNumber', String(subject.uid)],
    ]);
    // A display name is unique among people. A person of the realm who has it is another of ours,
    // mid-rename perhaps: that resolves itself. Anything else that has it is not ours.
    const foreign = found.filter(({ ref, attributes }) => {
      const gids = attributes['gidNumber'] ?? [];
      return ref.startsWith('people/') && !gids.includes(String(realm.realmGid));
    });
    const byDisplayName = entriesFor(wanted, foreign, (subject) => {
      const name = displayNameOf(subject);
      return name === undefined ? [] : [['cn', name]];
    });
    return byAccount.map((entries, i) => [...new Set([...entries, ...(byDisplayName[i] ?? [])])]);
  },

  plan(want, have, wanted) {
    const isLocking = ({ attribute }: Change) =>
      wanted.state !== 'active' && isLock(attribute, wanted);
    const split = (changes: Change[]) => ({
      revoke: changes.filter(isLocking),
      change: changes.filter((change) => !isLocking(change)),
    });
    const plan = planEntry(want, have, wanted, split, 'destroy');
    const because = `the ${wanted.kind} is ${wanted.state}`;
    const steps = plan.steps.map((step) =>
      step.effect === 'revoke' ? { ...step, because } : step,
    );
    return { ...plan, steps };
  },
};

/** The reference of a subject's account. */
export function accountRef(subject: Pick<Wanted, 'kind' | 'account'>): EntryWant['ref'] {
  const place = subject.kind === 'person' ? 'people' : 'toolAccounts';
  return entryRef(place, 'uid', subject.account);
}

function isLock(attribute: string, wanted: Wanted): boolean {
  return LOCKS.has(attribute) || (wanted.kind === 'tool' && attribute === 'loginShell');
}

function displayNameOf(subject: Wanted): string | undefined {
  if (subject.kind !== 'person' || subject.state === 'deleted') return undefined;
  return subject.displayName;
}

function personShape(person: WantedPerson, realm: Realm): Attributes {
  const { displayName, email, account } = person;
  if (displayName === undefined && person.state !== 'deleted') {
    throw new TypeError(`${account} was read without the display name`);
  }
  const names = displayName === undefined ? [] : [displayName];
  return {
    objectClass: ['inetOrgPerson', 'ldapPublicKey', 'person', 'posixAccount'],
    uid: [account],
    cn: names,
    sn: names,
    uidNumber: [String(person.uid)],
    gidNumber: [String(realm.realmGid)],
    homeDirectory: [`${realm.personHomes}/${account}`],
    loginShell: [SHELL],
    mail: email ? [email] : [],
  };
}

function toolShape(tool: WantedTool, realm: Realm): Attributes {
  const { account } = tool;
  return {
    objectClass: ['person', 'posixAccount', 'shadowAccount', 'top'],
    uid: [account],
    cn: [account],
    sn: [account],
    uidNumber: [String(tool.uid)],
    gidNumber: [String(tool.uid)],
    homeDirectory: [`${realm.toolHomes}/${tool.name}`],
    loginShell: [tool.state === 'disabled' ? DISABLED_SHELL : SHELL],
  };
}
