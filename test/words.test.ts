/** Retired words: docs/glossary.md has the words that the code, the messages and the documents use. */
import { globSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, test } from '@jest/globals';

const ROOT = join(import.meta.dirname, '..');
const FILES = globSync(
  ['{src,workers,migrations,dev,deploy,bench,test}/**/*.{ts,sql,ldif,txt,md}', '{docs/**/,}*.md'],
  {
    cwd: ROOT,
    exclude: (name) => name === 'node_modules' || name === 'words.test.ts',
  },
)
  .filter((file) => file !== 'CHANGELOG.md') // it may name what things were called
  .sort();

/** Each retired word, alone or as a part of an identifier, and what to say. */
const RETIRED: Record<string, string> = {
  eyes: 'reader',
  hands: 'writer',
  errand: 'background task',
  taker: 'caller',
  departure: 'archival',
  departures: 'archivals',
  pacing: 'throttle',
  breathe: 'yield',
  standstill: 'blockers',
  takeover: 'import batch',
  founded: 'bootstrapped',
  portrait: 'snapshot',
};
/** Tests may use these in their own sense, e.g. for a person who is a stranger to the realm. */
const RETIRED_OUTSIDE_TESTS: Record<string, string> = {
  door: 'access',
  doors: 'access',
  stranger: 'unmanaged',
  strangers: 'unmanaged',
  stray: 'unmanaged',
  strays: 'unmanaged',
  foreign: 'unmanaged',
};
const PHRASES: [RegExp, string][] = [
  [/\bput(s|ting)? away\b/i, 'archive'],
  [/\b(bring(s|ing)?|brought) back\b/i, 'restore'],
  [/\bshut(s|ting)? out\b/i, 'revoke the access of'],
  [/\braise[sd]? (a|the) (row|generation)\b/i, 'touch'],
];
/** Words of others: error codes, SQL, and the names of figures. */
const OTHERS = /\b\w*FOREIGN\b|\bFOREIGN KEY\b|\bforeign_key_checks\b|\b\w+_takeover_ms\b/g;

const wordsOf = (line: string) =>
  line
    .replaceAll(/([a-z0-9])(?=[A-Z])/g, '$1 ')
    .toLowerCase()
    .split(/[^a-z]+/);

describe('no retired word is in', () => {
  test.each(FILES)('%s', (file) => {
    const retired = file.startsWith('test/') ? RETIRED : { ...RETIRED, ...RETIRED_OUTSIDE_TESTS };
    const faults = readFileSync(join(ROOT, file), 'utf8')
      .replaceAll(OTHERS, '')
      .split('\n')
      .flatMap((line, at) =>
        [
          ...wordsOf(line).flatMap((word) =>
            Object.hasOwn(retired, word) ? [`${word}: say ${retired[word]}`] : [],
          ),
          ...PHRASES.flatMap(([phrase, say]) => {
            const [found] = phrase.exec(line) ?? [];
            return found === undefined ? [] : [`${found}: say ${say}`];
          }),
        ].map((fault) => `line ${at + 1}: ${fault}`),
      );
    expect(faults).toEqual([]);
  });
});
