import { describe, expect, test } from '@jest/globals';
import { codeOf } from '../../src/shared/errors.ts';
import type { SeenPath } from '../../src/reconcile/action.ts';
import type { FilesReader, FolderHave, HomeHave } from '../../src/targets/files-reader.ts';
import { homeDirectory } from '../../src/targets/home-directory.ts';
import { linesOf, person, REALM, tool } from './directory-cases.ts';

const PATH = '/data/project/bot';
const SEEN: SeenPath = { ino: 7, uid: 50001, gid: 50001, mode: 0o2775 };
type Directory = Extract<HomeHave, { kind: 'directory' }>;

const folder = (changes: Partial<SeenPath> = {}): FolderHave => ({
  kind: 'directory',
  seen: { ...SEEN, ...changes },
  groupWrite: 'kept',
});
const home = (changes: Partial<Directory> = {}): Directory => ({
  kind: 'directory',
  seen: SEEN,
  groupWrite: 'kept',
  folders: { public_html: folder(), logs: folder() },
  ...changes,
});
const planned = (wanted: ReturnType<typeof tool> | ReturnType<typeof person>, have: HomeHave) =>
  homeDirectory.plan(homeDirectory.want(wanted, REALM), have, wanted);

describe('home-directory', () => {
  test.each<[string, HomeHave, string[]]>([
    [
      'makes a home that is absent, with its folders',
      { kind: 'absent' },
      [`create ${PATH}: absent → 2775, public_html, logs`],
    ],
    ['leaves a home that is as it should be', home(), []],
    [
      'leaves a link in its place, and reports it',
      { kind: 'irregular', what: 'a symbolic link' },
      [`PATH_FOREIGN ${PATH}`],
    ],
    [
      "leaves another's directory with all in it, and reports it",
      home({ seen: { ...SEEN, uid: 4711, mode: 0o777 }, folders: {} }),
      [`PATH_FOREIGN ${PATH}`],
    ],
    [
      'takes rights away as a revocation',
      home({ seen: { ...SEEN, mode: 0o777 } }),
      [`revoke ${PATH}: mode 0777 → 2775`],
    ],
    [
      'gives rights as a change',
      home({ seen: { ...SEEN, mode: 0o755 } }),
      [`change ${PATH}: mode 0755 → 2775`],
    ],
    [
      'calls it a change if only a special bit is removed',
      home({ seen: { ...SEEN, mode: 0o7775 } }),
      [`change ${PATH}: mode 7775 → 2775`],
    ],
    [
      'restores the group',
      home({ seen: { ...SEEN, gid: 500 } }),
      [`change ${PATH}: group 500 → 50001`],
    ],
    [
      'restores a default ACL that keeps group write',
      home({ groupWrite: 'lost' }),
      [`change ${PATH}: default ACL → group rwx`],
    ],
    ['asks for no ACL where none can be kept', home({ groupWrite: 'unknown' }), []],
    [
      'makes a folder that is absent',
      home({ folders: { public_html: folder(), logs: { kind: 'absent' } } }),
      [`create ${PATH}/logs: absent → 2775`],
    ],
    [
      'mends a folder as it mends a home',
      home({ folders: { public_html: folder({ mode: 0o2777, gid: 1 }), logs: folder() } }),
      [
        `revoke ${PATH}/public_html: mode 2777 → 2775`,
        `change ${PATH}/public_html: group 1 → 50001`,
      ],
    ],
    [
      'reports a folder that is something else, and mends the others',
      home({
        folders: {
          public_html: { kind: 'irregular', what: 'a symbolic link' },
          logs: folder({ mode: 0o2700 }),
        },
      }),
      [`change ${PATH}/logs: mode 2700 → 2775`, `PATH_FOREIGN ${PATH}/public_html`],
    ],
    [
      "reports a folder of another's",
      home({ folders: { public_html: folder(), logs: folder({ uid: 0 }) } }),
      [`PATH_FOREIGN ${PATH}/logs`],
    ],
  ])('%s', (_sentence, have, lines) => {
    expect(linesOf(planned(tool(), have))).toEqual(lines);
  });

  test('keeps the home of a disabled tool, and does nothing yet for a deleted one', () => {
    expect(linesOf(planned(tool({ state: 'disabled' }), { kind: 'absent' }))).toHaveLength(1);
    expect(linesOf(planned(tool({ state: 'deleted' }), home()))).toEqual([]);
  });

  test.each<[string, Parameters<typeof person>[0], string[]]>([
    ['a realm member', { everAdmitted: false }, ['create /home/alice: absent → 0700']],
    ['one who was a realm member', { realmMember: false }, ['create /home/alice: absent → 0700']],
    ['a suspended one', { state: 'suspended' }, ['create /home/alice: absent → 0700']],
    ['one who never was a realm member', { realmMember: false, everAdmitted: false }, []],
    ['a deleted one', { state: 'deleted' }, []],
  ])('knows whether a person has a home: %s', (_who, changes, lines) => {
    expect(linesOf(planned(person(changes), { kind: 'absent' }))).toEqual(lines);
  });

  test('makes homes of people from the skeleton, in the group of the realm', () => {
    expect(planned(person(), { kind: 'absent' }).steps[0]?.action).toEqual({
      verb: 'dir.create',
      home: { area: 'personHomes', name: 'alice' },
      uid: 1003,
      gid: 500,
      mode: 0o700,
      folders: [],
      skeleton: true,
    });
  });

  test('asks only for what is wanted, and treats an incomplete answer as no answer', async () => {
    const asked: string[] = [];
    const reader = (short: boolean): FilesReader => ({
      async readHomes(homes) {
        asked.push(...homes.map((one) => one.home.name));
        return homes.slice(short ? 1 : 0).map(() => home());
      },
      async readCredentials() {
        return [];
      },
      async readArchives() {
        return [];
      },
    });
    const subjects = [person({ state: 'deleted' }), tool()];
    expect(await homeDirectory.observe(reader(false), subjects, REALM)).toEqual([
      { kind: 'absent' },
      home(),
    ]);
    expect(asked).toEqual(['bot']);
    const error: unknown = await homeDirectory
      .observe(reader(true), subjects, REALM)
      .catch((cause: unknown) => cause);
    expect(codeOf(error)).toBe('BACKEND_UNREADABLE');
  });
});
