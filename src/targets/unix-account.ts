/**
 * The unix account of a person, `uid=<shell name>,ou=people`, or of a tool,
 * `uid=<realm>.<n>,ou=people,ou=servicegroups`. It does not contain keys (ssh-keys writes them).
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
 * | the same, being restored         | likewise                 | none                            |
 *
 * 000001010000Z refuses a person's binds (slapo-ppolicy(5): locked permanently, until an administrator
 * unlocks). A tool has no password. For a tool, other programs (Toolforge's disable-tool, maintain-kubeusers)
 * take any time as the start of a countdown, 40 days by default, after which they archive and delete it, and
 * 000001010000Z as "at once". So the value is always the time of the request: both count from the same moment.
 *
 * Locking is a step of its own, before all others; unlocking removes pwdAccountLockedTime first.
 *
 * The gecos (passwd(5)) of a tool that is not active says why, for `become` and its shell to show: see
 * `disabledGecos`. It is set and removed with the lock. The gecos of people is not ours.
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
import type { DraftFinding } from '../reconcile/plan.ts';
import {
  AS_ADMINISTRATOR,
  describeEntry,
  entriesFor,
  isOurs,
  planEntry,
  splitRemovals,
  type Change,
  type EntryWant,
} from './directory-entry.ts';
import {
  entryRef,
  readableRef,
  type DirectoryEntry,
  type DirectoryQuery,
  type DirectoryReader,
} from './directory-reader.ts';
import type { Target } from './target.ts';

const LOCKED_FOR_GOOD = '000001010000Z';
const DISABLED_POLICY = entryRef('policies', 'cn', 'disabled');
const DISABLED_SHELL = '/bin/disabledtoolshell';
const SHELL = '/bin/bash';

/** The prefix of our gecos; deploy/login-host/become removes it. */
const DISABLED = 'disabled - ';
/** Login hosts accept no longer one. */
const GECOS_LENGTH = 200;

const READ = (
  'objectClass uid cn sn uidNumber gidNumber homeDirectory loginShell gecos mail memberOf ' +
  // operational: returned only if they are asked for by name
  'pwdAccountLockedTime pwdPolicySubentry'
).split(' ');

/** What locks an account. For a tool, pwdAccountLockedTime does not lock: its policy and its shell do. */
const LOCKS = {
  person: new Set(['pwdAccountLockedTime', 'pwdPolicySubentry']),
  tool: new Set(['pwdPolicySubentry', 'loginShell']),
};
/** What the modify that locks a tool sets in addition: why it is locked, and what becomes of it. */
const BY_THE_LOCK = new Set(['pwdAccountLockedTime', 'gecos']);

export const unixAccount: Target<DirectoryReader, EntryWant, DirectoryEntry[]> = {
  name: 'unix-account',
  of: ['person', 'tool'],
  needs: [],

  want(wanted, realm) {
    const locked = wanted.state !== 'active';
    const shape = wanted.kind === 'person' ? personShape(wanted, realm) : toolShape(wanted, realm);
    return {
      realm: realm.realm,
      ref: accountRef(wanted),
      number: { attribute: 'uidNumber', value: String(wanted.uid) },
      present: wanted.state !== 'deleted',
      // the order of the lock's attributes is the order in which an unlock removes them
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
    // A display name is unique among people. If a person of the realm has it, that is another subject, perhaps
    // in the middle of a rename, which resolves itself. Anything else that has it is not ours.
    const others = found.filter(({ ref, attributes }) => {
      const gids = attributes['gidNumber'] ?? [];
      return ref.startsWith('people/') && !gids.includes(String(realm.realmGid));
    });
    const byDisplayName = entriesFor(wanted, others, (subject) => {
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
      // values of memberOf may give access in other programs
      const { revoke, change } = splitRemovals(changes, 'memberOf');
      return {
        revoke: [...change.filter(isLocking), ...revoke],
        change: change.filter((each) => !isLocking(each)),
      };
    };
    const { known, finding } = withoutGroupNumber(want, have);
    const plan = planEntry(withoutUnmanagedGecos(known, have), have, wanted, split, 'destroy');
    const because = `the ${wanted.kind} is ${wanted.state}`;
    const steps = plan.steps.map((step) =>
      step.effect === 'revoke' && wanted.state !== 'active' ? { ...step, because } : step,
    );
    return { steps, findings: [...finding, ...plan.findings] };
  },
};

/** The class that may say which groups the account is in, if there are any. */
function classOf(groups: readonly string[]): string[] {
  return groups.length > 0 ? ['chamberlainMember'] : [];
}

/** The groups that the account is in, as unix-group and realm-membership write them. */
function memberOf(wanted: Wanted, realm: Realm): string[] {
  if (wanted.memberOf === undefined) return [];
  const isIn = wanted.kind === 'person' && wanted.realmMember && wanted.state === 'active';
  return [
    ...(isIn ? [entryRef('groups', 'cn', `project-${realm.realm}`)] : []),
    ...wanted.memberOf.map((account) => entryRef('toolGroups', 'cn', account)),
  ].toSorted();
}

/**
 * A changed gidNumber of an account is not a step: if numbers of groups are unique (slapo-unique), the
 * directory refuses a number that a group has, except with the relax control, which only its administrator may
 * use.
 */
function withoutGroupNumber(
  want: EntryWant,
  have: readonly DirectoryEntry[],
): { known: EntryWant; finding: DraftFinding[] } {
  const right = want.attributes['gidNumber']?.[0];
  const there = have.find((entry) => isOurs(want, entry))?.attributes['gidNumber']?.[0];
  if (!want.present || there === undefined || there === right) return { known: want, finding: [] };
  const object = readableRef(want.ref, want.realm);
  const sentence = `${object} has gidNumber ${there}, not ${right}: set it back ${AS_ADMINISTRATOR}`;
  const { gidNumber: _, ...rest } = want.attributes;
  const finding: DraftFinding = { object, code: 'ID_FOREIGN', sentence };
  return { known: { ...want, attributes: rest }, finding: [finding] };
}

/**
 * A gecos that somebody else has set is kept as long as there is nothing to say there: many accounts have one
 * before an import.
 */
function withoutUnmanagedGecos(want: EntryWant, have: readonly DirectoryEntry[]): EntryWant {
  const { gecos, ...rest } = want.attributes;
  if (gecos?.length !== 0) return want;
  const there = have.find((entry) => isOurs(want, entry))?.attributes['gecos'] ?? [];
  if (there.every((value) => value.startsWith(DISABLED))) return want;
  return { ...want, attributes: rest };
}

/**
 * Why a tool is disabled, as the fifth field of passwd(5): one line of ASCII, because the attribute is an
 * IA5String (RFC 2307, section 3), without the colon that ends the field.
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
 * The account of each subject. If it is absent, and is not added because something else has its name or number: that
 * entry. What depends on an account must not be given to an account that is not ours.
 */
export async function observeAccounts(
  reader: DirectoryReader,
  wanted: readonly Wanted[],
  realm: Realm,
  query: Omit<DirectoryQuery, 'any'>,
): Promise<(DirectoryEntry | undefined)[]> {
  const values = wanted.map(({ account }) => account);
  const found = await reader.find({ ...query, any: [{ attribute: 'uid', values }] });
  const byRef = new Map(found.map((entry) => [entry.ref, entry]));
  const absent = wanted.filter((each) => !byRef.has(accountRef(each)));
  const others = absent.length === 0 ? [] : await unixAccount.observe(reader, absent, realm);
  const inTheWay = new Map(absent.map(({ uid }, i) => [uid, others[i]?.[0]]));
  return wanted.map((each) => byRef.get(accountRef(each)) ?? inTheWay.get(each.uid));
}

/** The reference of a subject's account. */
export function accountRef(subject: Pick<Wanted, 'kind' | 'account'>): EntryWant['ref'] {
  const place = subject.kind === 'person' ? 'people' : 'toolAccounts';
  return entryRef(place, 'uid', subject.account);
}

/** What makes an entry the account of a subject. */
export function accountOf(
  subject: Pick<Wanted, 'kind' | 'account' | 'uid'>,
): Pick<EntryWant, 'ref' | 'number'> {
  const number = { attribute: 'uidNumber', value: String(subject.uid) } as const;
  return { ref: accountRef(subject), number };
}

function lockedTime(wanted: Wanted): string[] {
  if (wanted.kind === 'person') return [LOCKED_FOR_GOOD];
  const { deleteRequestedAt: at } = wanted;
  return at === undefined ? [] : [generalizedTime(at)];
}

function isLock({ attribute }: Change, { kind }: Wanted): boolean {
  return LOCKS[kind].has(attribute);
}

/** Whether a modify of an account that is ours and unlocked locks it. */
export function locksAccount(changes: readonly Change[]): boolean {
  const isOf = (name: string) =>
    changes.some(({ attribute, add }) => attribute === name && add.length > 0);
  return isOf('pwdPolicySubentry') && (isOf('pwdAccountLockedTime') || isOf('loginShell'));
}

/** Whether a modify of an account removes a lock. */
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

/** The last fields of the account in passwd(5). */
export function passwdOf(
  wanted: Wanted,
  realm: Realm,
): { home: string; shell: string; gecos: string } {
  if (wanted.kind === 'person') {
    return { home: `${realm.personHomes}/${wanted.account}`, shell: SHELL, gecos: '' };
  }
  const { name, state, disabledReason = '' } = wanted;
  const isDisabled = state !== 'active';
  return {
    home: `${realm.toolHomes}/${name}`,
    shell: isDisabled ? DISABLED_SHELL : SHELL,
    gecos: isDisabled && disabledReason.trim() !== '' ? disabledGecos(disabledReason) : '',
  };
}

function personShape(person: WantedPerson, realm: Realm): Attributes {
  const { displayName, email, account } = person;
  if (displayName === undefined && person.state !== 'deleted') {
    throw new TypeError(`${account} was read without the display name`);
  }
  const names = displayName === undefined ? [] : [displayName];
  const groups = memberOf(person, realm);
  const { home, shell } = passwdOf(person, realm);
  return {
    objectClass: ['inetOrgPerson', ...classOf(groups), 'ldapPublicKey', 'person', 'posixAccount'],
    uid: [account],
    cn: names,
    sn: names,
    uidNumber: [String(person.uid)],
    gidNumber: [String(realm.realmGid)],
    homeDirectory: [home],
    loginShell: [shell],
    mail: email ? [email] : [],
    memberOf: groups,
  };
}

function toolShape(tool: WantedTool, realm: Realm): Attributes {
  const { account } = tool;
  const groups = memberOf(tool, realm);
  const { home, shell, gecos } = passwdOf(tool, realm);
  return {
    objectClass: ['person', ...classOf(groups), 'posixAccount', 'shadowAccount', 'top'],
    uid: [account],
    cn: [account],
    sn: [account],
    uidNumber: [String(tool.uid)],
    gidNumber: [String(tool.uid)],
    homeDirectory: [home],
    loginShell: [shell],
    gecos: gecos === '' ? [] : [gecos],
    memberOf: groups,
  };
}
