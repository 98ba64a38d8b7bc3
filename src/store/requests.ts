/** The table `requests`: every request with its verdict. */
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

export interface NewRequest {
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
  onDone: { event: string; portals: string[]; data: Record<string, unknown> } | undefined;
  /** nothing was raised, so it is done with its verdict */
  done: boolean;
}

/**
 * Records a request with its verdict; returns its number, or undefined where the same bytes without
 * a good signature have been recorded before.
 */
export async function insertRequest(
  client: Client,
  request: NewRequest,
): Promise<string | undefined> {
  const { rows } = await client.query({
    name: 'insert-request',
    text: `INSERT INTO requests (portal, jti, body_sha256, kind, requested_by, approved_by, subject,
             verdict, code, sentence, urgent, on_done, done_at)
           VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12,
                   CASE WHEN $13 THEN now() END)
           ON CONFLICT (body_sha256) WHERE jti IS NULL DO NOTHING RETURNING id`,
    values: [
      request.portal,
      request.jti,
      request.bodySha256,
      request.kind,
      request.requestedBy,
      request.approvedBy,
      request.subject,
      request.verdict,
      request.code,
      request.sentence,
      request.urgent,
      request.onDone === undefined ? null : JSON.stringify(request.onDone),
      request.done,
    ],
  });
  return (rows[0] as { id: string } | undefined)?.id;
}
