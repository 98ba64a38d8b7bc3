/** The next move is the table above nextMove. How it is shown is golden text. */
import { describe, expect, test } from '@jest/globals';
import type { ArchivalPage, LeavingPage } from '../../src/lifecycle/leaving-page.ts';
import { type LeavingFacts, nextMove } from '../../src/lifecycle/leaving.ts';
import { describeWait, formatBytes, leavingRows } from '../../src/lifecycle/render-leaving.ts';

const NOW = new Date('2026-11-24T21:11:05.123Z');
const EARLIER = '2026-11-01T08:00:00.000Z';
const LATER = '2026-12-24T08:00:00.000Z';
const HASH = 'ab'.repeat(32);

const FACTS: LeavingFacts = {
  kind: 'tool',
  account: 'tools.x',
  state: 'disabled',
  hold: null,
  closed: { at: EARLIER, by: 'steward', reason: 'unused', until: null },
  deleteAfter: null,
  erasing: null,
  orphanedAt: null,
  waiting: [],
  approved: null,
  archivals: [],
};
const made = (role: 'homes' | 'databases') => ({
  role,
  made: { at: EARLIER, path: `/srv/${role}/tools.x.1`, bytes: 3_500_000, manifestSha256: HASH },
  progress: null,
});
const missing = (role: 'homes' | 'databases') => ({ role, made: null, progress: null });
const GOING: ArchivalPage = {
  archival: 1,
  beganAt: EARLIER,
  leftAt: null,
  keepUntil: null,
  expiredAt: null,
  returningAt: null,
  backAt: null,
  erasure: null,
  archives: [missing('homes'), made('databases')],
};
const LEFT = {
  ...GOING,
  leftAt: EARLIER,
  keepUntil: LATER,
  archives: [made('homes'), made('databases')],
};
const HOLD = { by: 'steward', at: EARLIER, reason: 'a dispute', until: LATER };
const BACK = { ...LEFT, returningAt: EARLIER, backAt: EARLIER };

describe('the next move of', () => {
  test.each<[string, Partial<LeavingFacts>, ReturnType<typeof nextMove>]>([
    ['an active subject', { state: 'active', closed: null }, null],
    [
      'a person who is to be erased',
      {
        kind: 'person',
        state: 'suspended',
        deleteAfter: EARLIER,
        erasing: { at: LATER, request: 'r' },
      },
      { move: 'erase', sentence: 'erased for good, with all archives', at: LATER },
    ],
    [
      'a tool that is to be deleted',
      { deleteAfter: LATER },
      { move: 'archive', sentence: 'archived, then deleted', at: LATER },
    ],
    [
      'a person who is to be deleted, whatever end the suspension had',
      {
        kind: 'person',
        state: 'suspended',
        deleteAfter: EARLIER,
        closed: { at: EARLIER, by: 'a', reason: 'b', until: LATER },
      },
      { move: 'archive', sentence: 'archived, then deleted', at: EARLIER },
    ],
    [
      'a person who is suspended until a day',
      {
        kind: 'person',
        state: 'suspended',
        closed: { at: EARLIER, by: 'a', reason: 'b', until: LATER },
      },
      { move: 'reinstate', sentence: 'reinstated', at: LATER },
    ],
    [
      'a suspended person',
      { kind: 'person', account: 'alice', state: 'suspended' },
      {
        move: 'none',
        sentence: 'nothing without a request: alice stays suspended until reinstated',
        at: null,
      },
    ],
    [
      'a disabled tool',
      {},
      {
        move: 'none',
        sentence: 'nothing without a request: tools.x stays disabled until enabled',
        at: null,
      },
    ],
    [
      'a subject that is being archived',
      { state: 'archived', archivals: [BACK, GOING] },
      {
        move: 'delete',
        sentence: 'deleted, when everything is archived and verified; missing: home',
        at: null,
      },
    ],
    [
      'a subject that is being restored',
      { state: 'archived', archivals: [{ ...LEFT, returningAt: EARLIER }] },
      {
        move: 'open',
        sentence: 'active again, when the home and the databases are restored',
        at: null,
      },
    ],
    [
      'a deleted subject',
      { state: 'deleted', archivals: [LEFT] },
      { move: 'remove archives', sentence: 'its archives are removed', at: LATER },
    ],
    [
      'a subject held beyond its day',
      { deleteAfter: EARLIER, hold: HOLD },
      { move: 'held', sentence: 'nothing until the hold ends', at: LATER },
    ],
    [
      'a deleted subject held for longer than its archives are kept',
      { state: 'deleted', archivals: [{ ...LEFT, keepUntil: EARLIER }], hold: HOLD },
      { move: 'held', sentence: 'nothing until the hold ends', at: LATER },
    ],
    [
      'a held subject that is being archived',
      { state: 'archived', archivals: [GOING], hold: HOLD },
      { move: 'held', sentence: 'nothing until the hold ends', at: LATER },
    ],
    [
      'a subject held for a shorter time',
      { deleteAfter: LATER, hold: { ...HOLD, until: EARLIER } },
      { move: 'archive', sentence: 'archived, then deleted', at: LATER },
    ],
    [
      'a held subject that is being restored',
      { state: 'archived', archivals: [{ ...LEFT, returningAt: EARLIER }], hold: HOLD },
      {
        move: 'open',
        sentence: 'active again, when the home and the databases are restored',
        at: null,
      },
    ],
    [
      'a deleted subject whose archives are removed',
      { state: 'deleted', archivals: [{ ...LEFT, expiredAt: LATER }] },
      { move: 'none', sentence: 'nothing; it is deleted', at: null },
    ],
  ])('%s', (_, facts, next) => {
    expect(nextMove({ ...FACTS, ...facts })).toEqual(next);
  });
});

describe('a page says', () => {
  const rows = (facts: Partial<LeavingFacts>) => {
    const whole = { ...FACTS, ...facts };
    const { kind, state, account, ...rest } = whole;
    const page: LeavingPage = { ...rest, next: nextMove(whole) };
    return leavingRows(page, { kind, account, state, now: NOW });
  };

  test('nothing about an active subject', () => {
    expect(rows({ state: 'active', closed: null })).toEqual([]);
  });

  test('who closed the access, when, why and until when', () => {
    const closed = { at: EARLIER, by: 'steward', reason: 'spam', until: LATER };
    expect(rows({ kind: 'person', state: 'suspended', closed })).toEqual([
      ['suspended', 'since 2026-11-01 08:00:00Z by steward “spam”, until 2026-12-24 08:00:00Z'],
      ['next', 'reinstated: 2026-12-24 08:00:00Z, in 29 days'],
    ]);
  });

  test('who placed a hold, why and until when, even for an active subject', () => {
    expect(rows({ state: 'active', closed: null, hold: HOLD })).toEqual([
      [
        'held',
        'since 2026-11-01 08:00:00Z by steward “a dispute”, until 2026-12-24 08:00:00Z; not archived or deleted before then',
      ],
    ]);
  });

  test('that a hold without an end date ends when it is released', () => {
    const hold = { ...HOLD, until: '9999-12-31T00:00:00+00:00' };
    const page = rows({ state: 'disabled', closed: null, deleteAfter: EARLIER, hold });
    expect(page).toEqual([
      [
        'held',
        'since 2026-11-01 08:00:00Z by steward “a dispute”, until released; not archived or deleted before then',
      ],
      ['next', 'nothing until the hold is lifted'],
    ]);
  });

  test('what waits for an admin, and that a tool is orphaned', () => {
    const waiting = [
      {
        request: 'id',
        kind: 'person.delete',
        requestedBy: 'bob',
        at: EARLIER,
        why: 'another admin',
      },
    ];
    const page = rows({ state: 'active', closed: null, waiting, orphanedAt: EARLIER });
    expect(page.map(([name]) => name)).toEqual(['waits', 'orphaned']);
    expect(page[0]?.[1]).toBe(
      'person.delete, requested by bob 2026-11-01 08:00:00Z, request id: another admin',
    );
  });

  test('how far each role is with archiving', () => {
    const progress = { act: 'packing', done: 1_300_000_000, total: 3_600_000_000, at: EARLIER };
    const archivals = [
      { ...GOING, archives: [{ ...missing('homes'), progress }, missing('databases')] },
    ];
    expect(rows({ state: 'archived', archivals }).slice(-3)).toEqual([
      ['archived', 'from 2026-11-01 08:00:00Z'],
      ['archive', 'homes: now packing 1.2 GiB of 3.4 GiB'],
      ['archive', 'databases: not yet'],
    ]);
  });

  test('where the archives are, and until when they are kept', () => {
    expect(rows({ state: 'deleted', archivals: [LEFT] }).slice(-5)).toEqual([
      ['next', 'its archives are removed: 2026-12-24 08:00:00Z, in 29 days'],
      ['to restore', 'until then: `chamberlain restore tools.x`'],
      [
        'archived',
        'from 2026-11-01 08:00:00Z, deleted 2026-11-01 08:00:00Z, archives kept until 2026-12-24 08:00:00Z',
      ],
      [
        'archive',
        `homes: /srv/homes/tools.x.1, 3.3 MiB, read back 2026-11-01 08:00:00Z, SHA-256 of manifest.json ${HASH}`,
      ],
      ['archive', expect.stringContaining('databases: /srv/databases/tools.x.1')],
    ]);
    const expired = rows({ state: 'deleted', archivals: [{ ...LEFT, expiredAt: LATER }] });
    expect(expired.at(-1)?.[1]).toMatch(/; since removed$/u);
    const person = rows({ kind: 'person', state: 'deleted', archivals: [LEFT] });
    expect(expired.join()).not.toContain('restore');
    expect(person).toContainEqual([
      'to restore',
      'until then: `chamberlain submit person.restore --person tools.x --displayName NAME --email ADDRESS --wait`',
    ]);
  });

  test('until when the archives of a restored subject are kept', () => {
    const said = (facts: Partial<ArchivalPage>) =>
      rows({ state: 'active', closed: null, archivals: [{ ...BACK, ...facts }] })[0]?.[1];
    const [restored, time] = [
      'from 2026-11-01 08:00:00Z, deleted 2026-11-01 08:00:00Z, restored',
      ' 2026-11-01 08:00:00Z',
    ];
    expect(said({})).toBe(`${restored}${time}, archives kept until 2026-12-24 08:00:00Z`);
    expect(said({ expiredAt: LATER })).toBe(
      `${restored}${time}, archives removed 2026-12-24 08:00:00Z`,
    );
    const none = [missing('homes'), missing('databases')];
    expect(said({ archives: none })).toBe(`${restored}${time}`);
  });

  test('who requested a deletion, and who approved it', () => {
    const approved = { kind: 'person.delete', requestedBy: 'carol', by: 'steward', at: EARLIER };
    const facts = { kind: 'person', state: 'suspended', deleteAfter: LATER, approved } as const;
    expect(rows(facts)).toContainEqual([
      'approved',
      'person.delete, requested by carol, approved by steward 2026-11-01 08:00:00Z',
    ]);
  });

  test('what to do about an orphan, unless it is leaving', () => {
    const orphaned = (facts: Partial<LeavingFacts>) =>
      rows({ orphanedAt: EARLIER, ...facts }).find(([name]) => name === 'orphaned')?.[1];
    const said = 'since 2026-11-01 08:00:00Z: it has no maintainer who may log in';
    expect(orphaned({})).toBe(`${said}; an admin can add a maintainer with maintainer.add`);
    expect(orphaned({ deleteAfter: LATER })).toBe(said);
    expect(orphaned({ state: 'archived', archivals: [GOING] })).toBe(said);
  });
});

test('sizes and waits are in a form for people', () => {
  expect([0, 999, 1024, 10_240, 5 * 2 ** 20, 2 ** 40].map(formatBytes)).toEqual([
    '0 B',
    '999 B',
    '1.0 KiB',
    '10 KiB',
    '5.0 MiB',
    '1.0 TiB',
  ]);
  const after = (minutes: number) => new Date(NOW.getTime() + minutes * 60_000).toISOString();
  expect([-5, 0, 5, 300, 3000].map((minutes) => describeWait(after(minutes), NOW))).toEqual([
    'due',
    'due',
    'in 5 min',
    'in 5 h',
    'in 2 days',
  ]);
});
