/** The tables `credentials` (which epoch is wanted) and `database_verifiers` (what was made). */
import { type Client, faultOf, type Pool } from './postgres.ts';

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
 * one durable transaction, before the file gets its place. On the connection that holds the lock of
 * the account: with the lock lost, nothing is recorded.
 */
export async function recordVerifier(
  client: Client,
  account: number,
  epoch: number,
  verifier: string,
): Promise<void> {
  try {
    await Promise.all([
      client.query('BEGIN; SET LOCAL synchronous_commit = on'),
      client.query({
        name: 'record-verifier',
        text: `INSERT INTO database_verifiers (account, epoch, verifier) VALUES ($1, $2, $3)
               ON CONFLICT (account) DO UPDATE
               SET epoch = excluded.epoch, verifier = excluded.verifier, recorded_at = now()`,
        values: [account, epoch, verifier],
      }),
      client.query('COMMIT'), // rolls back where the statement before has failed
    ]);
  } catch (cause) {
    throw faultOf(cause, 'recording a verifier');
  }
}

/** The verifier recorded for that epoch, or undefined where another or none is. */
export async function readVerifier(
  pool: Pool,
  account: number,
  epoch: number,
): Promise<string | undefined> {
  const query = {
    name: 'read-verifier',
    text: 'SELECT verifier FROM database_verifiers WHERE account = $1 AND epoch = $2',
    values: [account, epoch],
  };
  const { rows } = await pool.query(query).catch((cause: unknown) => {
    throw faultOf(cause, 'reading a verifier');
  });
  return (rows[0] as { verifier: string } | undefined)?.verifier;
}
