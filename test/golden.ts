/** Golden texts: what people see, kept in test/golden. UPDATE_GOLDEN=1 writes them anew. */
import { mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { expect } from '@jest/globals';

/** Compares a text with its golden file; a line end at its end does not count. */
export function expectGolden(name: string, text: string): void {
  const path = join(import.meta.dirname, 'golden', name);
  const actual = `${text.trimEnd()}\n`;
  if (process.env['UPDATE_GOLDEN'] === '1') {
    mkdirSync(dirname(path), { recursive: true });
    writeFileSync(path, actual);
  }
  expect(actual).toBe(readFileSync(path, 'utf8'));
}
