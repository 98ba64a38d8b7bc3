/** The audit with its seals, page by page. */
import { HASHED_COLUMNS, type HashedRow } from './audit-chain.ts';
import type { Client } from '../database/connection.ts';

export const PAGE = 2000;

/** A seal with its row; the columns of the row are null if it is gone. */
export interface SealRow extends HashedRow {
  position: string;
  audit_id: string;
  hash: Buffer;
  previous: string | null;
}

/** The seals after a place, in the order of the chain. */
export async function readPage(client: Client, after: string): Promise<SealRow[]> {
  const { rows } = await client.query({
    name: 'audit-page',
    text: `SELECT s.position, s.audit_id, s.hash, s.previous, ${HASHED_COLUMNS}
           FROM audit_seals s LEFT JOIN audit a ON a.id = s.audit_id
           WHERE s.position > $1 ORDER BY s.position LIMIT ${PAGE}`,
    values: [after],
  });
  return rows as SealRow[];
}

/** Only the row of the audit; undefined if the seal has none. */
export function rowOf(seal: SealRow): HashedRow | undefined {
  const { position: _p, audit_id: _a, hash: _h, previous: _v, ...row } = seal;
  return (row.id as string | null) === null ? undefined : row;
}
