import { describe, expect, test } from '@jest/globals';
import { codeOf } from '../../src/shared/errors.ts';
import type { WantedArchive, WantedTool } from '../../src/reconcile/wanted.ts';
import { orderSteps } from '../../src/reconcile/plan.ts';
import type { ArchiveHave, AskedArchive, FilesReader } from '../../src/targets/files-reader.ts';
import { homeArchive } from '../../src/targets/home-archive.ts';
import { person, REALM, tool } from './directory-cases.ts';

const MANIFEST = 'a'.repeat(64);
type End = 'away' | 'back' | 'gone' | 'forgotten';

/** The wanted state of an account with this end; `recorded`: whether its archive is. */
function archiveWanted(end: End, recorded: boolean) {
  const archive: WantedArchive = {
    archival: 3,
    manifest: recorded ? MANIFEST : undefined,
    returning: end === 'back',
    expired: end === 'forgotten',
  };
  const state: WantedTool['state'] = end === 'away' || end === 'back' ? 'archived' : 'deleted';
  return { state, archive } as const;
}

const ABSENT: ArchiveHave['place'] = { kind: 'absent' };
const LINK: ArchiveHave['place'] = { kind: 'irregular', what: 'a symbolic link' };
const of = (uid: number): ArchiveHave['place'] => ({
  kind: 'directory',
  seen: { ino: 7, uid, gid: uid, mode: 0o2775 },
});
const OURS = of(50001);
const FOREIGN = of(4711);

/** Verbs, in the order in which they run, and codes of findings. */
function planned(end: End, recorded: boolean, have: ArchiveHave): string[] {
  const wanted = tool(archiveWanted(end, recorded));
  const { steps, findings } = homeArchive.plan(homeArchive.want(wanted, REALM), have, wanted);
  return [
    ...orderSteps(steps).map(({ action, effect }) => `${action.verb} (${effect})`),
    ...findings.map(({ code, advisory }) => `${code}${advisory ? ', advisory' : ''}`),
  ];
}

const WITHDRAW = 'home.withdraw (revoke)';
const ARCHIVE = 'home.archive (create)';
const DESTROY = 'home.destroy (destroy)';
const REMOVE = 'home.removeArchive (destroy)';

describe('home-archive', () => {
  const ERASURE = {
    ...{ portal: 'portal', request: '0b6c0b43-6f52-4b4e-9f0e-3b1c5a0e7a11' },
    ...{ requestedBy: 'steward', approvedBy: 'second', approvedAt: '2026-11-28T08:00:00Z' },
  };
  const ERASE = 'home.erase (destroy)';
  test.each<[ArchiveHave['place'], Partial<ArchiveHave>, string[]]>([
    [OURS, {}, [WITHDRAW, ERASE]],
    [OURS, { isListed: true }, [WITHDRAW, ERASE]],
    [OURS, { left: true, leftovers: true }, [ERASE, 'PATH_FOREIGN']],
    [ABSENT, { leftovers: true, isListed: true }, [ERASE]],
    [FOREIGN, { leftovers: true, isListed: true }, [ERASE, 'PATH_FOREIGN']],
    [FOREIGN, { isListed: true }, ['PATH_FOREIGN']],
    [LINK, { isListed: true }, ['PATH_FOREIGN']],
    // there is nothing, but the person must be in the list nevertheless
    [ABSENT, {}, [ERASE]],
    [ABSENT, { isListed: true }, []],
  ])('an erased person, %j, %j: %j', (place, have, steps) => {
    const archive = { archival: 3, manifest: undefined, returning: false, expired: true };
    const wanted = person({
      state: 'deleted',
      uid: 50001,
      archive: { ...archive, erasure: ERASURE },
    });
    const seen = { place, left: false, going: false, archive: 'absent', ...have } as const;
    const plan = homeArchive.plan(homeArchive.want(wanted, REALM), seen, wanted);
    expect([
      ...orderSteps(plan.steps).map(({ action, effect }) => `${action.verb} (${effect})`),
      ...plan.findings.map(({ code }) => code),
    ]).toEqual(steps);
    expect(plan.findings.filter(({ advisory }) => advisory)).toEqual([]);
  });

  test.each<
    [End, ArchiveHave['place'], '-' | 'left' | 'going', ArchiveHave['archive'] | 'none', string[]]
  >([
    // `none`, `unrecorded`: no manifest is recorded
    ['away', OURS, '-', 'none', [WITHDRAW, ARCHIVE]],
    ['away', OURS, 'left', 'none', ['PATH_FOREIGN']],
    ['away', OURS, '-', 'home', ['PATH_FOREIGN']],
    ['away', OURS, 'left', 'home', ['PATH_FOREIGN']],
    ['away', ABSENT, 'left', 'none', [ARCHIVE]],
    ['away', ABSENT, '-', 'none', [ARCHIVE]],
    ['away', FOREIGN, '-', 'none', [ARCHIVE]],
    ['away', LINK, 'left', 'none', [ARCHIVE]],
    ['away', ABSENT, 'left', 'home', []],
    ['away', FOREIGN, '-', 'nothing', []],
    ['back', OURS, '-', 'none', []],
    ['back', OURS, '-', 'home', []],
    ['back', OURS, 'going', 'home', []],
    ['back', OURS, 'left', 'home', ['PATH_FOREIGN']],
    ['back', FOREIGN, 'left', 'none', ['PATH_FOREIGN']],
    ['back', LINK, '-', 'home', ['PATH_FOREIGN']],
    ['back', FOREIGN, '-', 'nothing', []],
    ['back', ABSENT, 'left', 'none', ['home.return (create)']],
    ['back', ABSENT, 'left', 'other', ['home.return (create)']],
    ['back', ABSENT, '-', 'home', ['home.restore (create)']],
    ['back', ABSENT, 'going', 'home', ['home.restore (create)']],
    ['back', ABSENT, 'going', 'other', ['ARCHIVE_DAMAGED']],
    ['back', ABSENT, '-', 'absent', ['ARCHIVE_DAMAGED']],
    ['back', ABSENT, '-', 'nothing', []],
    ['back', ABSENT, '-', 'none', []],
    ['back', ABSENT, 'left', 'unrecorded', ['home.removePart (change)', 'home.return (create)']],
    ['back', OURS, '-', 'unrecorded', ['home.removePart (change)']],
    ['back', FOREIGN, '-', 'unrecorded', ['home.removePart (change)']],
    ['away', ABSENT, 'left', 'unrecorded', [ARCHIVE]],
    ['gone', ABSENT, 'left', 'home', [DESTROY]],
    ['gone', OURS, 'going', 'home', [DESTROY]],
    ['gone', ABSENT, 'left', 'none', []],
    ['gone', ABSENT, 'left', 'other', ['ARCHIVE_DAMAGED']],
    ['gone', ABSENT, 'going', 'absent', ['ARCHIVE_DAMAGED']],
    ['gone', ABSENT, 'left', 'nothing', ['ARCHIVE_DAMAGED']],
    ['gone', ABSENT, '-', 'absent', ['ARCHIVE_DAMAGED, advisory']],
    ['gone', ABSENT, '-', 'other', ['ARCHIVE_DAMAGED, advisory']],
    ['gone', ABSENT, '-', 'home', []],
    ['gone', FOREIGN, '-', 'nothing', []],
    ['forgotten', ABSENT, 'left', 'home', [DESTROY, REMOVE]],
    ['forgotten', ABSENT, 'left', 'absent', ['ARCHIVE_DAMAGED']],
    ['forgotten', ABSENT, '-', 'home', [REMOVE]],
    ['forgotten', ABSENT, '-', 'nothing', [REMOVE]],
    ['forgotten', ABSENT, '-', 'other', ['ARCHIVE_DAMAGED, advisory']],
    ['forgotten', ABSENT, '-', 'absent', []],
    ['forgotten', ABSENT, '-', 'emptied', [REMOVE]],
    ['forgotten', ABSENT, 'left', 'emptied', ['ARCHIVE_DAMAGED']],
    ['gone', ABSENT, '-', 'emptied', ['ARCHIVE_DAMAGED, advisory']],
    ['back', ABSENT, '-', 'emptied', ['ARCHIVE_DAMAGED']],
  ])('to be %s, with %j in its place, %s, archive %s', (end, place, withdrawn, archive, lines) => {
    const have: ArchiveHave = {
      place,
      left: withdrawn === 'left',
      going: withdrawn === 'going',
      archive: archive === 'none' ? 'absent' : archive,
    };
    expect(planned(end, !['none', 'unrecorded'].includes(archive), have)).toEqual(lines);
  });

  test('wants nothing for subjects that are not archived, and asks for none of them', async () => {
    const asked: AskedArchive[] = [];
    const reader = {
      async readArchives(some: readonly AskedArchive[]) {
        asked.push(...some);
        return some.map(() => ({ place: ABSENT, left: true, going: false, archive: 'absent' }));
      },
    } as unknown as FilesReader;
    const there = [tool(), tool({ state: 'disabled' }), person({ state: 'suspended' })];
    expect(there.map((one) => homeArchive.want(one, REALM))).toEqual(there.map(() => undefined));
    expect(await homeArchive.observe(reader, there, REALM)).toHaveLength(3);
    expect(asked).toEqual([]);

    const leaving = person({ ...archiveWanted('away', false), everAdmitted: false });
    const haves = await homeArchive.observe(reader, [...there, leaving], REALM);
    expect(asked.map(({ home, account, archival }) => ({ home, account, archival }))).toEqual([
      { home: { area: 'personHomes', name: 'alice' }, account: 'alice', archival: 3 },
    ]);
    expect(haves.map(({ left }) => left)).toEqual([false, false, false, true]);
  });

  test.each<[ArchiveHave['archive'], string[]]>([
    ['home', [REMOVE]],
    ['nothing', [REMOVE]],
    ['emptied', [REMOVE]],
    ['absent', []],
    ['other', ['ARCHIVE_DAMAGED, advisory']],
  ])(
    'a restored subject whose archive need not be kept any longer, %s: %j',
    async (archive, lines) => {
      const pastArchives = [{ archival: 1, manifest: MANIFEST }];
      const reader = {
        readArchives: async (asked: readonly AskedArchive[]) =>
          asked.map(({ archival }) => ({
            ...{ place: OURS, left: false, going: false },
            archive: archival === 1 ? archive : 'absent',
          })),
      } as unknown as FilesReader;
      // the others' answers stay their own
      const others = [tool(), person(archiveWanted('away', false))];
      const [, , have] = await homeArchive.observe(
        reader,
        [...others, tool({ pastArchives })],
        REALM,
      );
      for (const wanted of [
        tool({ pastArchives }),
        tool({ ...archiveWanted('away', true), pastArchives }),
      ]) {
        const want = homeArchive.want(wanted, REALM);
        const seen = { ...have!, place: wanted.state === 'active' ? OURS : ABSENT };
        const { steps, findings } = homeArchive.plan(want, seen, wanted);
        expect([
          ...steps.map(({ action, effect }) => `${action.verb} (${effect})`),
          ...findings.map(({ code, advisory }) => `${code}${advisory ? ', advisory' : ''}`),
        ]).toEqual(lines);
        for (const { action } of steps) expect(action).toMatchObject({ archival: 1 });
      }
    },
  );

  test('treats an incomplete answer as no answer', async () => {
    const reader = { readArchives: async () => [] } as unknown as FilesReader;
    const wanted = tool(archiveWanted('gone', true));
    const error: unknown = await homeArchive
      .observe(reader, [wanted], REALM)
      .catch((cause: unknown) => cause);
    expect(codeOf(error)).toBe('BACKEND_UNREADABLE');
  });
});
