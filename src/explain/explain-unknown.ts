/** What is known of a name or a number that no subject has. Read only. */
import { normalName } from '../identity/names.ts';
import type { Client } from '../database/connection.ts';
import { readSweptAt } from '../drift/sweeps-table.ts';

/** How many of the latest requests are searched for refusals: their sentences have no index. */
const MOST_REQUESTS = 5000;

interface Sighting {
  name: string;
  id: number;
  at: Date;
}

interface Refusal {
  at: Date;
  kind: string | null;
  requestedBy: string | null;
  code: string | null;
  sentence: string | null;
}

/** A range of numbers; those below `next` were given, or passed over. */
interface IdRange {
  kind: 'person' | 'tool';
  first: number;
  last: number;
  next: number;
}

export interface Unknown {
  /** seen in the directory, among homes or among database users, and unmanaged; first at `at` */
  sightings: Sighting[];
  /** refused requests whose sentence mentions the name; the latest first */
  refusals: Refusal[];
  /** the range that the number is in */
  range: IdRange | undefined;
  /** the kind of account that has or had the number, or that must not get it */
  given: 'person' | 'tool' | undefined;
  /** see readSweptAt: something unmanaged that is newer is not known */
  sweptAt: Date | null;
}

/** @param names each form of the name; a uid of 0 means no number */
export async function readUnknown(
  client: Client,
  names: readonly string[],
  uid: number,
): Promise<Unknown> {
  const [sightings, refusals, ranges, given, sweptAt] = await Promise.all([
    client.query(
      `SELECT name, id, at FROM unmanaged_sightings WHERE name = ANY ($1) OR (id = $2 AND id <> 0)
       ORDER BY at, name, id`,
      [names.map(normalName), uid],
    ),
    client.query(
      `SELECT at, kind, requested_by AS "requestedBy", code, sentence
       FROM (SELECT * FROM requests ORDER BY id DESC LIMIT ${MOST_REQUESTS}) r
       WHERE verdict = 'refused' AND EXISTS (
         SELECT FROM unnest($1::text[]) AS n WHERE position(' ' || n || ' ' IN sentence) > 0)
       ORDER BY id DESC LIMIT 3`,
      [names],
    ),
    client.query('SELECT kind, first, last, next FROM id_ranges WHERE $1 BETWEEN first AND last', [
      uid,
    ]),
    client.query('SELECT kind FROM posix_ids WHERE id = $1', [uid]),
    readSweptAt(client),
  ]);
  return {
    sightings: sightings.rows as Sighting[],
    refusals: refusals.rows as Refusal[],
    range: ranges.rows[0] as IdRange | undefined,
    given: (given.rows[0] as { kind: 'person' | 'tool' } | undefined)?.kind,
    sweptAt,
  };
}
