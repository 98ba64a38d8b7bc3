/** What sweeps read and change: the state of rows, touching them, and the table `drifts`. */
import type { Role } from '../reconcile/wanted.ts';
import { type Client, transact } from '../database/connection.ts';

/** A row of `convergence`: a subject and a role. */
export interface Row {
  subject: number;
  role: Role;
}

/** A row that a role has given up on. */
export interface ParkedRow extends Row {
  /** it had only findings that an admin ignores */
  ignored?: boolean;
}

/** How many rows one statement writes; a few more if that keeps subjects together. */
const BATCH = 500;
/** The longest time that a transaction which touches rows takes. Until its end, others see its rows as they were. */
const TOUCHING_SECONDS = 1;

/** The rows that are behind: parked ones, on which no worker is busy, and the others. */
export async function readBehindRows(
  client: Client,
): Promise<{ moving: Row[]; parked: ParkedRow[] }> {
  const { rows } = await client.query(
    `SELECT subject, role, state = 'parked' AS parked, ignored_until IS NOT NULL AS ignored
     FROM convergence WHERE applied < wanted`,
  );
  const behind = rows as (ParkedRow & { parked: boolean })[];
  return {
    moving: behind.filter(({ parked }) => !parked),
    parked: behind.filter(({ parked }) => parked),
  };
}

/** The rows that were touched since then, whether they are applied or not. */
export async function readTouchedSince(client: Client, since: Date): Promise<Row[]> {
  const { rows } = await client.query(
    `SELECT subject, role FROM convergence WHERE since > $1::timestamptz - make_interval(secs => $2)`,
    [since, TOUCHING_SECONDS],
  );
  return rows as Row[];
}

/**
 * Touches rows batch by batch, and records each batch in the sweep's row in the same transaction: how many
 * subjects, and which rows had been given up. A row that is behind but not parked is left, because it is in progress.
 */
export async function touchRows(
  client: Client,
  sweep: string,
  places: readonly Row[],
): Promise<void> {
  const ordered = places.toSorted((a, b) => a.subject - b.subject || (a.role < b.role ? -1 : 1));
  for (let at = 0, end = 0; at < ordered.length; at = end) {
    end = Math.min(at + BATCH, ordered.length);
    // each subject in one batch, so that it counts once
    while (ordered[end]?.subject === ordered[end - 1]?.subject) end += 1;
    const batch = ordered.slice(at, end);
    await transact(client, async () => {
      await client.query('SELECT hold_verdicts(true)');
      const { rows } = await client.query(
        `SELECT p.subject, p.role, p.again, look_again(ARRAY[p.subject], ARRAY[p.role], false, ARRAY[false]) FROM (
           SELECT p.subject, p.role, c.applied < c.wanted AS again FROM unnest($1::int[], $2::text[]) AS p (subject, role)
             LEFT JOIN convergence c USING (subject, role)
           WHERE c.subject IS NULL OR c.applied = c.wanted OR c.state = 'parked'
           ORDER BY p.subject, p.role) AS p`,
        [batch.map(({ subject }) => subject), batch.map(({ role }) => role)],
      );
      const touched = rows as (Row & { again: boolean | null })[];
      await client.query(
        'UPDATE sweeps SET touched = touched + $2, again = again || $3::text[] WHERE id = $1',
        [
          sweep,
          new Set(touched.map(({ subject }) => subject)).size,
          touched.flatMap(({ subject, role, again }) => (again ? [`${subject} ${role}`] : [])),
        ],
      );
    });
  }
}

/** A difference or a finding: the change of the step, or the code of the finding. */
export interface Drift extends Row {
  target: string;
  object: string;
  what: string;
  /** of a finding */
  sentence?: string;
}

/** What a sweep could not read, or what was in motion: the drifts known there stay. */
export interface Unseen {
  roles: readonly Role[];
  places: readonly Row[];
  targets: readonly { subject: number; target: string }[];
}

/** Updates the table to what was found. Drift that still exists keeps its `since`. */
export async function writeDrifts(
  client: Client,
  found: readonly Drift[],
  unseen: Unseen,
): Promise<void> {
  await client.query(
    `DELETE FROM drifts d
     WHERE d.role <> ALL ($1)
       AND NOT EXISTS (SELECT FROM unnest($2::int[], $3::text[]) AS u (subject, role)
                       WHERE u.subject = d.subject AND u.role = d.role)
       AND NOT EXISTS (SELECT FROM unnest($4::int[], $5::text[]) AS u (subject, target)
                       WHERE u.subject = d.subject AND u.target = d.target)
       AND NOT EXISTS (SELECT FROM unnest($6::int[], $7::text[], $8::text[]) AS f (subject, target, object)
                       WHERE f.subject = d.subject AND f.target = d.target AND f.object = d.object)`,
    [
      unseen.roles,
      unseen.places.map(({ subject }) => subject),
      unseen.places.map(({ role }) => role),
      unseen.targets.map(({ subject }) => subject),
      unseen.targets.map(({ target }) => target),
      found.map(({ subject }) => subject),
      found.map(({ target }) => target),
      found.map(({ object }) => object),
    ],
  );
  for (let at = 0; at < found.length; at += BATCH) {
    await client.query(
      `INSERT INTO drifts AS d (subject, role, target, object, what, sentence)
       SELECT DISTINCT ON (subject, target, object) subject, role, target, object, what, sentence
       FROM jsonb_to_recordset($1::jsonb)
         AS f (subject int, role text, target text, object text, what text, sentence text)
       ON CONFLICT (subject, target, object) DO UPDATE SET what = excluded.what, sentence = excluded.sentence
       WHERE (d.what, d.sentence) IS DISTINCT FROM (excluded.what, excluded.sentence)`,
      [JSON.stringify(found.slice(at, at + BATCH))],
    );
  }
}
