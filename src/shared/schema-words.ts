/** What a schema finds wrong with a value, in words for whoever wrote it. */
import type { $ZodRawIssue } from 'zod/v4/core';

const NOUN: Readonly<Record<string, string>> = {
  ...{ string: 'a string', number: 'a number', int: 'a whole number', boolean: 'true or false' },
  ...{ array: 'a list', object: 'an object', record: 'an object' },
};

/**
 * What `safeParse` takes as its `error`: says what is wrong. A message that a schema has of its own is said instead. Where
 * it returns undefined, zod's own is.
 */
export function schemaWords(issue: $ZodRawIssue): string | undefined {
  if (issue.input === undefined) return 'is missing';
  switch (issue.code) {
    case 'invalid_type': {
      const noun = NOUN[issue.expected];
      return noun === undefined ? undefined : `must be ${noun}`;
    }
    case 'unrecognized_keys':
      return `${issue.keys.map((key) => JSON.stringify(key)).join(', ')} is unknown here`;
    case 'invalid_value':
      return `must be ${issue.values.map((value) => JSON.stringify(value)).join(' or ')}`;
    case 'too_small':
      return size(
        issue.origin,
        issue.inclusive === false ? 'more than' : 'at least',
        issue.minimum,
      );
    case 'too_big':
      return size(issue.origin, issue.inclusive === false ? 'less than' : 'at most', issue.maximum);
    case 'invalid_format':
      if (issue.format === 'starts_with') return `must begin with ${String(issue['prefix'])}`;
      return issue.format === 'regex' ? `must match ${String(issue['pattern'])}` : undefined;
    default:
      return undefined;
  }
}

function size(of: string, bound: string, limit: number | bigint): string | undefined {
  const s = Number(limit) === 1 ? '' : 's';
  if (of === 'string') return `must have ${bound} ${limit} character${s}`;
  if (of === 'array' || of === 'set') return `must have ${bound} ${limit} item${s}`;
  return of === 'number' || of === 'int' ? `must be ${bound} ${limit}` : undefined;
}
