/** What cannot be imported, and why. */
import type { Code } from '../shared/errors.ts';

export interface Refusal {
  /** what is not imported: a whole subject, or a part of an imported one */
  part: 'person' | 'tool' | 'key' | 'name' | 'mail' | 'member' | 'deletion';
  code: Code;
  /** the entry of the directory, without the base, for people to read */
  object: string;
  /** why, in a sentence without a full stop */
  sentence: string;
}

/** What is wrong with an entry or a value, apart from where it is. */
export type Fault = Pick<Refusal, 'code' | 'sentence'>;

/** `a`, `a and b`, `a, b, c and 4 more`. */
export function listSome(items: readonly string[]): string {
  if (items.length > 4) return `${items.slice(0, 3).join(', ')} and ${items.length - 3} more`;
  return items.length < 2
    ? items.join('')
    : `${items.slice(0, -1).join(', ')} and ${items.at(-1) ?? ''}`;
}
