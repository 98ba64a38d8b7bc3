/** The table `convergence`: which generation of a subject is wanted of a role, and which is applied. */
import type { Role } from '../model/wanted.ts';
import type { Client, Pool } from './postgres.ts';
import { withClient } from './postgres.ts';

/** A generation to raise. */
export interface Raise {
  subject: number;
  role: Role;
}

/** Raises generations for a request, in its transaction, and remembers them as its own. */
export async function raise(
  client: Client,
  request: string,
  raises: readonly Raise[],
  urgent: boolean,
): Promise<void> {
  if (raises.length === 0) return;
  await client.query({
    name: 'raise',
    // rows in one order everywhere, so that two transactions never wait for each other
    text: `INSERT INTO request_raises (request, subject, role, generation)
           SELECT $1, subject, role, raise_generation(subject, role, $4)
           FROM (SELECT DISTINCT * FROM unnest($2::int[], $3::text[]) AS u (subject, role)
                 ORDER BY subject, role) AS wanted`,
    values: [request, raises.map((r) => r.subject), raises.map((r) => r.role), urgent],
  });
}

/** What a worker holds while it works on a subject. */
export interface Held {
  /** the generation that is wanted, read under the lock; undefined where nothing is behind */
  generation: bigint;
  attempts: number;
}

/** How a run ended, as it is written to the row. */
export type Outcome =
  | { state: 'applied' }
  | { state: 'waiting'; sentence: string }
  | { state: 'failing'; code: string; sentence: string; retryInMs: number }
  | { state: 'parked'; code: string; sentence: string };

/** Advisory lock class of a role; the second number of the lock is the subject. */
const LOCK_CLASS: Record<Role, number> = { directory: 101, homes: 102, databases: 103 };

/** How long a row that waits for another role rests before it is looked at again anyway. */
const WAITING_RETRY_SECONDS = 60;

/**
 * Locks subject and role, then runs `act` with the generation that is wanted, and writes how it
 * ended. Does nothing where another worker holds the lock or nothing is behind. The lock belongs to
 * the connection, so it ends with the process that held it.
 *
 * The row is written without waiting for the disk (synchronous_commit off): a write that a crash of
 * PostgreSQL loses costs one more run that finds nothing to do.
 */
export async function withSubject(
  pool: Pool,
  role: Role,
  subject: number,
  act: (held: Held, client: Client) => Promise<Outcome>,
): Promise<'done' | 'busy' | 'nothing'> {
  return withClient(pool, async (client) => {
    const lock = await client.query({
      name: 'lock-subject',
      text: 'SELECT pg_try_advisory_lock($1, $2) AS locked',
      values: [LOCK_CLASS[role], subject],
    });
    if (lock.rows[0].locked !== true) return 'busy';
    try {
      const { rows } = await client.query({
        name: 'read-generation',
        text: 'SELECT wanted, applied, attempts, state FROM convergence WHERE subject = $1 AND role = $2',
        values: [subject, role],
      });
      const row = rows[0] as
        { wanted: string; applied: string; attempts: number; state: string } | undefined;
      if (row === undefined || row.wanted === row.applied || row.state === 'parked')
        return 'nothing';
      const generation = BigInt(row.wanted);
      const outcome = await act({ generation, attempts: row.attempts }, client);
      await writeOutcome(client, role, subject, generation, outcome);
      return 'done';
    } finally {
      await client
        .query({
          name: 'unlock-subject',
          text: 'SELECT pg_advisory_unlock($1, $2)',
          values: [LOCK_CLASS[role], subject],
        })
        .catch(() => {}); // a connection that cannot unlock is gone, and its locks with it
    }
  });
}

/**
 * Writes how a run on one generation ended. Where the row was raised meanwhile, only `applied` and
 * the lease are written: the newer generation is due, whatever came of the older.
 */
async function writeOutcome(
  client: Client,
  role: Role,
  subject: number,
  generation: bigint,
  outcome: Outcome,
): Promise<void> {
  const applied = outcome.state === 'applied';
  await client.query({
    name: 'write-outcome',
    text: `UPDATE convergence SET
             applied      = CASE WHEN $4 THEN greatest(applied, $3) ELSE applied END,
             state        = CASE WHEN wanted = $3 THEN $5 ELSE state END,
             code         = CASE WHEN wanted = $3 THEN $6 ELSE code END,
             sentence     = CASE WHEN wanted = $3 THEN $7 ELSE sentence END,
             attempts     = CASE WHEN wanted <> $3 THEN attempts
                                 WHEN $5 IN ('failing', 'parked') THEN attempts + 1 ELSE 0 END,
             next_try_at  = CASE WHEN wanted = $3 THEN now() + make_interval(secs => $8) ELSE next_try_at END,
             urgent       = urgent AND NOT ($4 AND wanted = $3),
             leased_until = NULL
           WHERE subject = $1 AND role = $2`,
    values: [
      subject,
      role,
      generation.toString(),
      applied,
      outcome.state,
      'code' in outcome ? outcome.code : null,
      'sentence' in outcome ? outcome.sentence.slice(0, 2000) : null,
      outcome.state === 'failing'
        ? outcome.retryInMs / 1000
        : outcome.state === 'waiting'
          ? WAITING_RETRY_SECONDS
          : 0,
    ],
  });
}
