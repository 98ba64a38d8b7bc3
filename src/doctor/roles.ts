/** Checks whether each role answers, and its clock. */
import type { Role } from '../reconcile/wanted.ts';
import type { Report } from '../reconcile/report.ts';
import { judgeClock, type Line, ok, unreadable } from './line.ts';

/**
 * @param askedAt milliseconds since the epoch, before the roles were asked
 * @param answeredAt after the last answer
 */
export function judgeRoles(
  reports: ReadonlyMap<Role, Report>,
  moments: { askedAt: number; answeredAt: number },
): Line[] {
  return [...reports].flatMap(([role, report]): Line[] => {
    if (report.unreadable.length > 0) {
      return report.unreadable.map(({ sentence }) =>
        unreadable(`${role}: ${sentence}`, `Start \`chamberlain work ${role}\`, or see its log.`),
      );
    }
    const clock = report.clock === undefined ? NaN : Date.parse(report.clock);
    return [
      ok(`${role} answers`),
      ...(Number.isNaN(clock) ? [] : [judgeClock(`the machine of ${role}`, clock, moments)]),
    ];
  });
}
