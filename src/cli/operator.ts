/** The operator of the command line. */
import { userInfo } from 'node:os';

/**
 * `unix:<name>`, as the audit records it: the user who called sudo, or who is logged in. It is what the machine
 * reports, and not a proof.
 */
export function operatorName(): string {
  const name = process.env['SUDO_USER'] || loginName();
  return `unix:${name.replace(/[^\w.-]/gu, '?').slice(0, 64)}`;
}

/** The name of the user, or the number of a uid that has no account. */
function loginName(): string {
  try {
    return userInfo().username;
  } catch {
    return String(process.getuid?.() ?? 'unknown');
  }
}
