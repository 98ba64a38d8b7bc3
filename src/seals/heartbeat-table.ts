/** What the marker says, from our tables; and the table `directory_heartbeat`: what was told, and when. */
import {
  markerDoubt,
  newestOf,
  parseMarker,
  type Marker,
  type MarkerDoubt,
  type Publishing,
} from './heartbeat.ts';
import { verifyPayload, type SealKeys } from './seal.ts';
import { ChamberlainError } from '../shared/errors.ts';
import { writeOperatorAction } from '../audit/operator-actions.ts';
import { type Client, type Pool, transact, withClient } from '../database/connection.ts';

/** What somebody lost, and the directory does not show after so long, is told to the login hosts by itself. */
const OVERDUE_SECONDS = 2;
/** The newest: 400 kB, which every login host reads every three seconds. */
const MOST_FLOORS = 20_000;

/** How many a directory that is whole shows at least. */
export type Counts = Pick<Marker, 'people' | 'tools'>;

/**
 * Counts, as of now. A subject counts once every step of a first generation was done, and no longer from the verdict on
 * that takes the account away. Among 40,000 it takes 150 ms.
 */
export async function countSubjects(pool: Pool): Promise<Counts> {
  const { rows } = await pool.query({
    name: 'count-subjects',
    text: `SELECT count(p.uid)::int AS people, count(t.uid)::int AS tools FROM convergence c
             LEFT JOIN people p ON p.uid = c.subject AND p.state <> 'deleted'
             LEFT JOIN tools t ON t.uid = c.subject AND t.state <> 'deleted'
           WHERE c.role = 'directory' AND c.applied > 0`,
  });
  return rows[0] as Counts;
}

/**
 * The clock, and below which numbers seals count no more, as of now. A floor is told when the directory has the newer
 * seal, or should have had it.
 */
export async function readFloors(pool: Pool): Promise<Pick<Marker, 'clock' | 'floors'>> {
  const { rows } = await pool.query({
    name: 'read-floors',
    text: `SELECT
        to_char(now() AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.MS"Z"') AS clock,
        (SELECT coalesce(jsonb_agg(jsonb_build_array(f.subject, f.floor) ORDER BY f.subject), '[]') FROM (
           SELECT l.subject, l.floor FROM login_seals l
             LEFT JOIN convergence c ON c.subject = l.subject AND c.role = 'directory'
           WHERE l.floor_at > now() - interval '7 days'
             AND (c.applied = c.wanted OR c.since < now() - make_interval(secs => $1))
           ORDER BY l.floor_at DESC LIMIT $2) f) AS floors`,
    values: [OVERDUE_SECONDS, MOST_FLOORS],
  });
  return rows[0] as Pick<Marker, 'clock' | 'floors'>;
}

/** What the directory showed as the marker, and the doubt that follows. */
export interface MarkerLook {
  /** its texts: none at first, and two where two roles began at once */
  texts: string[];
  /** when the newest was written; undefined where there is none */
  seenAt: Date | undefined;
  publishing: Publishing;
  doubt: MarkerDoubt | undefined;
}

/**
 * Reads the marker, and says whether the directory or our database is an older copy of itself. The
 * database is read before and after, so that one who writes a marker meanwhile is not accused.
 *
 * A time that our database does not know, and that our key has not signed, says nothing: whoever may write the directory
 * may write a time of the future. Where nothing else is there (somebody has written over it) there is no doubt, and the
 * next one is written over it. What is of before counts whichever key has signed it: an older copy may be of before the key
 * was replaced.
 *
 * @param readTexts reads the marker's texts in the directory
 * @param keys by which it is verified; without them it is taken for what it says
 */
export async function lookAtHeartbeat(
  pool: Pick<Pool, 'query'>,
  readTexts: () => Promise<string[]>,
  keys?: SealKeys,
): Promise<MarkerLook> {
  const before = await readPublishing(pool);
  const texts = await readTexts();
  const publishing = await readPublishing(pool);
  const times = texts.map((text) => {
    const marker = parseMarker(text);
    const at = marker && new Date(marker.at);
    const isKnown =
      at !== undefined && publishing.publishingAt !== undefined && at <= publishing.publishingAt;
    return isKnown || keys === undefined || verifyPayload(text, keys).ok ? at : undefined;
  });
  const seenAt = newestOf(times);
  const isOverwritten = seenAt === undefined && texts.length > 0;
  const doubt = isOverwritten ? undefined : markerDoubt(seenAt, before, publishing);
  return { texts, seenAt, publishing, doubt };
}

export async function readPublishing(pool: Pick<Pool, 'query'>): Promise<Publishing> {
  const { rows } = await pool.query({
    name: 'read-publishing',
    text: `SELECT publishing_at AS "publishingAt", published_at AS "publishedAt", accepted_at AS "acceptedAt"
           FROM directory_heartbeat`,
  });
  const row = rows[0] as Record<keyof Publishing, Date | null> | undefined;
  return {
    publishingAt: row?.publishingAt ?? undefined,
    publishedAt: row?.publishedAt ?? undefined,
    acceptedAt: row?.acceptedAt ?? undefined,
  };
}

/**
 * Records that a marker is about to be written, and gives it its time, later than any before (migrations/0011_bounds.sql).
 * Waits for the disk: a marker may not be newer than our database knows.
 */
export async function beginPublishing(pool: Pool, seenAt: Date | undefined): Promise<Date> {
  return withClient(pool, (client) =>
    transact(
      client,
      async () => {
        const { rows } = await client.query('SELECT begin_publishing($1) AS at', [seenAt ?? null]);
        return (rows[0] as { at: Date }).at;
      },
      { durable: true },
    ),
  );
}

/**
 * Records that a marker of that time is written.
 *
 * @param short its short form for the other places, signed, and the public key that verifies it: SPKI, base64
 */
export async function endPublishing(
  pool: Pool,
  at: Date,
  short?: { text: string; key: string },
): Promise<void> {
  await pool.query('SELECT end_publishing($1, $2, $3)', [at, short?.text, short?.key]);
}

/**
 * Keeps the doubt for those who do not see the directory: `status`, `doctor`, the sweep. Where our
 * database is the older copy, freezes the realm, whoever has frozen it before. Does nothing where an
 * admin has settled it since the look at `publishing`.
 */
export async function writeDoubt(
  pool: Pool,
  { older, sentence }: Pick<MarkerDoubt, 'older' | 'sentence'>,
  { publishingAt }: Publishing,
): Promise<void> {
  await pool.query(
    `UPDATE directory_heartbeat SET doubt = $1, older = $4
     WHERE doubt IS DISTINCT FROM $1 AND publishing_at IS NOT DISTINCT FROM $2
       AND (accepted_at IS NULL OR $3)`,
    [sentence, publishingAt ?? null, older === 'database', older],
  );
  if (older === 'database') {
    await pool.query('SELECT freeze_older($1, $2)', [sentence, publishingAt ?? null]);
  }
}

/** The doubt that the directory role had at its last beat, and when it last wrote a marker. */
export async function readDoubt(
  client: Pick<Client, 'query'>,
): Promise<{ doubt: string | null; publishedAt: Date | null }> {
  const { rows } = await client.query(
    'SELECT doubt, published_at AS "publishedAt" FROM directory_heartbeat',
  );
  return rows[0] as { doubt: string | null; publishedAt: Date | null };
}

/** Whether the directory is still to catch up: rows of the directory role are behind, and not parked. */
export async function isDirectoryBehind(pool: Pool): Promise<boolean> {
  const { rows } = await pool.query(
    `SELECT EXISTS (SELECT FROM convergence
       WHERE role = 'directory' AND applied < wanted AND state <> 'parked') AS behind`,
  );
  return (rows[0] as { behind: boolean }).behind;
}

/**
 * Accepts an older copy of the directory, as the owner of the database: every subject is looked at again by the role directory, first
 * those from whom something is to be taken, and the marker is not told before all are as wanted.
 *
 * Throws FROZEN where the realm is frozen: nothing would come of it.
 *
 * @param urgent uids of those from whom something is to be taken
 * @returns how many subjects there are
 */
export async function acceptOlderDirectory(
  client: Client,
  urgent: readonly number[],
  by: string,
): Promise<number> {
  return transact(
    client,
    async () => {
      await client.query('UPDATE directory_heartbeat SET accepted_at = clock_timestamp()');
      const { rows } = await client.query('SELECT frozen_at FROM frozen FOR KEY SHARE');
      if ((rows[0] as { frozen_at: Date | null }).frozen_at !== null) {
        throw new ChamberlainError('FROZEN', 'no worker acts, so nothing was done');
      }
      const touched = await client.query(
        `SELECT look_again(ARRAY[s.uid], ARRAY['directory'], s.uid = ANY ($1), ARRAY[false]) FROM (
           SELECT uid FROM people UNION ALL SELECT uid FROM tools ORDER BY uid) AS s`,
        [urgent],
      );
      await writeOperatorAction(client, { kind: 'recover', by, fields: ['directory'] });
      return touched.rowCount ?? 0;
    },
    { durable: true },
  );
}

/** How far the role directory is with an older copy. */
export interface CatchingUp {
  /** the marker is not told yet */
  accepted: boolean;
  behind: number;
  parked: number;
}

export async function readCatchingUp(client: Pick<Client, 'query'>): Promise<CatchingUp> {
  const { rows } = await client.query(
    `SELECT m.accepted_at IS NOT NULL AS accepted, c.* FROM directory_heartbeat m, (
       SELECT count(*) FILTER (WHERE applied < wanted AND state <> 'parked')::int AS behind,
              count(*) FILTER (WHERE state = 'parked')::int AS parked
       FROM convergence WHERE role = 'directory') AS c`,
  );
  return rows[0] as CatchingUp;
}
