/** The tables `reports` and `survey_progress`, as the caller of a survey reads them. */
import type { Role } from '../reconcile/wanted.ts';
import type { Report } from '../reconcile/report.ts';
import { type Client, transact } from '../database/connection.ts';
import { queryLarge } from './surveys-table.ts';

/** The existing reports of these roles. They are large, so the caller must read each only once. */
export async function readReports(
  client: Client,
  survey: string,
  roles: readonly Role[],
): Promise<Map<Role, Report>> {
  const there = await client.query(
    'SELECT role FROM reports WHERE survey = $1 AND role = ANY ($2)',
    [survey, roles],
  );
  if (there.rows.length === 0) return new Map();
  const { rows } = await transact(client, () =>
    queryLarge(client, 'SELECT role, report FROM reports WHERE survey = $1 AND role = ANY ($2)', [
      survey,
      there.rows.map(({ role }: { role: Role }) => role),
    ]),
  );
  return new Map(
    (rows as { role: Role; report: Report }[]).map(({ role, report }) => [role, report]),
  );
}

/** Two texts about a role, which change as it makes progress with this survey, and with others. */
export interface Signs {
  own: string | null;
  others: string | null;
}

export async function readSigns(client: Client, survey: string): Promise<Map<Role, Signs>> {
  const { rows } = await client.query(
    `SELECT role, min(done::text) FILTER (WHERE survey = $1) AS own,
       string_agg(survey::text || ' ' || done, ' ' ORDER BY survey) FILTER (WHERE survey <> $1) AS others
     FROM survey_progress GROUP BY role`,
    [survey],
  );
  return new Map((rows as (Signs & { role: Role })[]).map(({ role, ...signs }) => [role, signs]));
}

/** The progress of each role that has begun a survey. */
export async function readSurveyProgress(
  client: Client,
  survey: string,
): Promise<{ role: Role; done: number; total: number }[]> {
  const { rows } = await client.query(
    'SELECT role, done, total FROM survey_progress WHERE survey = $1 ORDER BY role',
    [survey],
  );
  return rows as { role: Role; done: number; total: number }[];
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
