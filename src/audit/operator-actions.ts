/** The table `audit`, for actions on the command line. Sealing is in audit-seals.ts. */
import type { Client } from '../database/connection.ts';

/**
 * An action in the audit that is not a request: of an operator, of the calendar, of the configuration file, or of a
 * request about one subject on others. It holds no personal data: a subject is named by number and account name.
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
    | 'secret.rotate'
    | 'host.join'
    | 'host.remove'
    | 'portal.remove';
  /** `unix:<name>`, which is a claim and not a proof; or `the calendar`, or `the configuration file` */
  by: string;
  subject?: number;
  account?: string;
  /**
   * what changed, such as targets, but never the new values. For `unmanaged.ignore`: the thing, and why; for a
   * secret: its name; for a host: its name, and the fingerprint of its join request
   */
  fields?: readonly string[];
}

/** Writes an action into the audit, in the transaction in which it is done. */
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
