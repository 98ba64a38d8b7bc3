import { expect, test } from '@jest/globals';
import {
  changesFrom,
  concealment,
  olderThan,
  parseCsns,
  shortness,
  staleness,
} from '../../src/login-host/trust.ts';

const csn = (seconds: number, server: string, count = 0) =>
  `202611241759${String(seconds).padStart(2, '0')}.000000Z#${String(count).padStart(6, '0')}#${server}#000000`;
const NOW = Date.parse('2026-11-24T18:00:00Z');
const marker = (changes: object = {}) => ({
  at: '2026-11-24T18:00:00.000Z',
  people: 100,
  keyed: 80,
  overdue: [],
  ...changes,
});

test('one CSN is known of each server that writes; what is none is left out', () => {
  const values = [csn(1, '001'), csn(2, '00a'), 'nonsense', ''];
  expect(parseCsns(values)).toEqual({ '001': csn(1, '001'), '00a': csn(2, '00a') });
});

test.each([
  ['the same', { '001': csn(5, '001') }, { '001': csn(5, '001') }, false],
  ['a later one', { '001': csn(6, '001') }, { '001': csn(5, '001') }, false],
  [
    'another server beside',
    { '001': csn(5, '001'), '002': csn(1, '002') },
    { '001': csn(5, '001') },
    false,
  ],
  ['an earlier one', { '001': csn(4, '001') }, { '001': csn(5, '001') }, true],
  [
    'the same second, a lower count',
    { '001': csn(5, '001', 1) },
    { '001': csn(5, '001', 2) },
    true,
  ],
  [
    'one of two is earlier',
    { '001': csn(9, '001'), '002': csn(1, '002') },
    { '001': csn(5, '001'), '002': csn(2, '002') },
    true,
  ],
  [
    'one of two is gone',
    { '001': csn(9, '001') },
    { '001': csn(5, '001'), '002': csn(2, '002') },
    true,
  ],
  ['none at all', {}, {}, true],
])('an older copy is known by its contextCSN: %s', (_, now, known, isOlder) => {
  expect(olderThan(now, known) !== undefined).toBe(isOlder);
});

test('changes are read from the last CSN of whichever server has written; of a new one, from the lowest', () => {
  const known = { '001': csn(5, '001'), '002': csn(1, '002') };
  expect(changesFrom(known, known)).toBeUndefined();
  expect(changesFrom({ ...known, '001': csn(9, '001') }, known)).toBe(csn(5, '001'));
  expect(changesFrom({ ...known, '003': csn(8, '003') }, known)).toBe(csn(1, '002'));
  expect(changesFrom(known, {})).toBe(csn(1, '002'));
});

test.each([
  ['of now', marker(), NOW, 0, undefined],
  ['a minute old', marker(), NOW + 60_000, 0, undefined],
  ['older', marker(), NOW + 60_001, 0, /not been heard of for 60 s/],
  ['of the future', marker(), NOW - 61_000, 0, /61 s ahead of this host's clock/],
  ['none', undefined, NOW, 0, /no marker/],
  ['of now, by a clock that went back', marker(), NOW, NOW + 3000, /gone back by 3 s/],
  ['of now, by a clock that was set right', marker(), NOW, NOW + 2000, undefined],
])('a marker is believed or not: %s', (_, seen, now, lastClock, why) => {
  const found = staleness(seen, now, lastClock);
  if (why === undefined) expect(found).toBeUndefined();
  else expect(found).toMatch(why);
});

test.each([
  [100, undefined],
  [107, undefined],
  [99, /shows 99 people where there are 100/],
  [0, /shows 0 people/],
])('%i people are all of them, or not', (people, why) => {
  const found = shortness(people, marker());
  if (why === undefined) expect(found).toBeUndefined();
  else expect(found).toMatch(why);
});

test.each([
  [100, 80, undefined],
  [50, 40, undefined],
  [100, 39, /keys of 39 people where 80 have some/],
  [49, 80, /of 100 people no more than 49 are taken/],
])(
  '%i accounts that are taken and %i people with keys are shown, or hidden',
  (taken, keyed, why) => {
    const found = concealment({ taken, keyed }, marker());
    if (why === undefined) expect(found).toBeUndefined();
    else expect(found).toMatch(why);
  },
);
