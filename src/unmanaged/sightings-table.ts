/** The table `unmanaged_sightings`: names and numbers of unmanaged things. */
import type { Sighting } from './sightings.ts';
import type { Pool } from '../database/connection.ts';

/**
 * Remembers those of the sightings that are not ours. Intake refuses their names, and skips their numbers.
 * A name with U+0000 is ignored, because no request can have it.
 */
export async function rememberUnmanaged(pool: Pool, sightings: readonly Sighting[]): Promise<void> {
  if (sightings.length === 0) return;
  await pool.query(
    `INSERT INTO unmanaged_sightings (name, id) ${NOT_OURS} ON CONFLICT DO NOTHING`,
    columnsOf(sightings),
  );
}

/** How many of the sightings are neither ours nor remembered. */
export async function countUnremembered(
  pool: Pool,
  sightings: readonly Sighting[],
): Promise<number> {
  const { rows } = await pool.query(
    `SELECT count(*)::int FROM (${NOT_OURS} EXCEPT SELECT name, id FROM unmanaged_sightings) AS missing`,
    columnsOf(sightings),
  );
  return (rows[0] as { count: number }).count;
}

const NOT_OURS = `
     SELECT coalesce(s.name, ''), coalesce(s.id, 0) FROM unnest($1::text[], $2::int[]) AS s (name, id)
     WHERE NOT EXISTS (
       SELECT FROM names n WHERE n.name = s.name AND (s.id IS NULL OR n.subject = s.id))`;

function columnsOf(sightings: readonly Sighting[]): [(string | null)[], (number | null)[]] {
  const seen = sightings.filter(({ name }) => name?.includes('\0') !== true);
  return [seen.map(({ name }) => name ?? null), seen.map(({ id }) => id ?? null)];
}
