/** The table `audit_seals`: the hash chain over the audit, whose rows come with each verdict. */
import { createHash } from 'node:crypto';
import { canonicalJson } from '../model/canonical-json.ts';
import type { Pool } from './postgres.ts';

/** What the chain starts from. */
const FIRST_HASH = Buffer.alloc(32);
const SEAL_BATCH = 500;

// Every column, in a form that no setting of a session changes.
const UNSEALED = `
  SELECT a.id::text, to_char(a.at AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"') AS at,
         a.request::text, a.portal, a.kind, a.requested_by, a.approved_by, a.subject, a.account,
         a.fields, a.verdict, a.code
  FROM audit a WHERE a.id > $1 ORDER BY a.id LIMIT ${SEAL_BATCH}`;

/** The hash of one row: SHA-256 over the hash before it and the row as canonical JSON. */
export function hashAuditRow(previous: Buffer, row: Record<string, unknown>): Buffer {
  return createHash('sha256').update(previous).update(canonicalJson(row)).digest();
}

/** Seals the rows that are not sealed yet. Only one process may: the chain has one end. */
export async function sealAudit(pool: Pool): Promise<void> {
  for (;;) {
    const head = await pool.query(
      'SELECT audit_id, hash FROM audit_seals ORDER BY audit_id DESC LIMIT 1',
    );
    const last = head.rows[0] as { audit_id: string; hash: Buffer } | undefined;
    const { rows } = await pool.query(UNSEALED, [last?.audit_id ?? '0']);
    if (rows.length === 0) return;
    let hash = last?.hash ?? FIRST_HASH;
    const hashes = (rows as Record<string, unknown>[]).map(
      (row) => (hash = hashAuditRow(hash, row)),
    );
    await pool.query(
      'INSERT INTO audit_seals (audit_id, hash) SELECT * FROM unnest($1::bigint[], $2::bytea[])',
      [rows.map((row: { id: string }) => row.id), hashes],
    );
    if (rows.length < SEAL_BATCH) return;
  }
}
