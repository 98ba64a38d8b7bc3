import { describe, expect, test } from '@jest/globals';
import type { Attributes } from '../../src/reconcile/action.ts';
import type { DirectoryEntry, DirectoryReader } from '../../src/targets/directory-reader.ts';
import { unixGroup } from '../../src/targets/unix-group.ts';
import { entry, linesOf, REALM, tool } from './directory-cases.ts';

const OBJECT = 'cn=tools.bot,ou=servicegroups';
const MEMBERS = ['people/uid=alice', 'toolAccounts/uid=tools.bot', 'toolAccounts/uid=tools.other'];
const SHAPE: Attributes = {
  objectClass: ['groupOfNames', 'posixGroup'],
  cn: ['tools.bot'],
  gidNumber: ['50001'],
  member: MEMBERS,
};
const group = (changes: Attributes = {}) =>
  entry('toolGroups/cn=tools.bot', { ...SHAPE, ...changes });

const planned = (wanted: ReturnType<typeof tool>, have: DirectoryEntry[]) =>
  unixGroup.plan(unixGroup.want(wanted, REALM), { groups: have, unmanaged: [] }, wanted);

describe('unix-group', () => {
  test.each<[string, Parameters<typeof tool>[0], DirectoryEntry[], string[]]>([
    ['creates the group if there is none', {}, [], [`create ${OBJECT}: absent → present`]],
    ['leaves a group that is as it should be', {}, [group()], []],
    ['keeps the group of a disabled tool', { state: 'disabled' }, [group()], []],
    ['keeps the group of an archived tool', { state: 'archived' }, [group()], []],
    [
      'reports a tool that nobody who may log in maintains, and keeps its group',
      { orphaned: true },
      [group()],
      [`TOOL_ORPHANED ${OBJECT} (advisory)`],
    ],
    [
      'deletes the group of a deleted tool',
      { state: 'deleted' },
      [group()],
      [`destroy ${OBJECT}: present → absent`],
    ],
    ['has nothing to do for a deleted tool without a group', { state: 'deleted' }, [], []],
    [
      'adds a member that is missing',
      {},
      [group({ member: MEMBERS.slice(1) })],
      [`change ${OBJECT}: member +uid=alice`],
    ],
    [
      'removes a member that is not wanted before it adds one',
      {},
      [group({ member: ['dn:cn=eve,o=far', ...MEMBERS.slice(1)] })],
      [`revoke ${OBJECT}: member −dn:cn=eve,o=far`, `change ${OBJECT}: member +uid=alice`],
    ],
    [
      'replaces all members in one modify, because the group must not be empty',
      { members: tool().members!.slice(2) },
      [group({ member: ['people/uid=eve'] })],
      [`revoke ${OBJECT}: member uid=eve → uid=tools.bot`],
    ],
    [
      'adds object classes that are missing, whatever their case, and leaves others',
      {},
      [group({ objectClass: ['GroupOfNames', 'extensibleObject', 'top'] })],
      [`change ${OBJECT}: objectClass +posixGroup`],
    ],
    [
      'reports a name besides its own, and removes none',
      {},
      [group({ cn: ['tools.bot', 'wheel'] })],
      [`NAME_FOREIGN ${OBJECT} (advisory)`],
    ],
    [
      'reports a group of the name with another number, and leaves it',
      {},
      [group({ gidNumber: ['777'] })],
      [`NAME_FOREIGN ${OBJECT}`],
    ],
    [
      'reports a group of the name without a number',
      {},
      [
        entry('toolGroups/cn=tools.bot', {
          objectClass: ['organizationalRole'],
          cn: ['tools.bot'],
        }),
      ],
      [`NAME_FOREIGN ${OBJECT}`],
    ],
    [
      'reports the name in another case, even with our number',
      {},
      [entry('toolGroups/cn=TOOLS.bot', { ...SHAPE, cn: ['TOOLS.bot'] })],
      ['NAME_FOREIGN cn=TOOLS.bot,ou=servicegroups'],
    ],
    [
      'reports the name in another place',
      {},
      [entry('groups/cn=tools.bot', SHAPE)],
      ['NAME_FOREIGN cn=tools.bot,ou=groups'],
    ],
    [
      'reports our number under another name',
      {},
      [entry('dn:cn=eve,o=far', { ...SHAPE, cn: ['eve'] })],
      ['ID_FOREIGN cn=eve,o=far'],
    ],
    [
      'keeps ours right although another has our number',
      {},
      [
        group({ member: [...MEMBERS, 'people/uid=eve'] }),
        entry('groups/cn=x', { ...SHAPE, cn: ['x'] }),
      ],
      [`revoke ${OBJECT}: member −uid=eve`, 'ID_FOREIGN cn=x,ou=groups (advisory)'],
    ],
  ])('%s', (_, changes, have, lines) => {
    expect(linesOf(planned(tool(changes), have))).toEqual(lines);
  });

  test('leaves out a member whose account is somebody else, and reports it', () => {
    const wanted = tool();
    const unmanaged = [entry('people/uid=alice', { uid: ['alice'], uidNumber: ['777'] })];
    const plan = unixGroup.plan(
      unixGroup.want(wanted, REALM),
      { groups: [group()], unmanaged },
      wanted,
    );
    expect(linesOf(plan)).toEqual([
      `revoke ${OBJECT}: member −uid=alice`,
      'NAME_FOREIGN uid=alice,ou=people',
    ]);
  });

  test('adds the entry in the shape of the realm', () => {
    expect(planned(tool(), []).steps[0]?.action).toEqual({
      verb: 'ldap.add',
      entry: 'toolGroups/cn=tools.bot',
      attributes: SHAPE,
    });
  });

  test('lets a modify be refused unless the entry is still ours', () => {
    const [step] = planned(tool(), [group({ member: MEMBERS.slice(1) })]).steps;
    expect(step?.action).toEqual({
      verb: 'ldap.modify',
      entry: 'toolGroups/cn=tools.bot',
      expect: { gidNumber: '50001' },
      changes: [{ attribute: 'member', remove: [], add: ['people/uid=alice'] }],
    });
  });

  test('names a member once that is listed twice', () => {
    const members = [...tool().members!, ...tool().members!];
    expect(unixGroup.want(tool({ members }), REALM).attributes['member']).toEqual(MEMBERS);
  });

  test('refuses to plan for a tool that was read without its members', () => {
    const { members: _, ...wanted } = tool();
    expect(() => unixGroup.want(wanted, REALM)).toThrow('without its members');
  });

  test('gives each of many tools the entries with its name or number, and no accounts', async () => {
    const other = tool({ uid: 50002, account: 'tools.other' as never });
    const found = [
      group(),
      entry('groups/cn=x', { objectClass: ['posixGroup'], cn: ['TOOLS.Other'], gidNumber: ['9'] }),
      entry('toolAccounts/uid=tools.bot', {
        objectClass: ['posixAccount'],
        cn: ['tools.bot'],
        gidNumber: ['50001'],
      }),
    ];
    const alice = entry('people/uid=alice', { uid: ['alice'], uidNumber: ['777'] });
    const reader = {
      find: ({ any }: { any: readonly { attribute: string }[] }) =>
        Promise.resolve(any[0]?.attribute === 'uid' ? [alice] : found),
    } as unknown as DirectoryReader;
    expect(await unixGroup.observe(reader, [other, tool()], REALM)).toEqual([
      { groups: [found[1]], unmanaged: [alice] },
      { groups: [found[0]], unmanaged: [alice] },
    ]);
  });

  test('treats a group whose members may not be read as unreadable, not as empty', async () => {
    const { member: _, ...hidden } = SHAPE;
    const reader = {
      find: () => Promise.resolve([entry('toolGroups/cn=tools.bot', hidden)]),
    } as unknown as DirectoryReader;
    await expect(unixGroup.observe(reader, [tool()], REALM)).rejects.toMatchObject({
      code: 'BACKEND_UNREADABLE',
    });
  });
});
