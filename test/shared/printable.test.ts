/** Text that others wrote is shown on one line, and controls nothing. */
import { expect, test } from '@jest/globals';
import { printable, quote } from '../../src/shared/printable.ts';

test.each([
  ['a line end', 'a\nb'],
  ['what clears a terminal', 'a\u009bb'],
  ['what turns the direction of writing', 'a\u202eb'],
  ['a blank without width', 'a\u200bb'],
  ['a line separator', 'a\u2028b'],
  ['a paragraph separator', 'a\u2029b'],
  ['half a pair', 'a\ud83db'],
])('%s is shown as a question mark', (_, text) => {
  expect([printable(text), quote(text)]).toEqual(['a?b', '"a?b"']);
});

test('letters of any kind stay as they are', () => {
  expect(printable('Ключ «ноутбук» 🔑 é')).toBe('Ключ «ноутбук» 🔑 é');
});

test('a quoted text ends where its quotes end, and is not long', () => {
  expect(quote('a "b" \\')).toBe('"a \\"b\\" \\\\"');
  expect(quote('🔑'.repeat(61))).toBe(`"${'🔑'.repeat(60)}…"`);
  expect(quote('abc', 2)).toBe('"ab…"');
});
