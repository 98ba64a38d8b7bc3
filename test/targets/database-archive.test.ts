import { describe, expect, test } from '@jest/globals';
import { ChamberlainError } from '../../src/shared/errors.ts';
import type { AccountName, ShellName, ToolName } from '../../src/identity/names.ts';
import type { Realm, Wanted, WantedArchive } from '../../src/reconcile/wanted.ts';
import { databaseArchive, type DatabaseArchiveHave } from '../../src/targets/database-archive.ts';
import type {
  DatabaseArchiveReader,
  DatabasesArchive,
} from '../../src/targets/databases-reader.ts';

const MANIFEST = 'a'.repeat(64);
const OTHER = 'b'.repeat(64);
const REALM: Realm = {
  realm: 'tools',
  realmGid: 500,
  toolHomes: '/data/project',
  personHomes: '/home',
  toolHomeMode: 0o2775,
  maxUserConnections: 10,
  databaseServers: [
    { name: 'replica', kind: 'replica' },
    { name: 'one', kind: 'toolsdb' },
    { name: 'two', kind: 'toolsdb' },
  ],
};

const tool = (
  state: 'active' | 'disabled' | 'archived' | 'deleted',
  archive?: WantedArchive,
): Wanted => ({
  kind: 'tool',
  uid: 51234,
  account: 'tools.bridgebot' as AccountName,
  name: 'bridgebot' as ToolName,
  state,
  ...(archive === undefined ? {} : { archive }),
});
const person = (archive: WantedArchive): Wanted => ({
  kind: 'person',
  uid: 1234,
  account: 'alice' as AccountName,
  shellName: 'alice' as ShellName,
  state: 'archived',
  realmMember: false,
  everAdmitted: true,
  archive,
});

const leaving = (changes: Partial<WantedArchive> = {}): WantedArchive => ({
  archival: 2,
  manifest: undefined,
  returning: false,
  expired: false,
  ...changes,
});
const recorded = (changes: Partial<WantedArchive> = {}) =>
  leaving({ manifest: MANIFEST, ...changes });

/** The content of `one`; `two` has nothing. */
const have = (
  databases: string[] | { unreadable: string },
  archive?: DatabaseArchiveHave['archive'],
): DatabaseArchiveHave => ({
  servers: [
    Array.isArray(databases) ? { server: 'one', databases } : { server: 'one', ...databases },
    { server: 'two', databases: [] },
  ],
  archive,
});

/** Holds these of `one`, and nothing of `two`; everything was restored if `isReturned`. */
const archived = (
  databases: string[],
  isReturned = false,
  manifest = MANIFEST,
): DatabasesArchive => ({
  manifest,
  servers: new Map([
    ['one', { databases, isReturned }],
    ['two', { databases: [], isReturned }],
  ]),
});

function lines(wanted: Wanted, found: DatabaseArchiveHave): string[] {
  const plan = databaseArchive.plan(databaseArchive.want(wanted, REALM), found, wanted);
  return [
    ...plan.steps.map(
      ({ effect, action, object, change }) => `${effect} ${action.verb} ${object}: ${change}`,
    ),
    ...plan.findings.map(({ code, object }) => `${code} ${object}`),
    ...(plan.unreadable === undefined ? [] : [`unreadable: ${plan.unreadable}`]),
  ];
}

const A = 's51234__a';
const B = 's51234__b';
const ARCHIVE = 'create databases.archive archive 2 of the databases of s51234: absent → present';
const REMOVE =
  'destroy databases.removeArchive archive 2 of the databases of s51234: present → absent';
const DAMAGED = 'ARCHIVE_DAMAGED archive 2 of the databases of s51234';
const dropped = (name: string) => `destroy databases.drop ${name} on one: present → absent`;
const back = (server: string, change: string) =>
  `create databases.restore databases of s51234 on ${server}: ${change}`;

describe('database-archive', () => {
  test.each<[string, Wanted, DatabaseArchiveHave, string[]]>([
    ['does nothing while no archival is open', tool('active'), have([A]), []],
    ['does nothing for a tool that is disabled', tool('disabled'), have([A]), []],
    ['archives', tool('archived', leaving()), have([A]), [ARCHIVE]],
    [
      'archives even if there is nothing, to record that',
      tool('archived', leaving()),
      have([]),
      [ARCHIVE],
    ],
    [
      'waits with that for a server that cannot be read',
      tool('archived', leaving()),
      have({ unreadable: 'reading one' }),
      ['unreadable: reading one'],
    ],
    [
      'is done when the archive is recorded',
      tool('archived', recorded()),
      have([A], archived([A])),
      [],
    ],
    [
      'drops nothing before the deletion',
      tool('archived', recorded()),
      have([A, B], archived([A, B])),
      [],
    ],
    [
      'drops what is in the archive',
      tool('deleted', recorded()),
      have([A, B], archived([A, B])),
      [dropped(A), dropped(B)],
    ],
    [
      'drops nothing that is not in it',
      tool('deleted', recorded()),
      have([A, B], archived([A])),
      [dropped(A), `ARCHIVE_DIFFERS ${B} on one`],
    ],
    [
      'drops nothing of a server of which the archive knows nothing',
      tool('deleted', recorded()),
      have([A], { manifest: MANIFEST, servers: new Map() }),
      [`ARCHIVE_DIFFERS ${A} on one`],
    ],
    [
      'drops nothing by an archive that is not the recorded one',
      tool('deleted', recorded()),
      have([A], archived([A], false, OTHER)),
      [DAMAGED],
    ],
    ['drops nothing without an archive', tool('deleted', recorded()), have([A]), [DAMAGED]],
    [
      'drops nothing by an archive that cannot be read',
      tool('deleted', recorded()),
      have([A], { unreadable: 'reading the archive' }),
      ['unreadable: reading the archive'],
    ],
    [
      'is done when everything is dropped',
      tool('deleted', recorded()),
      have([], archived([A])),
      [],
    ],
    [
      'drops on one server even if another is away',
      tool('deleted', recorded()),
      {
        servers: [
          { server: 'one', databases: [A] },
          { server: 'two', unreadable: 'reading two' },
        ],
        archive: archived([A]),
      },
      [dropped(A), 'unreadable: reading two'],
    ],
    [
      'removes an archive that was kept long enough',
      tool('deleted', recorded({ expired: true })),
      have([], archived([A])),
      [REMOVE],
    ],
    [
      'but not while something is there that it holds',
      tool('deleted', recorded({ expired: true })),
      have([A], archived([A])),
      [dropped(A)],
    ],
    [
      'nor while a server cannot be read',
      tool('deleted', recorded({ expired: true })),
      have({ unreadable: 'reading one' }, archived([A])),
      ['unreadable: reading one'],
    ],
    ['is done when it is removed', tool('deleted', recorded({ expired: true })), have([]), []],
    [
      'removes the empty folder that an interrupted removal leaves',
      tool('deleted', recorded({ expired: true })),
      have([], 'emptied'),
      [REMOVE],
    ],
    [
      'has nothing to drop from if the folder is empty',
      tool('deleted', recorded({ expired: true })),
      have([A], 'emptied'),
      [DAMAGED],
    ],
    [
      'reports what is there when it is removed',
      tool('deleted', recorded({ expired: true })),
      have([A]),
      [DAMAGED],
    ],
    [
      'has nothing to restore before the archive is recorded: nothing was dropped',
      tool('archived', leaving({ returning: true })),
      have([A]),
      [],
    ],
    [
      'restores what is missing',
      tool('archived', recorded({ returning: true })),
      have([B], archived([A, B])),
      [back('one', `with ${A}`), back('two', 'compared')],
    ],
    [
      'compares if everything exists',
      tool('archived', recorded({ returning: true })),
      have([A], archived([A])),
      [back('one', 'compared'), back('two', 'compared')],
    ],
    [
      'is done when everything is noted as restored',
      tool('archived', recorded({ returning: true })),
      have([A], archived([A], true)),
      [],
    ],
    [
      'restores again what is gone in spite of the note',
      tool('archived', recorded({ returning: true })),
      have([], archived([A], true)),
      [back('one', `with ${A}`)],
    ],
    [
      'restores nothing from a missing archive, or from another one',
      tool('archived', recorded({ returning: true })),
      have([A], archived([A], false, OTHER)),
      [DAMAGED],
    ],
    [
      'restores on the servers that can be read',
      tool('archived', recorded({ returning: true })),
      have({ unreadable: 'reading one' }, archived([A])),
      [back('two', 'compared'), 'unreadable: reading one'],
    ],
  ])('%s', (_, wanted, found, expected) => {
    expect(lines(wanted, found)).toEqual(expected);
  });

  test('gives each step its user, archival and manifest', () => {
    const wanted = tool('deleted', recorded());
    const [step] = databaseArchive.plan(
      databaseArchive.want(wanted, REALM),
      have([A], archived([A])),
      wanted,
    ).steps;
    expect(step?.action).toEqual({
      verb: 'databases.drop',
      server: 'one',
      user: 's51234',
      account: 'tools.bridgebot',
      database: A,
      archival: 2,
      manifest: MANIFEST,
    });
  });

  test('asks only servers of tools, only for subjects that leave, and reads an archive only if it is needed', async () => {
    const asked: string[] = [];
    const reader: DatabaseArchiveReader = {
      async lookForDatabases(server, users) {
        asked.push(`${server}: ${users.join(', ')}`);
        if (server === 'two') throw new ChamberlainError('BACKEND_UNREADABLE', 'reading two');
        return new Map([['s51234', [A]]]);
      },
      async lookAtArchive(account, archival) {
        asked.push(`${account}.${archival}`);
        return undefined;
      },
      isAnyThere: () => Promise.resolve(false),
      isPartThere: () => Promise.reject(new Error('looked')),
    };
    const wanted = [tool('active'), person(leaving()), tool('deleted', recorded())];
    expect(await databaseArchive.observe(reader, wanted, REALM)).toEqual([
      { servers: [], archive: undefined },
      {
        servers: [
          { server: 'one', databases: [] },
          { server: 'two', unreadable: 'reading two' },
        ],
        archive: undefined,
      },
      {
        servers: [
          { server: 'one', databases: [A] },
          { server: 'two', unreadable: 'reading two' },
        ],
        archive: undefined,
      },
    ]);
    expect(asked).toEqual(['one: u1234, s51234', 'two: u1234, s51234', 'tools.bridgebot.2']);
  });

  test('reads nothing if no subject leaves', async () => {
    const never = () => Promise.reject(new Error('looked'));
    const reader = {
      lookForDatabases: never,
      lookAtArchive: never,
      isAnyThere: () => Promise.resolve(false),
      isPartThere: never,
    };
    const wanted = [tool('active'), tool('archived', recorded())];
    expect(await databaseArchive.observe(reader, wanted, REALM)).toHaveLength(2);
  });

  test.each<[string, () => Promise<boolean>, string[]]>([
    [
      'removes what is left of an archive that is no longer wanted',
      async () => true,
      ['change databases.removePart archive 2 of the databases of s51234: unfinished → absent'],
    ],
    ['has nothing to do where nothing is left of it', async () => false, []],
    [
      'calls it unreadable where that is not known',
      () => Promise.reject(new ChamberlainError('BACKEND_UNREADABLE', 'looking')),
      ['unreadable: looking'],
    ],
  ])('%s, and looks at nothing else', async (_, isPartThere, expected) => {
    const never = () => Promise.reject(new Error('looked'));
    const reader = {
      ...{ lookForDatabases: never, lookAtArchive: never, isAnyThere: never },
      isPartThere,
    };
    const wanted = tool('archived', leaving({ returning: true }));
    const [found] = await databaseArchive.observe(reader, [wanted], REALM);
    expect(lines(wanted, found!)).toEqual(expected);
  });

  test('an erasure drops every database, and removes every archive; a server that is away is done later', async () => {
    const erasure = {
      ...{ portal: 'admin.steward', request: '0b6c0b43-6f52-4b4e-9f0e-3b1c5a0e7a11' },
      ...{ requestedBy: 'steward', approvedBy: 'second', approvedAt: '2026-11-28T08:00:00Z' },
    };
    const never = () => Promise.reject(new Error('looked'));
    const wanted = {
      ...tool('deleted', leaving({ expired: true, erasure })),
      pastArchives: [{ archival: 1, manifest: 'b'.repeat(64) }],
    };
    const reader = {
      ...{ lookAtArchive: never, isPartThere: never },
      lookForDatabases: () => Promise.resolve(new Map([['s51234', [A]]])),
      isAnyThere: () => Promise.resolve(true),
    };
    const [found] = await databaseArchive.observe(reader, [wanted], REALM);
    expect(lines(wanted, found!)).toEqual([
      'destroy databases.erase s51234__a on one: present → absent',
      'destroy databases.erase s51234__a on two: present → absent',
      'destroy databases.eraseArchives archives of the databases of s51234: any → absent',
    ]);
    const away = () =>
      Promise.reject(new ChamberlainError('BACKEND_UNREADABLE', 'reading toolsdb'));
    const [unread] = await databaseArchive.observe(
      { ...reader, lookForDatabases: away },
      [wanted],
      REALM,
    );
    expect(
      databaseArchive.plan(databaseArchive.want(wanted, REALM), unread!, wanted),
    ).toMatchObject({
      unreadable: expect.stringContaining('reading toolsdb'),
    });
  });

  test.each<[string, DatabasesArchive | 'emptied' | undefined, string[]]>([
    [
      'removes it',
      archived([A], true),
      ['destroy databases.removeArchive archive 1 of the databases of s51234: present → absent'],
    ],
    ['is done when it does not exist', undefined, []],
    [
      'removes its empty folder',
      'emptied',
      ['destroy databases.removeArchive archive 1 of the databases of s51234: present → absent'],
    ],
    ['leaves another', archived([A], true, OTHER), ['ARCHIVE_DAMAGED, advisory']],
  ])(
    'for a restored subject whose archive need not be kept any longer: %s',
    async (_, archive, expected) => {
      const never = () => Promise.reject(new Error('looked'));
      const reader = {
        ...{
          lookForDatabases: never,
          isAnyThere: () => Promise.resolve(false),
          isPartThere: never,
        },
        lookAtArchive: (account: string, archival: number) => {
          expect([account, archival]).toEqual(['tools.bridgebot', 1]);
          return Promise.resolve(archive);
        },
      };
      const wanted = { ...tool('active'), pastArchives: [{ archival: 1, manifest: MANIFEST }] };
      const [found] = await databaseArchive.observe(reader, [wanted], REALM);
      const { steps, findings } = databaseArchive.plan(
        databaseArchive.want(wanted, REALM),
        found!,
        wanted,
      );
      expect([
        ...steps.map(
          ({ effect, action, object, change }) => `${effect} ${action.verb} ${object}: ${change}`,
        ),
        ...findings.map(({ code, advisory }) => `${code}${advisory ? ', advisory' : ''}`),
      ]).toEqual(expected);
    },
  );

  test('an archive that cannot be read is unreadable', async () => {
    const reader: DatabaseArchiveReader = {
      lookForDatabases: () => Promise.resolve(new Map([['s51234', [A]]])),
      lookAtArchive: () => Promise.reject(new ChamberlainError('BACKEND_UNREADABLE', 'reading it')),
      isAnyThere: () => Promise.resolve(false),
      isPartThere: () => Promise.reject(new Error('looked')),
    };
    const wanted = tool('deleted', recorded());
    const [found] = await databaseArchive.observe(reader, [wanted], REALM);
    expect(lines(wanted, found!)).toEqual(['unreadable: reading it']);
  });
});
