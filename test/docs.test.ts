/** The documents: their generated parts are those of the code, and every link leads somewhere. */
import { existsSync, globSync, readFileSync } from 'node:fs';
import { dirname, join, relative } from 'node:path';
import { describe, expect, test } from '@jest/globals';
import { fieldsOf } from '../src/cli/kinds.ts';
import { CODES } from '../src/shared/errors.ts';
import { REQUEST_KINDS } from '../src/requests/schema.ts';
import { expectGolden } from './golden.ts';

const ROOT = join(import.meta.dirname, '..');
const PAGES = globSync(['*.md', 'docs/**/*.md'], { cwd: ROOT }).sort();

const read = (page: string) => readFileSync(join(ROOT, page), 'utf8');

test('README has at most 200 lines', () => {
  expect(read('README.md').split('\n').length).toBeLessThanOrEqual(201);
});

test('docs/errors.md is made from src/shared/errors.ts', () => {
  const rows = Object.entries(CODES).map(
    ([code, { retry, meaning, action }]) =>
      `## ${code}\n\n${meaning} ${action}${retry ? ' Chamberlain tries again by itself.' : ''}`,
  );
  expectGolden('../../docs/errors.md', ERRORS_HEAD + rows.join('\n\n'));
});

const ERRORS_HEAD = `# Error codes

Each error has a code, for programs, and a sentence, for people. A code never changes its meaning. A command prints
\`CODE: sentence. What to do.\` on standard error; a portal receives the code and the sentence in the verdict and in
events. This page is made from \`src/shared/errors.ts\`.

`;

describe('docs/portals.md names, of each kind of request, every field', () => {
  const page = read('docs/portals.md');
  const rows = page
    .slice(page.indexOf('## What can be asked'))
    .split('\n')
    .filter((line) => line.startsWith('|'));
  test.each(REQUEST_KINDS)('%s', (kind) => {
    const row = rows.find((line) => line.includes(`\`${kind}\``)) ?? '';
    for (const { name } of fieldsOf(kind)) expect(row).toMatch(new RegExp(`\`${name}\\??\``));
  });
});

describe('every link leads to a file, and to a heading in it:', () => {
  test.each(PAGES)('%s', (page) => {
    for (const target of linksOf(read(page))) {
      const [path = '', heading] = target.split('#');
      const file = path === '' ? page : relative(ROOT, join(ROOT, dirname(page), path));
      expect([target, existsSync(join(ROOT, file))]).toEqual([target, true]);
      if (heading !== undefined) expect(headingsOf(read(file))).toContain(heading);
    }
  });
});

/** The targets of links within the project. */
function linksOf(text: string): string[] {
  return [...text.matchAll(/\]\((?!https?:)([^)\s]+)\)/g)].map(([, target = '']) => target);
}

/** As the hosts of repositories name headings in links. */
function headingsOf(text: string): string[] {
  const outside = text.replaceAll(/^```.*?^```/gms, '');
  return [...outside.matchAll(/^#+ (.*)$/gm)].map(([, heading = '']) =>
    heading
      .toLowerCase()
      .replaceAll(/[^\p{L}\p{N} _-]/gu, '')
      .replaceAll(' ', '-'),
  );
}
