/** The table `holds`: who is not to be put away, deleted or erased until a day. */
import type { Client } from '../database/connection.ts';

/** Who has held, suspended and disabled by `chamberlain recover`: such a hold keeps back a restore, too. */
export const RECOVERY = 'the recovery';

/** A hold that has not ended. */
export interface Hold {
  by: string;
  reason: string;
  until: Date;
}

/** The hold on a subject, or undefined where there is none, or it has ended by then. */
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
 * Places a hold, instead of one that is there. The warnings so far are void: the day that they named no
 * longer holds, so nobody is put away before a new one.
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

/** Forgets which warnings of their end subjects had: they are warned anew. */
export async function voidWarnings(client: Client, subjects: readonly number[]): Promise<void> {
  for (const table of ['people', 'tools']) {
    await client.query(
      `UPDATE ${table} SET days_warned = NULL, warned_at = NULL WHERE uid = ANY ($1) AND days_warned > 0`,
      [subjects],
    );
  }
}

/** Lifts a hold: it ends now, and its reason is forgotten. An erasure begins a day after its end. */
export async function liftHold(client: Client, subject: number, now: Date): Promise<void> {
  await client.query(`UPDATE holds SET until = $2, reason = '' WHERE subject = $1`, [subject, now]);
}

/** Removes the hold on a subject, its reason too. */
export async function removeHold(client: Client, subject: number): Promise<void> {
  await client.query('DELETE FROM holds WHERE subject = $1', [subject]);
}
