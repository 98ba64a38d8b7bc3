/** The table `convergence`: which generation of a subject is wanted of a role, and which is applied. */
import type { Role, Wanted } from './wanted.ts';
import type { RoleTouch } from '../roles/touches.ts';
import { type KnownPlace, PLACES_OF } from '../seals/place-markers-table.ts';
import {
  type Client,
  LOCK_CLASS,
  type Pool,
  SILENT_MS,
  startBeating,
  stopBeating,
  withClient,
} from '../database/connection.ts';
import { readWanted } from './wanted-queries.ts';

/** Touches generations as they are, without a request; `isUrgent`: access is taken away by it. */
export async function touchAll(
  client: Client,
  touches: readonly RoleTouch[],
  isUrgent = false,
): Promise<void> {
  await client.query(
    'SELECT touch_generations($1::int[], $2::text[], $3, $4::bool[], $5::text[])',
    [
      touches.map(({ subject }) => subject),
      touches.map(({ role }) => role),
      isUrgent,
      touches.map(({ waits }) => waits === true),
      touches.map(({ target }) => target ?? null),
    ],
  );
}

/** A subject that a worker is given under its lock. */
export interface Held {
  wanted: Wanted;
  /** refusals before, since the row was last touched; a server that was away does not count */
  attempts: number;
  /** its row stays as it is, whatever comes of the run */
  left: boolean;
  /** names of the targets that are behind; undefined: any of them may be */
  targets: readonly string[] | undefined;
  /** of the role, as they were known before anything was read there */
  places: readonly KnownPlace[];
}

/** How a run ended, as it is written to the row. */
export type Outcome =
  | { state: 'applied' }
  | { state: 'waiting'; sentence: string }
  | { state: 'failing'; code: string; sentence: string; retryInMs: number; counts: boolean }
  | { state: 'parked'; code: string; sentence: string; ignoredUntil?: string };

/** How long a row that waits for another role rests before it is looked at again anyway. */
const WAITING_RETRY_SECONDS = 60;

/**
 * Locks subjects for a role, then runs `act` with what a statement says of those that nobody else works on, and with
 * their wanted state. The locks belong to the connection, so they end with the process that holds them; what `act`
 * writes on that connection is written under them.
 *
 * The statement comes before what is wanted, so that a change in between is due once more.
 */
export async function underLocks(
  pool: Pool,
  role: Role,
  subjects: readonly number[],
  statement: { name: string; text: string; values: unknown[] },
  act: (
    rows: { subject: number }[],
    wanted: ReadonlyMap<number, Wanted>,
    client: Client,
  ) => Promise<void>,
): Promise<void> {
  await withClient(pool, async (client) => {
    try {
      // one after another on the server, but sent at once
      const [locked, found, wanted] = await Promise.all([
        lockSubjects(client, subjects),
        client.query(statement),
        readWanted(client, role, subjects),
      ]);
      const mine = new Set(locked);
      const rows = (found.rows as { subject: number }[]).filter(({ subject }) => mine.has(subject));
      await act(rows, new Map(wanted.map((each) => [each.uid, each])), client);
    } finally {
      await unlock(client);
    }
  });
}

/**
 * Runs `act` under their locks with the subjects that are behind, and writes how each ended. Of those that were given
 * up, only with what takes access away. While the realm is frozen it does nothing, and the rows stay as they are.
 *
 * Rows are written without waiting for the disk (synchronous_commit off): a write that a crash of PostgreSQL loses costs
 * one more run that finds nothing to do.
 *
 * @param isLeft whether a subject's row stays as it is: it is due again when its lease is over
 */
export async function withSubjects(
  pool: Pool,
  role: Role,
  subjects: readonly number[],
  act: (held: readonly Held[], client: Client) => Promise<ReadonlyMap<number, Outcome>>,
  isLeft: (wanted: Wanted, targets: Held['targets']) => boolean = () => false,
): Promise<void> {
  const behind = {
    name: 'read-generations',
    // Frozen, none: it is looked under the locks, for which whoever freezes waits. And by the key: while many are
    // behind, the index of those is long.
    text: `WITH mine AS MATERIALIZED (
             SELECT * FROM convergence WHERE subject = ANY ($1) AND role = $2)
           SELECT subject, wanted, attempts, targets, ${PLACES_OF('$2')} AS places
           FROM mine
           WHERE applied < wanted AND (state <> 'parked' OR urgent AND ignored_until IS NULL)
             AND (SELECT frozen_at IS NULL FROM frozen)`,
    values: [subjects, role],
  };
  await underLocks(pool, role, subjects, behind, async (found, wanted, client) => {
    const rows = found as BehindRow[];
    const held = rows.flatMap(({ subject, attempts, targets, places }): Held[] => {
      const each = wanted.get(subject);
      if (each === undefined) return [];
      const of = targets ?? undefined;
      const left = isLeft(each, of);
      return [{ wanted: each, attempts, left, targets: of, places: places ?? [] }];
    });
    const left = new Set(held.flatMap((each) => (each.left ? [each.wanted.uid] : [])));
    const ended = rows.filter(({ subject }) => !left.has(subject));
    const outcomes = held.length === 0 ? new Map<number, Outcome>() : await act(held, client);
    await writeOutcomes(client, role, ended, outcomes);
  });
}

/** A row that is behind, as it was read: `wanted` is the generation. */
export interface BehindRow {
  subject: number;
  wanted: string;
  attempts: number;
  targets?: string[] | null;
  places?: KnownPlace[] | null;
}

/**
 * Locks subjects for the role that is connected, until `unlock`, or as long as the connection lives and is heard of;
 * returns those that it got.
 */
export async function lockSubjects(client: Client, subjects: readonly number[]): Promise<number[]> {
  startBeating(client);
  const { rows } = await client.query({
    name: 'lock-subjects',
    text: `SELECT lock_subjects($1) AS subject, set_config('idle_session_timeout', '${SILENT_MS.ends}', false)`,
    values: [subjects],
  });
  return (rows as { subject: number }[]).map(({ subject }) => subject);
}

/** A connection that cannot be unlocked is of no more use: it may not go back to the pool. */
export async function unlock(client: Client): Promise<void> {
  stopBeating(client);
  try {
    await client.query(
      `SELECT pg_advisory_unlock_all(), set_config('idle_session_timeout', '0', false)`,
    );
  } catch (cause) {
    throw new Error('unlocking subjects', { cause });
  }
}

/**
 * Writes how runs ended, each on the generation that was read. Where a row was touched meanwhile, only `applied` and the
 * lease are written: the newer generation is due, whatever came of the older. The subjects are for the caller to unlock.
 *
 * Intake takes rows in the order of its requests, and whoever holds one while they wait for another may wait in a circle
 * with it. So rows that somebody holds are left out at first, and then waited for one by one; the subjects of the others
 * are unlocked meanwhile, since whoever is told of an outcome may want that lock.
 */
export async function writeOutcomes(
  client: Client,
  role: Role,
  rows: readonly BehindRow[],
  outcomes: ReadonlyMap<number, Outcome>,
): Promise<void> {
  if (rows.length === 0) return;
  const all = rows.map(({ subject, wanted }): Written => ({
    subject,
    generation: wanted,
    // a subject of which nothing is known any more wants nothing
    outcome: outcomes.get(subject) ?? { state: 'applied' },
  }));
  const written = new Set(await writeTogether(client, role, all, 'SKIP LOCKED'));
  const held = all.filter(({ subject }) => !written.has(subject));
  if (held.length === 0) return;
  await Promise.all([
    unlockSubjects(client, role, [...written]),
    ...held.flatMap((each) => [
      writeTogether(client, role, [each], ''),
      unlockSubjects(client, role, [each.subject]),
    ]),
  ]);
}

interface Written {
  subject: number;
  generation: string;
  outcome: Outcome;
}

/** Returns the subjects whose rows were written. */
async function writeTogether(
  client: Client,
  role: Role,
  all: readonly Written[],
  ofHeld: 'SKIP LOCKED' | '',
): Promise<number[]> {
  const { rows } = await client.query({
    name: ofHeld === '' ? 'write-outcome' : 'write-outcomes',
    text: `WITH free AS MATERIALIZED (
             SELECT subject FROM convergence WHERE subject = ANY ($2) AND role = $1 FOR NO KEY UPDATE ${ofHeld})
           UPDATE convergence c SET
             applied      = CASE WHEN o.state = 'applied' THEN greatest(c.applied, o.generation) ELSE c.applied END,
             state        = CASE WHEN c.wanted = o.generation THEN o.state ELSE c.state END,
             code         = CASE WHEN c.wanted = o.generation THEN o.code ELSE c.code END,
             sentence     = CASE WHEN c.wanted = o.generation THEN o.sentence ELSE c.sentence END,
             attempts     = CASE WHEN c.wanted <> o.generation THEN c.attempts
                                 WHEN o.state IN ('failing', 'parked') THEN c.attempts + o.counts ELSE 0 END,
             next_try_at  = CASE WHEN c.wanted = o.generation THEN now() + make_interval(secs => o.rest)
                                 ELSE c.next_try_at END,
             urgent       = c.urgent AND NOT (o.state = 'applied' AND c.wanted = o.generation),
             ignored_until = CASE WHEN c.wanted = o.generation THEN o.ignored_until END,
             leased_until = NULL
           FROM free JOIN unnest($2::int[], $3::bigint[], $4::text[], $5::text[], $6::text[], $7::int[], $8::float8[],
               $9::timestamptz[])
             AS o (subject, generation, state, code, sentence, counts, rest, ignored_until) USING (subject)
           WHERE c.subject = free.subject AND c.role = $1
           RETURNING c.subject`,
    values: [
      role,
      all.map(({ subject }) => subject),
      all.map(({ generation }) => generation),
      all.map(({ outcome }) => outcome.state),
      all.map(({ outcome }) => ('code' in outcome ? outcome.code : null)),
      all.map(({ outcome }) =>
        sentenceColumn('sentence' in outcome ? outcome.sentence : undefined),
      ),
      all.map(({ outcome }) => (outcome.state === 'failing' && !outcome.counts ? 0 : 1)),
      all.map(({ outcome }) => restSeconds(outcome)),
      all.map(({ outcome }) =>
        outcome.state === 'parked' ? (outcome.ignoredUntil ?? null) : null,
      ),
    ],
  });
  return (rows as { subject: number }[]).map(({ subject }) => subject);
}

async function unlockSubjects(
  client: Client,
  role: Role,
  subjects: readonly number[],
): Promise<void> {
  await client.query({
    name: 'unlock-subjects',
    text: 'SELECT pg_advisory_unlock($1, s) FROM unnest($2::int[]) AS s',
    values: [LOCK_CLASS[role], subjects],
  });
}

/** As a column `sentence` holds it: of bounded length, and without U+0000, which no text of PostgreSQL holds. */
export function sentenceColumn(sentence: string | undefined): string | null {
  return sentence?.slice(0, 2000).replaceAll('\0', '\uFFFD') ?? null;
}

function restSeconds(outcome: Outcome): number {
  if (outcome.state === 'failing') return outcome.retryInMs / 1000;
  return outcome.state === 'waiting' ? WAITING_RETRY_SECONDS : 0;
}
