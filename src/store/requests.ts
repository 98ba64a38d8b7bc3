/** The table `requests`: every request with its verdict. */
import type { Raise } from './convergence.ts';
import type { OnDone } from './events.ts';
import type { Client } from './postgres.ts';

export interface StoredVerdict {
  bodySha256: Buffer;
  verdict: 'accepted' | 'refused';
  code: string | undefined;
  sentence: string | undefined;
}

/** The verdict that a portal's request has had, or undefined. */
export async function findVerdict(
  client: Client,
  portal: string,
  jti: string,
): Promise<StoredVerdict | undefined> {
  const { rows } = await client.query({
    name: 'find-verdict',
    text: `SELECT body_sha256, verdict, code, sentence FROM requests WHERE portal = $1 AND jti = $2`,
    values: [portal, jti],
  });
  const row = rows[0] as
    | {
        body_sha256: Buffer;
        verdict: 'accepted' | 'refused';
        code: string | null;
        sentence: string | null;
      }
    | undefined;
  return row === undefined
    ? undefined
    : {
        bodySha256: row.body_sha256,
        verdict: row.verdict,
        code: row.code ?? undefined,
        sentence: row.sentence ?? undefined,
      };
}

/** Everything that is written with a verdict, in the transaction that changes the wanted state. */
export interface NewVerdict {
  /** with `jti`: only where the signature was good */
  portal: string | undefined;
  jti: string | undefined;
  bodySha256: Buffer;
  kind: string | undefined;
  requestedBy: string | undefined;
  approvedBy: string | undefined;
  subject: number | undefined;
  verdict: 'accepted' | 'refused';
  code: string | undefined;
  sentence: string | undefined;
  urgent: boolean;
  /** of a request that decides one that waited: told as of that one */
  onDone: OnDone | undefined;
  raises: readonly Raise[];
  /** nothing is done before an admin decides it */
  waits?: boolean | undefined;
  /** the request that waited and is decided by this one: what this one raises, that one has raised too */
  decides?: { portal: string; jti: string } | undefined;
  /**
   * account name of the subject, and which fields changed; for the audit, which holds no more. `each`:
   * the subjects, where that is many
   */
  audit: {
    account: string | undefined;
    fields: readonly string[];
    each?: readonly { subject: number; account: string }[] | undefined;
  };
}

// The same bytes under an id that had other contents are recorded once; then nothing else is written either.
// Rows of several subjects in one order everywhere, so that transactions never wait for each other in a circle.
const RECORD = `
  WITH request AS (
    INSERT INTO requests (portal, jti, body_sha256, kind, requested_by, approved_by, subject, verdict,
                          code, sentence, urgent, on_done, done_at)
    VALUES ($1, $2, $3, $4, $5, $6, $18, $8, $9, $10, $11,
            CASE WHEN $21::uuid IS NULL THEN $12::jsonb END,
            CASE WHEN cardinality($13::int[]) = 0 AND ($21::uuid IS NOT NULL OR NOT $19) THEN now() END)
    ON CONFLICT (body_sha256) WHERE jti IS NULL DO NOTHING RETURNING id
  ), decided AS (
    UPDATE requests SET on_done = $12, done_at = CASE WHEN cardinality($13) = 0 AND NOT $19 THEN now() END
    WHERE portal = $20 AND jti = $21 RETURNING id
  ), generations AS MATERIALIZED (
    SELECT g.* FROM request, raise_generations($13, $14, $11, $15, $22) AS g
  ), raised AS (
    INSERT INTO request_raises (request, subject, role, generation)
    SELECT id, of_subject, of_role, generation
    FROM generations, (TABLE request UNION ALL TABLE decided) AS whose
  ), audited AS (
    INSERT INTO audit (request, portal, kind, requested_by, approved_by, subject, account, fields,
                       verdict, code)
    SELECT id, $1, $4, $5, $6, a.subject, a.account, $17::text[], $8, $9
    FROM request, unnest($7::int[], $16::text[]) AS a (subject, account) WHERE $8 = 'accepted'
    UNION ALL
    -- the names in what was refused may be anything, a person's own name too: those that are ours are kept
    SELECT id, $1, $4, (SELECT shell_name FROM people WHERE shell_name = $5),
      (SELECT shell_name FROM people WHERE shell_name = $6), NULL, NULL, '{}', $8, $9
    FROM request WHERE $8 = 'refused'
  )
  SELECT id FROM request`;

/**
 * Records a verdict: the request, what it raises, its audit. Says whether it was recorded; where not, nothing must be
 * told of it either. Its events are for the caller to write, in the same transaction.
 */
export async function recordVerdict(client: Client, verdict: NewVerdict): Promise<boolean> {
  const { audit } = verdict;
  const audited = audit.each ?? [{ subject: verdict.subject, account: audit.account }];
  const { rowCount } = await client.query({
    name: 'record-verdict',
    text: RECORD,
    values: [
      verdict.portal,
      verdict.jti,
      verdict.bodySha256,
      verdict.kind,
      verdict.requestedBy,
      verdict.approvedBy,
      audited.map(({ subject }) => subject),
      verdict.verdict,
      verdict.code,
      verdict.sentence,
      verdict.urgent,
      verdict.onDone === undefined ? null : JSON.stringify(verdict.onDone),
      verdict.raises.map(({ subject }) => subject),
      verdict.raises.map(({ role }) => role),
      verdict.raises.map(({ waits }) => waits ?? false),
      audited.map(({ account }) => account),
      verdict.audit.fields,
      verdict.subject,
      verdict.waits ?? false,
      verdict.decides?.portal,
      verdict.decides?.jti,
      verdict.raises.map(({ target }) => target ?? null),
    ],
  });
  return rowCount === 1;
}
