/** How a time is written for people: everywhere the same. */

/** `2026-11-24 21:11:05Z`, of a date or its ISO 8601 in UTC. */
export function timeOf(at: Date | string): string {
  const iso = typeof at === 'string' ? at : at.toISOString();
  return `${iso.slice(0, 10)} ${iso.slice(11, 19)}Z`;
}
