/** The table `ssh_keys`. Removed keys stay as rows, so that a key never moves to another person. */
import type { Client } from '../database/connection.ts';

/**
 * When a key of `ssh_keys AS k` ends, in SQL: at `expires_at`, or at its option `expiry-time` if that is sooner; NULL:
 * never. sshd enforces both. It takes a time without `Z` to be in the time zone of its machine, and this takes it to be
 * in UTC, because the hosts may be in several.
 */
export const KEY_END = `least(k.expires_at, (
  SELECT min(to_timestamp(rpad(substring(o, '^expiry-time="([0-9]{8,14})Z?"$'), 14, '0') || '+00', 'YYYYMMDDHH24MISSTZH'))
  FROM unnest(k.options) AS o))`;

export interface StoredKey {
  person: number;
  removed: boolean;
  label: string;
}

export async function findKey(client: Client, fingerprint: string): Promise<StoredKey | undefined> {
  const { rows } = await client.query(
    'SELECT person, removed_at IS NOT NULL AS removed, label FROM ssh_keys WHERE fingerprint = $1',
    [fingerprint],
  );
  return rows[0] as StoredKey | undefined;
}

export async function countKeys(client: Client, person: number): Promise<number> {
  const { rows } = await client.query(
    'SELECT count(*)::int AS keys FROM ssh_keys WHERE person = $1 AND removed_at IS NULL',
    [person],
  );
  return (rows[0] as { keys: number }).keys;
}

/** Adds a key, or gives a removed one back to the person who had it. */
export async function putKey(
  client: Client,
  key: {
    person: number;
    fingerprint: string;
    line: string;
    options: readonly string[];
    label: string;
    expiresAt: string | undefined;
  },
): Promise<void> {
  await client.query(
    // the line too, because it may have been erased
    `INSERT INTO ssh_keys AS k (person, fingerprint, line, options, label, expires_at)
     VALUES ($1, $2, $3, $4, $5, $6)
     ON CONFLICT (fingerprint) DO UPDATE SET line = excluded.line, options = excluded.options, label = excluded.label,
       expires_at = excluded.expires_at, added_at = now(), removed_at = NULL
     WHERE k.person = excluded.person`,
    [key.person, key.fingerprint, key.line, key.options, key.label, key.expiresAt],
  );
}

/** Records unknown keys as removed keys of these people, so that nobody else can add them. */
export async function noteKeys(
  client: Client,
  keys: readonly { person: number; fingerprint: string }[],
): Promise<void> {
  await client.query(
    `INSERT INTO ssh_keys (person, fingerprint, line, removed_at)
     SELECT k.person, k.fingerprint, '', now() FROM unnest($1::int[], $2::text[]) AS k (person, fingerprint)
     ON CONFLICT (fingerprint) DO NOTHING`,
    [keys.map(({ person }) => person), keys.map(({ fingerprint }) => fingerprint)],
  );
}

export async function removeKeys(client: Client, fingerprints: readonly string[]): Promise<void> {
  await client.query('UPDATE ssh_keys SET removed_at = now() WHERE fingerprint = ANY ($1)', [
    fingerprints,
  ]);
}

/** Removes every key of a person. */
export async function removeKeysOf(client: Client, person: number): Promise<void> {
  await client.query(
    'UPDATE ssh_keys SET removed_at = now() WHERE person = $1 AND removed_at IS NULL',
    [person],
  );
}
