/** Breaks long lines on a terminal between words, so that the rest stays in its column. */
import { stripVTControlCharacters } from 'node:util';
import { print } from './table.ts';

/** Two or more spaces begin a column; the mark of a step or a finding is not a column of its own. */
const COLUMN = /(?:^|(?<=\S)) {2,}(?:[-+~!?…×] )?(?=\S)/gu;

/** Writes a page to standard output: folded on a terminal, in whole lines for programs. */
export function printPage(text: string): void {
  // a terminal of unknown width reports 0
  const columns = process.stdout.columns || Number.POSITIVE_INFINITY;
  print(fold(text, columns));
}

/**
 * Breaks each line that is wider than `columns` between words. The rest is indented to the last column
 * that begins in the left half. A word that is wider than the remaining space stays whole.
 */
export function fold(text: string, columns: number): string {
  return text
    .split('\n')
    .flatMap((line) => (widthOf(line) <= columns ? [line] : foldLine(line, columns)))
    .join('\n');
}

function foldLine(line: string, columns: number): string[] {
  const starts = stripVTControlCharacters(line)
    .matchAll(COLUMN)
    .map(({ 0: gap, index }) => index + gap.length);
  const hang = Math.max(2, ...starts.filter((start) => start <= columns / 2));
  const fits = (before: string, word: string) => widthOf(before) + 1 + widthOf(word) <= columns;
  const lines: string[] = [];
  let current = '';
  for (const [at, word] of line.split(' ').entries()) {
    const isFresh = lines.length > 0 && current.trim() === '';
    if (isFresh) current += word;
    else if (widthOf(current.trimEnd()) > hang && !fits(current, word)) {
      lines.push(current.trimEnd());
      current = ' '.repeat(hang) + word;
    } else current = at === 0 ? word : `${current} ${word}`;
  }
  return [...lines, current.trimEnd()];
}

/** In code points, without colour codes. */
function widthOf(text: string): number {
  return Array.from(stripVTControlCharacters(text)).length;
}
