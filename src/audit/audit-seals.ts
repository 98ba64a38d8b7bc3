/** The table `audit_seals` as the sealer writes it: the hash chain over the audit. */
import { FIRST_HASH, HASHED_COLUMNS, hashAuditRow, type HashedRow } from './audit-chain.ts';
import { type Client, inTransaction, type Pool } from '../database/connection.ts';

const SEAL_BATCH = 500;

const UNSEALED = `
  SELECT ${HASHED_COLUMNS} FROM audit_unsealed u JOIN audit a ON a.id = u.audit_id
  ORDER BY u.audit_id LIMIT ${SEAL_BATCH}`;

/**
 * Seals the rows that are not sealed yet, whatever their ids: rows of a transaction that ends late are sealed when they
 * become visible. Only one process may do this at a time; a second one fails, because each place in the chain is given
 * once. Durable, because a head that somebody has written down must remain.
 */
export async function sealAudit(pool: Pool): Promise<void> {
  // without work there is no transaction, which would wait for the disk
  const { rows } = await pool.query('SELECT FROM audit_unsealed LIMIT 1');
  let left = rows.length > 0;
  while (left) left = await inTransaction(pool, sealBatch, { durable: true });
}

/** Seals one batch. Returns whether there may be more. */
async function sealBatch(client: Client): Promise<boolean> {
  // in a quiet realm, everything may be closed and removed
  const head = await client.query(
    `SELECT position, audit_id, hash FROM (
       SELECT position, audit_id, hash FROM audit_seals
       UNION ALL SELECT last, audit_id, hash FROM audit_closings) AS links ORDER BY position DESC LIMIT 1`,
  );
  const last = head.rows[0] as { position: string; audit_id: string; hash: Buffer } | undefined;
  const { rows } = await client.query({ name: 'unsealed', text: UNSEALED });
  if (rows.length === 0) return false;
  let hash = last?.hash ?? FIRST_HASH;
  const ids = (rows as HashedRow[]).map((row) => row.id);
  const hashes = (rows as HashedRow[]).map((row) => (hash = hashAuditRow(hash, row)));
  await client.query(
    `INSERT INTO audit_seals (audit_id, hash, previous, position)
     SELECT audit_id, hash, previous, $4::bigint + n
     FROM unnest($1::bigint[], $2::bytea[], $3::bigint[])
       WITH ORDINALITY AS s (audit_id, hash, previous, n)`,
    [ids, hashes, [last?.audit_id ?? null, ...ids.slice(0, -1)], last?.position ?? '0'],
  );
  await client.query('DELETE FROM audit_unsealed WHERE audit_id = ANY ($1)', [ids]);
  return rows.length === SEAL_BATCH;
}
