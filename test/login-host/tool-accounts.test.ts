/** Which names the name service must forget after which change of a tool. */
import { describe, expect, test } from '@jest/globals';
import type { SeenEntry, ToolEntries } from '../../src/edges/login-directory.ts';
import type { Ground } from '../../src/login-host/judge.ts';
import { openToolAccounts } from '../../src/login-host/tool-accounts.ts';

const ground = {
  config: {
    realm: 'tools',
    realmGid: 500,
    ids: { people: [{ first: 1000, last: 1999 }], tools: [{ first: 50_000, last: 50_999 }] },
    homes: { people: '/home', tools: '/data/project' },
  },
  localNames: new Set(['root']),
  localUids: new Set([0, 50_007]),
  knownBad: new Set<string>(),
} as unknown as Ground;

function entry(name: string, attributes: Record<string, string>): SeenEntry {
  return { dn: `uid=${name}`, name, values: (attribute) => [attributes[attribute] ?? []].flat() };
}

function account(tool: string, uid: number, changes: Record<string, string> = {}): SeenEntry {
  return entry(`tools.${tool}`, {
    uid: `tools.${tool}`,
    uidNumber: String(uid),
    gidNumber: String(uid),
    homeDirectory: `/data/project/${tool}`,
    loginShell: '/bin/bash',
    ...changes,
  });
}

const group = (tool: string, ...memberNames: string[]) => ({
  ...entry(`tools.${tool}`, {}),
  memberNames,
});
const none: ToolEntries = { accounts: [], groups: [] };
async function* pages(...all: ToolEntries[]): AsyncGenerator<ToolEntries> {
  for (const page of all) yield await Promise.resolve(page);
}

test('a new tool: itself, and everybody in its group', () => {
  const tools = openToolAccounts();
  const { forget } = tools.take(
    { accounts: [account('a', 50_001)], groups: [group('a', 'alice', 'tools.a')] },
    ground,
  );
  expect(new Set(forget)).toEqual(new Set(['tools.a', 'alice']));
  expect(tools.passwdLines()).toEqual(['tools.a:*:50001:50001::/data/project/a:/bin/bash']);
});

test('a changed group: the group, and who came or went', async () => {
  const tools = openToolAccounts();
  await tools.takeAll(
    pages({ accounts: [], groups: [group('a', 'alice', 'bob', 'tools.a')] }),
    ground,
  );
  const { forget } = tools.take(
    { ...none, groups: [group('a', 'alice', 'carol', 'tools.a')] },
    ground,
  );
  expect(new Set(forget)).toEqual(new Set(['tools.a', 'bob', 'carol']));
});

test('a sudo rule: its tool', () => {
  expect(openToolAccounts().takeRules([entry('runas-tools.a', {}), entry('other', {})])).toEqual([
    'tools.a',
  ]);
});

test('a compare finds what is gone, and only what differs', async () => {
  const tools = openToolAccounts();
  const both = {
    accounts: [account('a', 50_001), account('b', 50_002)],
    groups: [group('a', 'alice'), group('b', 'bob')],
  };
  await tools.takeAll(pages(both), ground);
  expect(await tools.takeAll(pages(both), ground)).toEqual([]);
  const one = { accounts: [account('a', 50_001)], groups: [group('a', 'alice')] };
  expect(new Set(await tools.takeAll(pages(one), ground))).toEqual(new Set(['tools.b', 'bob']));
  expect(tools.passwdLines()).toHaveLength(1);
});

test('what is taken while everything is read is newer, and stays', async () => {
  const tools = openToolAccounts();
  const old = {
    accounts: [account('a', 50_001), account('b', 50_002)],
    groups: [group('a', 'alice')],
  };
  await tools.takeAll(pages(old), ground);
  async function* slow(): AsyncGenerator<ToolEntries> {
    yield await Promise.resolve(old);
    tools.take({ accounts: [account('c', 50_003)], groups: [group('a', 'alice', 'bob')] }, ground);
    tools.take({ accounts: [account('b', 50_002, { gidNumber: '1' })], groups: [] }, ground);
  }
  await tools.takeAll(slow(), ground);
  expect(tools.passwdLines().map((line) => line.split(':')[0])).toEqual(['tools.a', 'tools.c']);
  // bob is known to be in the group: nothing more to forget
  expect(tools.take({ ...none, groups: [group('a', 'alice', 'bob')] }, ground).forget).toEqual([
    'tools.a',
  ]);
});

test('a read that breaks off changes nothing', async () => {
  const tools = openToolAccounts();
  await tools.takeAll(pages({ accounts: [account('a', 50_001)], groups: [] }), ground);
  async function* broken(): AsyncGenerator<ToolEntries> {
    yield none;
    await Promise.reject(new Error('the connection was lost'));
  }
  await expect(tools.takeAll(broken(), ground)).rejects.toThrow('lost');
  expect(tools.passwdLines()).toHaveLength(1);
});

test.each([
  ['root', account('x', 50_001, { uidNumber: '0', gidNumber: '0' })],
  ['a number of the people', account('x', 1000)],
  ['another group', account('x', 50_001, { gidNumber: '50002' })],
  ['a home elsewhere', account('x', 50_001, { homeDirectory: '/root' })],
  [
    'a second line in its shell',
    account('x', 50_001, { loginShell: '/bin/sh\nroot::0:0::/:/bin/sh' }),
  ],
  ['the uid of a local account', account('x', 50_007)],
  ['another name', account('x', 50_001, { uid: 'root' })],
  ['a name that is none', account('../x', 50_001)],
])('an account with %s is in no list, and named', (_, hostile) => {
  const tools = openToolAccounts();
  tools.take({ accounts: [hostile, account('a', 50_003)], groups: [] }, ground);
  expect(tools.passwdLines()).toEqual(['tools.a:*:50003:50003::/data/project/a:/bin/bash']);
  expect(tools.refusals().map(({ entry: dn }) => dn)).toEqual([hostile.dn]);
});

describe('as what nothing may run any more', () => {
  const LOCK = { pwdPolicySubentry: 'cn=disabled,ou=ppolicies,dc=example,dc=org' };
  const SHELL = { loginShell: '/bin/disabledtoolshell' };
  const only = (...accounts: SeenEntry[]): ToolEntries => ({ accounts, groups: [] });
  const closedOf = (tools: ReturnType<typeof openToolAccounts>) => [...tools.closed().keys()];

  test.each([
    ['the policy alone', LOCK],
    ['the policy, in other letters', { pwdPolicySubentry: 'CN=Disabled,OU=ppolicies,dc=x' }],
    ['its shell alone', SHELL],
    ['the time of a request to delete it alone', { pwdAccountLockedTime: '20261124211105Z' }],
    ['the lock of the version before', { pwdAccountLockedTime: '000001010000Z' }],
  ])('a tool that is disabled, by %s: told once, and kept', (_, how) => {
    const tools = openToolAccounts();
    const both = only(account('a', 50_001), account('b', 50_002));
    expect(tools.take(both, ground).end).toEqual([]);
    expect(tools.take(only(account('a', 50_001, how)), ground).end).toEqual([50_001]);
    expect(tools.take(only(account('a', 50_001, how)), ground).end).toEqual([]);
    expect(closedOf(tools)).toEqual([50_001]);
    tools.take(only(account('a', 50_001)), ground);
    expect(closedOf(tools)).toEqual([]);
  });

  test('but none that another policy has, which locks nobody', () => {
    const tools = openToolAccounts();
    const strict = { pwdPolicySubentry: 'cn=strict,ou=ppolicies,dc=example,dc=org' };
    expect(tools.take(only(account('a', 50_001, strict)), ground).end).toEqual([]);
    expect(closedOf(tools)).toEqual([]);
  });

  test('also one that vanishes then; but none that vanishes without', async () => {
    const tools = openToolAccounts();
    const [a, b] = [account('a', 50_001, LOCK), account('b', 50_002)];
    await tools.takeAll(pages(only(a, b)), ground);
    await tools.takeAll(pages(none), ground);
    expect(closedOf(tools)).toEqual([50_001]);
    expect([...tools.toKeep()]).toEqual([[50_001, 'tools.a']]);
  });

  test('what was disabled before a restart counts once it is seen that it was not enabled', async () => {
    const kept = new Map([
      [50_001, 'tools.a'],
      [50_002, 'tools.b'],
      [50_003, 'tools.gone'],
    ]);
    const tools = openToolAccounts(kept);
    expect(closedOf(tools)).toEqual([]);
    expect(tools.toKeep()).toEqual(kept);
    const all = only(account('a', 50_001), account('b', 50_002, SHELL));
    await tools.takeAll(pages(all), ground);
    expect(closedOf(tools).toSorted((a, b) => a - b)).toEqual([50_002, 50_003]);
  });

  test('what is enabled while everything is read stays so', async () => {
    const tools = openToolAccounts();
    async function* slow(): AsyncGenerator<ToolEntries> {
      yield await Promise.resolve(only(account('a', 50_001, LOCK), account('b', 50_002)));
      tools.take(only(account('a', 50_001), account('b', 50_002, LOCK)), ground);
    }
    await tools.takeAll(slow(), ground);
    expect(closedOf(tools)).toEqual([50_002]);
  });

  test('one that is refused stays as it was', () => {
    const tools = openToolAccounts();
    tools.take(only(account('a', 50_001, LOCK)), ground);
    tools.take(only(account('a', 50_001, { homeDirectory: '/root' })), ground);
    tools.take(only(account('b', 50_007, LOCK), account('c', 1001, LOCK)), ground);
    expect(closedOf(tools)).toEqual([50_001]);
  });

  test.each([
    ['disabled - It floods', LOCK, 'disabled - It floods'],
    ['disabled - It floods', {}, ''],
    ['A tool of ours', LOCK, ''],
    ['disabled - a:b', LOCK, ''],
    ['disabled - a\nroot::0:0::/:/bin/sh', LOCK, ''],
    ['disabled - \u001b[2J', LOCK, ''],
  ])('the gecos %j with %j is told as %j', (gecos, how, told) => {
    const tools = openToolAccounts();
    tools.take(only(account('a', 50_001, { ...how, gecos })), ground);
    expect(tools.passwdLines()).toEqual([
      `tools.a:*:50001:50001:${told}:/data/project/a:/bin/bash`,
    ]);
  });
});
