/** Which listed things a word on the command line names. */
import { describe, expect, test } from '@jest/globals';
import { countKinds, thingsNamed } from '../../src/unmanaged/unmanaged.ts';

const BASE = 'dc=example,dc=org';
const things = [
  { object: `uid=eve,ou=people,${BASE}`, name: 'eve', number: 1003 },
  { object: '/home/eve', name: 'eve', number: 1003 },
  { object: 's5004@%', name: 's5004', number: 5004 },
  { object: 's5004@%', name: 's5004', number: 5004 },
  { object: `cn=1003,ou=groups,${BASE}`, name: '1003', number: null },
];
const named = (word: string) => thingsNamed(things, word, BASE).map(({ object }) => object);

describe('a word names', () => {
  test.each([
    ['the object itself', 's5004@%', ['s5004@%', 's5004@%']],
    ['a DN in other case, with blanks', `UID=Eve, ou=People,${BASE}`, [things[0]?.object]],
    ['a DN without the base', 'uid=eve,ou=people', [things[0]?.object]],
    ['all that has the name', 'eve', [things[0]?.object, '/home/eve']],
    [
      'what has the number, or is called so',
      '1003',
      [things[0]?.object, '/home/eve', things[4]?.object],
    ],
    ['nothing where nothing is called so', 'ev', []],
    ['nothing where it is empty', ' ', []],
  ])('%s', (_, word, expected) => {
    expect(named(word)).toEqual(expected);
  });
});

test('kinds are counted, worst first', () => {
  const kinds = (['home', 'entry', 'account', 'entry', 'database user'] as const).map((kind) => ({
    kind,
  }));
  expect(countKinds(kinds)).toBe('1 account, 2 entries, 1 home, 1 database user');
});
