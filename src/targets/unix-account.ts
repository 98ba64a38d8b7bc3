/**
 * The unix account of a person, `uid=<shell name>,ou=people`, or of a tool,
 * `uid=<realm>.<n>,ou=people,ou=servicegroups`. Keys are not its business (ssh-keys writes them).
 *
 * | subject | state     | wanted                                                          |
 * | ------- | --------- | --------------------------------------------------------------- |
 * | person  | active    | the account, unlocked                                           |
 * | person  | suspended, archived | the account, locked                                   |
 * | tool    | active    | the account, unlocked, shell /bin/bash                          |
 * | tool    | disabled, archived | the account, locked, a shell that says so              |
 * | both    | deleted   | absent                                                          |
 *
 * | locked                           | pwdPolicySubentry        | pwdAccountLockedTime            |
 * | -------------------------------- | ------------------------ | ------------------------------- |
 * | person                           | cn=disabled,ou=ppolicies | 000001010000Z                   |
 * | tool                             | likewise                 | none                            |
 * | tool with a deletion requested   | likewise                 | when that was, YYYYMMDDHHMMSSZ  |
 * | the same, being brought back     | likewise                 | none                            |
 *
 * A person's binds are refused by 000001010000Z (slapo-ppolicy(5): locked for good, until an administrator
 * unlocks). A tool has no password. Of a tool other programs (Toolforge's disable-tool, maintain-kubeusers)
 * take any time for the begin of a countdown, 40 days by default, after which they archive and delete it,
 * and 000001010000Z for "at once". So that time is the request's alone: both count from the same moment.
 *
 * Locking is a step of its own, before all others; unlocking removes pwdAccountLockedTime first.
 *
 * A tool that is not active says why in its gecos (passwd(5)), for `become` and its shell to tell: see
 * `disabledGecos`. It comes and goes with the lock. People's gecos is not ours.
 *
 * | the account, ours, has                  | step                      | finding    |
 * | --------------------------------------- | ------------------------- | ---------- |
 * | another gidNumber                       | the other attributes'     | ID_FOREIGN |
 * | a gecos that is not of our form, and    | left                      |            |
 * | the tool has no reason to give          |                           |            |
 * | any other attribute otherwise           | ldap.modify               |            |
 */
import { generalizedTime } from '../shared/time.ts';
import type { Realm, Wanted, WantedPerson, WantedTool } from '../reconcile/wanted.ts';
import type { Attributes } from '../reconcile/action.ts';
import type { Finding } from '../reconcile/plan.ts';
import {
  describeEntry,
  entriesFor,
  isOurs,
  planEntry,
  type Change,
  type EntryWant,
} from './directory-entry.ts';
import {
  entryRef,
  readableRef,
  type DirectoryEntry,
  type DirectoryReader,
} from './directory-reader.ts';
import type { Target } from './target.ts';

const LOCKED_FOR_GOOD = '000001010000Z';
const DISABLED_POLICY = entryRef('policies', 'cn', 'disabled');
const DISABLED_SHELL = '/bin/disabledtoolshell';
const SHELL = '/bin/bash';

/** What a gecos of ours begins with; deploy/login-host/become takes it off again. */
const DISABLED = 'disabled - ';
/** Login hosts take no longer one. */
const GECOS_LENGTH = 200;

const READ = (
  'objectClass uid cn sn uidNumber gidNumber homeDirectory loginShell gecos mail memberOf ' +
  // operational: told only where they are asked for by name
  'pwdAccountLockedTime pwdPolicySubentry'
).split(' ');

/** What locks. Of a tool pwdAccountLockedTime does not: its policy and its shell do. */
const LOCKS = {
  person: new Set(['pwdAccountLockedTime', 'pwdPolicySubentry']),
  tool: new Set(['pwdPolicySubentry', 'loginShell']),
};
/** What comes by the modify that locks a tool: why it is locked, and what becomes of it. */
const BY_THE_LOCK = new Set(['pwdAccountLockedTime', 'gecos']);

export const unixAccount: Target<DirectoryReader, EntryWant, DirectoryEntry[]> = {
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
        pwdAccountLockedTime: locked ? lockedTime(wanted) : [],
        ...(locked ? { pwdPolicySubentry: [DISABLED_POLICY] } : {}),
        ...shape,
      },
      ...(locked ? {} : { without: { pwdPolicySubentry: [DISABLED_POLICY] } }),
    };
  },

  describe(want) {
    const { gidNumber, homeDirectory, loginShell, pwdPolicySubentry = [] } = want.attributes;
    return describeEntry(
      want,
      `uid ${want.number?.value}`,
      `gid ${gidNumber?.[0]}`,
      String(homeDirectory?.[0]),
      String(loginShell?.[0]),
      pwdPolicySubentry.length > 0 ? 'locked' : 'unlocked',
    );
  },

  async observe(reader, wanted, realm) {
    const names = wanted.flatMap((subject) => displayNameOf(subject) ?? []);
    const found = await reader.find({
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
    const split = (changes: Change[]) => {
      const takes = wanted.state !== 'active' && changes.some((each) => isLock(each, wanted));
      const isLocking = (each: Change) =>
        takes && (isLock(each, wanted) || BY_THE_LOCK.has(each.attribute));
      const { taken, others } = splitMemberOf(changes);
      return {
        revoke: [...others.filter(isLocking), ...taken],
        change: others.filter((each) => !isLocking(each)),
      };
    };
    const { known, finding } = withoutGroupNumber(want, have, wanted);
    const plan = planEntry(withoutUnmanagedGecos(known, have), have, wanted, split, 'destroy');
    const because = `the ${wanted.kind} is ${wanted.state}`;
    const steps = plan.steps.map((step) =>
      step.effect === 'revoke' && wanted.state !== 'active' ? { ...step, because } : step,
    );
    return { steps, findings: [...finding, ...plan.findings] };
  },
};

/** By what goes of memberOf, programs beside us let in: it goes before anything else is done. */
function splitMemberOf(changes: Change[]): { taken: Change[]; others: Change[] } {
  const change = changes.find(({ attribute }) => attribute === 'memberOf');
  if (change === undefined || change.remove.length === 0) return { taken: [], others: changes };
  const rest = changes.filter((each) => each !== change);
  const added = change.add.length === 0 ? [] : [{ ...change, remove: [] }];
  return { taken: [{ ...change, add: [] }], others: [...rest, ...added] };
}

/** The class that may say which groups hold it, where one does. */
function classOf(groups: readonly string[]): string[] {
  return groups.length > 0 ? ['chamberlainMember'] : [];
}

/** The groups that hold the account, as unix-group and realm-membership have it. */
function memberOf(wanted: Wanted, realm: Realm): string[] {
  if (wanted.memberOf === undefined) return [];
  const isIn = wanted.kind === 'person' && wanted.realmMember && wanted.state === 'active';
  return [
    ...(isIn ? [entryRef('groups', 'cn', `project-${realm.realm}`)] : []),
    ...wanted.memberOf.map((account) => entryRef('toolGroups', 'cn', account)),
  ].toSorted();
}

/**
 * An account's gidNumber that was changed is no step: where numbers of groups are unique (slapo-unique),
 * the directory lets no account be given one that a group has, but by the relax control, which only its
 * administrator may use.
 */
function withoutGroupNumber(
  want: EntryWant,
  have: readonly DirectoryEntry[],
  wanted: Wanted,
): { known: EntryWant; finding: Finding[] } {
  const { gidNumber: [right] = [], ...rest } = want.attributes;
  const there = have.find((entry) => isOurs(want, entry))?.attributes['gidNumber']?.[0];
  if (!want.present || there === undefined || there === right) return { known: want, finding: [] };
  const object = readableRef(want.ref, want.realm);
  const sentence =
    `${object} has gidNumber ${there}, not ${right}: set it back as the directory's administrator, ` +
    'with the relax control (ldapmodify -e relax)';
  const { target } = want;
  const { uid: subject, account } = wanted;
  const finding: Finding = { target, subject, account, object, code: 'ID_FOREIGN', sentence };
  return { known: { ...want, attributes: rest }, finding: [finding] };
}

/** A gecos that another has given is kept, as long as there is nothing to say there: many have one before an import. */
function withoutUnmanagedGecos(want: EntryWant, have: readonly DirectoryEntry[]): EntryWant {
  const { gecos, ...rest } = want.attributes;
  if (gecos?.length !== 0) return want;
  const there = have.find((entry) => isOurs(want, entry))?.attributes['gecos'] ?? [];
  if (there.every((value) => value.startsWith(DISABLED))) return want;
  return { ...want, attributes: rest };
}

/**
 * Why a tool is disabled, as it stands in the fifth field of passwd(5): one line of ASCII, since the
 * attribute is an IA5String (RFC 2307, section 3), without the colon that ends the field.
 */
export function disabledGecos(reason: string): string {
  return `${DISABLED}${reason}`
    .normalize('NFKD')
    .replaceAll(/\p{M}/gu, '')
    .replaceAll(/\s+/g, ' ')
    .replaceAll(/[^ -9;-~]/gu, '?')
    .slice(0, GECOS_LENGTH)
    .trim();
}

/**
 * Where an account is absent and is not added, for something else has its name or number: that. Else
 * undefined. What hangs on an account must not come to an account that does not.
 */
export async function findInTheWay(
  reader: DirectoryReader,
  absent: readonly Wanted[],
  realm: Realm,
): Promise<Map<number, DirectoryEntry>> {
  if (absent.length === 0) return new Map();
  const found = await unixAccount.observe(reader, absent, realm);
  return new Map(
    absent.flatMap(({ uid }, i) => (found[i] ?? []).slice(0, 1).map((entry) => [uid, entry])),
  );
}

/** The reference of a subject's account. */
export function accountRef(subject: Pick<Wanted, 'kind' | 'account'>): EntryWant['ref'] {
  const place = subject.kind === 'person' ? 'people' : 'toolAccounts';
  return entryRef(place, 'uid', subject.account);
}

function lockedTime(wanted: Wanted): string[] {
  if (wanted.kind === 'person') return [LOCKED_FOR_GOOD];
  const { deleteRequestedAt: at } = wanted;
  return at === undefined ? [] : [generalizedTime(at)];
}

function isLock({ attribute }: Change, { kind }: Wanted): boolean {
  return LOCKS[kind].has(attribute);
}

/** Whether a modify of an account, ours and open, locks it. */
export function locksAccount(changes: readonly Change[]): boolean {
  const isOf = (name: string) =>
    changes.some(({ attribute, add }) => attribute === name && add.length > 0);
  return isOf('pwdPolicySubentry') && (isOf('pwdAccountLockedTime') || isOf('loginShell'));
}

/** Whether a modify of an account takes a lock from it. */
export function opensAccount(changes: readonly Change[], { kind }: Pick<Wanted, 'kind'>): boolean {
  return changes.some(({ attribute, remove }) =>
    attribute === 'loginShell'
      ? remove.includes(DISABLED_SHELL)
      : LOCKS[kind].has(attribute) && remove.length > 0,
  );
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
  const groups = memberOf(person, realm);
  return {
    objectClass: ['inetOrgPerson', ...classOf(groups), 'ldapPublicKey', 'person', 'posixAccount'],
    uid: [account],
    cn: names,
    sn: names,
    uidNumber: [String(person.uid)],
    gidNumber: [String(realm.realmGid)],
    homeDirectory: [`${realm.personHomes}/${account}`],
    loginShell: [SHELL],
    mail: email ? [email] : [],
    memberOf: groups,
  };
}

function toolShape(tool: WantedTool, realm: Realm): Attributes {
  const { account, disabledReason = '' } = tool;
  const says = tool.state !== 'active' && disabledReason.trim() !== '';
  const groups = memberOf(tool, realm);
  return {
    objectClass: ['person', ...classOf(groups), 'posixAccount', 'shadowAccount', 'top'],
    uid: [account],
    cn: [account],
    sn: [account],
    uidNumber: [String(tool.uid)],
    gidNumber: [String(tool.uid)],
    homeDirectory: [`${realm.toolHomes}/${tool.name}`],
    loginShell: [tool.state === 'active' ? SHELL : DISABLED_SHELL],
    gecos: says ? [disabledGecos(disabledReason)] : [],
    memberOf: groups,
  };
}
