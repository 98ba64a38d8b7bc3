/** The tables `surveys` (what an admin asked) and `reports` (what a role answered). */
import type { Role } from '../model/wanted.ts';
import type { Pool } from './postgres.ts';
import { readSubjects } from './wanted.ts';

/** The subjects of a survey, or undefined where there is no such survey. */
export async function readSurveySubjects(
  pool: Pool,
  id: string,
): Promise<{ everything: boolean; subjects: number[] } | undefined> {
  const { rows } = await pool.query('SELECT subjects FROM surveys WHERE id::text = $1', [id]);
  const row = rows[0] as { subjects: number[] | null } | undefined;
  if (row === undefined) return undefined;
  return row.subjects === null
    ? { everything: true, subjects: await readSubjects(pool) }
    : { everything: false, subjects: row.subjects };
}

export async function writeReport(
  pool: Pool,
  survey: string,
  role: Role,
  report: Record<string, unknown>,
): Promise<void> {
  await pool.query(
    'INSERT INTO reports (survey, role, report) VALUES ($1, $2, $3) ON CONFLICT DO NOTHING',
    [survey, role, JSON.stringify(report)],
  );
}
