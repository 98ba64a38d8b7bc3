/** How the sweep asks the roles: in the background, with long timeouts. */
import type pg from 'pg';
import type { Queues } from '../backends/redis/queue.ts';
import type { Role } from '../reconcile/wanted.ts';
import { ROLES } from '../roles/index.ts';
import { type Report, unreadableRole } from '../reconcile/report.ts';
import { collectReports } from './collecting.ts';

export interface SweepPatience {
  /** a role without progress on this survey for so long is asked again: its job may be lost */
  askAgainMs: number;
  /** a role without progress on any survey for so long counts as unreadable */
  silentMs: number;
  /** progress on other surveys, which come first, extends that to at most so many times `silentMs` */
  mostPutOff?: number;
}

/**
 * One report of each role. For a role that is silent for too long, a report that says so.
 *
 * @param client must listen for reports
 */
export async function surveyEverything(
  client: pg.Client,
  queues: Queues,
  survey: string,
  { askAgainMs, silentMs, mostPutOff = 10 }: SweepPatience,
  { held, progress }: { held: AbortSignal; progress: () => Promise<void> },
): Promise<Map<Role, Report>> {
  const askedAt = new Map<Role, number>();
  const quiet = new Map<Role, number>();
  const patience = { silentMs, mostPutOff };
  const reports = await collectReports(client, survey, ROLES, patience, async (waited) => {
    held.throwIfAborted();
    await progress();
    for (const { role, quietMs } of waited) {
      quiet.set(role, quietMs);
      const at = performance.now();
      const asked = askedAt.get(role);
      if (asked !== undefined && Math.min(quietMs, at - asked) < askAgainMs) continue;
      // if Redis is unreachable, this is tried again at the next look
      await queues.addSurvey(role, survey, 'background').then(
        () => askedAt.set(role, at),
        () => {},
      );
    }
  });
  return new Map(ROLES.map((role) => [role, reports.get(role) ?? silent(role, quiet.get(role))]));
}

function silent(role: Role, ms = 0): Report {
  const sentence = `no answer for ${Math.floor(ms / 1000)} s; is \`chamberlain work ${role}\` running?`;
  return unreadableRole(role, sentence);
}
