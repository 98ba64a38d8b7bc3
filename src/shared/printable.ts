/**
 * Text for people. What others wrote is made safe to show: it must not control a terminal, nor look like more than one
 * line. Long lists are cut.
 */

/**
 * Characters that are invisible, or that some programs take for the end of a line: control, format and unassigned
 * characters, U+2028, U+2029.
 */
const UNSEEN = /[\p{C}\p{Zl}\p{Zp}]/gu;

/** The text with `?` for each invisible character. */
export function printable(text: string): string {
  return text.replace(UNSEEN, '?');
}

/** The same for a text of several lines, which stay. */
export function printableLines(text: string): string {
  return text.split('\n').map(printable).join('\n');
}

/** A text that anybody may have written, in quotes and cut to `most` characters. */
export function quote(text: string, most = 60): string {
  const letters = Array.from(text);
  const cut = letters.length <= most ? text : `${letters.slice(0, most).join('')}…`;
  return JSON.stringify(printable(cut));
}

/** `1 step`, `2 steps` */
export function count(number: number, noun: string, plural = `${noun}s`): string {
  return `${number} ${number === 1 ? noun : plural}`;
}

/** `alice, bob, carol, dave, eve, and 7 more` */
export function nameFew(names: readonly string[], most = 5): string {
  const few = names.slice(0, most).join(', ');
  return names.length > most ? `${few}, and ${names.length - most} more` : few;
}
