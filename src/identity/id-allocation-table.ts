/** The allocation of uids from the configured ranges, in the request's transaction. */
import type { Config } from '../shared/config.ts';
import { ChamberlainError, doing } from '../shared/errors.ts';
import { parsePosixId, type PosixId } from './posix-id.ts';
import { type Client, transact } from '../database/connection.ts';

type Kind = 'person' | 'tool';

// The ranges are locked first, so that a second allocator sees where the first one stopped.
// The series is in the select list, where LIMIT stops it at the first free numbers.
const RESERVE = `
  WITH ranges AS MATERIALIZED (
    SELECT first, last, next FROM id_ranges WHERE kind = $1 ORDER BY first FOR UPDATE
  ), free AS MATERIALIZED (
    SELECT first, id FROM (
      SELECT first, generate_series(next, last) AS id FROM ranges WHERE next <= last ORDER BY first
    ) AS candidate
    WHERE candidate.id NOT IN (65534, 65535)
      AND NOT EXISTS (SELECT FROM posix_ids p WHERE p.id = candidate.id)
      AND NOT EXISTS (SELECT FROM unmanaged_sightings f WHERE f.id = candidate.id AND f.id <> 0)
    LIMIT $2
  )
  SELECT id FROM free ORDER BY first, id`;

/**
 * Allocates a number that was never allocated before and was never seen on an unmanaged account. Throws IDS_EXHAUSTED.
 */
export async function allocateId(client: Client, kind: Kind): Promise<PosixId> {
  const id = await reserveId(client, kind);
  await useIds(client, kind, [id]);
  return id;
}

/** Returns a number as `reserveIds` does. Throws IDS_EXHAUSTED. */
export async function reserveId(client: Client, kind: Kind): Promise<PosixId> {
  const [id] = await reserveIds(client, kind, 1);
  if (id !== undefined) return id;
  throw new ChamberlainError('IDS_EXHAUSTED', `allocating a number for a ${kind}`);
}

/**
 * Returns the next free numbers, at most so many, which nobody else gets before the transaction ends. A number is
 * allocated only by `useIds`.
 */
export async function reserveIds(client: Client, kind: Kind, count: number): Promise<PosixId[]> {
  const { rows } = await client.query({
    name: 'reserve-ids',
    text: RESERVE,
    values: [kind, count],
  });
  return (rows as { id: number }[]).map(({ id }) => parsePosixId(id));
}

/** Allocates numbers that this transaction has reserved. */
export async function useIds(client: Client, kind: Kind, ids: readonly PosixId[]): Promise<void> {
  await client.query({
    name: 'use-ids',
    text: `WITH moved AS (
             UPDATE id_ranges r SET next = used.last + 1 FROM (
               SELECT first, max(id) AS last FROM id_ranges, unnest($2::int[]) AS id
               WHERE kind = $1 AND id BETWEEN first AND id_ranges.last GROUP BY first) AS used
             WHERE r.kind = $1 AND r.first = used.first)
           INSERT INTO posix_ids (id, kind) SELECT id, $1 FROM unnest($2::int[]) AS id`,
    values: [kind, ids],
  });
}

/** How many numbers a kind has in all its ranges, and how many of them are free. */
export interface NumbersLeft {
  kind: Kind;
  size: number;
  left: number;
}

export async function readNumbersLeft(client: Client): Promise<NumbersLeft[]> {
  const { rows } = await client.query(
    // an import also allocates numbers beyond `next`
    `SELECT kind, sum(last - first + 1)::int AS size,
       sum(greatest(last + 1 - next, 0) - (SELECT count(*) FROM posix_ids p WHERE p.id BETWEEN r.next AND r.last))::int AS left
     FROM id_ranges r GROUP BY kind ORDER BY kind`,
  );
  return rows as NumbersLeft[];
}

/** The admin is warned if less than this share of a kind's numbers is left. */
const LEAST_LEFT = 0.2;

/** The warning if the numbers of a kind run out, and what to do. */
export function describeScarce({
  kind,
  size,
  left,
}: NumbersLeft): { what: string; todo: string } | undefined {
  if (left > size * LEAST_LEFT) return undefined;
  const whose = kind === 'person' ? 'people' : 'tools';
  return {
    what: `few numbers are left for new ${whose}: ${left} of ${size}`,
    todo:
      'First add a range to `login-host.yaml` on each login host, and run `chamberlain-login-host` there. ' +
      `Then add it to \`ids.${whose}\` in the configuration. ` +
      'Load the rules of the directory again ("To load the rules again" in docs/install.md, step 7). ' +
      'In a directory that others use too, do not do that: run `chamberlain setup --answers FILE` with the new `ids`, and do what it says. Then restart the workers.',
  };
}

/**
 * Records the ranges of the configuration. A range that grew at its end is widened. A range that shrank stays as it
 * was. A range that overlaps another is refused.
 */
export async function syncRanges(client: Client, config: Config): Promise<void> {
  const wanted = [
    ...config.ids.people.map((range) => ({ kind: 'person', ...range })),
    ...config.ids.tools.map((range) => ({ kind: 'tool', ...range })),
  ];
  await transact(client, async () => {
    for (const { kind, first, last } of wanted) {
      await doing('CONFIG_INVALID', `ids: the ${kind} range ${first}-${last}`, () =>
        client.query(
          `INSERT INTO id_ranges AS r (kind, first, last, next) VALUES ($1, $2, $3, $2)
           ON CONFLICT (kind, first) DO UPDATE SET last = greatest(r.last, excluded.last)`,
          [kind, first, last],
        ),
      );
    }
  });
}
