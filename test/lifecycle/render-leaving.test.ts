/** What happens next to who leaves is the table above nextMove; how it is told is golden text. */
import { describe, expect, test } from '@jest/globals';
import {
  type ArchivalPage,
  type LeavingFacts,
  type LeavingPage,
  nextMove,
} from '../../src/lifecycle/leaving.ts';
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
    ['who is active', { state: 'active', closed: null }, null],
    [
      'a person who is to be erased',
      {
        kind: 'person',
        state: 'suspended',
        deleteAfter: EARLIER,
        erasing: { at: LATER, request: 'r' },
      },
      { move: 'erase', sentence: 'erased for good, archives too', at: LATER },
    ],
    [
      'a tool that is to be deleted',
      { deleteAfter: LATER },
      { move: 'put away', sentence: 'put away into archives, then deleted', at: LATER },
    ],
    [
      'a person who is to be deleted, whatever day was named before',
      {
        kind: 'person',
        state: 'suspended',
        deleteAfter: EARLIER,
        closed: { at: EARLIER, by: 'a', reason: 'b', until: LATER },
      },
      { move: 'put away', sentence: 'put away into archives, then deleted', at: EARLIER },
    ],
    [
      'who is suspended until a day',
      {
        kind: 'person',
        state: 'suspended',
        closed: { at: EARLIER, by: 'a', reason: 'b', until: LATER },
      },
      { move: 'reinstate', sentence: 'reinstated', at: LATER },
    ],
    [
      'who is suspended',
      { kind: 'person', account: 'alice', state: 'suspended' },
      {
        move: 'none',
        sentence: 'nothing by itself: alice stays suspended until reinstated',
        at: null,
      },
    ],
    [
      'a tool that is disabled',
      {},
      {
        move: 'none',
        sentence: 'nothing by itself: tools.x stays disabled until enabled',
        at: null,
      },
    ],
    [
      'what is being put away',
      { state: 'archived', archivals: [BACK, GOING] },
      {
        move: 'delete',
        sentence: 'deleted, when all is put away and read back; missing: home',
        at: null,
      },
    ],
    [
      'what is being brought back',
      { state: 'archived', archivals: [{ ...LEFT, returningAt: EARLIER }] },
      {
        move: 'open',
        sentence: 'open again, when its home and its databases are back in place',
        at: null,
      },
    ],
    [
      'what was deleted',
      { state: 'deleted', archivals: [LEFT] },
      { move: 'remove archives', sentence: 'its archives are removed', at: LATER },
    ],
    [
      'what is held beyond its day',
      { deleteAfter: EARLIER, hold: HOLD },
      { move: 'held', sentence: 'nothing until the hold ends', at: LATER },
    ],
    [
      'what was deleted, and is held for longer than it is kept',
      { state: 'deleted', archivals: [{ ...LEFT, keepUntil: EARLIER }], hold: HOLD },
      { move: 'held', sentence: 'nothing until the hold ends', at: LATER },
    ],
    [
      'what is being put away, and held',
      { state: 'archived', archivals: [GOING], hold: HOLD },
      { move: 'held', sentence: 'nothing until the hold ends', at: LATER },
    ],
    [
      'what is held for a shorter time',
      { deleteAfter: LATER, hold: { ...HOLD, until: EARLIER } },
      { move: 'put away', sentence: 'put away into archives, then deleted', at: LATER },
    ],
    [
      'what is being brought back, and held',
      { state: 'archived', archivals: [{ ...LEFT, returningAt: EARLIER }], hold: HOLD },
      {
        move: 'open',
        sentence: 'open again, when its home and its databases are back in place',
        at: null,
      },
    ],
    [
      'what was kept long enough',
      { state: 'deleted', archivals: [{ ...LEFT, expiredAt: LATER }] },
      { move: 'none', sentence: 'nothing: it is deleted', at: null },
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

  test('nothing of who stays', () => {
    expect(rows({ state: 'active', closed: null })).toEqual([]);
  });

  test('who closed it, when, why and until when', () => {
    const closed = { at: EARLIER, by: 'steward', reason: 'spam', until: LATER };
    expect(rows({ kind: 'person', state: 'suspended', closed })).toEqual([
      ['suspended', 'since 2026-11-01 08:00:00Z by steward “spam”, until 2026-12-24 08:00:00Z'],
      ['next', 'reinstated: 2026-12-24 08:00:00Z, in 29 days'],
    ]);
  });

  test('who holds it, why and until when, though it is active', () => {
    expect(rows({ state: 'active', closed: null, hold: HOLD })).toEqual([
      [
        'held',
        'since 2026-11-01 08:00:00Z by steward “a dispute”, until 2026-12-24 08:00:00Z: not deleted',
      ],
    ]);
  });

  test('that a hold which ends by no date ends when it is released', () => {
    const hold = { ...HOLD, until: '9999-12-31T00:00:00+00:00' };
    const page = rows({ state: 'disabled', closed: null, deleteAfter: EARLIER, hold });
    expect(page).toEqual([
      ['held', 'since 2026-11-01 08:00:00Z by steward “a dispute”, until released: not deleted'],
      ['next', 'nothing until the hold is released'],
    ]);
  });

  test('what waits for an admin, and that nobody maintains it', () => {
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
      'person.delete, asked for by bob 2026-11-01 08:00:00Z, request id: another admin',
    );
  });

  test('how far each role is with putting away', () => {
    const progress = { act: 'packing', done: 1_300_000_000, total: 3_600_000_000, at: EARLIER };
    const archivals = [
      { ...GOING, archives: [{ ...missing('homes'), progress }, missing('databases')] },
    ];
    expect(rows({ state: 'archived', archivals }).slice(-3)).toEqual([
      ['put away', 'from 2026-11-01 08:00:00Z'],
      ['archive', 'homes: now packing 1.2 GiB of 3.4 GiB'],
      ['archive', 'databases: not yet'],
    ]);
  });

  test('where what was put away lies, and until when', () => {
    expect(rows({ state: 'deleted', archivals: [LEFT] }).slice(-5)).toEqual([
      ['next', 'its archives are removed: 2026-12-24 08:00:00Z, in 29 days'],
      ['comes back', 'until then by `chamberlain restore tools.x`'],
      [
        'put away',
        'from 2026-11-01 08:00:00Z, deleted 2026-11-01 08:00:00Z, archives kept until 2026-12-24 08:00:00Z',
      ],
      [
        'archive',
        `homes: /srv/homes/tools.x.1, 3.3 MiB, read back 2026-11-01 08:00:00Z, SHA-256 of manifest.json ${HASH}`,
      ],
      ['archive', expect.stringContaining('databases: /srv/databases/tools.x.1')],
    ]);
    const expired = rows({ state: 'deleted', archivals: [{ ...LEFT, expiredAt: LATER }] });
    expect(expired.at(-1)?.[1]).toMatch(/; removed since$/u);
    const person = rows({ kind: 'person', state: 'deleted', archivals: [LEFT] });
    expect(expired.join()).not.toContain('restore');
    expect(person).toContainEqual([
      'comes back',
      'until then by `chamberlain submit person.restore --person tools.x --displayName NAME --email ADDRESS --wait`',
    ]);
  });

  test('until when the archives of what came back are kept', () => {
    const said = (facts: Partial<ArchivalPage>) =>
      rows({ state: 'active', closed: null, archivals: [{ ...BACK, ...facts }] })[0]?.[1];
    const [back, time] = [
      'from 2026-11-01 08:00:00Z, deleted 2026-11-01 08:00:00Z, back',
      ' 2026-11-01 08:00:00Z',
    ];
    expect(said({})).toBe(`${back}${time}, archives kept until 2026-12-24 08:00:00Z`);
    expect(said({ expiredAt: LATER })).toBe(`${back}${time}, kept until 2026-12-24 08:00:00Z`);
  });

  test('who asked for a deletion, and who approved it', () => {
    const approved = { kind: 'person.delete', requestedBy: 'carol', by: 'steward', at: EARLIER };
    const facts = { kind: 'person', state: 'suspended', deleteAfter: LATER, approved } as const;
    expect(rows(facts)).toContainEqual([
      'approved',
      'person.delete, asked for by carol, by steward 2026-11-01 08:00:00Z',
    ]);
  });

  test('what to do about an orphan, unless it is leaving', () => {
    const orphaned = (facts: Partial<LeavingFacts>) =>
      rows({ orphanedAt: EARLIER, ...facts }).find(([name]) => name === 'orphaned')?.[1];
    const said = 'since 2026-11-01 08:00:00Z: nobody who may log in maintains it';
    expect(orphaned({})).toBe(`${said}; an admin can name somebody by maintainer.add`);
    expect(orphaned({ deleteAfter: LATER })).toBe(said);
    expect(orphaned({ state: 'archived', archivals: [GOING] })).toBe(said);
  });
});

test('sizes and waits are told as people tell them', () => {
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
