/** Times in the past on the command line. */
import { InvalidArgumentError } from 'commander';

const UNITS_MS: Record<string, number> = {
  s: 1000,
  min: 60_000,
  h: 3_600_000,
  d: 86_400_000,
  w: 7 * 86_400_000,
};

/**
 * Parses a time: `90s`, `30min`, `2h`, `3d` or `1w` ago, or ISO 8601 (`2026-11-24`, `2026-11-24T09:30`), which
 * is UTC if it names no zone. Throws for anything else.
 */
export function parseSince(text: string, now: Date): Date {
  const [, count, unit] = /^([0-9]{1,6}) ?(s|min|h|d|w)$/u.exec(text.trim()) ?? [];
  if (count !== undefined && unit !== undefined) {
    // PostgreSQL does not support times as old as some that can be written
    return new Date(Math.max(0, now.getTime() - Number(count) * (UNITS_MS[unit] as number)));
  }
  const iso =
    /^([0-9]{4}-[0-9]{2}-[0-9]{2})(?:[T ]([0-9]{2}:[0-9]{2}(?::[0-9]{2}(?:\.[0-9]+)?)?)(Z|[+-][0-9]{2}:[0-9]{2})?)?$/u.exec(
      text.trim(),
    );
  const [, day, time = '00:00', zone = 'Z'] = iso ?? [];
  const date = new Date(`${day ?? ''}T${time}${zone}`);
  // Date would turn a day that the month does not have into one of the next month
  const isThere = day !== undefined && new Date(`${day}T00:00Z`).toJSON()?.startsWith(day);
  if (!isThere || Number.isNaN(date.getTime())) {
    throw new InvalidArgumentError(
      'It must be a time such as 2h, 3d, 2026-11-24 or 2026-11-24T09:30.',
    );
  }
  return date;
}
