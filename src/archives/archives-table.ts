/** The tables `archives` and `archive_progress`: what a role has archived, and how far it is. */
import { ChamberlainError } from '../shared/errors.ts';
import type { Role } from '../reconcile/wanted.ts';
import { type Client, faultOf, type Pool } from '../database/connection.ts';

/** An archive whose manifest was read back. */
export interface RecordedArchive {
  subject: number;
  archival: number;
  role: Role;
  /** SHA-256 of the manifest's bytes, lower case hex */
  manifestSha256: string;
  /** the path, as the role sees it */
  path: string;
  /** of all its files */
  bytes: number;
}

/**
 * Records an archive, durably, on the connection that holds the subject's lock: if the lock is lost, nothing is
 * recorded. Recording the same archive again does nothing. Throws STEP_STALE if another manifest is recorded:
 * then that archive counts, and this one must go.
 */
export async function recordArchive(client: Client, archive: RecordedArchive): Promise<void> {
  const { subject, archival, role, manifestSha256, path, bytes } = archive;
  try {
    const [, , recorded] = await Promise.all([
      client.query('BEGIN; SET LOCAL synchronous_commit = on'),
      client.query({
        name: 'record-archive',
        text: `INSERT INTO archives (subject, archival, role, manifest_sha256, path, bytes)
               VALUES ($1, $2, $3, $4, $5, $6) ON CONFLICT DO NOTHING`,
        values: [subject, archival, role, manifestSha256, path, bytes],
      }),
      client.query({
        name: 'read-archive',
        text: `SELECT manifest_sha256 AS manifest FROM archives
               WHERE subject = $1 AND archival = $2 AND role = $3`,
        values: [subject, archival, role],
      }),
      client.query('COMMIT'), // rolls back if an earlier statement failed
    ]);
    const manifest = (recorded.rows[0] as { manifest: string } | undefined)?.manifest;
    if (manifest === manifestSha256) return;
  } catch (cause) {
    throw faultOf(cause, 'recording an archive');
  }
  const context = { subject, archival };
  throw new ChamberlainError('STEP_STALE', 'recording an archive although another is recorded', {
    context,
  });
}

/** The names of the archives, `<account>.<archival>`, that the calling role has recorded. */
export async function readRecordedArchives(pool: Pick<Pool, 'query'>): Promise<Set<string>> {
  const { rows } = await pool.query({
    name: 'read-recorded-archives',
    text: `SELECT n.name || '.' || a.archival AS name FROM archives a JOIN names n USING (subject)`,
  });
  return new Set((rows as { name: string }[]).map(({ name }) => name));
}

/** The fingerprints of all keys that a person ever had; empty for a tool. */
export async function readFingerprints(
  pool: Pick<Pool, 'query'>,
  subject: number,
): Promise<string[]> {
  const query = {
    name: 'read-fingerprints',
    text: 'SELECT fingerprint FROM ssh_keys WHERE person = $1 ORDER BY fingerprint',
    values: [subject],
  };
  const { rows } = await pool.query(query).catch((cause: unknown) => {
    throw faultOf(cause, 'reading the fingerprints of keys');
  });
  return (rows as { fingerprint: string }[]).map(({ fingerprint }) => fingerprint);
}

/** What a long step was begun for. */
export interface AskedStep {
  subject: number;
  archival: number;
  /** true for a restore, false for an archival, undefined for a destruction */
  returning: boolean | undefined;
  /** whether its archives must be removed, whatever has become of the subject since */
  expired?: boolean;
  /** whether what it destroys is in no archive, because it is an erasure */
  erases?: boolean;
}

/**
 * Whether a long step is still wanted: the subject is archived (or deleted, for a destruction), by the same
 * archival, in the same direction, and the realm is not frozen. Throws BACKEND_UNAVAILABLE if it cannot be
 * known.
 */
export async function readStillWanted(
  pool: Pick<Pool, 'query'>,
  { subject, archival, returning, expired = false, erases = false }: AskedStep,
): Promise<boolean> {
  const query = {
    name: 'still-wanted',
    text: `SELECT FROM archivals d
           WHERE d.subject = $1 AND d.archival = $2
             AND CASE WHEN $4::boolean THEN d.expired_at IS NOT NULL ELSE d.back_at IS NULL
               AND (d.returning_at IS NOT NULL) = coalesce($3::boolean, false)
               AND CASE WHEN $3::boolean IS NULL THEN 'deleted' ELSE 'archived' END IN (SELECT state FROM people WHERE uid = d.subject
                                UNION ALL SELECT state FROM tools WHERE uid = d.subject) END
             AND (d.erasure IS NOT NULL OR NOT $5::boolean)
             AND NOT EXISTS (SELECT FROM frozen WHERE frozen_at IS NOT NULL)`,
    values: [subject, archival, returning ?? null, expired, erases],
  };
  const { rowCount } = await pool.query(query).catch((cause: unknown) => {
    throw faultOf(cause, 'checking whether a step is still wanted');
  });
  return rowCount === 1;
}

/** How far a role is with a subject. */
export interface ArchiveProgress {
  subject: number;
  role: Role;
  /** the current act, in words for people: `packing`, `reading back` */
  act: string;
  /** bytes; `total` is undefined if it is not known */
  done: number;
  total: number | undefined;
}

/** Reports how far a role is. It is worthless after a crash, so a report that fails is left out. */
export async function reportArchiveProgress(
  pool: Pick<Pool, 'query'>,
  { subject, role, act, done, total }: ArchiveProgress,
): Promise<void> {
  const query = {
    name: 'report-archive-progress',
    text: `INSERT INTO archive_progress (subject, role, act, done, total) VALUES ($1, $2, $3, $4, $5)
           ON CONFLICT (subject, role) DO UPDATE
           SET act = excluded.act, done = excluded.done, total = excluded.total, at = now()`,
    values: [subject, role, act, Math.round(done), total === undefined ? null : Math.round(total)],
  };
  await pool.query(query).catch(() => {});
}

/** Nothing is being done any more. */
export async function clearArchiveProgress(
  pool: Pick<Pool, 'query'>,
  { subject, role }: { subject: number; role: Role },
): Promise<void> {
  const query = {
    name: 'clear-archive-progress',
    text: 'DELETE FROM archive_progress WHERE subject = $1 AND role = $2',
    values: [subject, role],
  };
  await pool.query(query).catch(() => {});
}
