import { describe, expect, test } from '@jest/globals';
import fc from 'fast-check';
import { idPattern } from '../../deploy/ldap/render.ts';

describe('the pattern of id ranges', () => {
  test('is short for the ranges of a usual realm', () => {
    expect(
      idPattern([
        { first: 1000, last: 49_999 },
        { first: 100_000, last: 499_999 },
      ]),
    ).toBe('^([1-9][0-9]{3}|[1-4][0-9]{4}|[1-4][0-9]{5})$');
  });

  test('matches the numbers of its ranges and no others', () => {
    const bound = fc.integer({ min: 1, max: 20_000 });
    fc.assert(
      fc.property(bound, bound, (one, other) => {
        const [first, last] = [Math.min(one, other), Math.max(one, other)];
        const pattern = new RegExp(idPattern([{ first, last }]));
        for (const id of [0, 1, first - 1, first, first + 1, last - 1, last, last + 1, 99_999]) {
          expect(pattern.test(String(id))).toBe(id >= first && id <= last);
        }
        const middle = Math.floor((first + last) / 2);
        expect(pattern.test(String(middle))).toBe(true);
      }),
    );
  });

  test('matches only numbers made of digits', () => {
    const pattern = new RegExp(idPattern([{ first: 1, last: 99 }]));
    for (const text of ['', '01', '1 ', '-1', '1.5', '1000', '1\n']) {
      expect(pattern.test(text)).toBe(false);
    }
  });
});
