/** How the sweep asks the roles: in the background, with long timeouts. */
import type pg from 'pg';
import { hearNotices } from '../database/notices.ts';
import type { Queues } from '../backends/redis/queue.ts';
import type { Role } from '../reconcile/wanted.ts';
import { ROLES } from '../roles/index.ts';
import { type Report, unreadableRole } from '../reconcile/report.ts';
import { readReports, readSigns } from './sweep-reports.ts';

export interface SweepPatience {
  /** a role without progress on this survey for so long is asked again: its job may be lost */
  askAgainMs: number;
  /** a role without progress on any survey for so long counts as unreadable */
  silentMs: number;
}

/** Progress on other surveys, which come first, extends that to at most so many times `silentMs`. */
const MOST_PUT_OFF = 10;

/** How often to look anyway, because notices may be lost. */
const POLL_MS = 1000;

/**
 * One report of each role. For a role that is silent for too long, a report that says so.
 *
 * @param client must listen for reports
 */
export async function surveyEverything(
  client: pg.Client,
  queues: Queues,
  survey: string,
  { askAgainMs, silentMs }: SweepPatience,
  { held, progress }: { held: AbortSignal; progress: () => Promise<void> },
): Promise<Map<Role, Report>> {
  const reports = new Map<Role, Report>();
  const now = performance.now();
  const missing = new Map(
    ROLES.map((role) => [
      role,
      { own: '', others: '', ownAt: now, othersAt: now, askedAt: -Infinity },
    ]),
  );
  const notices = hearNotices(client, ({ payload }) => payload === survey);
  try {
    while (missing.size > 0) {
      held.throwIfAborted();
      await progress();
      const signs = await readSigns(client, survey);
      for (const [role, state] of missing) {
        const at = performance.now();
        const own = signs.get(role)?.own ?? '';
        const others = signs.get(role)?.others ?? '';
        if (own !== state.own) Object.assign(state, { own, ownAt: at });
        if (others !== state.others) Object.assign(state, { others, othersAt: at });
        const { ownAt, askedAt } = state;
        const heardAt = Math.max(ownAt, state.othersAt);
        if (at - heardAt >= silentMs || at - ownAt >= MOST_PUT_OFF * silentMs) {
          reports.set(role, silent(role, at - ownAt));
          missing.delete(role);
        } else if (askedAt < 0 || at - Math.max(ownAt, askedAt) >= askAgainMs) {
          // if Redis is unreachable, this is tried again until the role counts as silent
          await queues.addSurvey(role, survey, 'background').then(
            () => (state.askedAt = at),
            () => {},
          );
        }
      }
      for (const [role, report] of await readReports(client, survey, [...missing.keys()])) {
        reports.set(role, report);
        missing.delete(role);
      }
      if (missing.size > 0) await notices.wait(Math.min(POLL_MS, askAgainMs), held);
    }
    return reports;
  } finally {
    notices.close();
  }
}

function silent(role: Role, ms: number): Report {
  const sentence = `no answer for ${Math.floor(ms / 1000)} s; is \`chamberlain work ${role}\` running?`;
  return unreadableRole(role, sentence);
}
