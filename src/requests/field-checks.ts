/** What the schema cannot say of a single field, and what needs no server. The rules and `submit` share it. */
import { parseNewShellName, parseNewToolName } from '../identity/names.ts';
import type { ShellName, ToolName } from '../identity/names.ts';
import { ChamberlainError } from '../shared/errors.ts';

/** Throws NAME_INVALID for a name that no new person can have. */
export function requireNewShellName(text: string): ShellName {
  const name = parseNewShellName(text);
  if (name !== undefined) return name;
  throw new ChamberlainError(
    'NAME_INVALID',
    'A shell name must start with a letter and consist of 1 to 31 lower-case letters, digits and dashes.',
  );
}

/** Throws NAME_INVALID for a name that no new tool can have. */
export function requireNewToolName(text: string): ToolName {
  const name = parseNewToolName(text);
  if (name !== undefined) return name;
  throw new ChamberlainError(
    'NAME_INVALID',
    'A tool name must start with a letter, consist of 1 to 26 lower-case letters, digits and dashes, and not end in a dash.',
  );
}

/** Throws REQUEST_INVALID for a time that is not in the future. `isOptional`: the field may be left out. */
export function requireFuture(
  field: string,
  time: string,
  now: Date,
  { isOptional }: { isOptional: boolean },
): void {
  if (Date.parse(time) > now.getTime()) return;
  const orNot = isOptional ? ', or leave it out' : '';
  throw new ChamberlainError(
    'REQUEST_INVALID',
    `${field} is in the past. Give a time in the future${orNot}.`,
  );
}
