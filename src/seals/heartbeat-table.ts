/**
 * The contents of the heartbeat, from our tables; and the table `directory_heartbeat`: what was published, and when.
 */
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

/** If the directory does not show a loss of access after this time, the heartbeat alone announces it to login hosts. */
const OVERDUE_SECONDS = 2;
/** The most floors, the newest ones: 400 kB, which every login host reads every three seconds. */
const MOST_FLOORS = 20_000;

/** How many people and tools a complete directory shows at least. */
export type Counts = Pick<Marker, 'people' | 'tools'>;

/**
 * Counts the subjects now. A subject counts as soon as all steps of its first generation are done, until the verdict
 * that removes the account. With 40,000 subjects this takes 150 ms.
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
 * Reads the clock, and the numbers below which seals no longer count, as of now. A floor is published when the
 * directory has the newer seal, or should have it by now.
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

/** The heartbeat that the directory showed, and the doubt that follows from it. */
export interface MarkerLook {
  /** its texts: none at first, and two if two roles began at the same time */
  texts: string[];
  /** when the newest was written; undefined if there is none */
  seenAt: Date | undefined;
  publishing: Publishing;
  doubt: MarkerDoubt | undefined;
}

/**
 * Reads the heartbeat, and says whether the directory or our database is an older copy of itself. The database is read
 * before and after, so that a heartbeat written meanwhile raises no false doubt.
 *
 * A time that our database does not know, in a text not signed by our key, means nothing: anybody who may write to the
 * directory could write a future time. If there is nothing else (somebody overwrote the heartbeat), there is no doubt,
 * and the next heartbeat replaces it. Earlier times count whichever key signed them, because an older copy may be from
 * before the key was replaced.
 *
 * @param readTexts reads the texts of the heartbeat in the directory
 * @param keys verify the texts; without them, the texts are believed
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
 * Records that a heartbeat is about to be written, and returns its time, which is later than any before
 * (migrations/0011_bounds.sql). Waits for the disk, because a heartbeat must not be newer than our database knows.
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
 * Records that the heartbeat of that time is written.
 *
 * @param short its signed short form for the other places, and the public key that verifies it: SPKI, base64
 */
export async function endPublishing(
  pool: Pool,
  at: Date,
  short?: { text: string; key: string },
): Promise<void> {
  await pool.query('SELECT end_publishing($1, $2, $3)', [at, short?.text, short?.key]);
}

/**
 * Records the doubt for programs that do not read the directory: `status`, `doctor`, the sweep. If our database is the
 * older copy, it freezes the realm, even if it was frozen before. Does nothing if an admin has settled the doubt since
 * `publishing` was read.
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

/** Reads the doubt of the directory role at its last beat, and when it last wrote a heartbeat. */
export async function readDoubt(
  client: Pick<Client, 'query'>,
): Promise<{ doubt: string | null; publishedAt: Date | null }> {
  const { rows } = await client.query(
    'SELECT doubt, published_at AS "publishedAt" FROM directory_heartbeat',
  );
  return rows[0] as { doubt: string | null; publishedAt: Date | null };
}

/** Whether the directory still has to catch up: rows of the directory role are behind and not parked. */
export async function isDirectoryBehind(pool: Pool): Promise<boolean> {
  const { rows } = await pool.query(
    `SELECT EXISTS (SELECT FROM convergence
       WHERE role = 'directory' AND applied < wanted AND state <> 'parked') AS behind`,
  );
  return (rows[0] as { behind: boolean }).behind;
}

/**
 * Accepts an older copy of the directory, as the owner of the database. The directory role checks every subject again,
 * first those that lose access, and publishes no heartbeat until all are as wanted.
 *
 * Throws FROZEN if the realm is frozen, because no worker would act on it.
 *
 * @param urgent uids of the subjects that lose access
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
        throw new ChamberlainError(
          'FROZEN',
          'no worker acts while the realm is frozen, so nothing was done',
          // PostgreSQL is the newer one here
          { action: 'Run `chamberlain thaw`, and then this command again.' },
        );
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

/** How far the directory role is with an older copy. */
export interface CatchingUp {
  /** no heartbeat is published yet */
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
