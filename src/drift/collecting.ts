/** Waits for the reports of a survey, for every caller: commands, the sweep and `explain`. */
import type { Role } from '../reconcile/wanted.ts';
import type { Report } from '../reconcile/report.ts';
import type { Client } from '../database/connection.ts';
import { hearNotices } from '../database/notices.ts';
import { readProgress, readReports } from './reports-table.ts';

/** How often to look into the tables anyway: notices may be lost, and there are none about progress. */
const POLL_MS = 250;

export interface Patience {
  /** how long a role may make no progress, with this survey or with others, which come before it */
  silentMs: number;
  /** progress with others extends that to at most so many times `silentMs`; 1: not at all */
  mostPutOff: number;
}

/** A role that has not answered. */
export interface Waited {
  role: Role;
  /** how long it has made no progress with this survey */
  quietMs: number;
  /** undefined if it has not begun */
  progress: { done: number; total: number } | undefined;
}

/**
 * The reports by role, as soon as every role has answered, or those that exist when all the other roles have been silent
 * for too long.
 *
 * @param client must listen for reports
 * @param onLook is called at each look until then; what it throws ends the wait
 */
export async function collectReports(
  client: Client,
  survey: string,
  roles: readonly Role[],
  { silentMs, mostPutOff }: Patience,
  onLook?: (waited: readonly Waited[]) => Promise<void>,
): Promise<Map<Role, Report>> {
  const reports = new Map<Role, Report>();
  const start = performance.now();
  const signs = new Map(
    roles.map((role) => [role, { own: '[]', all: '[]', ownAt: start, allAt: start }]),
  );
  const notices = hearNotices(client, ({ payload }) => payload === survey);
  try {
    for (;;) {
      for (const [role, report] of await readReports(client, survey, [...signs.keys()])) {
        reports.set(role, report);
        signs.delete(role);
      }
      if (signs.size === 0) return reports;
      const steps = await readProgress(client);
      const now = performance.now();
      const waited: Waited[] = [];
      let leftMs = 0;
      for (const [role, sign] of signs) {
        const all = steps.filter((step) => step.role === role);
        const own = all.filter((step) => step.survey === survey);
        const texts = { own: JSON.stringify(own), all: JSON.stringify(all) };
        if (texts.own !== sign.own) sign.ownAt = now;
        if (texts.all !== sign.all) sign.allAt = now;
        Object.assign(sign, texts);
        const until = Math.min(sign.allAt + silentMs, sign.ownAt + mostPutOff * silentMs);
        leftMs = Math.max(leftMs, until - now);
        waited.push({ role, quietMs: now - sign.ownAt, progress: own[0] });
      }
      await onLook?.(waited);
      if (leftMs === 0) return reports;
      await notices.wait(Math.min(POLL_MS, leftMs));
    }
  } finally {
    notices.close();
  }
}
