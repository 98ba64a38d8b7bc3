/**
 * The tables `kept_surveys` and `kept_survey_items`: the surveys and repairs that admins request (survey.run, repair.run),
 * and what came of them. Intake writes what is requested, and the process that sweeps everything else.
 */
import { withoutNuls } from '../shared/canonical-json.ts';
import { type Client, transact } from '../database/connection.ts';
import type { Role } from '../reconcile/wanted.ts';
import type { Scope } from './asking.ts';

/** A survey that is requested. */
export interface NewKeptSurvey extends Scope {
  /** the request's own `jti`; `portal` is the sender */
  id: string;
  portal: string;
  kind: 'survey.run' | 'repair.run';
  by: string;
  /** of a repair: the digest of the plan that the admin has seen */
  expected: string | undefined;
}

/** Writes down what is requested. Returns false if another admin has requested something with that id. */
export async function askForSurvey(client: Client, survey: NewKeptSurvey): Promise<boolean> {
  const { id, portal, kind, by, subjects, role, target, expected } = survey;
  const { rowCount } = await client.query(
    `INSERT INTO kept_surveys (id, portal, kind, asked_by, subjects, role, target, expected)
     VALUES ($1, $2, $3, $4, $5, $6, $7, $8) ON CONFLICT DO NOTHING`,
    [id, portal, kind, by, subjects ?? null, role ?? null, target ?? null, expected ?? null],
  );
  return rowCount !== 0;
}

/** How many surveys and repairs of an admin have not ended. */
export async function countOpenSurveys(client: Client, by: string): Promise<number> {
  const { rows } = await client.query(
    `SELECT count(*)::int AS count FROM kept_surveys WHERE state <> 'done' AND asked_by = $1`,
    [by],
  );
  return (rows[0] as { count: number }).count;
}

/** A survey that a process carries out. */
export interface TakenSurvey extends Omit<NewKeptSurvey, 'portal'> {
  /** which attempt this is, from 1 */
  tries: number;
  /** an earlier attempt has given it to the roles */
  isRepairing: boolean;
}

/** Takes the oldest survey that has not ended; undefined if there is none. Only the leader of the sweep may call it. */
export async function takeSurvey(client: Client): Promise<TakenSurvey | undefined> {
  const { rows } = await client.query(
    `UPDATE kept_surveys SET state = 'running', tries = tries + 1
     WHERE id = (SELECT id FROM kept_surveys WHERE state <> 'done' ORDER BY at, id LIMIT 1)
     RETURNING id, kind, asked_by AS by, subjects, role, target, expected, tries,
       EXISTS (SELECT FROM repairs r WHERE r.id = kept_surveys.id) AS "isRepairing"`,
  );
  const row = rows[0] as
    | (Omit<TakenSurvey, keyof Scope | 'expected'> & {
        subjects: number[] | null;
        role: Role | null;
        target: string | null;
        expected: string | null;
      })
    | undefined;
  if (row === undefined) return undefined;
  const { subjects, role, target, expected, ...rest } = row;
  return {
    ...rest,
    subjects: subjects ?? undefined,
    role: role ?? undefined,
    target: target ?? undefined,
    expected: expected ?? undefined,
  };
}

/** One thing that was found. */
export interface KeptItem {
  list: KeptList;
  /** undefined: it concerns no single subject */
  subject: number | undefined;
  item: object;
}

/** What is listed of a survey; `parts` of a repair. */
export const KEPT_LISTS = [
  'steps',
  'findings',
  'waiting',
  'unreadable',
  'unmanaged',
  'parts',
] as const;
export type KeptList = (typeof KEPT_LISTS)[number];

/** How a survey ended. */
export interface KeptEnding {
  /** undefined: there is no plan */
  digest: string | undefined;
  summary: object;
  /** what the request came to; with `code`, it failed */
  result: object;
  items: readonly KeptItem[];
}

/** How many items one statement writes. */
const BATCH = 500;

/**
 * Writes how a survey ended, and ends its request. Nothing is written if another process has begun it again meanwhile.
 * Whoever was erased meanwhile is left out.
 */
export async function endSurvey(
  client: Client,
  { id, tries }: Pick<TakenSurvey, 'id' | 'tries'>,
  { digest, summary, result, items }: KeptEnding,
): Promise<void> {
  await transact(client, async () => {
    const mine = await client.query(
      `SELECT FROM kept_surveys WHERE id = $1 AND tries = $2 AND state = 'running' FOR NO KEY UPDATE`,
      [id, tries],
    );
    if (mine.rowCount === 0) return;
    for (let at = 0; at < items.length; at += BATCH) {
      const rows = items.slice(at, at + BATCH).map((each, n) => ({ ...each, n: at + n }));
      await client.query(
        `INSERT INTO kept_survey_items (survey, list, n, subject, item)
         SELECT $1, list, n, subject, item
         FROM jsonb_to_recordset($2::jsonb) AS i (list text, n int, subject int, item jsonb)`,
        [id, withoutNuls(JSON.stringify(rows))],
      );
    }
    await client.query('SELECT end_kept_survey($1, $2, $3, $4, $5)', [
      ...[id, tries, digest ?? null, withoutNuls(JSON.stringify(summary))],
      withoutNuls(JSON.stringify(result)),
    ]);
  });
}

/**
 * Records the repair of a survey that is being carried out, and what it does to each subject in the audit. Both are in the
 * name of the admin who has requested it.
 */
export async function recordKeptRepair(
  client: Client,
  id: string,
  acts: readonly { subject: number; account: string; fields: readonly string[] }[],
): Promise<void> {
  await client.query('SELECT record_kept_repair($1, $2, $3, $4)', [
    id,
    acts.map(({ subject }) => subject),
    acts.map(({ account }) => account),
    acts.map(({ fields }) => fields.join(' ')),
  ]);
}
