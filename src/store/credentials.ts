/** The tables `credentials` (which epoch is wanted) and `database_verifiers` (what was made). */
import { ask, type Client, type Pool } from './postgres.ts';

/** Wants new credentials; returns the epoch, or undefined where the account has none. */
export async function wantNewEpoch(client: Client, account: number): Promise<number | undefined> {
  const { rows } = await client.query(
    'UPDATE credentials SET wanted_epoch = wanted_epoch + 1 WHERE account = $1 RETURNING wanted_epoch AS epoch',
    [account],
  );
  return (rows[0] as { epoch: number } | undefined)?.epoch;
}

/**
 * Records the verifier of a password that the homes role has just made, and so raises `databases`:
 * one transaction, before the file gets its place. The pool must be durable.
 */
export async function recordVerifier(
  durable: Pool,
  account: number,
  epoch: number,
  verifier: string,
): Promise<void> {
  await ask(durable, 'recording a verifier', {
    name: 'record-verifier',
    text: `INSERT INTO database_verifiers (account, epoch, verifier) VALUES ($1, $2, $3)
           ON CONFLICT (account) DO UPDATE
           SET epoch = excluded.epoch, verifier = excluded.verifier, recorded_at = now()`,
    values: [account, epoch, verifier],
  });
}

/** The verifier recorded for that epoch, or undefined where another or none is. */
export async function readVerifier(
  pool: Pool,
  account: number,
  epoch: number,
): Promise<string | undefined> {
  const rows = await ask(pool, 'reading a verifier', {
    name: 'read-verifier',
    text: 'SELECT verifier FROM database_verifiers WHERE account = $1 AND epoch = $2',
    values: [account, epoch],
  });
  return (rows[0] as { verifier: string } | undefined)?.verifier;
}
