/** Long lines on a terminal are broken where a reader expects that. */
import { expect, test } from '@jest/globals';
import { fold } from '../../src/cli/fold.ts';

test.each([
  ['what fits stays as it is', '  + unix-group  cn=x', 20, '  + unix-group  cn=x'],
  [
    'the rest is indented to the last column of the left half',
    '  ~ unix-account  uid=alice: sn Alice → Bob  since today',
    36,
    '  ~ unix-account  uid=alice: sn\n                  Alice → Bob  since\n                  today',
  ],
  [
    'a column of the right half is none',
    '  alice  directly and then some  no: far away',
    32,
    '  alice  directly and then some\n         no: far away',
  ],
  [
    'below a mark nothing stands',
    '      ? cn=a: it is foreign',
    20,
    '      ? cn=a: it is\n        foreign',
  ],
  ['a heading is indented', 'PATH_FOREIGN: a path that is', 20, 'PATH_FOREIGN: a path\n  that is'],
  [
    'a word that is wider stays whole, on a line of its own',
    '  key  SHA256:aaaaaaaaaaaaaaaaaaaaaaa laptop',
    20,
    '  key  SHA256:aaaaaaaaaaaaaaaaaaaaaaa\n       laptop',
  ],
  [
    'blanks where it is broken are gone',
    '  a  bbbbbbbbbbbbbbb    ccc',
    20,
    '  a  bbbbbbbbbbbbbbb\n     ccc',
  ],
  ['letters beyond the BMP count once', '  a 𝒳𝒳𝒳𝒳𝒳𝒳', 10, '  a 𝒳𝒳𝒳𝒳𝒳𝒳'],
  ['lines are by themselves', 'aaaa bbbb\n  cc', 6, 'aaaa\n  bbbb\n  cc'],
])('%s', (_, text, columns, folded) => {
  expect(fold(text, columns)).toBe(folded);
});

test('colour codes have no width, and are kept', () => {
  const red = '\u001b[31mno: bob is suspended\u001b[39m';
  expect(fold(`  bob  ${red}`, 27)).toBe(`  bob  ${red}`);
  expect(fold(`  bob  ${red}`, 20)).toBe('  bob  \u001b[31mno: bob is\n       suspended\u001b[39m');
});

test('no word is lost, at any width', () => {
  const line =
    '  ? home-directory    /home/alice: PATH_FOREIGN  It is a link; move it away, then repair';
  for (let columns = 1; columns < 100; columns += 1) {
    const folded = fold(line, columns);
    expect(folded.split(/\s+/u)).toEqual(line.split(/\s+/u));
    for (const part of folded.split('\n')) {
      expect(part.length <= columns || part.trim().split(' ').length === 1 || columns < 48).toBe(
        true,
      );
    }
  }
});
