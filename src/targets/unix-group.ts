/**
 * A tool's group: `cn=<realm>.<n>,ou=servicegroups`, posixGroup and groupOfNames (rfc2307bis), with the tool's
 * effective members as DNs. Only this target decides its members: any others are removed, first.
 *
 * | state                       | wanted                                        |
 * | --------------------------- | --------------------------------------------- |
 * | active, disabled, archived  | the group, its gid = the tool's uid, members  |
 * | deleted                     | absent                                        |
 *
 * A tool without any maintainer who may log in has its group like any other: an advisory finding. A member
 * whose account in the directory has another number is somebody else: it is left out, with a finding.
 */
import { ChamberlainError } from '../shared/errors.ts';
import type { Member, Wanted, WantedTool } from '../reconcile/wanted.ts';
import type { DraftFinding } from '../reconcile/plan.ts';
import {
  countValues,
  describeEntry,
  entriesFor,
  hasClass,
  unmanagedFinding,
  planEntry,
  splitRemovals,
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
import { accountOf, accountRef } from './unix-account.ts';

export interface GroupHave {
  groups: DirectoryEntry[];
  /** accounts at a member's place that have another number than the member */
  unmanaged: DirectoryEntry[];
}

export const unixGroup: Target<DirectoryReader, EntryWant, GroupHave> = {
  name: 'unix-group',
  of: ['tool'],
  needs: [],

  want(wanted, realm) {
    const number = String(wanted.uid);
    return {
      realm: realm.realm,
      ref: groupRef(wanted),
      number: { attribute: 'gidNumber', value: number },
      present: wanted.state !== 'deleted',
      attributes: {
        objectClass: ['groupOfNames', 'posixGroup'],
        cn: [wanted.account],
        gidNumber: [number],
        member: wanted.state === 'deleted' ? [] : membersOf(wanted),
      },
    };
  },

  describe(want) {
    const gid = `gid ${want.number?.value}`;
    return describeEntry(want, gid, countValues(want.attributes['member'], 'member'));
  },

  async observe(reader, wanted, realm) {
    const [found, accounts] = await Promise.all([
      reader.find({
        any: [
          { attribute: 'cn', values: wanted.map((tool) => tool.account) },
          { attribute: 'gidNumber', values: wanted.map((tool) => String(tool.uid)) },
        ],
        attributes: ['objectClass', 'cn', 'gidNumber', 'member'],
      }),
      findAccounts(reader, wanted),
    ]);
    // the tool's account has the group's cn and gidNumber, too: what counts are groups, and anything at a
    // group's own place
    const groups = found.filter(
      ({ ref, attributes }) =>
        ref.startsWith('toolGroups/cn=') ||
        attributes['objectClass']?.some((name) => /^(posixGroup|groupOfNames)$/i.test(name)),
    );
    requireMembers(groups, realm.realm);
    const byTool = entriesFor(wanted, groups, (tool) => [
      ['cn', tool.account],
      ['gidNumber', String(tool.uid)],
    ]);
    return wanted.map((tool, index) => ({
      groups: byTool[index] ?? [],
      unmanaged: othersOf(tool).flatMap((member) => {
        const account = accounts.get(accountRef(member));
        const isMember = account?.attributes['uidNumber']?.includes(String(member.uid));
        return account === undefined || isMember ? [] : [account];
      }),
    }));
  },

  plan(want, { groups, unmanaged }, wanted) {
    const left = new Set<string>(unmanaged.map(({ ref }) => ref));
    const member = (want.attributes['member'] ?? []).filter((ref) => !left.has(ref));
    const known: EntryWant = { ...want, attributes: { ...want.attributes, member } };
    const plan = planEntry(
      known,
      groups,
      wanted,
      (changes) => splitMembers(known, groups, changes),
      'destroy',
    );
    const findings = unmanaged.map((entry) =>
      unmanagedFinding({ ...want, ...memberWant(entry, wanted) }, entry),
    );
    return { ...plan, findings: [...plan.findings, ...findings, ...orphanFindings(want, wanted)] };
  },
};

function orphanFindings(want: EntryWant, wanted: Wanted): DraftFinding[] {
  if ((wanted as WantedTool).orphaned !== true) return [];
  return [
    {
      object: readableRef(want.ref, want.realm),
      code: 'TOOL_ORPHANED',
      sentence:
        'nobody who may log in maintains it, directly or through other tools; an admin can add a maintainer (maintainer.add)',
      advisory: true,
    },
  ];
}

/**
 * Throws BACKEND_UNREADABLE if access rules hide the members of a group: a groupOfNames always has one (RFC 4519,
 * section 3.5), so hidden members must not be taken for absent.
 */
export function requireMembers(groups: readonly DirectoryEntry[], realm: string): void {
  const blind = groups.find(
    (group) => (group.attributes['member'] ?? []).length === 0 && hasClass(group, 'groupOfNames'),
  );
  if (blind === undefined) return;
  throw new ChamberlainError(
    'BACKEND_UNREADABLE',
    `reading the members of ${readableRef(blind.ref, realm)}`,
    { cause: new Error('it shows none, although it must have one: access rules hide them') },
  );
}

/** Members besides the tool itself, whose account belongs to another target. */
function othersOf(wanted: Wanted): Member[] {
  const { members = [], uid } = wanted as WantedTool;
  return members.filter((member) => member.uid !== uid);
}

async function findAccounts(
  reader: DirectoryReader,
  wanted: readonly Wanted[],
): Promise<Map<string, DirectoryEntry>> {
  const names = new Set(wanted.flatMap(othersOf).map(({ account }) => account));
  if (names.size === 0) return new Map();
  const any = [{ attribute: 'uid', values: [...names] }];
  const accounts = await reader.find({ any, attributes: ['uid', 'uidNumber'] });
  return new Map(accounts.map((entry) => [entry.ref, entry]));
}

/** The account whose place another entry has. */
function memberWant(entry: DirectoryEntry, wanted: Wanted): Pick<EntryWant, 'ref' | 'number'> {
  return accountOf(othersOf(wanted).find((each) => accountRef(each) === entry.ref) as Member);
}

/** The reference of a tool's group. */
export function groupRef(tool: Pick<Wanted, 'account'>): EntryWant['ref'] {
  return entryRef('toolGroups', 'cn', tool.account);
}

function membersOf(wanted: Wanted): string[] {
  const { members, account } = wanted as WantedTool;
  if (members === undefined) throw new TypeError(`${account} was read without its members`);
  return [...new Set(members.map(accountRef))].toSorted();
}

/**
 * Members to remove are a step of their own, because access is taken away before anything else. A groupOfNames
 * is never empty: if no member stays, the new ones are added in the same modify.
 */
function splitMembers(
  want: EntryWant,
  have: readonly DirectoryEntry[],
  changes: Change[],
): { revoke: Change[]; change: Change[] } {
  const there = have.find(({ ref }) => ref === want.ref)?.attributes['member'] ?? [];
  const replaced = changes.filter(
    ({ attribute, remove }) =>
      attribute === 'member' && remove.length > 0 && remove.length === there.length,
  );
  if (replaced.length === 0) return splitRemovals(changes, 'member');
  return { revoke: replaced, change: changes.filter((each) => !replaced.includes(each)) };
}
