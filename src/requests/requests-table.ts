/** The table `requests`: each request with its verdict. */
import type { RoleTouch } from '../roles/touches.ts';
import type { OnDone } from '../events/events-table.ts';
import type { Client } from '../database/connection.ts';

export interface StoredVerdict {
  bodySha256: Buffer;
  verdict: 'accepted' | 'refused';
  code: string | undefined;
  sentence: string | undefined;
}

const VERDICT = 'portal, jti, body_sha256 AS "bodySha256", verdict, code, sentence';

/** The verdict on a portal's request, or undefined if it has none. */
export async function findVerdict(
  client: Client,
  portal: string,
  jti: string,
): Promise<StoredVerdict | undefined> {
  const { rows } = await client.query({
    name: 'find-verdict',
    text: `SELECT ${VERDICT} FROM requests WHERE portal = $1 AND jti = $2`,
    values: [portal, jti],
  });
  return (rows as VerdictRow[]).map(toVerdict)[0];
}

/** The verdicts on requests. The key is the portal and the id, with a blank between them. */
export async function findVerdicts(
  client: Client,
  ids: readonly { portal: string; jti: string }[],
): Promise<Map<string, StoredVerdict>> {
  const { rows } = await client.query({
    name: 'find-verdicts',
    text: `SELECT ${VERDICT} FROM requests JOIN unnest($1::text[], $2::uuid[]) AS i (portal, jti) USING (portal, jti)`,
    values: [ids.map(({ portal }) => portal), ids.map(({ jti }) => jti)],
  });
  return new Map((rows as VerdictRow[]).map((row) => [`${row.portal} ${row.jti}`, toVerdict(row)]));
}

interface VerdictRow {
  portal: string;
  jti: string;
  bodySha256: Buffer;
  verdict: StoredVerdict['verdict'];
  code: string | null;
  sentence: string | null;
}

function toVerdict({ bodySha256, verdict, code, sentence }: VerdictRow): StoredVerdict {
  return { bodySha256, verdict, code: code ?? undefined, sentence: sentence ?? undefined };
}

/** Everything that is written with a verdict, in the same transaction that changes the wanted state. */
export interface NewVerdict {
  /** set, like `jti`, only if the signature was good */
  portal: string | undefined;
  jti: string | undefined;
  bodySha256: Buffer;
  kind: string | undefined;
  requestedBy: string | undefined;
  approvedBy: string | undefined;
  subject: number | undefined;
  /** what it is about, if that is not the subject: the name of a portal */
  about?: string | undefined;
  verdict: 'accepted' | 'refused';
  code: string | undefined;
  sentence: string | undefined;
  urgent: boolean;
  /** the events when it is done; if this request decides a waiting one, they name the waiting one */
  onDone: OnDone | undefined;
  touches: readonly RoleTouch[];
  /** it is not done yet, although it touches nothing: something else ends it */
  waits?: boolean | undefined;
  /** the waiting request that this one decides. What this one touches counts as touched by that one too */
  decides?: { portal: string; jti: string } | undefined;
  /** the fingerprint of the admin's own key that signed it, for the audit */
  key?: string | undefined;
  /**
   * what the audit keeps, and no more: the account name of the subject and the names of the changed fields. `each`:
   * the subjects, if there are several
   */
  audit: {
    account: string | undefined;
    fields: readonly string[];
    each?: readonly { subject: number; account: string }[] | undefined;
  };
}

// The same bytes under an id that had other contents are recorded once. A second time, nothing is written at all.
// Rows of several subjects are written in the same order everywhere, so that transactions never deadlock.
const RECORD = `
  WITH given AS MATERIALIZED (
    SELECT * FROM jsonb_to_recordset($1) AS g (n int, portal text, jti uuid, body_sha256 bytea, kind text,
      requested_by text, approved_by text, subject int, about text, verdict text, code text, sentence text, on_done jsonb,
      waits boolean, touches jsonb, audited jsonb, fields text[], key text)
  ), request AS (
    INSERT INTO requests (portal, jti, body_sha256, kind, requested_by, approved_by, subject, about, verdict,
                          code, sentence, urgent, on_done, done_at)
    SELECT portal, jti, body_sha256, kind, requested_by, approved_by, subject, about, verdict, code, sentence, $2,
           CASE WHEN $4::uuid IS NULL THEN on_done END,
           CASE WHEN touches = '[]' AND ($4::uuid IS NOT NULL OR NOT waits) THEN now() END
    FROM given ORDER BY n
    ON CONFLICT (body_sha256) WHERE jti IS NULL DO NOTHING RETURNING id, portal, jti, body_sha256
  ), recorded AS MATERIALIZED (
    SELECT r.id, g.* FROM request r JOIN given g
      ON g.body_sha256 = r.body_sha256 AND (g.portal, g.jti) IS NOT DISTINCT FROM (r.portal, r.jti)
    ORDER BY g.n
  ), decided AS (
    UPDATE requests q SET on_done = g.on_done, done_at = CASE WHEN touches = '[]' AND NOT waits THEN now() END
    FROM given g WHERE q.portal = $3 AND q.jti = $4 RETURNING q.id, g.n
  ), touch AS MATERIALIZED (
    SELECT n, r.* FROM recorded, jsonb_to_recordset(touches) AS r (subject int, role text, waits boolean, target text)
  ), generations AS MATERIALIZED (
    SELECT g.* FROM (
      SELECT array_agg(subject) AS subjects, array_agg(role) AS roles, array_agg(coalesce(waits, false)) AS waits,
             array_agg(target) AS targets FROM touch HAVING count(*) > 0) AS r,
      touch_generations(r.subjects, r.roles, $2, r.waits, r.targets) AS g
  ), touched AS (
    INSERT INTO request_touches (request, subject, role, generation)
    SELECT DISTINCT id, of_subject, of_role, generation
    FROM touch r JOIN generations ON of_subject = r.subject AND of_role = r.role
      JOIN (SELECT id, n FROM recorded UNION ALL TABLE decided) AS whose USING (n)
  ), audited AS (
    INSERT INTO audit (request, portal, kind, requested_by, approved_by, subject, account, fields,
                       verdict, code, key)
    SELECT id, portal, kind, requested_by, approved_by, a.subject, a.account, fields, verdict, code, key
    FROM recorded, jsonb_to_recordset(audited) AS a (subject int, account text) WHERE verdict = 'accepted'
    UNION ALL
    -- the names in a refused request may be any text, even somebody's real name: only known names are kept.
    -- Without the subject: refusals would drive what has been done out of its history
    SELECT id, portal, kind, (SELECT shell_name FROM people WHERE shell_name = requested_by),
      (SELECT shell_name FROM people WHERE shell_name = approved_by), NULL, audited -> 0 ->> 'account', '{}', verdict,
      code, key
    FROM recorded WHERE verdict = 'refused'
  )
  SELECT id FROM request`;

/**
 * Records a verdict: the request, what it touches, and its audit. Returns whether it was recorded. If it was not,
 * the caller must not send events either. The caller writes the events in the same transaction.
 */
export async function recordVerdict(client: Client, verdict: NewVerdict): Promise<boolean> {
  return (await recordVerdicts(client, [verdict])) === 1;
}

/**
 * Records several verdicts at once, in half the time. Returns how many were recorded. Whatever several of them touch
 * is touched once. Use `recordVerdict` for a verdict that is urgent, is a refusal, or decides another request.
 */
export async function recordVerdicts(
  client: Client,
  verdicts: readonly NewVerdict[],
): Promise<number> {
  const [first] = verdicts;
  if (first === undefined) return 0;
  const { rowCount } = await client.query({
    name: 'record-verdicts',
    text: RECORD,
    values: [
      JSON.stringify(verdicts.map(toRow)),
      first.urgent,
      first.decides?.portal,
      first.decides?.jti,
    ],
  });
  return rowCount ?? 0;
}

function toRow(verdict: NewVerdict, n: number) {
  const {
    portal,
    jti,
    kind,
    subject,
    about,
    code,
    sentence,
    touches,
    waits = false,
    audit,
  } = verdict;
  return {
    ...{ n, portal, jti, kind, subject, about, verdict: verdict.verdict },
    ...{ code, sentence, touches, waits },
    body_sha256: `\\x${verdict.bodySha256.toString('hex')}`,
    requested_by: verdict.requestedBy,
    approved_by: verdict.approvedBy,
    on_done: verdict.onDone,
    fields: audit.fields,
    key: verdict.key,
    audited: audit.each ?? [{ subject, account: audit.account }],
  };
}
