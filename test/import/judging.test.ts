/** The judgement of entries alone: shells, keys that two people have, and members of known groups. */
import { describe, expect, test } from '@jest/globals';
import { renderLosses } from '../../src/import/import-report.ts';
import { isLocked } from '../../src/import/account.ts';
import { candidatesOf } from '../../src/import/credentials.ts';
import type { SeenDirectory } from '../../src/import/directory.ts';
import { judge, lacksAdmin, readEntries, type Judgement } from '../../src/import/judge.ts';
import { parsePosixId } from '../../src/identity/posix-id.ts';
import type { KnownRealm } from '../../src/import/import-batch.ts';
import type { Realm } from '../../src/reconcile/wanted.ts';
import type { DirectoryEntry } from '../../src/targets/directory-reader.ts';
import { keyOf } from '../scenarios/drift/drift-world.ts';

const REALM = { realm: 'tools', realmGid: 500 } as Realm;
const CONTEXT = {
  ...{ realm: 'tools', admin: 'admin', knownBadKeys: new Set<string>(), mailVerifiedAt: null },
  reservedNames: ['keeper'],
  ...{ graceDays: 40, now: new Date('2026-11-29T12:00:00Z') },
  people: [{ first: 10_000, last: 19_999 }],
  tools: [{ first: 50_000, last: 59_999 }],
};

const person = (
  name: string,
  uid: number,
  more: Record<string, string[]> = {},
): DirectoryEntry => ({
  ref: `people/uid=${name}`,
  attributes: {
    ...{ objectClass: ['posixAccount'], uid: [name], uidNumber: [String(uid)] },
    ...{ cn: [name], sn: [name], loginShell: ['/bin/bash'], ...more },
  },
});

const tool = (
  name: string,
  uid: number,
  members: string[] = [],
  more: Record<string, string[]> = {},
) => ({
  group: {
    ref: `toolGroups/cn=tools.${name}`,
    attributes: {
      ...{ objectClass: ['groupOfNames', 'posixGroup'], cn: [`tools.${name}`] },
      ...{ gidNumber: [String(uid)], member: [`toolAccounts/uid=tools.${name}`, ...members] },
    },
  } satisfies DirectoryEntry,
  account: {
    ref: `toolAccounts/uid=tools.${name}`,
    attributes: {
      ...{ objectClass: ['posixAccount'], uid: [`tools.${name}`], uidNumber: [String(uid)] },
      ...{ loginShell: ['/bin/bash'], ...more },
    },
  } satisfies DirectoryEntry,
});

const NOTHING_KNOWN: KnownRealm = {
  ...{ people: [], tools: [], maintainers: new Set(), names: new Map(), ids: new Set() },
  fingerprints: new Set(),
};

/** A realm with alice, who is a realm member, bob, and alice's tools wiki and admin. */
function known(): KnownRealm {
  const one = { state: 'active', everAdmitted: true, hasCredentials: true } as const;
  return {
    people: ['alice', 'bob'].map((name, index) => ({
      ...{ ...one, uid: 10_001 + index, shellName: name, displayNameKey: name },
      realmMember: name === 'alice',
    })) as KnownRealm['people'],
    tools: ['wiki', 'admin'].map((name, index) => ({
      ...{ state: 'active', hasCredentials: true, uid: 50_001 + index },
      ...{ name, account: `tools.${name}` },
    })) as KnownRealm['tools'],
    maintainers: new Set(['50001 10001', '50002 10001']),
    names: new Map([
      ['alice', 10_001],
      ['bob', 10_002],
      ['tools.wiki', 50_001],
      ['tools.admin', 50_002],
    ]),
    ids: new Set([10_001, 10_002, 50_001, 50_002]),
    fingerprints: new Set(),
  };
}

function judged(
  people: DirectoryEntry[],
  tools: ReturnType<typeof tool>[] = [],
  {
    ours = NOTHING_KNOWN,
    realmMembers = [],
    graceDays = CONTEXT.graceDays,
  }: { ours?: KnownRealm; realmMembers?: string[]; graceDays?: number } = {},
): Judgement {
  const seen: SeenDirectory = {
    ...{ people, unmanaged: [], groups: [], realmMembers: new Set(realmMembers) },
    toolAccounts: tools.map(({ account }) => account),
    toolGroups: tools.map(({ group }) => group),
    realmGroup: { ref: 'groups/cn=project-tools', attributes: {} },
  };
  return judge(readEntries(seen, { ...CONTEXT, graceDays }), seen, ours, REALM, CONTEXT);
}

const told = ({ refusals }: Judgement) =>
  refusals.map(({ part, code, object, sentence }) => `${part} ${code} ${object}: ${sentence}`);

test('a realm has an admin if an active realm member maintains the admin tool, imported or known', () => {
  const alice = 'people/uid=alice';
  const lacks = (members: string[], inRealm: string[], shell: string) =>
    lacksAdmin(
      judged([person('alice', 10_001, { loginShell: [shell] })], [tool('admin', 50_002, members)], {
        realmMembers: inRealm,
      }),
      NOTHING_KNOWN,
      'admin',
    );
  expect(lacks([alice], [alice], '/bin/bash')).toBe(false);
  expect(lacks([], [alice], '/bin/bash')).toBe(true);
  expect(lacks([alice], [], '/bin/bash')).toBe(true);
  expect(lacks([alice], [alice], '/bin/false')).toBe(true);
  expect(lacksAdmin(judged([]), known(), 'admin')).toBe(false);
  expect(lacksAdmin(judged([]), known(), 'wiki')).toBe(false);
  expect(lacksAdmin(judged([]), { ...known(), maintainers: new Set() }, 'admin')).toBe(true);
});

test.each([
  ...['/bin/sh', '/bin/bash', '/usr/bin/bash', '/bin/dash', '/usr/bin/dash', '/bin/zsh'],
  ...['/usr/bin/fish', '/usr/bin/tmux', '/usr/bin/screen', '/bin/tcsh'],
])('an account with %s is open', (shell) => {
  expect(isLocked(person('x', 10_001, { loginShell: [shell] }))).toBe(false);
});

test('an account without a shell is open, because that means /bin/sh (passwd(5))', () => {
  expect(isLocked(person('x', 10_001, { loginShell: [] }))).toBe(false);
});

test.each([
  ...['/bin/true', '/bin/false', '/usr/sbin/nologin', '/sbin/nologin', '/dev/null', '/'],
  ...['/usr/bin/git-shell', '/bin/disabledtoolshell', '/bin/rbash', '/home/x/bin/bash', 'bash'],
  ...['/bin/bash\n/bin/true', '/bin/bash -c true'],
])('an account with %j is locked', (shell) => {
  expect(isLocked(person('x', 10_001, { loginShell: [shell] }))).toBe(true);
});

test('a name that the configuration reserves is refused', () => {
  const judgement = judged([person('keeper', 10_001), person('alice', 10_002)]);
  expect(judgement.people.map(({ shellName }) => shellName)).toEqual(['alice']);
  expect(told(judgement)).toEqual([
    expect.stringMatching(/^person NAME_RESERVED uid=keeper,.*: the name keeper is reserved/u),
  ]);
});

test.each([
  ['that cannot be imported', person('Eve', 10_002, { sshPublicKey: [`${keyOf('one')} e`] })],
  [
    'that is not an account',
    {
      ref: 'people/cn=robot' as const,
      attributes: { objectClass: ['device'], cn: ['robot'], sshPublicKey: [keyOf('one')] },
    },
  ],
])('a key that is also in an entry %s belongs to two', (_, other) => {
  const keys = { sshPublicKey: [keyOf('one'), keyOf('two')] };
  const judgement = judged([person('alice', 10_001, keys), other]);
  expect(judgement.people[0]?.keys.map(({ line }) => line)).toEqual([keyOf('two')]);
  expect(told(judgement)).toContainEqual(
    expect.stringMatching(/^key KEY_TAKEN uid=alice.* is left out: (?:uid=Eve|cn=robot)/),
  );
});

describe('a tool’s pwdAccountLockedTime', () => {
  const lockedTool = (time: string | undefined, { name = 'x', graceDays = 40 } = {}) => {
    const lock: Record<string, string[]> = { pwdPolicySubentry: ['policies/cn=disabled'] };
    if (time !== undefined) lock['pwdAccountLockedTime'] = [time];
    const judgement = judged([], [tool(name, 50_003, [], lock)], { graceDays });
    const [{ state, deletion } = { state: undefined, deletion: undefined }] = judgement.tools;
    return {
      ...{ state, told: told(judgement), at: deletion?.requestedAt.toISOString() },
      after: deletion?.after.toISOString(),
    };
  };
  const NOW = '2026-11-29T12:00:00.000Z';

  test('that is missing: disabled, without an end', () => {
    expect(lockedTool(undefined)).toEqual({
      ...{ state: 'disabled', told: [], at: undefined, after: undefined },
    });
  });

  test.each([
    [
      'a time long ago, whose countdown is over there',
      '20200101000000Z',
      40,
      NOW,
      '2027-01-09T12:00:00.000Z',
    ],
    ['yesterday', '20261128120000Z', 40, NOW, '2027-01-09T12:00:00.000Z'],
    ['with a fraction', '20261128120000.123456Z', 40, NOW, '2027-01-09T12:00:00.000Z'],
    ['without seconds', '202611281200Z', 40, NOW, '2027-01-09T12:00:00.000Z'],
    [
      ...(['of another zone, and so still ahead', '20261129120000-0130', 40] as const),
      ...(['2026-11-29T13:30:00.000Z', '2027-01-09T13:30:00.000Z'] as const),
    ],
    [
      ...(['still ahead', '20270101000000Z', 40] as const),
      ...(['2027-01-01T00:00:00.000Z', '2027-02-11T00:00:00.000Z'] as const),
    ],
    [
      'with a shorter grace time of ours: not sooner',
      '20261128120000Z',
      1,
      NOW,
      '2027-01-09T12:00:00.000Z',
    ],
    [
      'with a longer grace time of ours: at that time',
      '20261128120000Z',
      365,
      NOW,
      '2027-11-29T12:00:00.000Z',
    ],
  ])('%s: a deletion whose grace time begins again', (_, time, graceDays, at, after) => {
    expect(lockedTool(time, { graceDays })).toEqual({ state: 'disabled', told: [], at, after });
  });

  test.each([
    '000001010000Z',
    '00000101000000Z',
    '19691231235959Z',
    '99991231235959Z',
    '20261301000000Z',
  ])('%s: disabled, and a finding', (time) => {
    expect(lockedTool(time)).toEqual({
      ...{ state: 'disabled', at: undefined, after: undefined },
      told: [
        'deletion DELETION_UNDATED uid=tools.x,ou=people,ou=servicegroups: its pwdAccountLockedTime ' +
          `${time} is left out: other programs may treat it as "delete at once"; ` +
          'the tool is imported as disabled and is not deleted',
      ],
    });
  });

  test('of the admin tool: never a deletion', () => {
    expect(lockedTool('20261128120000Z', { name: 'admin' })).toMatchObject({
      ...{ state: 'disabled', at: undefined, after: undefined },
      told: [expect.stringMatching(/^deletion ADMIN_TOOL /)],
    });
  });
});

describe('our database decides about known subjects', () => {
  const there = [person('alice', 10_001), person('bob', 10_002), person('new', 10_003)];
  const people = ['people/uid=alice', 'people/uid=bob', 'people/uid=new'];

  test('nobody, known or new, becomes a maintainer or an admin of a known tool', () => {
    const tools = [tool('wiki', 50_001, people), tool('admin', 50_002, people)];
    const judgement = judged(there, tools, { ours: known() });
    expect(judgement.people.map(({ shellName }) => shellName)).toEqual(['new']);
    expect(judgement.maintainers).toEqual([]);
    expect(told(judgement)).toEqual(
      ['wiki', 'admin'].flatMap((name) =>
        ['bob', 'new'].map(
          (member) =>
            `member MAINTAINER_UNKNOWN cn=tools.${name},ou=servicegroups: its member ` +
            `uid=${member},ou=people is left out: send a request to add it (maintainer.add)`,
        ),
      ),
    );
  });

  test('a known tool does not become a maintainer of another one either', () => {
    const tools = [tool('wiki', 50_001, ['toolAccounts/uid=tools.admin'])];
    const judgement = judged(there, tools, { ours: known() });
    expect(judgement.maintainers).toEqual([]);
    expect(judgement.refusals).toMatchObject([{ code: 'MAINTAINER_UNKNOWN' }]);
  });

  test('a new tool gets known and new maintainers', () => {
    const judgement = judged(there, [tool('fresh', 50_003, people)], { ours: known() });
    expect(judgement.maintainers).toEqual(
      [10_001, 10_002, 10_003].map((maintainer) => ({ tool: parsePosixId(50_003), maintainer })),
    );
    expect(judgement.refusals).toEqual([]);
  });

  test('a known person does not become a realm member, a new one does', () => {
    const judgement = judged(there, [], { ours: known(), realmMembers: people });
    expect(judgement.realmMembers).toEqual([10_003]);
    expect(told(judgement)).toEqual([
      'member PERSON_NOT_REALM_MEMBER cn=project-tools,ou=groups: its member uid=bob,ou=people ' +
        'is left out: send a request for access (access.request)',
    ]);
  });
});

test.each(['people', 'tools'] as const)(
  'only %s that have no credentials and are neither archived nor deleted get some',
  (kind) => {
    const ours = known();
    const [one] = ours[kind];
    const nothing = judged([], [], { ours });
    const gets = ['active', 'suspended', 'disabled', 'archived', 'deleted'].filter((state) => {
      const only = [{ ...one, state, hasCredentials: false }];
      return candidatesOf(nothing, { ...ours, [kind]: only }).length > 0;
    });
    expect(gets).toEqual(['active', 'suspended', 'disabled']);
  },
);

test('the lists of left out members and of people without a key are never shortened', () => {
  const names = Array.from({ length: 30 }, (_, n) => `nobody-${n + 1}`);
  const judgement = judged(
    names.map((name, n) => person(name, 10_100 + n, { sshPublicKey: ['of no use'] })),
    [
      tool(
        'wiki',
        50_001,
        names.map((name) => `people/uid=not-${name}`),
      ),
    ],
  );
  expect(judgement.keyless).toEqual(names);
  const lines = renderLosses(judgement).split('\n');
  for (const name of names) {
    expect(
      lines.filter((line) => line.includes(`its member uid=not-${name},ou=people `)),
    ).toHaveLength(1);
    expect(lines).toContain(`  ${name}`);
  }
});
