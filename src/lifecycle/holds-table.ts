/** The table `holds`: subjects that must not be archived, deleted or erased before a date. */
import type { Client } from '../database/connection.ts';

/** The actor named for what `chamberlain recover` holds, suspends and disables. Its holds also block restoring. */
export const RECOVERY = 'the recovery';

/** A hold that has not ended. */
export interface Hold {
  by: string;
  reason: string;
  until: Date;
}

/** Finds the hold on a subject. Undefined if there is none, or if it has ended at `now`. */
export async function findHold(
  client: Client,
  subject: number,
  now: Date,
): Promise<Hold | undefined> {
  const { rows } = await client.query(
    'SELECT held_by AS by, reason, until FROM holds WHERE subject = $1 AND until > $2',
    [subject, now],
  );
  return rows[0] as Hold | undefined;
}

/**
 * Places a hold, and replaces an existing one. Earlier warnings become void, because the day that they named is no
 * longer right. So the subject is not archived before a new warning.
 */
export async function placeHold(
  client: Client,
  subject: number,
  { by, reason, until, now }: Hold & { now: Date },
): Promise<void> {
  await client.query(
    `INSERT INTO holds (subject, held_by, held_at, reason, until) VALUES ($1, $2, $3, $4, $5)
     ON CONFLICT (subject) DO UPDATE SET held_by = excluded.held_by, held_at = excluded.held_at,
       reason = excluded.reason, until = excluded.until`,
    [subject, by, now, reason, until],
  );
  await voidWarnings(client, [subject]);
}

/** Forgets which warnings were sent about these subjects, so that new warnings are sent. */
export async function voidWarnings(client: Client, subjects: readonly number[]): Promise<void> {
  for (const table of ['people', 'tools']) {
    await client.query(
      `UPDATE ${table} SET days_warned = NULL, warned_at = NULL WHERE uid = ANY ($1) AND days_warned > 0`,
      [subjects],
    );
  }
}

/** Ends a hold now and forgets its reason. An approved erasure begins a day after the end of a hold. */
export async function liftHold(client: Client, subject: number, now: Date): Promise<void> {
  await client.query(`UPDATE holds SET until = $2, reason = '' WHERE subject = $1`, [subject, now]);
}

/** Removes the hold on a subject, with its reason. */
export async function removeHold(client: Client, subject: number): Promise<void> {
  await client.query('DELETE FROM holds WHERE subject = $1', [subject]);
}
