/**
 * A tool's group: `cn=<realm>.<n>,ou=servicegroups`, posixGroup and groupOfNames (rfc2307bis), with
 * the tool's effective members as DNs. Its members are ours alone: others are removed, first.
 *
 * | state             | wanted                                        |
 * | ----------------- | --------------------------------------------- |
 * | active, disabled  | the group, its gid = the tool's uid, members  |
 * | deleted           | absent                                        |
 */
import type { Wanted, WantedTool } from '../model/wanted.ts';
import { entriesFor, planEntry, type Change, type EntryWant } from './directory-entry.ts';
import { entryRef, type DirectoryEntry, type DirectoryEyes } from './directory-eyes.ts';
import type { Target } from './target.ts';
import { accountRef } from './unix-account.ts';

export const unixGroup: Target<DirectoryEyes, EntryWant, DirectoryEntry[]> = {
  name: 'unix-group',
  role: 'directory',
  of: ['tool'],
  needs: [],

  want(wanted, realm) {
    const number = String(wanted.uid);
    return {
      target: 'unix-group',
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

  async observe(eyes, wanted) {
    const found = await eyes.find({
      any: [
        { attribute: 'cn', values: wanted.map((tool) => tool.account) },
        { attribute: 'gidNumber', values: wanted.map((tool) => String(tool.uid)) },
      ],
      attributes: ['objectClass', 'cn', 'gidNumber', 'member'],
    });
    // The tool's account has the group's cn and gidNumber by right: what counts is groups, and
    // whatever else has a group's own place.
    const groups = found.filter(
      ({ ref, attributes }) =>
        ref.startsWith('toolGroups/cn=') ||
        attributes['objectClass']?.some((name) => /^(posixGroup|groupOfNames)$/i.test(name)),
    );
    return entriesFor(wanted, groups, (tool) => [
      ['cn', tool.account],
      ['gidNumber', String(tool.uid)],
    ]);
  },

  plan(want, have, wanted) {
    return planEntry(want, have, wanted, (changes) => splitMembers(want, have, changes), 'destroy');
  },
};

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
 * Members that go are a step of their own, since access is taken away before anything else. A
 * groupOfNames is never empty: where none stays, those that come are in the same modify.
 */
function splitMembers(
  want: EntryWant,
  have: readonly DirectoryEntry[],
  changes: Change[],
): { revoke: Change[]; change: Change[] } {
  const member = changes.find(({ attribute }) => attribute === 'member');
  if (member === undefined || member.remove.length === 0) return { revoke: [], change: changes };
  const rest = changes.filter((change) => change !== member);
  const there = have.find(({ ref }) => ref === want.ref)?.attributes['member'] ?? [];
  if (member.remove.length === there.length) return { revoke: [member], change: rest };
  const added = member.add.length === 0 ? [] : [{ ...member, remove: [] }];
  return { revoke: [{ ...member, add: [] }], change: [...rest, ...added] };
}
