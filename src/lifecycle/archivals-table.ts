/** The table `archivals`: each time that a subject is put away. */
import type { Erasure } from './erased-person.ts';
import { removeHold } from './holds-table.ts';
import type { Client } from '../database/connection.ts';

/** An archival that is not over. */
export interface Archival {
  archival: number;
  /** both archives were read back */
  leftAt: Date | null;
  keepUntil: Date | null;
  /** the archives are removed, or about to be */
  expiredAt: Date | null;
  /** what was put away is being brought back */
  returningAt: Date | null;
}

/** The archival of a subject that is not over, or undefined where the subject is not away. */
export async function findArchival(client: Client, subject: number): Promise<Archival | undefined> {
  const { rows } = await client.query(
    `SELECT archival, left_at AS "leftAt", keep_until AS "keepUntil", expired_at AS "expiredAt",
            returning_at AS "returningAt"
     FROM archivals WHERE subject = $1 AND back_at IS NULL`,
    [subject],
  );
  return rows[0] as Archival | undefined;
}

/** What was put away, or is being put away, is wanted back. */
export async function wantBack(client: Client, subject: number, now: Date): Promise<void> {
  await client.query(
    `UPDATE archivals SET returning_at = $2
     WHERE subject = $1 AND back_at IS NULL AND expired_at IS NULL AND returning_at IS NULL`,
    [subject, now],
  );
}

/** Has a subject put away, whose doors are closed: an archival begins. */
export async function beginArchival(client: Client, subject: number, now: Date): Promise<void> {
  await client.query(
    `INSERT INTO archivals (subject, archival, began_at)
     SELECT $1, coalesce(max(archival), 0) + 1, $2 FROM archivals WHERE subject = $1`,
    [subject, now],
  );
  for (const table of ['people', 'tools']) {
    await client.query(
      `UPDATE ${table} SET state = 'archived', delete_after = NULL WHERE uid = $1`,
      [subject],
    );
  }
}

/** Has a subject deleted that is put away; its archives are kept until then. */
export async function completeArchival(
  client: Client,
  subject: number,
  { now, keepUntil }: { now: Date; keepUntil: Date },
): Promise<void> {
  // first, for the database refuses to have anything deleted that has not left
  await client.query(
    'UPDATE archivals SET left_at = $2, keep_until = $3 WHERE subject = $1 AND back_at IS NULL',
    [subject, now, keepUntil],
  );
  await client.query(`UPDATE people SET state = 'deleted', suspended_until = NULL WHERE uid = $1`, [
    subject,
  ]);
  await client.query(`UPDATE tools SET state = 'deleted', orphaned_at = NULL WHERE uid = $1`, [
    subject,
  ]);
  await client.query('DELETE FROM archive_progress WHERE subject = $1', [subject]);
  // one that has ended, and its reason
  await removeHold(client, subject);
}

/**
 * What was put away is back in its place: the archival is over. Its archives are kept as long as any: from
 * the deletion on, or from now on where there was none.
 */
export async function endArchival(
  client: Client,
  subject: number,
  { now, keepUntil }: { now: Date; keepUntil: Date },
): Promise<void> {
  await client.query(
    `UPDATE archivals SET back_at = $2, keep_until = coalesce(keep_until, $3)
     WHERE subject = $1 AND back_at IS NULL`,
    [subject, now, keepUntil],
  );
  await client.query('DELETE FROM archive_progress WHERE subject = $1', [subject]);
}

/**
 * Has a suspended person erased: what they have is destroyed where it is, and archives of before are removed. Returns
 * the approved request. Throws where the database finds none that is a day old, or the person is held.
 */
export async function beginErasure(
  client: Client,
  person: number,
  now: Date,
): Promise<{ portal: string; request: string }> {
  const { rows } = await client.query(
    `INSERT INTO archivals (subject, archival, began_at, left_at, keep_until, expired_at, erasure)
     SELECT $1, coalesce(max(archival), 0) + 1, $2, $2, $2, $2, '{}' FROM archivals WHERE subject = $1
     RETURNING erasure`,
    [person, now],
  );
  await client.query(
    'UPDATE archivals SET expired_at = $2 WHERE subject = $1 AND expired_at IS NULL',
    [person, now],
  );
  await client.query(
    `UPDATE people SET state = 'deleted', suspended_until = NULL, delete_after = NULL WHERE uid = $1`,
    [person],
  );
  await client.query('DELETE FROM archive_progress WHERE subject = $1', [person]);
  await removeHold(client, person);
  return (rows[0] as { erasure: Erasure }).erasure;
}

/** Has the archives of a subject removed, which were kept long enough. */
export async function expireArchives(client: Client, subject: number, now: Date): Promise<void> {
  await client.query(
    'UPDATE archivals SET expired_at = $2 WHERE subject = $1 AND back_at IS NULL',
    [subject, now],
  );
  // one that has ended, and its reason
  await removeHold(client, subject);
}

/** Has the archives of a subject that came back removed, as far as they were kept long enough. */
export async function expirePastArchives(
  client: Client,
  subject: number,
  now: Date,
): Promise<void> {
  await client.query(
    `UPDATE archivals SET expired_at = $2
     WHERE subject = $1 AND back_at IS NOT NULL AND expired_at IS NULL AND keep_until <= $2`,
    [subject, now],
  );
}
