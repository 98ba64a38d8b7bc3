/**
 * The table `place_markers`: the marker that each MariaDB server and each area of homes was given, and the doubt about
 * it.
 */
import { createPublicKey } from 'node:crypto';
import {
  type Carrier,
  markerDoubt,
  type MarkerDoubt,
  type Publishing,
  timeOfShortMarker,
} from './heartbeat.ts';
import { sealKeyId, type SealKeys, verifyPayload } from './seal.ts';
import type { Role } from '../reconcile/wanted.ts';
import { type Client, type Pool, transact, withClient } from '../database/connection.ts';

/** A place of the connected role. */
export interface MarkedPlace {
  role: Role;
  place: string;
}

/** What our database knows about a place. */
interface Known {
  publishing: Publishing;
  /** the marker that the place must get; undefined: the directory role has published none yet */
  next: { text: string; at: Date } | undefined;
  keys: SealKeys;
  /** the key is current; a database from a backup may know one that was replaced since */
  isKeyFresh: boolean;
  isDoubted: boolean;
}

/** The marker that a place showed, and the doubt that follows from it. */
export interface PlaceLook extends Known {
  text: string | undefined;
  seenAt: Date | undefined;
  doubt: MarkerDoubt | undefined;
}

/** The directory role publishes a heartbeat every 3 s, with the key that signs it. */
const KEY_FRESH_MS = 15_000;

async function readKnown(pool: Pool, { role, place }: MarkedPlace): Promise<Known> {
  const { rows } = await pool.query({
    name: 'read-place-marker',
    text: `SELECT d.marker, d.key, p.publishing_at AS "publishingAt", p.published_at AS "publishedAt", p.older IS NOT NULL AS "isDoubted",
                  clock_timestamp() AS now
           FROM directory_heartbeat d LEFT JOIN place_markers p ON p.role = $1 AND p.place = $2`,
    values: [role, place],
  });
  const row = rows[0] as Record<'marker' | 'key', string | null> &
    Record<'publishingAt' | 'publishedAt', Date | null> & { isDoubted: boolean; now: Date };
  const at = timeOfShortMarker(row.marker ?? '');
  return {
    publishing: {
      publishingAt: row.publishingAt ?? undefined,
      publishedAt: row.publishedAt ?? undefined,
      acceptedAt: undefined,
    },
    next: at === undefined ? undefined : { text: row.marker as string, at },
    keys: keysOf(row.key),
    isDoubted: row.isDoubted,
    isKeyFresh: at !== undefined && row.now.getTime() - at.getTime() < KEY_FRESH_MS,
  };
}

function keysOf(spki: string | null): SealKeys {
  if (spki === null) return new Map();
  const key = createPublicKey({ key: Buffer.from(spki, 'base64'), format: 'der', type: 'spki' });
  return new Map([[sealKeyId(key), key]]);
}

/**
 * Reads the marker of a place, and says whether the place or our database is an older copy of itself. Before a doubt,
 * our database is read again, because another process may have written a marker meanwhile.
 *
 * A time that our database does not know, in a text not signed with its key, means nothing. Such a marker is not
 * overwritten until the directory role has published which key is in use now. Until then `next` is undefined.
 *
 * @param read reads the text of the marker in the place
 */
export async function lookAtPlace(
  pool: Pool,
  of: MarkedPlace,
  read: () => Promise<string | undefined>,
  carrier: Carrier,
): Promise<PlaceLook> {
  const known = await readKnown(pool, of);
  const text = await read();
  const judge = (after: Known): Pick<PlaceLook, 'seenAt' | 'doubt'> => {
    const { publishingAt } = after.publishing;
    const at = timeOfShortMarker(text ?? '');
    const isKnown = at !== undefined && publishingAt !== undefined && at <= publishingAt;
    const seenAt = isKnown || verifyPayload(text ?? '', after.keys).ok ? at : undefined;
    return { seenAt, doubt: markerDoubt(seenAt, known.publishing, after.publishing, carrier) };
  };
  const isUnsettled = (after: Known) => {
    const at = timeOfShortMarker(text ?? '');
    return at !== undefined && judge(after).seenAt === undefined && !after.isKeyFresh;
  };
  if (isUnsettled(known)) {
    return { ...known, text, next: undefined, seenAt: undefined, doubt: undefined };
  }
  const first = judge(known);
  if (first.doubt === undefined) return { ...known, text, ...first };
  const after = await readKnown(pool, of);
  // the doubt is about what was known before; if another process has written meanwhile, it is not kept
  return { ...after, publishing: known.publishing, text, ...judge(after) };
}

/** A place of a role as our database knows it; times in ISO 8601. */
export interface KnownPlace {
  place: string;
  /** which side is the older copy, by the latest look */
  older: 'place' | 'database' | null;
  publishingAt: string | null;
  publishedAt: string | null;
}

/** SQL: all places of a role, as an array of `KnownPlace` or NULL. `role`: an expression. */
export const PLACES_OF = (role: string) => `(
  SELECT jsonb_agg(jsonb_build_object('place', place, 'older', older, 'publishingAt', publishing_at, 'publishedAt', published_at))
  FROM place_markers WHERE role = ${role})`;

export async function readPlaces(client: Pick<Client, 'query'>, role: Role): Promise<KnownPlace[]> {
  const text = `SELECT ${PLACES_OF('$1')} AS places`;
  const { rows } = await client.query({ name: 'read-places', text, values: [role] });
  return (rows as { places: KnownPlace[] | null }[])[0]?.places ?? [];
}

/** The places that are older copies of themselves. */
export function olderOf(places: readonly KnownPlace[]): string[] {
  return places.flatMap(({ place, older }) => (older === 'place' ? [place] : []));
}

/** Whether a place shows the marker that it was last given. If not, `lookAtPlace` says what this means. */
export function isAsPublished(
  text: string | undefined,
  { publishingAt, publishedAt }: KnownPlace,
): boolean {
  const at = timeOfShortMarker(text ?? '')?.getTime() ?? NaN;
  return (
    publishedAt !== null && at >= Date.parse(publishedAt) && at <= Date.parse(publishingAt ?? '')
  );
}

/** A published time later than any marker, so that whatever the place shows is not newer. */
const ADOPTED = '9999-12-31Z';

/** Records that a marker of that time is about to be written. Waits for the disk: see `beginPublishing`. */
export async function beginPublishingPlace(
  pool: Pool,
  { role, place }: MarkedPlace,
  at: Date,
): Promise<void> {
  await withClient(pool, (client) =>
    transact(
      client,
      () =>
        client.query(
          `INSERT INTO place_markers AS m (role, place, publishing_at) VALUES ($1, $2, $3)
           ON CONFLICT (role, place) DO UPDATE SET publishing_at = CASE WHEN m.publishing_at = $4 THEN excluded.publishing_at
             ELSE greatest(m.publishing_at, excluded.publishing_at) END`,
          [role, place, at, ADOPTED],
        ),
      { durable: true },
    ),
  );
}

/** Records that a marker of that time is written, which ends any doubt. */
export async function endPublishingPlace(
  pool: Pool,
  { role, place }: MarkedPlace,
  at: Date,
): Promise<void> {
  await pool.query({
    name: 'end-publishing-place',
    text: `UPDATE place_markers SET published_at = $3, doubt = NULL, older = NULL, doubted_at = NULL
           WHERE role = $1 AND place = $2`,
    values: [role, place, at],
  });
}

/**
 * Records the doubt for `status`, `doctor` and the jobs for that place. If our database is the older copy, it freezes
 * the realm. Does nothing if the doubt was settled since `publishing` was read.
 */
export async function writePlaceDoubt(
  pool: Pool,
  { role, place }: MarkedPlace,
  { older, sentence }: Pick<MarkerDoubt, 'older' | 'sentence'>,
  { publishingAt }: Publishing,
): Promise<void> {
  await pool.query(
    `UPDATE place_markers SET doubt = $3, older = $4, doubted_at = coalesce(doubted_at, clock_timestamp())
     WHERE role = $1 AND place = $2 AND (doubt, older) IS DISTINCT FROM ($3, $4)
       AND publishing_at IS NOT DISTINCT FROM $5`,
    [role, place, sentence, older, publishingAt ?? null],
  );
  if (older === 'database') {
    await pool.query('SELECT freeze_older_than($1, $2, $3)', [
      place,
      sentence,
      publishingAt ?? null,
    ]);
  }
}

/** The most subjects that are touched in one transaction, because verdicts wait for it. */
const MOST_AT_ONCE = 1000;

/**
 * Touches, urgently and without a limit, the targets of the subjects that must lose something at a place that is an
 * older copy. Returns how many are not applied yet, not counting parked ones. Returns undefined if nothing was done
 * because the realm is frozen or the place is no longer in doubt.
 */
export async function takeAway(
  pool: Pool,
  { place }: MarkedPlace,
  steps: readonly { subject: number; target: string }[],
): Promise<number | undefined> {
  const subjects = [...Map.groupBy(steps, ({ subject }) => subject).values()];
  let left = 0;
  let at = 0;
  do {
    const some = subjects.slice(at, at + MOST_AT_ONCE).flat();
    const { rows } = await pool.query('SELECT take_away($1, $2, $3) AS left', [
      place,
      some.map(({ subject }) => subject),
      some.map(({ target }) => target),
    ]);
    const ofSome = (rows[0] as { left: number | null }).left;
    if (ofSome === null) return undefined;
    left += ofSome;
    at += MOST_AT_ONCE;
  } while (at < subjects.length);
  return left;
}

/** Forgets places that are no longer in the configuration. */
export async function keepPlaces(pool: Pool, role: Role, places: readonly string[]): Promise<void> {
  const text = 'DELETE FROM place_markers WHERE role = $1 AND place <> ALL ($2)';
  await pool.query({ name: 'keep-places', text, values: [role, places] });
}

/** A place that carries a marker, as our database knows it. */
export interface PlaceDoubt {
  role: Role;
  /** a MariaDB server, `toolHomes`, `personHomes`, or `directory` */
  place: string;
  /** which side is the older copy; null: no doubt */
  older: 'directory' | 'place' | 'database' | null;
  /** why, without a full stop */
  sentence: string | null;
  /** when the last marker was published there */
  publishedAt: Date | null;
}

/** Reads for each place with a marker which side is the older copy, if any. The directory comes first. */
export async function readPlaceDoubts(client: Pick<Client, 'query'>): Promise<PlaceDoubt[]> {
  const { rows } = await client.query(
    `SELECT 'directory' AS role, 'directory' AS place, older, doubt AS sentence, published_at AS "publishedAt"
     FROM directory_heartbeat
     UNION ALL (SELECT role, place, older, doubt, published_at FROM place_markers ORDER BY role, place)`,
  );
  return rows as PlaceDoubt[];
}

/**
 * Accepts the markers of places that are newer than our database, as the owner of the database, when an admin recovers
 * a database that came from a backup. A place that is an older copy stays so.
 */
export async function adoptNewerPlaces(client: Pick<Client, 'query'>): Promise<void> {
  await client.query(
    `UPDATE place_markers SET publishing_at = $1,
       doubt = CASE older WHEN 'place' THEN doubt END, older = nullif(older, 'database'),
       doubted_at = CASE older WHEN 'place' THEN doubted_at END`,
    [ADOPTED],
  );
}
