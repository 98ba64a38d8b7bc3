/** Names that a request may create. An accepted name becomes a user, a path, a DN and a grant. */
import { describe, expect, test } from '@jest/globals';
import {
  isDisplayName,
  isReservedToolName,
  normalName,
  parseNewShellName,
  parseNewToolName,
} from '../../src/identity/names.ts';

/** Invalid in every grammar: each would have another meaning in a shell, path, list or pattern, or to a person. */
const HOSTILE = [
  ...['', ' ', '\n', '\0', '.', '..', '-', '-rf', '--', '*', '?', '%', '#', '~', '!x', '@x', '+x'],
  ...['0', '42', '1000', '0x1f', '1a', 'a.b', 'a_b', 'a b', 'a/b', '../x', 'a:b', 'a,b', 'a=b'],
  ...['a*', 'a?', 'a%', 'a\\', "a'", 'a"', 'a`', 'a$b', 'a$', 'a;b', 'a|b', 'a(b', 'a)b', 'a@b'],
  ...['A', 'Alice', 'aLice', 'é', 'ａlice', 'аlice', 'ß', 'x\u0301', '\u202ex', 'x\u200d', '🤖'],
  ...[
    'x\n',
    'x\r',
    'x\r\n',
    '\nx',
    'x\ny',
    'x\0',
    'x\ty',
    'x ',
    ' x',
    'x\u00a0',
    'x\u2028',
    'x\x7f',
  ],
];

describe('a new shell name', () => {
  test.each(['a', 'alice', 'a1', 'a-b', 'a-', 'x'.repeat(31)])('may be %j', (name) => {
    expect(parseNewShellName(name)).toBe(name);
  });

  test.each([...HOSTILE, 'x'.repeat(32)])('is not %j', (name) => {
    expect(parseNewShellName(name)).toBeUndefined();
  });
});

describe('a new tool name', () => {
  test.each(['a', 'bot', 'a1', 'a-b', 'x'.repeat(26)])('may be %j', (name) => {
    expect(parseNewToolName(name)).toBe(name);
  });

  test.each([...HOSTILE, 'a-', 'tools.x', 'x'.repeat(27)])('is not %j', (name) => {
    expect(parseNewToolName(name)).toBeUndefined();
  });

  test.each(['root', 'sudo', 'wheel', 'realm', 'chamberlain', 'disabled'])(
    'that people would trust as the platform’s own, %s, is reserved',
    (name) => {
      expect(isReservedToolName(name)).toBe(true);
    },
  );
});

test.each([
  ['Alice', 'alice'],
  ['ＡＬＩＣＥ', 'alice'],
  [' Alice \t\n Over ', 'alice over'],
  ['alice\u00a0over', 'alice over'],
  ['\ufb01t', 'fit'],
])('%j and %j are the same name', (one, other) => {
  expect(normalName(one)).toBe(other);
});

test.each([
  ...['a\n', '\na', 'a\nb', 'a\0', 'a\u2028b', 'a\u202e', 'a\u200d', ' a', 'a ', 'a  b', ''],
  ...['\u3164', 'a\u3164', '\u115f', '\u1160', '\uffa0', '\u2800', 'a \u2800', 'a\u034f'],
])('%j is not a display name', (name) => {
  expect(isDisplayName(name)).toBe(false);
});
