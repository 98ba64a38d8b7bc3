import { expect, test } from '@jest/globals';
import { changesFrom, olderThan, parseCsns } from '../../../src/login-host/agent/csns.ts';

const csn = (seconds: number, server: string, count = 0) =>
  `202611241759${String(seconds).padStart(2, '0')}.000000Z#${String(count).padStart(6, '0')}#${server}#000000`;

test('one CSN is known of each server that writes; invalid ones are left out', () => {
  const values = [csn(1, '001'), csn(2, '00a'), 'nonsense', ''];
  expect(parseCsns(values)).toEqual({ '001': csn(1, '001'), '00a': csn(2, '00a') });
});

test.each([
  ['the same', { '001': csn(5, '001') }, { '001': csn(5, '001') }, false],
  ['a later one', { '001': csn(6, '001') }, { '001': csn(5, '001') }, false],
  [
    'an additional server',
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
])('an older copy is recognised by its contextCSN: %s', (_, now, known, isOlder) => {
  expect(olderThan(now, known) !== undefined).toBe(isOlder);
});

test('changes are read from the last CSN of the server that has written; for a new server, from the lowest', () => {
  const known = { '001': csn(5, '001'), '002': csn(1, '002') };
  expect(changesFrom(known, known)).toBeUndefined();
  expect(changesFrom({ ...known, '001': csn(9, '001') }, known)).toBe(csn(5, '001'));
  expect(changesFrom({ ...known, '003': csn(8, '003') }, known)).toBe(csn(1, '002'));
  expect(changesFrom(known, {})).toBe(csn(1, '002'));
});
