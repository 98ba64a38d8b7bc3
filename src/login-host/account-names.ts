/** Which names and numbers accounts of the realm may have on a login host: the same for all its programs. */
import type { IdRange } from '../shared/config-values.ts';

// Imported people may have an underscore; a dot stands in tools' accounts alone.
const SHELL_NAME = /^[a-z][a-z0-9_-]{0,31}$/;
const TOOL_NAME = /^[a-z][a-z0-9_-]{0,63}$/;

/** Whether a person of ours may have this name. It is safe as a file's name. */
export function isShellName(name: string): boolean {
  return SHELL_NAME.test(name);
}

/** The tool whose account has this name, `<realm>.<tool>`; undefined where none may. */
export function toolOf(name: string, realm: string): string | undefined {
  const tool = name.startsWith(`${realm}.`) ? name.slice(realm.length + 1) : '';
  return TOOL_NAME.test(tool) ? tool : undefined;
}

/** Whether it is a name that an account of the realm may have: a person's, or `<realm>.<tool>`. */
export function isAccountName(name: string, realm: string): boolean {
  return isShellName(name) || toolOf(name, realm) !== undefined;
}

export function isWithin(id: number, ranges: readonly IdRange[]): boolean {
  return ranges.some(({ first, last }) => first <= id && id <= last);
}
