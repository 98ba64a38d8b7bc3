/** The table `unmanaged_sightings`: names and numbers of unmanaged things. */
import type { Sighting } from './sightings.ts';
import type { Pool } from '../database/connection.ts';

/**
 * Remembers those of the sightings that are not ours. Intake refuses their names, and skips their numbers.
 * A name with U+0000 is ignored, because no request can have it.
 */
export async function rememberUnmanaged(pool: Pool, sightings: readonly Sighting[]): Promise<void> {
  const seen = sightings.filter(({ name }) => name?.includes('\0') !== true);
  if (seen.length === 0) return;
  await pool.query(
    `INSERT INTO unmanaged_sightings (name, id)
     SELECT coalesce(s.name, ''), coalesce(s.id, 0) FROM unnest($1::text[], $2::int[]) AS s (name, id)
     WHERE NOT EXISTS (
       SELECT FROM names n WHERE n.name = s.name AND (s.id IS NULL OR n.subject = s.id))
     ON CONFLICT DO NOTHING`,
    [seen.map(({ name }) => name ?? null), seen.map(({ id }) => id ?? null)],
  );
}
