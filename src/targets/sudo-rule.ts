/**
 * A tool's sudo rule, `cn=runas-<realm>.<n>` in the realm's own sudoers: members of the tool's group
 * may run anything as the tool, without a password.
 *
 * | state             | wanted  |
 * | ----------------- | ------- |
 * | active            | present |
 * | disabled, deleted | absent  |
 *
 * Nothing but access hangs on a rule, so its removal is a revoke: it comes first, and needs no
 * right to destroy. A rule is ours by its name alone. It names the group and the account by name
 * too: hence it is not made while either of them is another's.
 */
import { entriesFor, planEntry, type Change, type EntryWant } from './directory-entry.ts';
import { entryRef, type DirectoryEntry, type DirectoryEyes } from './directory-eyes.ts';
import type { Target } from './target.ts';

/** sudoers.ldap(5): each of these widens, narrows or shifts what a rule allows. */
const UNUSED = ['sudoRunAs', 'sudoRunAsGroup', 'sudoNotBefore', 'sudoNotAfter', 'sudoOrder'];

export const sudoRule: Target<DirectoryEyes, EntryWant, DirectoryEntry[]> = {
  name: 'sudo-rule',
  role: 'directory',
  of: ['tool'],
  needs: ['unix-group', 'unix-account'],

  want({ account, state }, realm) {
    return {
      target: 'sudo-rule',
      realm: realm.realm,
      ref: entryRef('sudoRules', 'cn', `runas-${account}`),
      present: state === 'active',
      attributes: {
        objectClass: ['sudoRole'],
        cn: [`runas-${account}`],
        sudoUser: [`%${account}`],
        sudoHost: ['ALL'],
        sudoCommand: ['ALL'],
        sudoOption: ['!authenticate'],
        sudoRunAsUser: [account],
        ...Object.fromEntries(UNUSED.map((attribute) => [attribute, []])),
      },
    };
  },

  async observe(eyes, wanted) {
    const found = await eyes.find({
      place: 'sudoRules',
      any: [{ attribute: 'cn', values: wanted.map(({ account }) => `runas-${account}`) }],
      attributes: [
        ...['objectClass', 'cn', 'sudoUser', 'sudoHost', 'sudoCommand', 'sudoOption'],
        ...['sudoRunAsUser', ...UNUSED],
      ],
    });
    return entriesFor(wanted, found, ({ account }) => [['cn', `runas-${account}`]]);
  },

  plan(want, have, wanted) {
    return planEntry(want, have, wanted, splitValues, 'revoke');
  },
};

/** Values that go may let someone in who should not be: they go first. */
function splitValues(changes: Change[]): { revoke: Change[]; change: Change[] } {
  const parts = changes.map((change) => ({
    ...change,
    part: change.remove.length > 0 ? 'revoke' : 'change',
  }));
  const of = (wanted: string) =>
    parts.flatMap(({ part, ...change }) => (part === wanted ? [change] : []));
  return { revoke: of('revoke'), change: of('change') };
}
