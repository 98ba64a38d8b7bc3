/** The tables `reports` and `survey_progress`, from the side of the sweep. */
import type { Role } from '../model/wanted.ts';
import type { Report } from '../plan/report.ts';
import type { Client } from './postgres.ts';

/** The reports of these roles that are there. They are large: each is asked for once. */
export async function readReports(
  client: Client,
  survey: string,
  roles: readonly Role[],
): Promise<Map<Role, Report>> {
  const { rows } = await client.query(
    'SELECT role, report FROM reports WHERE survey = $1 AND role = ANY ($2)',
    [survey, roles],
  );
  return new Map(
    (rows as { role: Role; report: Report }[]).map(({ role, report }) => [role, report]),
  );
}

/** A text of each role that is at a survey, this one or one before it, which changes as it goes on. */
export async function readSigns(client: Client): Promise<Map<Role, string>> {
  const { rows } = await client.query(
    `SELECT role, string_agg(survey::text || ' ' || done, ' ' ORDER BY survey) AS sign
     FROM survey_progress GROUP BY role`,
  );
  return new Map((rows as { role: Role; sign: string }[]).map(({ role, sign }) => [role, sign]));
}

/** How far each role is with a survey that it has begun. */
export async function readFar(
  client: Client,
  survey: string,
): Promise<{ role: Role; done: number; total: number }[]> {
  const { rows } = await client.query(
    'SELECT role, done, total FROM survey_progress WHERE survey = $1 ORDER BY role',
    [survey],
  );
  return rows as { role: Role; done: number; total: number }[];
}

/** Whether the marker has been told since the directory role's report was written. */
export async function isToldSinceReport(client: Client, survey: string): Promise<boolean> {
  const { rows } = await client.query(
    `SELECT m.told_at > r.at AS told FROM reports r, directory_marker m
     WHERE r.survey = $1 AND r.role = 'directory'`,
    [survey],
  );
  return (rows[0] as { told: boolean | null } | undefined)?.told === true;
}
