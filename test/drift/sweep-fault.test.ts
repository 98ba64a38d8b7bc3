/** How the faults of sweeps are worded. */
import { describe, expect, test } from '@jest/globals';
import { askRelease, sweepFault } from '../../src/drift/sweep-fault.ts';
import type { Sweep, SweepState } from '../../src/drift/sweeps-table.ts';

const NOW = new Date('2026-11-30T12:00:00Z');
const DAILY = { everyMinutes: 24 * 60 };
const LATEST_MS = 48 * 3_600_000 + 600_000;

const sweep = (state: SweepState, sentence: string | null, agoMs = 60_000): Sweep => ({
  ...{ id: 'an id', state, sentence, beganAt: new Date(NOW.getTime() - agoMs), endedAt: NOW },
  ...{ subjects: 9, drifted: 0, touched: 0, steps: 0, findings: 0, unreadable: 0, digest: 'abc' },
});

describe('nothing is wrong', () => {
  test.each(['running', 'clean', 'touched', 'frozen', 'moving'] as const)('with %s', (state) => {
    const last = sweep(state, 'why', LATEST_MS - 1);
    expect(sweepFault({ last, held: undefined }, DAILY, NOW)).toBeUndefined();
  });
  test('if there was no sweep yet', () => {
    expect(sweepFault({ last: undefined, held: undefined }, DAILY, NOW)).toBeUndefined();
  });
});

test.each<[SweepState, string | null, number, what: string, todo: RegExp]>([
  [
    ...(['unreadable', 'homes is away', 0] as const),
    'the last sweep could not read everything: homes is away',
    /`chamberlain sweep now`\.$/u,
  ],
  ['cut', null, 0, 'the last sweep was interrupted', /^The log of .* repeated by itself\.$/u],
  [
    ...(['clean', null, LATEST_MS] as const),
    'the last sweep began 2 d ago, though one should begin every 1440 min',
    /^The log of /u,
  ],
])('the last sweep is %s, %s', (state, sentence, agoMs, what, todo) => {
  const last = sweep(state, sentence, agoMs);
  expect(sweepFault({ last, held: undefined }, DAILY, NOW)).toEqual({
    what,
    todo: expect.stringMatching(todo),
  });
  // a sweep that is held is what an admin must decide on first
  expect(
    sweepFault(
      { last, held: sweep('held', `5 of 9 have drifted: ${askRelease('abc')}`) },
      DAILY,
      NOW,
    ),
  ).toEqual({
    what: 'the sweep is held: 5 of 9 have drifted',
    todo: 'Read `chamberlain plan --all`; if that should be done, run `chamberlain sweep release --expect abc`.',
  });
});
