/** What the marker says, from our tables. */
import type { Marker } from '../model/marker.ts';
import type { Pool } from './postgres.ts';

/** A revocation that the directory has not seen after so long is told to the login hosts by itself. */
const OVERDUE_SECONDS = 2;
/** More do not fit into a value of the directory that is read at every look. */
const MOST_OVERDUE = 2000;

/**
 * Counts and overdue revocations, as of now. A person counts once every step of a first generation
 * was done, and no longer from the verdict on that takes the account, or the last key, away: so a
 * directory that shows fewer than these is not whole.
 */
export async function readMarker(pool: Pool): Promise<Omit<Marker, 'at'>> {
  const { rows } = await pool.query({
    name: 'read-marker',
    text: `SELECT
        (SELECT count(*)::int FROM people p JOIN convergence c ON c.subject = p.uid AND c.role = 'directory'
         WHERE c.applied > 0 AND p.state <> 'deleted') AS people,
        (SELECT count(*)::int FROM people p JOIN convergence c ON c.subject = p.uid AND c.role = 'directory'
         WHERE c.applied = c.wanted AND p.state = 'active'
           AND EXISTS (SELECT FROM ssh_keys k WHERE k.person = p.uid AND k.removed_at IS NULL)) AS keyed,
        (SELECT coalesce(jsonb_agg(o.subject), '[]') FROM (
           SELECT c.subject FROM convergence c JOIN people p ON p.uid = c.subject
           WHERE c.role = 'directory' AND c.applied < c.wanted AND c.since < now() - make_interval(secs => $1)
             AND (p.state <> 'active'
                  OR NOT EXISTS (SELECT FROM realm_members m WHERE m.person = p.uid)
                  OR EXISTS (SELECT FROM ssh_keys k WHERE k.person = p.uid AND k.removed_at >= c.since))
           ORDER BY c.since LIMIT $2) o) AS overdue`,
    values: [OVERDUE_SECONDS, MOST_OVERDUE],
  });
  return rows[0] as Omit<Marker, 'at'>;
}
