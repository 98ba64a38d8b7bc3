/** The table `api_reads`: who has read personal data through the API, of whom, and what. */
import type { Client } from '../database/connection.ts';
import type { Caller } from './rights.ts';

/** Mail addresses; SSH keys; why somebody was suspended, asked for access and the like. */
export const READ_KINDS = ['mail', 'keys', 'reasons'] as const;
export type ReadKind = (typeof READ_KINDS)[number];

/** The function takes no more at a time. */
const MOST_AT_ONCE = 1000;

/**
 * Records what a caller is about to be shown of these people. Call it before the answer is given: if it fails, there must
 * be none. Accounts of tools may be among them, and are not recorded.
 */
export async function logReads(
  client: Client,
  { name }: Pick<Caller, 'name'>,
  accounts: readonly string[],
  what: readonly ReadKind[],
): Promise<void> {
  const all = [...new Set(accounts)];
  for (let at = 0; at < all.length; at += MOST_AT_ONCE) {
    await client.query({
      name: 'log-reads',
      text: 'SELECT log_api_reads($1, $2, $3)',
      values: [name, all.slice(at, at + MOST_AT_ONCE), what],
    });
  }
}

/** Of whom somebody reads in such a request: where it is about a portal, of the admin who sent it. */
export function personIn(request: {
  kind: string | null;
  account: string | null;
  requestedBy: string | null;
}): string | null {
  return request.kind?.startsWith('portal.') === true ? request.requestedBy : request.account;
}

/** What somebody has read of a person. */
export interface ReadRow {
  id: string;
  at: Date;
  caller: string;
  uid: number;
  person: string;
  what: ReadKind[];
}

/** The newest first. */
export async function readReads(
  client: Client,
  {
    person,
    before,
    limit,
  }: { person: string | undefined; before: string | undefined; limit: number },
): Promise<ReadRow[]> {
  const { rows } = await client.query(
    `SELECT r.id, r.at, r.caller, r.subject AS uid, p.shell_name AS person, r.what
     FROM api_reads r JOIN people p ON p.uid = r.subject
     WHERE ($1::bigint IS NULL OR r.id < $1)
       AND ($2::text IS NULL OR r.subject = (SELECT uid FROM people WHERE shell_name = $2))
     ORDER BY r.id DESC LIMIT $3`,
    [before ?? null, person ?? null, limit],
  );
  return rows as ReadRow[];
}
