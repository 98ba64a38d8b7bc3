/** Ranges of numbers as patterns, for the access rules and constraints of the directory. */

/** A POSIX extended pattern that matches exactly the decimal numbers of the ranges, because slapd has no "between". */
export function idPattern(ranges: readonly { first: number; last: number }[]): string {
  const parts = ranges.flatMap(({ first, last }) => patternsBetween(first, last));
  return `^(${parts.join('|')})$`;
}

function patternsBetween(first: number, last: number): string[] {
  if (first > last) return [];
  if (first === last) return [String(first)];
  // The widest block 10^k that begins at `first` and ends at `last` or before. Its last k digits are free.
  let free = 0;
  while (first % 10 ** (free + 1) === 0 && first > 0 && first + 10 ** (free + 1) - 1 <= last)
    free++;
  const block = 10 ** free;
  const head = Math.floor(first / block);
  const lastHead = Math.min(head - (head % 10) + 9, Math.floor((last + 1) / block) - 1);
  const digit = head === lastHead ? String(head % 10) : `[${head % 10}-${lastHead % 10}]`;
  const stem = head >= 10 ? String(Math.floor(head / 10)) : '';
  const tail = free === 0 ? '' : free === 1 ? '[0-9]' : `[0-9]{${free}}`;
  return [`${stem}${digit}${tail}`, ...patternsBetween((lastHead + 1) * block, last)];
}
