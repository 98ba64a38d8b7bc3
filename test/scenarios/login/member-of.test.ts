/** `memberOf` as other programs read it, as cn=reader, whatever came first. */
import { execFileSync } from 'node:child_process';
import { join } from 'node:path';
import { afterAll, beforeAll, expect, test } from '@jest/globals';
import { changeDirectory, settled } from '../outside.ts';
import { admit, openRunning, type Running } from '../running.ts';

let running: Running;
let base: string;

beforeAll(async () => {
  running = await openRunning('member-of');
  ({ base } = running.world.config.ldap);
  await admit(running.portal, 'alice', 'bob');
  for (const [name, maintainer] of [
    ['wiki', 'alice'],
    ['bot', 'bob'],
  ] as const) {
    await get('tool.create', maintainer, { name, title: name });
  }
});
afterAll(async () => running.close());

async function get(
  kind: string,
  requestedBy: string,
  more: Record<string, unknown>,
): Promise<void> {
  await running.portal.get({ kind, requestedBy, ...more });
  await settled(running.world);
}

/** The uids that a search finds for a program that binds as `cn=reader`. */
function search(filter: string, attribute = 'uid'): string[] {
  const { world } = running;
  const words = ['-LLL', '-x', '-o', 'ldif-wrap=no', '-H', world.slapd.uri];
  const account = ['-D', `cn=reader,ou=chamberlain,${base}`];
  const secret = ['-y', join(world.config.secrets, 'ldap-reader')];
  const out = execFileSync('ldapsearch', [
    ...words,
    ...account,
    ...secret,
    '-b',
    base,
    filter,
    attribute,
  ]);
  return [...String(out).matchAll(new RegExp(`^${attribute}: (.*)$`, 'gmu'))]
    .map(([, value = '']) => value)
    .toSorted();
}
const groupOf = (tool: string) => `cn=tools.${tool},ou=servicegroups,${base}`;
const realmGroup = () => `cn=project-tools,ou=groups,${base}`;
const peopleOf = (tool: string) =>
  search(`(&(objectClass=inetOrgPerson)(memberOf=${groupOf(tool)}))`);
const groupsOf = (uid: string) => search(`(uid=${uid})`, 'memberOf');

test('a tool finds its maintainers, and a person their groups', () => {
  expect(peopleOf('wiki')).toEqual(['alice']);
  expect(groupsOf('alice')).toEqual([realmGroup(), groupOf('wiki')].toSorted());
  expect(groupsOf('tools.wiki')).toEqual([groupOf('wiki')]);
  expect(search(`(&(objectClass=inetOrgPerson)(memberOf=${realmGroup()}))`)).toEqual([
    'alice',
    'bob',
    'steward',
  ]);
});

test('a new maintainer is found, even a tool', async () => {
  await get('maintainer.add', 'alice', { tool: 'wiki', maintainers: ['bob', 'tools.bot'] });
  expect(search(`(memberOf=${groupOf('wiki')})`)).toEqual([
    'alice',
    'bob',
    'tools.bot',
    'tools.wiki',
  ]);
});

test('a former maintainer is not found', async () => {
  await get('maintainer.remove', 'alice', { tool: 'wiki', maintainers: ['bob', 'tools.bot'] });
  expect(search(`(memberOf=${groupOf('wiki')})`)).toEqual(['alice', 'tools.wiki']);
  expect(groupsOf('bob')).toEqual([realmGroup(), groupOf('bot')].toSorted());
});

test('a suspended person is in no group, and in the same ones once they are reinstated', async () => {
  const before = groupsOf('alice');
  await get('person.suspend', 'steward', { person: 'alice', reason: 'x' });
  expect(groupsOf('alice')).toEqual([]);
  expect(peopleOf('wiki')).toEqual([]);
  await get('person.reinstate', 'steward', { person: 'alice' });
  expect(groupsOf('alice')).toEqual(before);
});

test('an account that is created again after its group says the same', async () => {
  const before = groupsOf('alice');
  await changeDirectory(
    running.world,
    'ldapmodify',
    `dn: uid=alice,ou=people,${base}\nchangetype: delete\n`,
  );
  await running.world.chamberlain('repair', 'alice', '--yes');
  expect(groupsOf('alice')).toEqual(before);
});
