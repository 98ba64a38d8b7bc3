/**
 * The names of people, tools and accounts. Each has its grammar; they share one namespace and one normal form.
 *
 * Sources: systemd.io/USER_NAMES (the common core of what every tool on Linux accepts), and known faults of other
 * programs with a leading dash, a control character, all digits, `..`, or a trailing newline.
 * JavaScript's `$` without the `m` flag matches only at the very end (not before a last newline).
 */

/** A person's unix name, `uid` in the directory, e.g. `alice`. */
export type ShellName = string & { readonly __brand: 'ShellName' };
/** A tool's own name without the realm's prefix, e.g. `bridgebot`. */
export type ToolName = string & { readonly __brand: 'ToolName' };
/** The name of a unix account: a shell name, or `<realm>.<tool name>`. */
export type AccountName = string & { readonly __brand: 'AccountName' };

/** The names that a request may create. */
export const NEW_SHELL_NAME = /^[a-z][a-z0-9-]{0,30}$/;
export const NEW_TOOL_NAME = /^[a-z]([a-z0-9-]{0,24}[a-z0-9])?$/;

/** The longest display name, in characters. The directory's `cn` itself has no limit. */
export const MAX_DISPLAY_NAME_LENGTH = 85;

/** Accepts a shell name that a request may create: `^[a-z][a-z0-9-]{0,30}$`. Otherwise undefined. */
export function parseNewShellName(text: string): ShellName | undefined {
  return NEW_SHELL_NAME.test(text) ? (text as ShellName) : undefined;
}

/** Accepts a tool name that a request may create, so that `tools.<name>` fits in 32 characters. */
export function parseNewToolName(text: string): ToolName | undefined {
  return NEW_TOOL_NAME.test(text) ? (text as ToolName) : undefined;
}

const IMPORTED_SHELL_NAME = /^[a-z][a-z0-9_-]{0,31}$/;
const IMPORTED_TOOL_NAME = /^[a-z][a-z0-9_-]*$/;
/** Some programs truncate longer unix names. The realm's prefix counts. */
const MAX_ACCOUNT_LENGTH = 32;

/** Accepts a shell name that is imported from a directory: `^[a-z][a-z0-9_-]{0,31}$`. Otherwise undefined. */
export function parseImportedShellName(text: string): ShellName | undefined {
  return IMPORTED_SHELL_NAME.test(text) ? (text as ShellName) : undefined;
}

/**
 * Accepts the account of an imported tool: `<realm>.<name>` with at most 32 characters, where the name matches
 * `^[a-z][a-z0-9_-]*$`. Returns the tool's own name, or undefined.
 */
export function parseImportedToolAccount(realm: string, account: string): ToolName | undefined {
  if (!account.startsWith(`${realm}.`) || account.length > MAX_ACCOUNT_LENGTH) return undefined;
  const name = account.slice(realm.length + 1);
  return IMPORTED_TOOL_NAME.test(name) ? (name as ToolName) : undefined;
}

/** The name of a tool, given either its name (`bridgebot`) or its account (`tools.bridgebot`). */
export function withoutRealm(text: string, realm: string): string {
  return text.startsWith(`${realm}.`) ? text.slice(realm.length + 1) : text;
}

/** The tool's name within its account `<realm>.<tool>`. */
export function toolOf(account: string): string {
  return account.slice(account.indexOf('.') + 1);
}

/** Tool names that people would trust as the platform's own. The prefix keeps all others apart from system names. */
const RESERVED_TOOL_NAMES = new Set(['root', 'sudo', 'wheel', 'realm', 'chamberlain', 'disabled']);

/** Whether a tool name, in normal form, is reserved. */
export function isReservedToolName(name: string): boolean {
  return RESERVED_TOOL_NAMES.has(name);
}

/** The unix account, group and sudo name of a tool: `<realm>.<name>`. */
export function toolAccount(realm: string, name: ToolName | string): AccountName {
  return `${realm}.${name}` as AccountName;
}

/**
 * The normal form of a name; two names with the same normal form are the same name. It is Unicode NFKC in lower case,
 * with one blank for inner white space and none outside: the same as `caseIgnoreMatch` (RFC 4517 section 4.2.11), or
 * stricter.
 */
export function normalName(text: string): string {
  // most names are normal already, and a survey of everything normalizes some hundred thousand
  if (/^[!-@[-~]+$/.test(text)) return text;
  return text.normalize('NFKC').toLowerCase().replace(/\s+/gu, ' ').trim();
}

/**
 * Accepts a display name: 1 to 85 characters; no control, format or unassigned characters (so no newline and no
 * right-to-left override), nor others that show nothing, such as the Hangul fillers and the empty Braille pattern, by which
 * one name could look like another; no blank at either end, and never two blanks in a row.
 */
export function isDisplayName(text: string): boolean {
  return (
    text.length <= MAX_DISPLAY_NAME_LENGTH &&
    /^[^\p{C}\p{Z}]+( [^\p{C}\p{Z}]+)*$/u.test(text) &&
    !/[\p{Default_Ignorable_Code_Point}\u2800]/u.test(text) &&
    text === text.normalize('NFC')
  );
}
