/** The table `audit`, from the side of those who act by the command line. Sealing is in audit.ts. */
import type { Client } from '../database/connection.ts';

/**
 * What an operator did without a request, the calendar of its own, or what a request about one subject did
 * to others. No personal data: a subject by number and account name.
 */
export interface OperatorAction {
  kind:
    | 'repair'
    | 'freeze'
    | 'thaw'
    | 'sweep.release'
    | 'import'
    | 'recover'
    | 'credentials.rotate'
    | 'unmanaged.ignore'
    | 'audit.close'
    | 'secret.rotate';
  /** `unix:<name>`: a claim, not a proof; `the calendar` */
  by: string;
  subject?: number;
  account?: string;
  /** what it was about, such as targets; never to what. Of what was ignored: the thing, and why; of a secret: its name */
  fields?: readonly string[];
}

/** Writes an act into the audit, in the transaction in which it is done. */
export async function writeOperatorAction(
  client: Pick<Client, 'query'>,
  act: OperatorAction,
): Promise<void> {
  await writeOperatorActions(client, [act]);
}

export async function writeOperatorActions(
  client: Pick<Client, 'query'>,
  acts: readonly OperatorAction[],
): Promise<void> {
  if (acts.length === 0) return;
  await client.query(
    `INSERT INTO audit (kind, requested_by, approved_by, subject, account, fields, verdict)
     SELECT a.kind, a.by, a.by, a.subject, a.account, coalesce(a.fields, '{}'), 'accepted'
     FROM ROWS FROM (jsonb_to_recordset($1::jsonb)
       AS (kind text, by text, subject int, account text, fields text[]))
     WITH ORDINALITY AS a (kind, by, subject, account, fields, n) ORDER BY a.n`,
    [JSON.stringify(acts)],
  );
}
