/** The common parts of importing the accounts of people and tools. */
import type { IdRange } from '../shared/config-values.ts';
import { parsePosixId, type PosixId } from '../identity/posix-id.ts';
import { quote } from '../shared/printable.ts';
import { entryRef, type DirectoryEntry } from '../targets/directory-reader.ts';
import type { Fault } from './refusal.ts';

/**
 * The shells of Debian's /etc/shells, without restricted ones. An imported account gets an ordinary shell. Any other
 * shell, such as nologin, /bin/true or git-shell, was set to keep somebody out.
 */
const OPEN_SHELL =
  /^(?:\/usr)?\/bin\/(?:sh|bash|dash|zsh|ksh|ksh93|mksh|csh|tcsh|fish|screen|tmux)$/;

/**
 * Whether an account is locked in any way: by the disabled policy, by a lock time (slapo-ppolicy(5)), or by a shell
 * that is not an ordinary one. A locked account stays locked.
 */
export function isLocked({ attributes }: DirectoryEntry): boolean {
  return (
    (attributes['pwdAccountLockedTime'] ?? []).length > 0 ||
    (attributes['pwdPolicySubentry'] ?? []).includes(entryRef('policies', 'cn', 'disabled')) ||
    (attributes['loginShell'] ?? []).some((shell) => !OPEN_SHELL.test(shell))
  );
}

/** Reads the only number of an entry: whole, decimal, in one of the ranges. */
export function readNumber(
  entry: DirectoryEntry,
  attribute: 'uidNumber' | 'gidNumber',
  ranges: readonly IdRange[],
): PosixId | Fault {
  const values = entry.attributes[attribute] ?? [];
  const [value] = values;
  if (value === undefined || values.length > 1) {
    const has = value === undefined ? 'no' : 'more than one';
    return { code: 'ENTRY_INCOMPLETE', sentence: `it has ${has} ${attribute}` };
  }
  const number = /^[1-9][0-9]{0,9}$/.test(value) ? Number(value) : 0;
  if (!ranges.some(({ first, last }) => first <= number && number <= last)) {
    return {
      code: 'ID_OUT_OF_RANGE',
      sentence: `${attribute} ${quote(value).slice(1, -1)} is outside the configured ranges`,
    };
  }
  try {
    return parsePosixId(number);
  } catch {
    return { code: 'ID_OUT_OF_RANGE', sentence: `no account may have ${attribute} ${number}` };
  }
}
