/** The table `convergence`: which generation of a subject is wanted of a role, and which is applied. */
import type { Role, Wanted } from '../model/wanted.ts';
import { isFrozen } from './freeze.ts';
import { type Client, LOCK_CLASS, type Pool, withClient } from './postgres.ts';
import { readWanted } from './wanted.ts';

/** A generation to raise. */
export interface Raise {
  subject: number;
  role: Role;
  /** another role of the same subject is raised too, and raises this one again when it is done */
  waits?: true;
  /** of this target alone something changes, and nothing that a seal says */
  target?: string;
}

/** A subject that a worker is given under its lock. */
export interface Held {
  wanted: Wanted;
  /** refusals before, since the row was last raised; a server that was away does not count */
  attempts: number;
  /** its row stays as it is, whatever comes of the run */
  left: boolean;
  /** names of the targets that are behind; undefined: any of them may be */
  targets: readonly string[] | undefined;
}

/** How a run ended, as it is written to the row. */
export type Outcome =
  | { state: 'applied' }
  | { state: 'waiting'; sentence: string }
  | { state: 'failing'; code: string; sentence: string; retryInMs: number; counts: boolean }
  | { state: 'parked'; code: string; sentence: string };

/** How long a row that waits for another role rests before it is looked at again anyway. */
const WAITING_RETRY_SECONDS = 60;

/**
 * Locks subjects for a role, then runs `act` with those that are behind and nobody else works on, and
 * writes how each ended. The locks belong to the connection, so they end with the process that holds
 * them; what `act` writes on that connection is written under them.
 *
 * While the realm is frozen it does nothing, and the rows stay as they are.
 *
 * The generation is read before what is wanted, so that a change in between is due once more. Rows
 * are written without waiting for the disk (synchronous_commit off): a write that a crash of
 * PostgreSQL loses costs one more run that finds nothing to do.
 *
 * @param isLeft whether a subject's row stays as it is: it is due again when its lease is over
 */
export async function withSubjects(
  pool: Pool,
  role: Role,
  subjects: readonly number[],
  act: (held: readonly Held[], client: Client) => Promise<ReadonlyMap<number, Outcome>>,
  isLeft: (wanted: Wanted) => boolean = () => false,
): Promise<void> {
  await withClient(pool, async (client) => {
    try {
      // one after another on the server, but sent at once
      const [locked, frozen, behind, wanted] = await Promise.all([
        lockSubjects(client, subjects),
        // under the locks, for which whoever freezes waits
        isFrozen(client),
        client.query({
          name: 'read-generations',
          // by the key: while many are behind, the index of those is long
          text: `WITH mine AS MATERIALIZED (
                   SELECT * FROM convergence WHERE subject = ANY ($1) AND role = $2)
                 SELECT subject, wanted, attempts, targets FROM mine WHERE applied < wanted AND state <> 'parked'`,
          values: [subjects, role],
        }),
        readWanted(client, role, subjects),
      ]);
      if (frozen) {
        await unlock(client);
        return;
      }
      const mine = new Set(locked);
      const wantedOf = new Map(wanted.map((each) => [each.uid, each]));
      const rows = (behind.rows as BehindRow[]).filter(({ subject }) => mine.has(subject));
      const held = rows.flatMap(({ subject, attempts, targets }): Held[] => {
        const each = wantedOf.get(subject);
        if (each === undefined) return [];
        return [{ wanted: each, attempts, left: isLeft(each), targets: targets ?? undefined }];
      });
      const left = new Set(held.flatMap((each) => (each.left ? [each.wanted.uid] : [])));
      const ended = rows.filter(({ subject }) => !left.has(subject));
      const outcomes = held.length === 0 ? new Map<number, Outcome>() : await act(held, client);
      await Promise.all([writeOutcomes(client, role, ended, outcomes), unlock(client)]);
    } catch (error) {
      await unlock(client);
      throw error;
    }
  });
}

/** A row that is behind, as it was read: `wanted` is the generation. */
export interface BehindRow {
  subject: number;
  wanted: string;
  attempts: number;
  targets?: string[] | null;
}

/** Locks subjects for the role that is connected, as long as the connection lives; returns those that it got. */
export async function lockSubjects(client: Client, subjects: readonly number[]): Promise<number[]> {
  const { rows } = await client.query({
    name: 'lock-subjects',
    text: 'SELECT lock_subjects($1) AS subject',
    values: [subjects],
  });
  return (rows as { subject: number }[]).map(({ subject }) => subject);
}

/** A connection that cannot be unlocked is of no more use: it may not go back to the pool. */
export async function unlock(client: Client): Promise<void> {
  try {
    await client.query('SELECT pg_advisory_unlock_all()');
  } catch (cause) {
    throw new Error('unlocking subjects', { cause });
  }
}

/**
 * Writes how runs ended, each on the generation that was read, and unlocks the subjects. Where a row was raised
 * meanwhile, only `applied` and the lease are written: the newer generation is due, whatever came of the older.
 */
export async function writeOutcomes(
  client: Client,
  role: Role,
  rows: readonly BehindRow[],
  outcomes: ReadonlyMap<number, Outcome>,
): Promise<void> {
  const written = rows.map(({ subject, wanted }): Written => ({
    subject,
    generation: wanted,
    // a subject of which nothing is known any more wants nothing
    outcome: outcomes.get(subject) ?? { state: 'applied' },
  }));
  // Each by itself, all sent at once: intake takes rows in the order of its requests, and whoever holds one while
  // he waits for another may wait in a circle with it. The subject's lock goes with it: whoever is told of the
  // outcome may want that.
  await Promise.all(
    written.flatMap((each) => [
      writeOutcome(client, role, each),
      client.query({
        name: 'unlock-subject',
        text: 'SELECT pg_advisory_unlock($1, $2)',
        values: [LOCK_CLASS[role], each.subject],
      }),
    ]),
  );
}

interface Written {
  subject: number;
  generation: string;
  outcome: Outcome;
}

async function writeOutcome(
  client: Client,
  role: Role,
  { subject, generation, outcome }: Written,
): Promise<void> {
  await client.query({
    name: 'write-outcome',
    text: `UPDATE convergence c SET
             applied      = CASE WHEN o.state = 'applied' THEN greatest(c.applied, o.generation) ELSE c.applied END,
             state        = CASE WHEN c.wanted = o.generation THEN o.state ELSE c.state END,
             code         = CASE WHEN c.wanted = o.generation THEN o.code ELSE c.code END,
             sentence     = CASE WHEN c.wanted = o.generation THEN o.sentence ELSE c.sentence END,
             attempts     = CASE WHEN c.wanted <> o.generation THEN c.attempts
                                 WHEN o.state IN ('failing', 'parked') THEN c.attempts + o.counts ELSE 0 END,
             next_try_at  = CASE WHEN c.wanted = o.generation THEN now() + make_interval(secs => o.rest)
                                 ELSE c.next_try_at END,
             urgent       = c.urgent AND NOT (o.state = 'applied' AND c.wanted = o.generation),
             leased_until = NULL
           FROM (SELECT $3::bigint AS generation, $4::text AS state, $5::text AS code, $6::text AS sentence,
                   $7::int AS counts, $8::float8 AS rest) AS o
           WHERE c.subject = $2 AND c.role = $1`,
    values: [
      role,
      subject,
      generation,
      outcome.state,
      'code' in outcome ? outcome.code : null,
      sentenceColumn('sentence' in outcome ? outcome.sentence : undefined),
      outcome.state === 'failing' && !outcome.counts ? 0 : 1,
      restSeconds(outcome),
    ],
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
