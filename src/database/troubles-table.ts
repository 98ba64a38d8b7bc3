/** The table `troubles`: the servers and folders that a role cannot read, and since when. */
import type { Role } from '../reconcile/wanted.ts';
import { describedRole } from '../roles/index.ts';
import { sentenceColumn } from '../reconcile/convergence-table.ts';
import type { Client, Pool } from './connection.ts';

/** A server or a folder that a role cannot read at present. */
export interface Trouble {
  role: Role | 'relay';
  /** a database server, an area of homes, `archives`, `directory`, or `redis` */
  place: string;
  since: Date;
  /** why; it names the server or the folder */
  sentence: string;
  /** what does not happen meanwhile */
  stops: string;
}

/** A trouble that a role has not confirmed for this long may be over: roles check every 20 s. */
const FRESH_SECONDS = 120;

/** Writes what is wrong with a place; `since` stays as long as it lasts. */
export async function writeTrouble(
  pool: Pool,
  { role, place, sentence }: Pick<Trouble, 'role' | 'place' | 'sentence'>,
): Promise<void> {
  await pool.query({
    name: 'write-trouble',
    text: `INSERT INTO troubles AS t (role, place, sentence) VALUES ($1, $2, $3)
           ON CONFLICT (role, place) DO UPDATE SET sentence = excluded.sentence, last_at = now(), since =
             CASE WHEN t.last_at < now() - make_interval(secs => ${FRESH_SECONDS}) THEN now() ELSE t.since END`,
    values: [role, place, sentenceColumn(sentence)],
  });
}

/** Records that the place can be read. */
export async function clearTrouble(
  pool: Pool,
  role: Trouble['role'],
  place: string,
): Promise<void> {
  await pool.query({
    name: 'clear-trouble',
    text: 'DELETE FROM troubles WHERE role = $1 AND place = $2',
    values: [role, place],
  });
}

/** The present troubles, the oldest first. */
export async function readTroubles(client: Client): Promise<Trouble[]> {
  const { rows } = await client.query(
    `SELECT role, place, since, sentence FROM troubles
     WHERE last_at > now() - make_interval(secs => ${FRESH_SECONDS}) ORDER BY since, role, place`,
  );
  return (rows as Omit<Trouble, 'stops'>[]).map((row) => ({ ...row, stops: stoppedBy(row) }));
}

/** What does not happen while a place cannot be read, such as `no account changes`. */
export function stoppedBy({ role, place }: Pick<Trouble, 'role' | 'place'>): string {
  if (role === 'relay') return 'no request gets a verdict, no role gets work, and no event is sent';
  if (place === 'archives') return `no ${role} are archived or restored`;
  return describedRole(role).stops(place);
}
