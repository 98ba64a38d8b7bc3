/** What people read on a terminal: aligned columns, colour, ages. Plain text where nobody watches. */
import { styleText } from 'node:util';
import { printable } from '../shared/printable.ts';
import { spanOf } from '../shared/time.ts';

type Style = 'bold' | 'dim' | 'green' | 'yellow' | 'red' | 'cyan';

/** Colours a text: only where the stream is a terminal, and never against NO_COLOR. */
export function paint(
  style: Style,
  text: string,
  stream: NodeJS.WriteStream = process.stdout,
): string {
  return styleText(style, text, { stream });
}

/** As `printable`: what others wrote does not steer a terminal. */
export function withoutControls(text: string): string {
  return printable(text);
}

/** Aligns rows in columns, two blanks between, the last one not padded. Absent cells are `-`. */
export function renderTable(
  headings: readonly string[],
  rows: readonly (readonly (string | number | null | undefined)[])[],
): string {
  const cells = rows.map((row) =>
    row.map((cell) =>
      cell === null || cell === undefined || cell === '' ? '-' : withoutControls(String(cell)),
    ),
  );
  const widths = headings.map((heading, column) =>
    Math.max(heading.length, ...cells.map((row) => lengthOf(row[column] ?? ''))),
  );
  const line = (row: readonly string[]) =>
    row
      .map((cell, column) =>
        column === row.length - 1
          ? cell
          : cell + ' '.repeat((widths[column] ?? 0) - lengthOf(cell)),
      )
      .join('  ');
  return [paint('dim', line(headings)), ...cells.map(line)].join('\n');
}

/** `3 s`, `12 min`, `5 h`, `9 d`: how long ago. */
export function renderAge(since: Date, now: Date): string {
  return spanOf(now.getTime() - since.getTime());
}

let beforePrint = () => {};

/** Does that before a line is written: a line that moves is erased. */
export function onPrint(act: () => void): void {
  beforePrint = act;
}

/** Writes a line to standard output. */
export function print(text: string): void {
  beforePrint();
  process.stdout.write(`${text}\n`);
}

/** Writes one JSON value on a line of its own. */
export function printJson(value: unknown): void {
  print(JSON.stringify(value));
}

/** In code points: letters outside the BMP count once. */
function lengthOf(text: string): number {
  return Array.from(text).length;
}
