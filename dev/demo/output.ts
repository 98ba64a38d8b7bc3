/** The output of the demo: lines in columns, a mark for each check, and the failures at the end. */
import { printable } from '../../src/shared/printable.ts';
import { paint, print } from '../../src/cli/table.ts';

/** Width of the first column. */
const WIDTH = 52;

const failures: string[] = [];
let checks = 0;

export function chapter(title: string, aside = ''): void {
  print(`\n${paint('bold', title)}${aside === '' ? '' : paint('dim', `   ${aside}`)}`);
}

export function remark(text: string): void {
  for (const line of text.split('\n')) print(`    ${paint('dim', line)}`);
}

/** A line with its mark: what it is, what was seen, how long it took. Remembers a failure. */
export function check(what: string, ok: boolean, seen: string, ms?: number): void {
  const mark = ok ? paint('green', '✓') : paint('red', '✗');
  const time = ms === undefined ? '' : `${Math.round(ms)} ms`;
  print(
    `  ${mark} ${printable(what).padEnd(WIDTH)} ${paint('dim', time.padStart(7))}  ${printable(seen)}`,
  );
  checks += 1;
  if (!ok) failures.push(`${what}: ${printable(seen)}`);
}

/** Like `check`, for a value that must be the wanted one. */
export function checkSame(what: string, got: string, wanted: string, ms?: number): void {
  const seen = got.replaceAll('\n', ' · ');
  check(
    what,
    got === wanted,
    got === wanted ? seen : `${seen}, instead of ${wanted.replaceAll('\n', ' · ')}`,
    ms,
  );
}

/** Runs a check; if it throws, it has failed, and the others go on. */
export async function attempt(what: string, act: () => Promise<void>): Promise<void> {
  try {
    await act();
  } catch (error) {
    check(what, false, error instanceof Error ? error.message : String(error));
  }
}

/** The checks that have failed so far. */
export function failedChecks(): readonly string[] {
  return failures;
}

/** How many checks there have been. */
export function countChecks(): number {
  return checks;
}
