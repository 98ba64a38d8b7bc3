/** Which entries of the directory are unmanaged, judged by their attributes; and which archive a name belongs to. */
import { describe, expect, test } from '@jest/globals';
import type { Attributes, Place } from '../../src/reconcile/action.ts';
import type { AnyRef } from '../../src/targets/directory-reader.ts';
import { archiveOfName, isOurs, judgeEntry } from '../../src/unmanaged/unmanaged-things.ts';

const CONTEXT = {
  realm: 'tools',
  ranges: [
    { first: 1000, last: 1999 },
    { first: 5000, last: 5999 },
  ],
  others: [{ first: 7000, last: 7999 }],
};
const OURS = new Map([
  ['alice', 1001],
  ['tools.wiki', 5001],
]);

function judge(ref: AnyRef, attributes: Attributes, within?: Place): string {
  const place = within ?? (ref.startsWith('dn:') ? undefined : (ref.split('/')[0] as Place));
  const found = judgeEntry({ dn: 'x', ref, within: place, attributes }, CONTEXT);
  if (found === undefined) return 'nothing';
  return isOurs(found, OURS) ? 'ours' : [found.kind, found.name, found.number].join(' ').trim();
}
const person = (uid: string, uidNumber: string): Attributes => ({
  ...{ objectClass: ['inetOrgPerson', 'posixAccount'], uid: [uid], cn: ['A name'] },
  ...{ uidNumber: [uidNumber], gidNumber: ['500'] },
});
const group = (cn: string, gidNumber: string): Attributes => ({
  ...{ objectClass: ['groupOfNames', 'posixGroup'], cn: [cn], gidNumber: [gidNumber] },
});
const rule = (cn: string): Attributes => ({ objectClass: ['sudoRole'], cn: [cn] });

describe('an entry', () => {
  test.each<[string, string, AnyRef, Attributes, Place?]>([
    ['a person of ours', 'ours', 'people/uid=alice', person('alice', '1001')],
    [
      'a person of ours with another number',
      'account alice 1002',
      'people/uid=alice',
      person('alice', '1002'),
    ],
    ['a name in other case', 'account Alice 1001', 'people/uid=Alice', person('Alice', '1001')],
    ['a stranger in range', 'account eve 1003', 'people/uid=eve', person('eve', '1003')],
    ['a stranger out of range', 'account eve 99', 'people/uid=eve', person('eve', '99')],
    ['an account of another realm', 'nothing', 'people/uid=eve', person('eve', '7003')],
    [
      'an account of ours, named by its cn',
      'account alice 1001',
      'people/cn=alice',
      person('alice', '1001'),
    ],
    [
      "a tool's account among people",
      'account tools.wiki 5001',
      'people/uid=tools.wiki',
      person('tools.wiki', '5001'),
    ],
    [
      "a person's account among tools",
      'account alice 1001',
      'toolAccounts/uid=alice',
      person('alice', '1001'),
    ],
    ["a tool's account", 'ours', 'toolAccounts/uid=tools.wiki', person('tools.wiki', '5001')],
    ["a tool's group", 'ours', 'toolGroups/cn=tools.wiki', group('tools.wiki', '5001')],
    [
      'a group of no tool',
      'group tools.ghost 5002',
      'toolGroups/cn=tools.ghost',
      group('tools.ghost', '5002'),
    ],
    [
      'the folder of the accounts of tools',
      'nothing',
      'toolGroups/ou=people',
      { objectClass: ['organizationalUnit'] },
    ],
    ['another folder', 'entry', 'people/ou=staff', { objectClass: ['organizationalUnit'] }],
    ['the realm group', 'nothing', 'groups/cn=project-tools', group('project-tools', '500')],
    ["another project's group", 'nothing', 'groups/cn=project-maps', group('project-maps', '800')],
    [
      "another project's group with a number of ours",
      'group project-maps 5003',
      'groups/cn=project-maps',
      group('project-maps', '5003'),
    ],
    ['a group of no project', 'group wheel 10', 'groups/cn=wheel', group('wheel', '10')],
    ['the rule of a tool', 'ours', 'sudoRules/cn=runas-tools.wiki', rule('runas-tools.wiki')],
    [
      'a rule of no tool',
      'rule runas-tools.ghost',
      'sudoRules/cn=runas-tools.ghost',
      rule('runas-tools.ghost'),
    ],
    ['a rule of a person', 'rule runas-alice', 'sudoRules/cn=runas-alice', rule('runas-alice')],
    [
      'an account deep in a place',
      'account eve 99',
      'dn:uid=eve,ou=staff,ou=people',
      person('eve', '99'),
      'people',
    ],
    [
      'an account elsewhere, in range',
      'account eve 5004',
      'dn:uid=eve,ou=x',
      person('eve', '5004'),
    ],
    ['an account elsewhere, out of range', 'nothing', 'dn:uid=eve,ou=x', person('eve', '99')],
    ['a policy', 'nothing', 'policies/cn=disabled', { objectClass: ['device'], cn: ['disabled'] }],
    ['a number that is none', 'account eve', 'people/uid=eve', person('eve', '99999999999')],
  ])('%s: %s', (...[, expected, ref, attributes, within]) => {
    expect(judge(ref, attributes, within)).toBe(expected);
  });
});

test.each([
  ['tools.wiki.1', 'tools.wiki.1'],
  ['.tools.wiki.1.part', 'tools.wiki.1'],
  ['.tools.wiki.12.toolsdb.returned', 'tools.wiki.12'],
  ['.tools.wiki.part', '.tools.wiki.part'],
  ['notes.txt', 'notes.txt'],
])('in the folder of archives %s belongs to %s', (name, archive) => {
  expect(archiveOfName(name)).toBe(archive);
});
