/** Each subject gets the lesser of the backup and the evidence. A newer seal shows a later decision. */
import { describe, expect, test } from '@jest/globals';
import type { Seal } from '../../src/seals/seal.ts';
import type { AccountName, ShellName, ToolName } from '../../src/identity/names.ts';
import type { Wanted, WantedPerson, WantedTool } from '../../src/reconcile/wanted.ts';
import { evidenceOfSeals, EVERYWHERE, type More, type Shown } from '../../src/recovery/evidence.ts';
import { type RecoveryContext, takeLesser } from '../../src/recovery/lesser.ts';

const KEYS = [
  'ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIKe/wtRcS3Kpc1vzHSnqGSTJW6O3tl3/uhlXUaVdIrEj',
  'ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIE/Yt3+3hpkO4LLjRkGZP5gCSHbmHx9tpNmRlJIiwVPY',
] as const;
const key = (line: string) => ({ line, fingerprint: `of ${line.slice(-4)}`, label: '' });

const person = (rest: Partial<WantedPerson> = {}): WantedPerson => ({
  ...{ kind: 'person', uid: 1, account: 'alice' as AccountName, shellName: 'alice' as ShellName },
  ...{ state: 'active', realmMember: true, everAdmitted: true, keys: [key(KEYS[0])], ...rest },
});
const member = (account: string, uid: number) => ({
  ...{ kind: 'person' as const, account: account as AccountName, uid },
});
const tool = (rest: Partial<WantedTool> = {}): WantedTool => ({
  ...{ kind: 'tool', uid: 9, account: 'tools.x' as AccountName, name: 'x' as ToolName },
  ...{ state: 'active', members: [member('alice', 1), member('bob', 2), member('tools.x', 9)] },
  ...rest,
});
const sealed = {
  ...{ realm: 'tools', home: '/', shell: '/bin/bash', number: 7, until: '2026-12-06T00:00:00Z' },
};
const sealOfAlice = (rest: object = {}): Seal => ({
  ...sealed,
  ...{ kind: 'person', name: 'alice', uid: 1, state: 'active', member: true, keys: [KEYS[0]] },
  ...rest,
});
const sealOfTool = (rest: object = {}): Seal => ({
  ...sealed,
  ...{ kind: 'tool', name: 'tools.x', uid: 9, state: 'active', gecos: '' },
  ...{ members: ['alice', 'bob'], ...rest },
});

const NOTHING = { subject: 0, account: '', kind: '', by: undefined };

/** As if every server gave the access that a seal gives, except what `more` says. */
const ALL: More = {
  ...{ open: new Set(['directory', EVERYWHERE]), isMember: true },
  ...{ keys: new Set(KEYS), members: new Set(['carol', 'eve']) },
};
const take = (wanted: Wanted[], shown: Shown[], rest: Partial<RecoveryContext> = {}) =>
  takeLesser(wanted, shown, {
    maintainers: new Map(
      wanted.map((each) => [
        each.uid,
        (each.kind === 'tool'
          ? (each.members ?? []).filter(({ uid }) => uid !== each.uid)
          : []
        ).map((one) => ({ ...one, isIn: true })),
      ]),
    ),
    more: new Map(wanted.map(({ uid }) => [uid, ALL])),
    ...{ admin: 'tools.admin', keep: [], ...rest },
  });
const of = (wanted: Wanted, ...shown: (Seal | Omit<Shown, 'subject'>)[]) => {
  const { takings, open } = take([wanted], shownOf(wanted, shown));
  const [{ subject: _, account: __, kind: ___, ...taking } = NOTHING] = takings;
  return { ...taking, open: open.length };
};
const shownOf = ({ uid }: Wanted, shown: (Seal | Omit<Shown, 'subject'>)[]): Shown[] =>
  shown.flatMap((each) =>
    'realm' in each ? evidenceOfSeals([each]) : [{ subject: uid, ...each }],
  );
const closedBy = (closed: 'directory' | 'databases') => ({ by: closed, closed });

describe('a person', () => {
  test.each([
    ['a seal that says the same', person(), [sealOfAlice()], { open: 0 }],
    [
      'suspended since',
      person(),
      [sealOfAlice({ state: 'suspended', keys: [] })],
      { state: 'suspended', by: ['its seal 7'], open: 1 },
    ],
    [
      'reinstated since',
      person({ state: 'suspended' }),
      [sealOfAlice()],
      { state: 'active', by: ['its seal 7'], open: 0 },
    ],
    [
      'access revoked since',
      person(),
      [sealOfAlice({ member: false })],
      { member: false, by: ['its seal 7'], open: 0 },
    ],
    [
      'a key removed and another added since',
      person(),
      [sealOfAlice({ keys: [KEYS[1]] })],
      {
        keysRemoved: [key(KEYS[0]).fingerprint],
        keysAdded: [expect.objectContaining({ line: KEYS[1] })],
        ...{ by: ['its seal 7'], open: 0 },
      },
    ],
    [
      'the newest of two seals',
      person(),
      [sealOfAlice({ number: 8, member: false }), sealOfAlice({ state: 'suspended' })],
      { member: false, by: ['its seal 8'], open: 0 },
    ],
    [
      'locked only on a database server',
      person(),
      [closedBy('databases')],
      { state: 'suspended', by: ['databases'], open: 1 },
    ],
    [
      'locked there, which follows from the seal',
      person(),
      [sealOfAlice({ member: false }), closedBy('databases')],
      { member: false, by: ['its seal 7'], open: 0 },
    ],
    [
      'a seal that gives access, and a server that does not',
      person(),
      [sealOfAlice({ keys: [...KEYS] }), closedBy('directory')],
      {
        ...{ state: 'suspended', keysAdded: [expect.anything()] },
        ...{ by: ['its seal 7', 'directory'], open: 1 },
      },
    ],
    [
      'not in the group of the realm',
      person(),
      [{ by: 'the directory', isNoMember: true as const }],
      { member: false, by: ['the directory'], open: 0 },
    ],
    [
      'without a key that even the seal has',
      person(),
      [sealOfAlice(), { by: 'the directory', withoutKeys: [KEYS[0]] }],
      {
        ...{ keysRemoved: [key(KEYS[0]).fingerprint] },
        ...{ by: ['its seal 7', 'the directory'], open: 0 },
      },
    ],
    [
      'deleted in the backup: nothing shows more',
      person({ state: 'deleted' }),
      [closedBy('directory')],
      { open: 0 },
    ],
    ['restored since', person({ state: 'deleted' }), [sealOfAlice()], { open: 1 }],
    [
      'a seal of another subject',
      person(),
      [sealOfAlice({ name: 'eve', state: 'suspended' })],
      { open: 0 },
    ],
  ])('%s', (_, wanted, shown, expected) => {
    expect(of(wanted, ...shown)).toEqual({ ...expected });
  });
});

describe('a subject that was archived or restored after the backup', () => {
  const archived = (name: 'alice' | 'tools.x') =>
    name === 'alice' ? sealOfAlice({ state: 'archived' }) : sealOfTool({ state: 'archived' });
  const [restore, withNames] = [
    'submit person.restore --person alice --wait',
    'submit person.restore --person alice --displayName NAME --email ADDRESS --wait',
  ];
  test.each<[Wanted, Seal, string, string | undefined]>([
    [person(), archived('alice'), 'until you delete or reinstate the person', undefined],
    [person({ state: 'deleted' }), archived('alice'), 'until you restore it', withNames],
    [person({ state: 'deleted' }), sealOfAlice(), 'the state in the backup is deleted', withNames],
    [person({ state: 'archived' }), sealOfAlice(), 'the state in the backup is archived', restore],
    [tool(), archived('tools.x'), 'until you delete or enable the tool', undefined],
    [tool({ state: 'deleted' }), archived('tools.x'), 'until you restore it', 'restore tools.x'],
    [tool({ state: 'archived' }), sealOfTool(), 'is archived', 'restore tools.x'],
  ])('is listed with a way that is open to it', (wanted, seal, end, command) => {
    const [first] = take([wanted], shownOf(wanted, [seal])).open;
    expect(first?.sentence).toMatch(new RegExp(`${end}$`, 'u'));
    expect(first?.command).toBe(command);
  });
});

describe('a tool', () => {
  test.each([
    [
      'disabled since',
      tool(),
      [sealOfTool({ state: 'disabled' })],
      { state: 'disabled', by: ['its seal 7'], open: 1 },
    ],
    [
      'enabled since',
      tool({ state: 'disabled' }),
      [sealOfTool()],
      { state: 'active', by: ['its seal 7'], open: 0 },
    ],
    [
      'one maintainer less, and one more',
      tool(),
      [sealOfTool({ members: ['bob', 'carol'] })],
      {
        ...{ membersRemoved: [member('alice', 1)], membersAdded: ['carol'] },
        ...{ by: ['its seal 7'], open: 0 },
      },
    ],
    [
      'a group without a member that the seal has',
      tool(),
      [sealOfTool(), { by: 'the directory', withoutMembers: ['bob'] }],
      {
        ...{ membersRemoved: [member('bob', 2)] },
        ...{ by: ['its seal 7', 'the directory'], open: 0 },
      },
    ],
    [
      'being archived since',
      tool(),
      [sealOfTool({ state: 'archived' })],
      { state: 'disabled', by: ['its seal 7'], open: 2 },
    ],
  ])('%s', (_, wanted, shown, expected) => {
    expect(of(wanted, ...shown)).toEqual(expected);
  });

  test('a maintainer who is missing in its group because they are suspended stays a maintainer', () => {
    const { takings } = take(
      [tool(), person()],
      evidenceOfSeals([
        sealOfTool({ members: ['bob'] }),
        sealOfAlice({ state: 'suspended', keys: [] }),
      ]),
    );
    expect(takings.map(({ account }) => account)).toEqual(['alice']);
  });

  test('evidence makes nobody an admin', () => {
    const admin = tool({ account: 'tools.admin' as AccountName });
    const seal = sealOfTool({ name: 'tools.admin', members: ['alice', 'bob', 'eve'] });
    const { takings, open } = take([admin], evidenceOfSeals([seal]));
    expect({ takings, open: open.map(({ account }) => account) }).toEqual({
      takings: [],
      open: ['eve'],
    });
  });
});

describe('what a seal gives', () => {
  const suspended = person({ state: 'suspended' });
  const lacking = (less: Partial<More>) => ({ more: new Map([[1, { ...ALL, ...less }]]) });
  test.each<[string, Partial<More>]>([
    ['a directory where it is closed', { open: new Set([EVERYWHERE]) }],
    ['a database server where it is closed', { open: new Set(['directory']) }],
    ['a realm group without the person', { isMember: false }],
  ])('does not count against %s', (_, less) => {
    const { takings, open } = take([suspended], evidenceOfSeals([sealOfAlice()]), lacking(less));
    expect(takings).toEqual([]);
    expect(open[0]?.sentence).toMatch(
      /^the seal 7 says that alice is active, but not every server/u,
    );
  });

  test('does not count for a key or a maintainer that the directory does not show', () => {
    const seals = evidenceOfSeals([
      sealOfAlice({ keys: [...KEYS] }),
      sealOfTool({ members: ['alice', 'bob', 'carol'] }),
    ]);
    const none = { ...ALL, keys: new Set<string>(), members: new Set<string>() };
    const more = new Map([1, 9].map((uid) => [uid, none]));
    const { takings, open } = take([person(), tool()], seals, { more });
    expect(takings).toEqual([]);
    expect(open.map(({ account, command }) => ({ account, command }))).toEqual([
      { account: 'alice', command: `submit key.add --person alice --key '${KEYS[1]}'` },
      { account: 'carol', command: 'submit maintainer.add --tool x --maintainers carol' },
    ]);
  });

  test('a key in the evidence that is not restored cannot go to another person', () => {
    const seal = sealOfAlice({ state: 'suspended', keys: [] });
    const { takings, seenKeys } = take([person({ keys: [] })], evidenceOfSeals([seal]));
    expect(takings.map(({ keysAdded }) => keysAdded)).toEqual([undefined]);
    expect(seenKeys.map(({ person: whose }) => whose)).toEqual([1, 1]);
  });
});

test('a reinstated person who was a maintainer in the backup is no longer one if the seal of the tool says so', () => {
  const maintainers = new Map([[9, [{ ...member('alice', 1), isIn: false }]]]);
  const { takings } = take(
    [person({ state: 'suspended' }), tool({ members: [] })],
    evidenceOfSeals([sealOfAlice(), sealOfTool({ members: [] })]),
    { maintainers },
  );
  expect(takings.map(({ account, membersRemoved }) => [account, membersRemoved])).toEqual([
    ['alice', undefined],
    ['tools.x', [member('alice', 1)]],
  ]);
});

test('a person who is kept as in the backup keeps their tools, too', () => {
  const shown = evidenceOfSeals([
    sealOfAlice({ state: 'suspended', keys: [] }),
    sealOfTool({ members: ['bob'] }),
  ]);
  expect(take([person(), tool()], shown, { keep: ['alice'] }).takings).toEqual([]);
});
