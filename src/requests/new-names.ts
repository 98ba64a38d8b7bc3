/** Which names a request may give to a new person or tool. Pure. */
import {
  isReservedToolName,
  normalName,
  parseNewShellName,
  parseNewToolName,
} from '../identity/names.ts';
import type { NameState } from '../identity/names-table.ts';
import { isReservedName } from '../identity/reserved-names.ts';
import type { Code } from '../shared/errors.ts';

/** The settings on which it depends. */
interface NameTerms {
  /** the admin tool */
  admin: string;
  reservedNames: readonly string[];
}

/**
 * Why nobody can get this name: it is taken (in any case), reserved, used by another entry of the directory, or not a
 * name. Undefined if it is free.
 *
 * @param state of the account that the name would have
 */
export function faultOfNewName(
  kind: 'person' | 'tool',
  name: string,
  state: NameState,
  { admin, reservedNames }: NameTerms,
): { code: Code; sentence: string } | undefined {
  const normal = normalName(name);
  if (state === 'taken') {
    const sentence = `The name ${name} is taken or was used before. Choose another name.`;
    return { code: 'NAME_TAKEN', sentence };
  }
  if (kind === 'tool' ? isReservedToolName(normal) : isReservedName(normal, reservedNames)) {
    const sentence = `The name ${name} is reserved. Choose another name.`;
    return { code: 'NAME_RESERVED', sentence };
  }
  if (state === 'unmanaged') {
    const sentence = `The name ${name} belongs to something that Chamberlain does not manage. Choose another name.`;
    return { code: 'NAME_FOREIGN', sentence };
  }
  if (kind === 'person') {
    if (parseNewShellName(name) !== undefined) return undefined;
    const sentence =
      'A shell name must start with a letter and consist of 1 to 31 lower-case letters, digits and dashes.';
    return { code: 'NAME_INVALID', sentence };
  }
  if (parseNewToolName(name) === undefined) {
    const sentence =
      'A tool name must start with a letter, consist of 1 to 26 lower-case letters, digits and dashes, and not end in a dash.';
    return { code: 'NAME_INVALID', sentence };
  }
  if (name !== admin) return undefined;
  const why = 'its maintainers are admins';
  const sentence = `No request can create the tool ${name}: ${why}. Choose another name.`;
  return { code: 'ADMIN_TOOL', sentence };
}
