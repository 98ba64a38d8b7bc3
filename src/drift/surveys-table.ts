/** The tables `surveys` (what was requested), `survey_progress` and `reports` (what a role answers). */
import { withoutNuls } from '../shared/canonical-json.ts';
import type { Role } from '../reconcile/wanted.ts';
import type { Report } from '../reconcile/report.ts';
import type { QueryResult } from 'pg';
import { type Client, inTransaction, type Pool } from '../database/connection.ts';

export interface AskedSurvey {
  /** undefined: every subject */
  subjects: number[] | undefined;
  /** `background` gives way to the work on requests */
  pace: 'prompt' | 'background';
}

/** A survey whose caller was killed is deleted after this time. */
const KEEP_SURVEYS = '1 hour';

/**
 * Records a survey, and listens for its reports. It has a caller as long as this connection lasts.
 *
 * @param subjects uids; undefined: every subject
 */
export async function recordSurvey(
  client: Client,
  id: string,
  subjects: readonly number[] | undefined,
): Promise<void> {
  await client.query('LISTEN chamberlain_reports');
  await client.query('SELECT hold_survey($1)', [id]);
  await client.query(`DELETE FROM surveys WHERE at < now() - interval '${KEEP_SURVEYS}'`);
  const values = [id, subjects ?? null];
  await client.query('INSERT INTO surveys (id, subjects) VALUES ($1, $2)', values);
}

/** Deletes a survey, so that a role that still works on it stops. */
export async function deleteSurvey(client: Client, id: string): Promise<void> {
  await client.query('DELETE FROM surveys WHERE id = $1', [id]);
}

/** What was requested; undefined if the survey does not exist, or not any more. */
export async function readSurvey(pool: Pool, id: string): Promise<AskedSurvey | undefined> {
  const { rows } = await pool.query({
    name: 'read-survey',
    text: 'SELECT subjects, pace FROM surveys WHERE id::text = $1',
    values: [id],
  });
  const row = rows[0] as (AskedSurvey & { subjects: number[] | null }) | undefined;
  return row === undefined ? undefined : { subjects: row.subjects ?? undefined, pace: row.pace };
}

/**
 * The class of the advisory lock that the caller of a survey holds (hold_survey); the second number is the hash of
 * the survey's id. The lock tells a role whether the caller still lives. (The next sweep removes one that was cut.)
 */
const ACTOR_LOCK_CLASS = 100;

const HAS_CALLER = `
  (pace = 'background' OR EXISTS (SELECT FROM pg_locks
    WHERE locktype = 'advisory' AND classid = ${ACTOR_LOCK_CLASS} AND objsubid = 2
      AND objid::bigint = hashtext(id::text)::bigint & 4294967295
      AND database = (SELECT oid FROM pg_database WHERE datname = current_database())))`;

/** Writes the progress of a role. Returns false if the survey or its caller is gone, so that nobody waits any more. */
export async function writeProgress(
  pool: Pool,
  survey: string,
  role: Role,
  { done, total }: { done: number; total: number },
): Promise<boolean> {
  const { rowCount } = await pool.query({
    name: 'write-progress',
    text: `INSERT INTO survey_progress (survey, role, done, total)
           SELECT id, $2, $3, $4 FROM surveys WHERE id::text = $1 AND ${HAS_CALLER}
           ON CONFLICT (survey, role) DO UPDATE SET done = excluded.done, total = excluded.total`,
    values: [survey, role, done, total],
  });
  return rowCount === 1;
}

/** A report of 270,000 steps, 130 MiB, takes about 10 s to write or read: longer than any other statement may. */
const LARGE_MS = 60_000;

/** Runs a statement that writes or reads whole reports, in a transaction. */
export async function queryLarge(
  client: Client,
  text: string,
  values: unknown[],
): Promise<QueryResult> {
  await client.query(`SET LOCAL statement_timeout = ${LARGE_MS}`);
  const query = { text, values, query_timeout: LARGE_MS + 2000 };
  return client.query(query);
}

export async function writeReport(
  pool: Pool,
  survey: string,
  role: Role,
  report: Report,
): Promise<void> {
  const json = withoutNuls(JSON.stringify(report));
  await inTransaction(pool, (client) =>
    queryLarge(
      client,
      `INSERT INTO reports (survey, role, report) SELECT id, $2, $3 FROM surveys WHERE id::text = $1
       ON CONFLICT DO NOTHING`,
      [survey, role, json],
    ),
  );
}
