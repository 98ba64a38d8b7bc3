/** Canonical JSON, and characters that PostgreSQL cannot store. Pure. */
import { expect, test } from '@jest/globals';
import { canonicalJson, withoutNuls } from '../../src/shared/canonical-json.ts';

test('keys are sorted', () => {
  expect(canonicalJson({ b: [{ d: 1, c: 2 }], a: null })).toBe('{"a":null,"b":[{"c":2,"d":1}]}');
});

test.each([
  ['a\0b\0', 'a\uFFFDb\uFFFD'],
  ['\\u0000', '\\u0000'],
  ['\\\0', '\\\uFFFD'],
  ['\\\\u0000\0"', '\\\\u0000\uFFFD"'],
  ['😀\n\u0001', '😀\n\u0001'],
])('U+0000 becomes U+FFFD, and nothing else is changed: %j', (text, without) => {
  expect(JSON.parse(withoutNuls(JSON.stringify({ [text]: [text] })))).toEqual({
    [without]: [without],
  });
});
