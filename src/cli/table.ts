/** Output for people: aligned columns, colour, ages. Plain text where there is no terminal. */
import { styleText } from 'node:util';
import { printable } from '../shared/printable.ts';
import { spanOf } from '../shared/time.ts';

type Style = 'bold' | 'dim' | 'green' | 'yellow' | 'red' | 'cyan';

/** Colours a text, but only if the stream is a terminal and NO_COLOR is not set. */
export function paint(
  style: Style,
  text: string,
  stream: NodeJS.WriteStream = process.stdout,
): string {
  return styleText(style, text, { stream });
}

type Cell = string | number | null | undefined;

/** A column of a table: its heading, and what it shows of a row. */
export type Column<Row> = readonly [heading: string, cell: (row: Row) => Cell];

/** A table with a line for each row. */
export function renderColumns<Row>(rows: readonly Row[], columns: readonly Column<Row>[]): string {
  const headings = columns.map(([heading]) => heading);
  return renderTable(
    headings,
    rows.map((row) => columns.map(([, cell]) => cell(row))),
  );
}

/** Aligns rows in columns, with two spaces between them; the last column is not padded. Empty cells are `-`. */
export function renderTable(
  headings: readonly string[],
  rows: readonly (readonly Cell[])[],
): string {
  const cells = rows.map((row) =>
    row.map((cell) =>
      cell === null || cell === undefined || cell === '' ? '-' : printable(String(cell)),
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

/** How long ago, such as `3 s`, `12 min`, `5 h` or `9 d`. */
export function renderAge(since: Date, now: Date): string {
  return spanOf(now.getTime() - since.getTime());
}

let beforePrint = () => {};

/** Sets what is done before a line is written, such as erasing a progress line. */
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

/** In code points, so that letters outside the BMP count once. */
function lengthOf(text: string): number {
  return Array.from(text).length;
}
