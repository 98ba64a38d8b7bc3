/** The tables `reports` and `survey_progress`, as the caller of a survey reads them. */
import type { Role } from '../reconcile/wanted.ts';
import type { Report } from '../reconcile/report.ts';
import { type Client, transact } from '../database/connection.ts';
import { queryLarge } from './surveys-table.ts';

/** A report of more bytes, as PostgreSQL stores it, is read with more time. */
const LARGE_BYTES = 1_000_000;

/** The existing reports of these roles. They may be large, so the caller must read each only once. */
export async function readReports(
  client: Client,
  survey: string,
  roles: readonly Role[],
): Promise<Map<Role, Report>> {
  const { rows } = await client.query(
    `SELECT role, CASE WHEN pg_column_size(report) < ${LARGE_BYTES} THEN report END AS report
     FROM reports WHERE survey = $1 AND role = ANY ($2)`,
    [survey, roles],
  );
  const reports = new Map<Role, Report>();
  for (const { role, report } of rows as { role: Role; report: Report | null }[]) {
    reports.set(role, report ?? (await readLarge(client, survey, role)));
  }
  return reports;
}

async function readLarge(client: Client, survey: string, role: Role): Promise<Report> {
  const { rows } = await transact(client, () =>
    queryLarge(client, 'SELECT report FROM reports WHERE survey = $1 AND role = $2', [
      survey,
      role,
    ]),
  );
  return (rows[0] as { report: Report }).report;
}

/** How far each role is with each survey that it has begun. */
export async function readProgress(
  client: Client,
): Promise<{ role: Role; survey: string; done: number; total: number }[]> {
  const { rows } = await client.query(
    'SELECT role, survey::text, done, total FROM survey_progress ORDER BY role, survey',
  );
  return rows as Awaited<ReturnType<typeof readProgress>>;
}

/** Which of the roles have no connection: a running role holds one to hear calls. */
export async function readAbsent(client: Client, roles: readonly Role[]): Promise<Role[]> {
  if (roles.length === 0) return [];
  const { rows } = await client.query(
    `SELECT role FROM unnest($1::text[]) AS r (role) WHERE NOT EXISTS (
       SELECT FROM pg_stat_activity WHERE datname = current_database()
         AND application_name IN ('chamberlain ' || role, 'chamberlain ' || role || '_reader'))`,
    [roles],
  );
  return (rows as { role: Role }[]).map(({ role }) => role);
}

/** Whether the heartbeat has been published since the directory role's report was written. */
export async function isPublishedSinceReport(client: Client, survey: string): Promise<boolean> {
  const { rows } = await client.query(
    `SELECT m.published_at > r.at AS told FROM reports r, directory_heartbeat m
     WHERE r.survey = $1 AND r.role = 'directory'`,
    [survey],
  );
  return (rows[0] as { told: boolean | null } | undefined)?.told === true;
}
