/** Text that others wrote, made safe to show: one line, and nothing that cannot be seen or steers a terminal. */

/** What cannot be seen, or ends a line in some reader's eyes: control, format and unassigned characters, U+2028, U+2029. */
const UNSEEN = /[\p{C}\p{Zl}\p{Zp}]/gu;

/** The text with `?` for each character that cannot be seen. */
export function printable(text: string): string {
  return text.replace(UNSEEN, '?');
}

/** A text that anybody may have written, cut to so many characters and in quotes. */
export function quote(text: string, most = 60): string {
  const letters = Array.from(text);
  const cut = letters.length <= most ? text : `${letters.slice(0, most).join('')}…`;
  return JSON.stringify(printable(cut));
}
