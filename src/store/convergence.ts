/** The table `convergence`: which generation of a subject is wanted of a role, and which is applied. */
import type { Role, Wanted } from '../model/wanted.ts';
import type { Client, Pool } from './postgres.ts';
import { withClient } from './postgres.ts';
import { readWanted } from './wanted.ts';

/** A generation to raise. */
export interface Raise {
  subject: number;
  role: Role;
  /** another role of the same subject is raised too, and raises this one again when it is done */
  waits?: true;
}

/** What a worker is given under the lock. */
export interface Held {
  /** refusals before, since the row was last raised; a server that was away does not count */
  attempts: number;
  /** what is wanted of the subject; undefined where there is no such subject */
  wanted: Wanted | undefined;
  /** the connection that holds the lock: what is written on it is written under the lock */
  client: Client;
}

/** How a run ended, as it is written to the row. */
export type Outcome =
  | { state: 'applied' }
  | { state: 'waiting'; sentence: string }
  | { state: 'failing'; code: string; sentence: string; retryInMs: number; counts: boolean }
  | { state: 'parked'; code: string; sentence: string };

/** Advisory lock class of a role; the second number of the lock is the subject. */
const LOCK_CLASS: Record<Role, number> = { directory: 101, homes: 102, databases: 103 };

/** How long a row that waits for another role rests before it is looked at again anyway. */
const WAITING_RETRY_SECONDS = 60;

/**
 * Locks subject and role, then runs `act` with what is wanted, and writes how it ended. Does nothing
 * where another worker holds the lock or nothing is behind. The lock belongs to the connection, so
 * it ends with the process that held it.
 *
 * The generation is read before what is wanted, so that a change in between is due once more. The
 * row is written without waiting for the disk (synchronous_commit off): a write that a crash of
 * PostgreSQL loses costs one more run that finds nothing to do.
 */
export async function withSubject(
  pool: Pool,
  role: Role,
  subject: number,
  act: (held: Held) => Promise<Outcome>,
): Promise<void> {
  await withClient(pool, async (client) => {
    try {
      // one after another on the server, but sent at once
      const [lock, read, [wanted]] = await Promise.all([
        client.query({
          name: 'lock-subject',
          text: 'SELECT pg_try_advisory_lock($1, $2) AS locked',
          values: [LOCK_CLASS[role], subject],
        }),
        client.query({
          name: 'read-generation',
          text: `SELECT wanted, attempts FROM convergence
                 WHERE subject = $1 AND role = $2 AND applied < wanted AND state <> 'parked'`,
          values: [subject, role],
        }),
        readWanted(client, role, [subject]),
      ]);
      const { locked } = lock.rows[0] as { locked: boolean };
      const row = read.rows[0] as { wanted: string; attempts: number } | undefined;
      if (!locked || row === undefined) return await unlock(client);
      const outcome = await act({ attempts: row.attempts, wanted, client });
      // at once, for whoever is told of the outcome may want the lock
      await Promise.all([writeOutcome(client, role, subject, row.wanted, outcome), unlock(client)]);
    } catch (error) {
      await unlock(client);
      throw error;
    }
  });
}

/** A connection that cannot be unlocked is of no more use: it may not go back to the pool. */
async function unlock(client: Client): Promise<void> {
  try {
    await client.query('SELECT pg_advisory_unlock_all()');
  } catch (cause) {
    throw new Error('unlocking a subject', { cause });
  }
}

/**
 * Writes how a run on one generation ended. Where the row was raised meanwhile, only `applied` and
 * the lease are written: the newer generation is due, whatever came of the older.
 */
async function writeOutcome(
  client: Client,
  role: Role,
  subject: number,
  generation: string,
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
                                 WHEN $5 IN ('failing', 'parked') THEN attempts + $9 ELSE 0 END,
             next_try_at  = CASE WHEN wanted = $3 THEN now() + make_interval(secs => $8) ELSE next_try_at END,
             urgent       = urgent AND NOT ($4 AND wanted = $3),
             leased_until = NULL
           WHERE subject = $1 AND role = $2`,
    values: [
      subject,
      role,
      generation,
      applied,
      outcome.state,
      'code' in outcome ? outcome.code : null,
      'sentence' in outcome ? outcome.sentence.slice(0, 2000) : null,
      outcome.state === 'failing'
        ? outcome.retryInMs / 1000
        : outcome.state === 'waiting'
          ? WAITING_RETRY_SECONDS
          : 0,
      outcome.state === 'failing' && !outcome.counts ? 0 : 1,
    ],
  });
}
