/** The tables `surveys` and `reports`, as the caller of a survey uses them. */
import { Client } from 'pg';
import type { Config } from '../shared/config.ts';
import { ChamberlainError } from '../shared/errors.ts';
import type { Role } from '../reconcile/wanted.ts';
import type { Report } from '../reconcile/report.ts';
import { connectionSettings } from '../database/connection.ts';
import { hearNotices } from '../database/notices.ts';
import { readReports } from './sweep-reports.ts';

/** How often to look into the tables anyway: notices may be lost, and there are none about progress. */
const POLL_MS = 250;

/** A survey whose caller was killed is deleted after this time. */
const KEEP_SURVEYS = '1 hour';

/** After so long without a sign of a role, it is checked whether the role runs at all. */
const QUIET_MS = 2000;

/** The progress of a role: it has answered, has looked at so many subjects, or has no connection to PostgreSQL. */
export type RoleProgress = 'answered' | 'absent' | { done: number; total: number };

/** A survey in progress. */
export interface Survey {
  /**
   * The reports by role, as soon as every role has answered. If the remaining roles give no sign of life for
   * `timeoutMs`, meaning no progress with this survey or with another that comes before it, returns the reports
   * that exist.
   *
   * @param onProgress is called at each look with the progress of each role that has begun, and with roles that
   *   do not run
   */
  collect(
    roles: readonly Role[],
    timeoutMs: number,
    onProgress?: (far: ReadonlyMap<Role, RoleProgress>) => void,
  ): Promise<Map<Role, Report>>;
  /** Deletes the survey, so that a role that still works on it stops. */
  close(): Promise<void>;
}

/**
 * Records a survey; the caller must then notify the roles through their queues.
 *
 * @param subjects uids, or undefined for every subject
 */
export async function openSurvey(
  config: Config,
  id: string,
  subjects: readonly number[] | undefined,
): Promise<Survey> {
  const client = new Client(connectionSettings(config, 'admin'));
  const notices = hearNotices(client, ({ payload }) => payload === id);
  const broken = new AbortController();
  client.on('error', (error) => broken.abort(error));
  try {
    await client.connect();
    await client.query('LISTEN chamberlain_reports');
    await client.query('SELECT hold_survey($1)', [id]);
    await client.query(`DELETE FROM surveys WHERE at < now() - interval '${KEEP_SURVEYS}'`);
    await client.query('INSERT INTO surveys (id, subjects) VALUES ($1, $2)', [
      id,
      subjects ?? null,
    ]);
  } catch (cause) {
    await client.end().catch(() => {});
    throw new ChamberlainError('BACKEND_UNAVAILABLE', 'asking for a survey', { cause });
  }

  return {
    async collect(roles, timeoutMs, onProgress) {
      const reports = new Map<Role, Report>();
      const seen = new Map<Role, string>();
      const start = performance.now();
      const movedAt = new Map(roles.map((role) => [role, start]));
      try {
        for (;;) {
          const missing = roles.filter((role) => !reports.has(role));
          for (const [role, report] of await readReports(client, id, missing)) {
            reports.set(role, report);
          }
          if (roles.every((role) => reports.has(role))) return reports;
          const steps = await readProgress(client);
          const now = performance.now();
          const far = new Map<Role, RoleProgress>();
          for (const role of roles) {
            const ofRole = steps.filter((step) => step.role === role);
            const text = JSON.stringify(ofRole);
            if (ofRole.length > 0 && text !== seen.get(role)) movedAt.set(role, now);
            seen.set(role, text);
            const own = ofRole.find(({ survey }) => survey === id);
            if (reports.has(role)) far.set(role, 'answered');
            else if (own !== undefined) far.set(role, { done: own.done, total: own.total });
          }
          if (now - start >= QUIET_MS) {
            const quiet = roles.filter((role) => !far.has(role));
            for (const role of await readAbsent(client, quiet)) far.set(role, 'absent');
          }
          onProgress?.(far);
          const waited = roles.filter((role) => !reports.has(role));
          const leftMs = Math.max(
            ...waited.map((role) => (movedAt.get(role) ?? start) + timeoutMs - now),
          );
          if (leftMs <= 0) return reports;
          await notices.wait(Math.min(POLL_MS, leftMs), broken.signal);
          broken.signal.throwIfAborted();
        }
      } catch (cause) {
        throw new ChamberlainError('BACKEND_UNAVAILABLE', 'reading the reports of a survey', {
          cause,
        });
      }
    },
    async close() {
      await client.query('DELETE FROM surveys WHERE id = $1', [id]).catch(() => {});
      await client.end().catch(() => {});
    },
  };
}

/** The progress of every role, with whichever survey it works on. */
async function readProgress(
  client: Client,
): Promise<{ role: Role; survey: string; done: number; total: number }[]> {
  const { rows } = await client.query(
    'SELECT role, survey::text, done, total FROM survey_progress ORDER BY role, survey',
  );
  return rows as { role: Role; survey: string; done: number; total: number }[];
}

/** Which of the roles have no connection: a running role holds one to hear calls. */
async function readAbsent(client: Client, roles: readonly Role[]): Promise<Role[]> {
  if (roles.length === 0) return [];
  const { rows } = await client.query(
    `SELECT role FROM unnest($1::text[]) AS r (role) WHERE NOT EXISTS (
       SELECT FROM pg_stat_activity WHERE datname = current_database()
         AND application_name IN ('chamberlain ' || role, 'chamberlain ' || role || '_reader'))`,
    [roles],
  );
  return (rows as { role: Role }[]).map(({ role }) => role);
}
