/** The table `ignored_findings`: findings that an admin knows of; and where findings were seen. */
import type { Client } from '../database/connection.ts';
import type { Row } from './drifts.ts';

/** A finding by what names it. */
interface NamedFinding {
  subject: number;
  target: string;
  code: string;
  /** undefined: whichever has that code */
  object: string | undefined;
}

/** A finding as it was seen. */
export interface SeenFinding extends NamedFinding {
  object: string;
  sentence: string;
}

/** How many findings are looked for: one more than is needed to know that there are several. */
const MOST = 2;

/**
 * Findings that the last sweep has seen, or the newest survey that is kept of the subject: one for each object, at most
 * two.
 */
export async function findSeen(client: Client, named: NamedFinding): Promise<SeenFinding[]> {
  const { subject, target, code, object } = named;
  const { rows } = await client.query(
    `WITH newest AS (
       SELECT s.id FROM kept_surveys s WHERE s.state = 'done'
         AND (s.subjects IS NULL OR $1 = ANY (s.subjects)) AND coalesce(s.target, $2) = $2
       ORDER BY s.ended_at DESC LIMIT 1)
     SELECT DISTINCT ON (object) $1::int AS subject, $2 AS target, $3 AS code, object, sentence FROM (
       SELECT item->>'object' AS object, item->>'sentence' AS sentence, 0 AS rank
       FROM kept_survey_items JOIN newest ON newest.id = survey
       WHERE list = 'findings' AND subject = $1 AND item->>'target' = $2 AND item->>'code' = $3
       UNION ALL
       SELECT object, sentence, 1 FROM drifts
       WHERE subject = $1 AND target = $2 AND what = $3 AND sentence IS NOT NULL) AS seen
     WHERE $4::text IS NULL OR object = $4 ORDER BY object, rank LIMIT ${MOST}`,
    [subject, target, code, object ?? null],
  );
  return rows as SeenFinding[];
}

/** Ignores a finding from now on. What was ignored of the same object before is replaced. */
export async function ignoreSeen(
  client: Client,
  {
    subject,
    target,
    object,
    code,
    sentence,
    by,
    reason,
    until,
  }: SeenFinding & {
    by: string;
    reason: string;
    /** undefined: until it changes */
    until: string | undefined;
  },
): Promise<void> {
  await client.query(
    `INSERT INTO ignored_findings (subject, target, object, code, sentence, by, reason, until)
     VALUES ($1, $2, $3, $4, $5, $6, $7, $8)
     ON CONFLICT (subject, target, code, md5(object)) DO UPDATE
     SET sentence = excluded.sentence, by = excluded.by, reason = excluded.reason, until = excluded.until, at = now()`,
    [subject, target, object, code, sentence, by, reason, until ?? null],
  );
}

/** Lets findings count again. Returns false if none of them was ignored. */
export async function heedFinding(
  client: Client,
  { subject, target, code, object }: NamedFinding,
): Promise<boolean> {
  const { rowCount } = await client.query(
    `DELETE FROM ignored_findings
     WHERE subject = $1 AND target = $2 AND code = $3 AND ($4::text IS NULL OR object = $4)`,
    [subject, target, code, object ?? null],
  );
  return rowCount !== 0;
}

/** Has a role plan anew for a subject that it has given up on, so that its row says whether what is left counts. */
export async function lookAgain(client: Client, { subject, role }: Row): Promise<void> {
  await client.query(
    `SELECT look_again(ARRAY[$1::int], ARRAY[$2::text], false, ARRAY[false])
     WHERE EXISTS (SELECT FROM convergence WHERE subject = $1 AND role = $2 AND state = 'parked')`,
    [subject, role],
  );
}
