/**
 * A tool's sudo rule, `cn=runas-<realm>.<n>` in the realm's own sudoers: members of the tool's group may run
 * anything as the tool, without a password.
 *
 * | state             | wanted  |
 * | ----------------- | ------- |
 * | active            | present |
 * | disabled, deleted | absent  |
 *
 * | found, if one is wanted                          | then                                       |
 * | ------------------------------------------------ | ------------------------------------------ |
 * | none                                             | ldap.add                                   |
 * | ours, that lets act as another account           | ldap.delete (revoke), then ldap.add        |
 * | ours, otherwise not as wanted                    | ldap.modify: removals (revoke), then rest  |
 * | not ours, that lets act as the tool              | NAME_FOREIGN, advisory; it is left         |
 *
 * A rule gives nothing but access, so its removal is a revoke: it comes first, and needs no right to destroy. A
 * rule is ours by its name alone. Its account is not changed: a rule without one would let its users act as
 * root, so the directory's access rules let nobody remove it.
 *
 * A rule names the group and the account by name, so it would apply to whichever group and account have the
 * names. It is not created while one of them has another's number (unix-group and unix-account report that). It
 * does not `need` those targets, because removing a rule must wait for nothing.
 */
import type { Wanted } from '../reconcile/wanted.ts';
import type { DraftFinding, TargetPlan } from '../reconcile/plan.ts';
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

/** sudoers.ldap(5): each of these widens, narrows or shifts what a rule allows. */
const UNUSED = ['sudoRunAs', 'sudoRunAsGroup', 'sudoNotBefore', 'sudoNotAfter', 'sudoOrder'];

const READ = [
  'objectClass',
  'cn',
  'sudoUser',
  'sudoHost',
  'sudoCommand',
  'sudoOption',
  'sudoRunAsUser',
  ...UNUSED,
];

export interface SudoRuleHave {
  rules: DirectoryEntry[];
  /** rules of another name that let somebody act as the tool */
  others?: DirectoryEntry[];
  /** an account or a group of the tool's name has another number; looked for only if there is no rule */
  namesakes: boolean;
}

export const sudoRule: Target<DirectoryReader, EntryWant, SudoRuleHave> = {
  name: 'sudo-rule',
  of: ['tool'],
  needs: [],

  want({ account, state }, realm) {
    return {
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

  describe(want) {
    const { sudoUser, sudoRunAsUser } = want.attributes;
    return describeEntry(want, `${sudoUser?.[0]} may run anything as ${sudoRunAsUser?.[0]}`);
  },

  async observe(reader, wanted) {
    const found = await reader.find({
      place: 'sudoRules',
      any: [
        { attribute: 'cn', values: wanted.map(({ account }) => `runas-${account}`) },
        { attribute: 'sudoRunAsUser', values: wanted.map(({ account }) => account) },
      ],
      attributes: READ,
    });
    const rules = entriesFor(wanted, found, ({ account }) => [['cn', `runas-${account}`]]);
    const acting = entriesFor(wanted, found, ({ account }) => [['sudoRunAsUser', account]]);
    const making = wanted.filter(({ state }, i) => state === 'active' && rules[i]?.length === 0);
    const namesakes = await findNamesakes(reader, making);
    return rules.map((entries, i) => ({
      rules: entries,
      others: (acting[i] ?? []).filter((entry) => !entries.includes(entry)),
      namesakes: namesakes.has(wanted[i]?.uid ?? 0),
    }));
  },

  plan(want, { rules, others = [], namesakes }, wanted) {
    const namesake = others.map((entry) => namesakeFinding(want, entry, wanted.account));
    const making = want.present && rules.length === 0;
    if (making && namesakes) return { steps: [], findings: namesake };
    const ours = rules.find((entry) => isOurs(want, entry));
    const actsWrong = ours !== undefined && want.present && actsAsAnother(want, ours);
    const plan = actsWrong
      ? planAnew(want, rules, wanted)
      : planEntry(want, rules, wanted, splitValues, 'revoke');
    return { steps: plan.steps, findings: [...plan.findings, ...namesake] };
  },
};

function actsAsAnother(want: EntryWant, { attributes }: DirectoryEntry): boolean {
  const right = want.attributes['sudoRunAsUser'] ?? [];
  return (attributes['sudoRunAsUser'] ?? []).some((account) => !right.includes(account));
}

/** The rule is removed, and created anew. */
function planAnew(want: EntryWant, rules: readonly DirectoryEntry[], wanted: Wanted): TargetPlan {
  const gone = planEntry({ ...want, present: false }, rules, wanted, splitValues, 'revoke');
  const made = planEntry(want, [], wanted, splitValues, 'revoke');
  const because = 'it lets users act as another account';
  return {
    steps: [
      ...gone.steps.map((step) => ({ ...step, because })),
      ...made.steps.map((step) => ({ ...step, because: 'the wrong rule is removed first' })),
    ],
    findings: gone.findings,
  };
}

function namesakeFinding(want: EntryWant, entry: DirectoryEntry, account: string): DraftFinding {
  const who = (entry.attributes['sudoUser'] ?? []).slice(0, 3).join(', ');
  const does = who === '' ? `names ${account}` : `lets ${who} act as ${account}`;
  const object = readableRef(entry.ref, want.realm);
  return {
    object,
    code: 'NAME_FOREIGN',
    sentence: `${object} is not managed by Chamberlain, but ${does}: remove it if nobody needs it`,
    advisory: true,
  };
}

/** The uids of the tools whose name belongs to an account or a group of another number. */
async function findNamesakes(
  reader: DirectoryReader,
  tools: readonly Wanted[],
): Promise<ReadonlySet<number>> {
  if (tools.length === 0) return new Set();
  const accounts = tools.map(({ account }) => account);
  const found = await reader.find({
    any: [
      { attribute: 'uid', values: accounts },
      { attribute: 'cn', values: accounts },
    ],
    attributes: ['uid', 'cn', 'uidNumber', 'gidNumber'],
  });
  const byName = entriesFor(tools, found, ({ account }) => [
    ['uid', account],
    ['cn', account],
  ]);
  return new Set(
    tools
      .filter(({ uid }, i) => byName[i]?.some((entry) => isAnothers(entry, String(uid))))
      .map(({ uid }) => uid),
  );
}

function isAnothers({ attributes }: DirectoryEntry, number: string): boolean {
  const numbers = [...(attributes['uidNumber'] ?? []), ...(attributes['gidNumber'] ?? [])];
  return numbers.some((each) => each !== number);
}

/** Values to remove may let in somebody who should not be let in, so they are removed first. */
function splitValues(changes: Change[]): { revoke: Change[]; change: Change[] } {
  const removes = ({ remove }: Change) => remove.length > 0;
  return { revoke: changes.filter(removes), change: changes.filter((each) => !removes(each)) };
}
