/** How a mail address is shown. */
import { timeOf } from '../shared/time.ts';

/** The address, and whether and when it was verified. Empty if there is no address. */
export function describeMail(
  email: string | null | undefined,
  verifiedAt: Date | string | null | undefined,
): string {
  if (!email) return '';
  return `${email}, ${verifiedAt ? `verified ${timeOf(verifiedAt)}` : 'not verified'}`;
}
