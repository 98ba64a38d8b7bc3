/** Reads the surveys and repairs that admins have requested, and what the roles have last said of a subject. */
import type { Client } from '../database/connection.ts';
import { readSweptAt } from '../drift/sweeps-table.ts';
import { KEPT_LISTS, type KeptList } from '../drift/kept-surveys-table.ts';
import type { Role } from '../reconcile/wanted.ts';

/** A survey, without what it lists. */
export interface SurveyRow {
  id: string;
  kind: 'survey.run' | 'repair.run';
  by: string;
  at: Date;
  /** numbers; null: every subject */
  subjects: number[] | null;
  role: Role | null;
  target: string | null;
  /** of a repair: the digest of the plan that the admin has seen */
  expected: string | null;
  state: 'asked' | 'running' | 'done';
  endedAt: Date | null;
  digest: string | null;
  summary: Record<string, unknown> | null;
}

const SURVEY = `SELECT id, kind, asked_by AS by, at, subjects, role, target, expected, state, ended_at AS "endedAt",
  digest, summary FROM kept_surveys`;

/** The newest first. `before`: only older ones than this. */
export async function readSurveys(
  client: Client,
  { before, limit }: { before: string | undefined; limit: number },
): Promise<SurveyRow[]> {
  const { rows } = await client.query(
    `${SURVEY} WHERE $1::uuid IS NULL OR (at, id) < (SELECT o.at, o.id FROM kept_surveys o WHERE o.id = $1)
     ORDER BY at DESC, id DESC LIMIT $2`,
    [before ?? null, limit],
  );
  return rows as SurveyRow[];
}

export async function readSurvey(client: Client, id: string): Promise<SurveyRow | undefined> {
  const { rows } = await client.query(`${SURVEY} WHERE id = $1`, [id]);
  return rows[0] as SurveyRow | undefined;
}

/** One thing of a list: a step, a finding, … */
export interface ItemRow {
  list: KeptList;
  /** its place in the list, from 0 */
  n: number;
  item: Record<string, unknown>;
}

/** What a survey lists: list by list, each in its order. `after`: the place of the last one that is known. */
export async function readItems(
  client: Client,
  id: string,
  {
    list,
    after,
    limit,
  }: {
    list: KeptList | undefined;
    after: [list: KeptList, n: number] | undefined;
    limit: number;
  },
): Promise<ItemRow[]> {
  const { rows } = await client.query(
    `SELECT i.list, i.n, i.item FROM unnest($2::text[]) WITH ORDINALITY AS l (list, place), LATERAL (
       SELECT * FROM kept_survey_items
       WHERE survey = $1 AND list = l.list
         AND (l.place > coalesce(array_position($2::text[], $3), 0) OR l.list = $3 AND n > $4)
       ORDER BY n LIMIT $5) AS i
     ORDER BY l.place, i.n LIMIT $5`,
    [id, list === undefined ? KEPT_LISTS : [list], after?.[0] ?? null, after?.[1] ?? null, limit],
  );
  return rows as ItemRow[];
}

/** A difference or a finding that the last sweep saw. */
interface DriftRow {
  role: Role;
  target: string;
  object: string;
  /** the change, or the code of a finding */
  what: string;
  /** of a finding */
  sentence: string | null;
  since: Date;
}

/** What the roles have last said of a subject. */
export interface LastSeen {
  /** see readSweptAt */
  sweptAt: Date | null;
  drifts: DriftRow[];
  /** the newest survey that has looked at it with every role; null: none is kept */
  survey: (Pick<SurveyRow, 'id' | 'endedAt'> & { items: Omit<ItemRow, 'n'>[] }) | null;
}

/** So many things of a subject are read. */
const MOST_ITEMS = 200;

export async function readLastSeen(client: Client, uid: number): Promise<LastSeen> {
  const sweptAt = await readSweptAt(client);
  const drifts = await client.query(
    `SELECT role, target, object, what, sentence, since FROM drifts WHERE subject = $1
     ORDER BY role, target, object LIMIT ${MOST_ITEMS}`,
    [uid],
  );
  const surveys = await client.query(
    `SELECT id, ended_at AS "endedAt" FROM kept_surveys
     WHERE digest IS NOT NULL AND role IS NULL AND (subjects IS NULL OR $1 = ANY (subjects))
     ORDER BY ended_at DESC LIMIT 1`,
    [uid],
  );
  const [survey] = surveys.rows as Pick<SurveyRow, 'id' | 'endedAt'>[];
  const items =
    survey === undefined
      ? []
      : (
          await client.query(
            `SELECT list, item FROM kept_survey_items WHERE survey = $1 AND subject = $2
             ORDER BY list, n LIMIT ${MOST_ITEMS}`,
            [survey.id, uid],
          )
        ).rows;
  return {
    sweptAt,
    drifts: drifts.rows as DriftRow[],
    survey: survey === undefined ? null : { ...survey, items: items as ItemRow[] },
  };
}
