import { expect, test } from '@jest/globals';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { CODES } from '../src/errors.ts';
import { fieldsOf } from '../src/bin/kinds.ts';
import { REQUEST_KINDS } from '../src/model/request.ts';

const README = readFileSync(join(import.meta.dirname, '../README.md'), 'utf8');

test('the table of codes is that of src/errors.ts', () => {
  const rows = [
    ['code', 'again', 'what it means', 'what to do'],
    ...Object.entries(CODES).map(([code, { retry, meaning, action }]) => [
      `\`${code}\``,
      retry ? 'yes' : '',
      meaning,
      action,
    ]),
  ];
  // where the two differ, this is what belongs between the marks
  expect(readTable('codes')).toBe(renderTable(rows));
});

test('every kind of request is told, with all of its fields', () => {
  const table = README.slice(README.indexOf('### What can be asked'));
  for (const kind of REQUEST_KINDS) {
    const row = table
      .split('\n')
      .find((line) => line.startsWith('|') && line.includes(`\`${kind}\``));
    expect(row).toBeDefined();
    for (const { name } of fieldsOf(kind)) {
      expect(`${kind}: ${row}`).toMatch(new RegExp(`\`${name}\\??\``));
    }
  }
});

/** The table between two marks, its cells without the blanks that align them. */
function readTable(mark: string): string {
  const between = README.split(`<!-- ${mark} -->`)[1]?.split(`<!-- /${mark} -->`)[0] ?? '';
  const rows = between
    .split('\n')
    .filter((line) => line.startsWith('|') && !/^[|\s-]+$/.test(line))
    .map((line) =>
      line
        .slice(1, -1)
        .split('|')
        .map((cell) => cell.trim()),
    );
  return renderTable(rows);
}

function renderTable(rows: readonly (readonly string[])[]): string {
  const [head = [], ...body] = rows;
  const line = (cells: readonly string[]) => `| ${cells.join(' | ')} |`;
  return [line(head), line(head.map(() => '---')), ...body.map(line)].join('\n');
}
