/** A text as one word of a POSIX shell (2.2.2), whatever is in it. */
export function shellWord(text: string): string {
  return `'${text.replaceAll("'", `'\\''`)}'`;
}
