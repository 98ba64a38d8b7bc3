/** What somebody may have meant who has written a name that does not exist. */

/** How many suggestions are made. */
const MOST_MEANT = 5;

/** A suggestion in brackets, ` (did you mean …?)`, or an empty text. */
export function suggest(text: string, names: readonly string[]): string {
  const close = nearest(text, names);
  return close.length > 0 ? ` (did you mean ${close.join(' or ')}?)` : '';
}

/** A few names that begin with the text, else those nearest to it. */
export function nearest(text: string, names: readonly string[]): string[] {
  let close = text.length > 2 ? names.filter((name) => name.startsWith(text)) : [];
  if (close.length === 0) {
    const distances = names.map((name) => distance(text, name));
    const least = Math.min(2, ...distances);
    close = names.filter((_, index) => distances[index] === least);
  }
  return close.slice(0, MOST_MEANT);
}

/** Levenshtein's distance: how many letters must be inserted, removed or changed. */
function distance(from: string, to: string): number {
  let row = Array.from({ length: to.length + 1 }, (_, column) => column);
  for (let i = 1; i <= from.length; i += 1) {
    const next = [i];
    for (let j = 1; j <= to.length; j += 1) {
      const changed = (row[j - 1] ?? 0) + (from[i - 1] === to[j - 1] ? 0 : 1);
      next.push(Math.min(changed, (row[j] ?? 0) + 1, (next[j - 1] ?? 0) + 1));
    }
    row = next;
  }
  return row[to.length] ?? 0;
}
