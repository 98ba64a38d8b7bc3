/**
 * Which names and numbers the accounts of the realm may have on a login host. All its programs use the same
 * rules.
 */
import type { IdRange } from '../shared/config-values.ts';

// Imported people may have an underscore. Only the accounts of tools contain a dot.
const SHELL_NAME = /^[a-z][a-z0-9_-]{0,31}$/;
const TOOL_NAME = /^[a-z][a-z0-9_-]{0,63}$/;

/** Whether a person may have this name. Such a name is safe as a file name. */
export function isShellName(name: string): boolean {
  return SHELL_NAME.test(name);
}

/** The tool whose account has this name, `<realm>.<tool>`; undefined if no tool may have it. */
export function toolOf(name: string, realm: string): string | undefined {
  const tool = name.startsWith(`${realm}.`) ? name.slice(realm.length + 1) : '';
  return TOOL_NAME.test(tool) ? tool : undefined;
}

/** Whether an account of the realm may have this name: a person's, or `<realm>.<tool>`. */
export function isAccountName(name: string, realm: string): boolean {
  return isShellName(name) || toolOf(name, realm) !== undefined;
}

export function isWithin(id: number, ranges: readonly IdRange[]): boolean {
  return ranges.some(({ first, last }) => first <= id && id <= last);
}
