/** What an import cannot take, and why. */
import type { Code } from '../shared/errors.ts';

export interface Refusal {
  /** what is not taken: a whole subject, or a part of one that is */
  part: 'person' | 'tool' | 'key' | 'name' | 'mail' | 'member' | 'deletion';
  code: Code;
  /** what it is about, for people: an entry of the directory, without the base */
  object: string;
  /** why, in a sentence without a full stop */
  sentence: string;
}

/** Of an entry or a value: what is wrong, wherever it stands. */
export type Fault = Pick<Refusal, 'code' | 'sentence'>;

/** `a`, `a and b`, `a, b, c and 4 more`. */
export function listSome(items: readonly string[]): string {
  if (items.length > 4) return `${items.slice(0, 3).join(', ')} and ${items.length - 3} more`;
  return items.length < 2
    ? items.join('')
    : `${items.slice(0, -1).join(', ')} and ${items.at(-1) ?? ''}`;
}
