/** Who acts by the command line. */
import { userInfo } from 'node:os';

/**
 * `unix:<name>`, as the audit keeps it: who called sudo, or who is logged in. It is what the machine
 * claims, and no proof.
 */
export function operatorName(): string {
  const name = process.env['SUDO_USER'] || loginName();
  return `unix:${name.replace(/[^\w.-]/gu, '?').slice(0, 64)}`;
}

/** A uid without an account has no name: then its number. */
function loginName(): string {
  try {
    return userInfo().username;
  } catch {
    return String(process.getuid?.() ?? 'unknown');
  }
}
