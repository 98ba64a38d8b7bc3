import { describe, expect, test } from '@jest/globals';
import type { Attributes } from '../../src/reconcile/action.ts';
import type { DirectoryEntry, DirectoryReader } from '../../src/targets/directory-reader.ts';
import { sudoRule } from '../../src/targets/sudo-rule.ts';
import { entry, linesOf, REALM, tool } from './directory-cases.ts';

const OBJECT = 'cn=runas-tools.bot,ou=sudoers,cn=tools,ou=projects';
const SHAPE: Attributes = {
  objectClass: ['sudoRole'],
  cn: ['runas-tools.bot'],
  sudoUser: ['%tools.bot'],
  sudoHost: ['ALL'],
  sudoCommand: ['ALL'],
  sudoOption: ['!authenticate'],
  sudoRunAsUser: ['tools.bot'],
};
const rule = (changes: Attributes = {}) =>
  entry('sudoRules/cn=runas-tools.bot', { ...SHAPE, ...changes });
const planned = (
  changes: Parameters<typeof tool>[0],
  rules: DirectoryEntry[],
  namesakes = false,
  others: DirectoryEntry[] = [],
) => {
  const wanted = tool(changes);
  return sudoRule.plan(sudoRule.want(wanted, REALM), { rules, others, namesakes }, wanted);
};
const BACKDOOR = entry('sudoRules/cn=backdoor', { ...SHAPE, cn: ['backdoor'], sudoUser: ['eve'] });

describe('sudo-rule', () => {
  test.each<[string, Parameters<typeof tool>[0], DirectoryEntry[], string[]]>([
    ['makes the rule', {}, [], [`create ${OBJECT}: absent → present`]],
    ['leaves a rule that is as it should be', {}, [rule()], []],
    [
      'removes the rule of a disabled tool',
      { state: 'disabled' },
      [rule()],
      [`revoke ${OBJECT}: present → absent`],
    ],
    [
      'removes the rule of a deleted tool',
      { state: 'deleted' },
      [rule()],
      [`revoke ${OBJECT}: present → absent`],
    ],
    ['has nothing to do for a disabled tool without one', { state: 'disabled' }, [], []],
    [
      'removes an unwanted user before it adds what is missing',
      {},
      [rule({ sudoUser: ['%tools.bot', 'eve'], sudoOption: [] })],
      [`revoke ${OBJECT}: sudoUser −eve`, `change ${OBJECT}: sudoOption +!authenticate`],
    ],
    [
      'removes another attribute that would widen the rule',
      {},
      [rule({ sudoRunAsGroup: ['root'], sudoRunAs: ['root'] })],
      [`revoke ${OBJECT}: sudoRunAs −root; sudoRunAsGroup −root`],
    ],
    [
      'replaces another command in one modify',
      {},
      [rule({ sudoCommand: ['/bin/sh'] })],
      [`revoke ${OBJECT}: sudoCommand /bin/sh → ALL`],
    ],
    [
      'removes a rule that lets act as another account, and creates it again',
      {},
      [rule({ sudoRunAsUser: ['tools.other'] })],
      [`revoke ${OBJECT}: present → absent`, `create ${OBJECT}: absent → present`],
    ],
    [
      'removes a rule that also lets act as another account, and creates it again',
      {},
      [rule({ sudoRunAsUser: ['root', 'tools.bot'] })],
      [`revoke ${OBJECT}: present → absent`, `create ${OBJECT}: absent → present`],
    ],
    [
      'gives a rule its account that has none',
      {},
      [rule({ sudoRunAsUser: [] })],
      [`change ${OBJECT}: sudoRunAsUser +tools.bot`],
    ],
    [
      'reports the name in another case',
      {},
      [entry('sudoRules/cn=runas-TOOLS.bot', { ...SHAPE, cn: ['runas-TOOLS.bot'] })],
      ['NAME_FOREIGN cn=runas-TOOLS.bot,ou=sudoers,cn=tools,ou=projects'],
    ],
  ])('%s', (_, changes, have, lines) => {
    expect(linesOf(planned(changes, have))).toEqual(lines);
  });

  test.each<[string, Parameters<typeof tool>[0], DirectoryEntry[], boolean, string[]]>([
    ['and leaves its own', {}, [rule()], false, []],
    ['and makes its own', {}, [], false, [`create ${OBJECT}: absent → present`]],
    ['and makes none for a namesake', {}, [], true, []],
    [
      'and removes its own for a disabled tool',
      { state: 'disabled' },
      [rule()],
      false,
      [`revoke ${OBJECT}: present → absent`],
    ],
  ])('reports another rule that lets act as the tool, %s', (_, changes, have, names, lines) => {
    const plan = planned(changes, have, names, [BACKDOOR]);
    expect(linesOf(plan)).toEqual([
      ...lines,
      'NAME_FOREIGN cn=backdoor,ou=sudoers,cn=tools,ou=projects (advisory)',
    ]);
    expect(plan.findings[0]?.sentence).toBe(
      'cn=backdoor,ou=sudoers,cn=tools,ou=projects is not managed by Chamberlain, but lets eve act as tools.bot: ' +
        'remove it if nobody needs it',
    );
  });

  test('looks for rules of another name that let somebody act as the tool', async () => {
    const reader: Partial<DirectoryReader> = {
      find: ({ place }) => Promise.resolve(place === 'sudoRules' ? [rule(), BACKDOOR] : []),
    };
    expect(await sudoRule.observe(reader as DirectoryReader, [tool()], REALM)).toEqual([
      { rules: [rule()], others: [BACKDOOR], namesakes: false },
    ]);
  });

  test('adds the entry in the shape of the realm', () => {
    expect(planned({}, []).steps[0]?.action).toEqual({
      verb: 'ldap.add',
      entry: 'sudoRules/cn=runas-tools.bot',
      attributes: SHAPE,
    });
  });

  test('creates no rule while the name is another’s, but removes and repairs one', () => {
    expect(linesOf(planned({}, [], true))).toEqual([]);
    expect(linesOf(planned({ state: 'disabled' }, [rule()], true))).toHaveLength(1);
    expect(linesOf(planned({}, [rule({ sudoUser: ['%tools.bot', 'eve'] })], true))).toHaveLength(1);
  });

  test('waits for no other target, because removing a rule must not wait', () => {
    expect(sudoRule.needs).toEqual([]);
  });

  test.each<[string, DirectoryEntry[], boolean]>([
    ['there is none', [], false],
    ['both are ours', [ours('toolGroups/cn=tools.bot'), ours('toolAccounts/uid=tools.bot')], false],
    ['the group has another number', [{ ...ours('groups/cn=tools.bot', '7') }], true],
    ['the account has another number', [ours('dn:uid=tools.bot,o=far', '0')], true],
  ])(
    'looks for an account and a group of the name before it makes one: %s',
    async (_, found, is) => {
      const reader: Partial<DirectoryReader> = {
        find: ({ place }) => Promise.resolve(place === 'sudoRules' ? [] : found),
      };
      expect(await sudoRule.observe(reader as DirectoryReader, [tool()], REALM)).toEqual([
        { rules: [], others: [], namesakes: is },
      ]);
    },
  );
});

function ours(ref: DirectoryEntry['ref'], number = '50001'): DirectoryEntry {
  return entry(ref, { uid: [], cn: ['tools.bot'], uidNumber: [], gidNumber: [number] });
}
