import { describe, expect, test } from '@jest/globals';
import { allot } from '../../src/requests/turns.ts';

describe('places are allotted', () => {
  const urgent = (n: number) => ({ urgent: n, other: 0 });
  const other = (n: number) => ({ urgent: 0, other: n });
  test.each([
    ['all to the only portal that has something', [other(0), other(9)], 4, 0, [other(0), other(4)]],
    [
      'evenly, however much waits',
      [urgent(999), other(2), other(9)],
      6,
      0,
      [urgent(2), other(2), other(2)],
    ],
    [
      'to the others if one does not need its share',
      [other(1), other(9)],
      6,
      0,
      [other(1), other(5)],
    ],
    [
      'the odd place to the portal whose turn it is',
      [other(9), other(9)],
      3,
      1,
      [other(1), other(2)],
    ],
    ['to urgent jobs first', [{ urgent: 2, other: 9 }], 3, 0, [{ urgent: 2, other: 1 }]],
    ['to nobody if nothing waits', [other(0)], 3, 0, [other(0)]],
  ])('%s', (_what, waiting, most, turn, shares) => {
    expect(allot(waiting, most, turn).shares).toEqual(shares);
  });

  test('one at a time, to all alike, however many portals with nothing are between them', () => {
    const waiting = [other(9), other(9), ...Array.from({ length: 30 }, () => other(0))];
    const got: number[] = [];
    for (let turn = 0; got.length < 6;) {
      const { shares, next } = allot(waiting, 1, turn);
      got.push(shares.findIndex((share) => share.other === 1));
      turn = next;
    }
    expect(got).toEqual([0, 1, 0, 1, 0, 1]);
  });
});
