/** The table `archivals`: each archiving of a subject. */
import type { Erasure } from './erased-person.ts';
import { removeHold } from './holds-table.ts';
import type { Client } from '../database/connection.ts';

/** An archival that has not ended. */
export interface Archival {
  archival: number;
  /** both archives were verified by reading them back */
  leftAt: Date | null;
  keepUntil: Date | null;
  /** the archives are or will be removed */
  expiredAt: Date | null;
  /** the archives are being restored */
  returningAt: Date | null;
}

/** Finds the archival of a subject that has not ended. Undefined if the subject is in use. */
export async function findArchival(client: Client, subject: number): Promise<Archival | undefined> {
  const { rows } = await client.query(
    `SELECT archival, left_at AS "leftAt", keep_until AS "keepUntil", expired_at AS "expiredAt",
            returning_at AS "returningAt"
     FROM archivals WHERE subject = $1 AND back_at IS NULL`,
    [subject],
  );
  return rows[0] as Archival | undefined;
}

/** Requests the restoring of a subject that is archived or being archived. */
export async function wantBack(client: Client, subject: number, now: Date): Promise<void> {
  await client.query(
    `UPDATE archivals SET returning_at = $2
     WHERE subject = $1 AND back_at IS NULL AND expired_at IS NULL AND returning_at IS NULL`,
    [subject, now],
  );
}

/** Begins the archival of a subject whose access is closed. */
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

/** Marks an archived subject as deleted. Its archives are kept until `keepUntil`. */
export async function completeArchival(
  client: Client,
  subject: number,
  { now, keepUntil }: { now: Date; keepUntil: Date },
): Promise<void> {
  // this comes first, because the database refuses to delete a subject whose `left_at` is not set
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
  // the hold has ended; its reason must not stay
  await removeHold(client, subject);
}

/**
 * Ends an archival, because home and databases are restored. Its archives are kept for the usual time, counted from the
 * deletion, or from now if the subject was not deleted.
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
 * Begins the erasure of a suspended person: their home and databases are destroyed, and existing archives are removed.
 * Returns the approved request. Throws if the database finds no request approved at least a day ago, or if the person
 * is held.
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

/** Marks the archives of a deleted subject for removal after their time. */
export async function expireArchives(client: Client, subject: number, now: Date): Promise<void> {
  await client.query(
    'UPDATE archivals SET expired_at = $2 WHERE subject = $1 AND back_at IS NULL',
    [subject, now],
  );
  // the hold has ended; its reason must not stay
  await removeHold(client, subject);
}

/** Marks the old archives of a restored subject for removal, if their time is over. */
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
