/** Formats of times: for people, and in the directory. */

export const DAY_MS = 24 * 3600 * 1000;

/** `2026-11-24 21:11:05Z`, from a date or from ISO 8601 in UTC. */
export function timeOf(at: Date | string): string {
  const iso = typeof at === 'string' ? at : at.toISOString();
  return `${iso.slice(0, 10)} ${iso.slice(11, 19)}Z`;
}

/** The end of a hold that lasts until it is released. */
export const WITHOUT_END = '9999-12-31T00:00:00Z';

/** Whether a hold has no end date; a recovery makes such holds. */
export function isWithoutEnd(until: Date | string): boolean {
  return new Date(until).getTime() === Date.parse(WITHOUT_END);
}

/** When a hold ends, as text to follow the word `until`. */
export function endOfHold(until: Date | string): string {
  return isWithoutEnd(until) ? 'released' : timeOf(until);
}

/** A span of time for people: `90 s`, `3 min`, `5 h`, `2 d`. */
export function spanOf(ms: number): string {
  const seconds = Math.max(0, Math.round(ms / 1000));
  if (seconds < 120) return `${seconds} s`;
  if (seconds < 120 * 60) return `${Math.round(seconds / 60)} min`;
  if (seconds < 48 * 3600) return `${Math.round(seconds / 3600)} h`;
  return `${Math.round(seconds / 86_400)} d`;
}

/** `20261124211105Z`: a GeneralizedTime (RFC 4517, section 3.3.13) in UTC, cut to whole seconds. */
export function generalizedTime(at: Date): string {
  return `${at.toISOString().replaceAll(/[-:T]|\..*/g, '')}Z`;
}

const GENERALIZED_TIME =
  /^(\d{4})(\d\d)(\d\d)(\d\d)(?:(\d\d)(\d\d)?)?(?:[.,]\d+)?(?:Z|([+-])(\d\d)(\d\d)?)$/;

/**
 * Parses a GeneralizedTime in any form of RFC 4517, and drops the fraction. Returns undefined for anything else,
 * and for a time before 1970 or after 9000.
 */
export function parseGeneralizedTime(text: string): Date | undefined {
  const found = GENERALIZED_TIME.exec(text);
  if (found === null) return undefined;
  const [, year, month, day, hour, minute = '00', second = '00', sign, hours, minutes = '00'] =
    found;
  const local = Date.parse(`${year}-${month}-${day}T${hour}:${minute}:${second}Z`);
  const ahead = (Number(hours ?? 0) * 60 + Number(minutes)) * 60_000 * (sign === '-' ? -1 : 1);
  const at = local - ahead;
  return at >= 0 && at < Date.UTC(9000) ? new Date(at) : undefined;
}
