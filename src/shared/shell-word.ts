/** Quotes any text as one word of a POSIX shell (2.2.2). */
export function shellWord(text: string): string {
  return `'${text.replaceAll("'", `'\\''`)}'`;
}
