/** The tables `credentials` (the wanted epoch) and `database_verifiers` (the password that was made). */
import { setImmediate } from 'node:timers/promises';
import { type Client, faultOf, type Pool } from '../database/connection.ts';

// If a pending change must end the previous password at once, a later request does not keep that password alive.
const NEXT_EPOCH = (overlapSeconds: string) => `
  wanted_epoch = c.wanted_epoch + 1,
  overlap_seconds = CASE WHEN EXISTS (
    SELECT FROM database_verifiers v WHERE v.account = c.account AND v.epoch = c.wanted_epoch)
    THEN ${overlapSeconds} ELSE least(c.overlap_seconds, ${overlapSeconds}) END`;

/**
 * Requests new credentials. Returns the epoch, or undefined if the account has no credentials.
 *
 * @param overlapSeconds how long the previous password goes on working; 0: it ends at once
 */
export async function wantNewEpoch(
  client: Client,
  account: number,
  overlapSeconds = 0,
): Promise<number | undefined> {
  const { rows } = await client.query({
    name: 'want-new-epoch',
    text: `UPDATE credentials c SET ${NEXT_EPOCH('$2::int')} WHERE account = $1
           RETURNING wanted_epoch AS epoch`,
    values: [account, overlapSeconds],
  });
  return (rows[0] as { epoch: number } | undefined)?.epoch;
}

/**
 * Requests new credentials for every account that has a home to keep them in. Locked accounts are included, because a
 * thief could use the old password once the account is unlocked. Returns the accounts.
 */
export async function wantNewEpochsOfAll(
  client: Client,
  overlapSeconds: number,
): Promise<number[]> {
  const { rows } = await client.query(
    `UPDATE credentials c SET ${NEXT_EPOCH('$1::int')}
     WHERE account IN (SELECT uid FROM people WHERE state IN ('active', 'suspended')
                       UNION ALL SELECT uid FROM tools WHERE state IN ('active', 'disabled'))
     RETURNING account`,
    [overlapSeconds],
  );
  return (rows as { account: number }[]).map(({ account }) => account);
}

/** A tool whose password may be known to somebody who must no longer use it. */
export interface ReachedTool {
  uid: number;
  name: string;
  account: string;
  /** the epoch that is wanted now */
  epoch: number;
  /** shell names of the remaining direct maintainers, who may be notified */
  maintainers: string[];
}

/** SQL: the shell names of the direct maintainers of a tool who may log in, without those in `except`. */
const MAINTAINERS = (tool: string, except = `'{}'`) => `ARRAY(
  SELECT p.shell_name FROM maintainers m JOIN people p ON p.uid = m.maintainer
    JOIN realm_members r ON r.person = p.uid
  WHERE m.tool = ${tool} AND p.state = 'active' AND p.uid <> ALL (${except}::int[]) ORDER BY p.shell_name)`;

/**
 * The time after which a second new password is made. By then login hosts have ended the processes that ran as the
 * tool, if they knew whose these were. (Their agents look at everything once a minute.)
 */
const AGAIN = `interval '90 s'`;
/** The longest delay of the second password while the directory role has not yet revoked all access. */
const AGAIN_AT_MOST = `interval '10 min'`;

/** SQL: the tools that the maintainers in `from` may act as, directly or through other tools. */
const REACHED = (from: string) => `reached AS (
  ${from}
  UNION
  SELECT m.tool FROM reached JOIN tools via ON via.uid = reached.tool AND via.state <> 'deleted'
    JOIN maintainers m ON m.maintainer = via.uid)`;

/** SQL: whether a password of that epoch, or an earlier one, may still work. Uses columns of `known_credentials k`. */
const LETS_IN = `(SELECT coalesce(bool_and(k.epoch >= v.epoch OR v.previous_until IS NOT NULL), true)
  FROM database_verifiers v WHERE v.account = k.tool)`;

/**
 * Records which passwords are known to the people who can reach a tool, before a way to it is removed: the tool's own
 * password and those of all tools that it may act as. The passwords are not changed now, because other people's
 * programs use them. They are changed if one of these people loses access later (`wantNewEpochsOfReached`).
 *
 * @param by only people who reach the tool through these maintainers; undefined: through any
 */
export async function noteKnown(
  client: Client,
  tool: number,
  by?: readonly number[],
): Promise<void> {
  const reached = REACHED('SELECT $1::int AS tool');
  await client.query(
    `WITH RECURSIVE ${reached}
     DELETE FROM known_credentials k USING reached WHERE k.tool = reached.tool AND NOT ${LETS_IN}`,
    [tool],
  );
  await client.query(
    `WITH RECURSIVE ${reached}, coming AS (
       SELECT maintainer FROM maintainers WHERE tool = $1 AND ($2::int[] IS NULL OR maintainer = ANY ($2))
       UNION SELECT m.maintainer FROM coming JOIN maintainers m ON m.tool = coming.maintainer)
     INSERT INTO known_credentials AS k (person, tool, epoch)
     SELECT p.uid, c.account, c.wanted_epoch
     FROM coming JOIN people p ON p.uid = coming.maintainer AND p.state = 'active'
       JOIN realm_members r ON r.person = p.uid, reached JOIN credentials c ON c.account = reached.tool
     ON CONFLICT (person, tool) DO UPDATE SET epoch = excluded.epoch`,
    [tool, by ?? null],
  );
}

/**
 * Requests new credentials, without overlap, for every tool that one of these people could reach, directly or through
 * other tools, and for tools whose password they know from earlier. Disabled tools count, because people could pass
 * through them before. Archived tools do not, because their credentials do not work. A second change follows later,
 * because the first new password may be read while access is still being closed.
 */
export async function wantNewEpochsOfReached(
  client: Client,
  people: readonly number[],
  now: Date,
): Promise<ReachedTool[]> {
  const { rows } = await client.query({
    name: 'want-new-epochs-of-reached',
    text: `WITH RECURSIVE ${REACHED(`
             SELECT m.tool FROM maintainers m JOIN realm_members r ON r.person = m.maintainer
             WHERE m.maintainer = ANY ($1)`)}, known AS (
             DELETE FROM known_credentials k WHERE k.person = ANY ($1) RETURNING k.tool, ${LETS_IN} AS lets_in
           ), rotated AS (
             UPDATE credentials c SET ${NEXT_EPOCH('0')}, again_at = $2::timestamptz + ${AGAIN},
               again_by = $2::timestamptz + ${AGAIN} + ${AGAIN_AT_MOST}
             FROM (SELECT tool FROM reached UNION SELECT tool FROM known WHERE lets_in) o
               JOIN tools t ON t.uid = o.tool
             WHERE c.account = t.uid AND t.state IN ('active', 'disabled')
             RETURNING t.uid, t.name, t.account, c.wanted_epoch AS epoch
           )
           SELECT o.*, ${MAINTAINERS('o.uid', '$1')} AS maintainers
           FROM rotated o ORDER BY o.uid`,
    values: [people, now],
  });
  return rows as ReachedTool[];
}

/**
 * Requests a tool's second new password, when its time has come. It is delayed while the directory still has access to
 * close, but not for ever, because whatever keeps access open may last. Returns the tool for the event to its
 * maintainers. Undefined if it was delayed, or if there is nothing left to do.
 */
export async function wantNewEpochAgain(
  client: Client,
  tool: number,
  now: Date,
): Promise<ReachedTool | undefined> {
  const { rowCount: putOff } = await client.query({
    name: 'put-off-again',
    text: `UPDATE credentials SET again_at = least($2::timestamptz + ${AGAIN}, again_by)
           WHERE account = $1 AND again_at <= $2 AND again_by > $2 AND EXISTS (SELECT FROM convergence
             WHERE role = 'directory' AND urgent AND applied < wanted AND state <> 'parked')`,
    values: [tool, now],
  });
  if (putOff !== 0) return undefined;
  const { rows } = await client.query({
    name: 'want-new-epoch-again',
    text: `WITH again AS (
             UPDATE credentials c SET ${NEXT_EPOCH('0')}, again_at = NULL, again_by = NULL
             WHERE c.account = $1 AND c.again_at <= $2 RETURNING c.account, c.wanted_epoch AS epoch)
           SELECT t.uid, t.name, t.account, a.epoch, ${MAINTAINERS('t.uid')} AS maintainers
           FROM again a JOIN tools t ON t.uid = a.account AND t.state IN ('active', 'disabled')`,
    values: [tool, now],
  });
  return (rows as ReachedTool[])[0];
}

/** A password as the servers know it. */
export interface RecordedVerifier {
  verifier: string;
  /** the verifier of the previous password, while that works too */
  previous?: string;
}

/** A password that the homes role has just made. */
export interface MadePassword {
  account: number;
  epoch: number;
  verifier: string;
  /** whether others may know the previous password */
  known: boolean;
}

/** For each connection: what is recorded next, and the end of the recording in progress. */
const gathering = new WeakMap<Client, { made: MadePassword[]; recorded: Promise<void> }>();
const recording = new WeakMap<Client, Promise<void>>();

/**
 * Records the verifier of a password that the homes role has just made, which touches `databases`. This is done in a
 * durable transaction before the file is put in place, and on the connection that holds the account's lock: if the lock
 * is lost, nothing is recorded.
 *
 * | the new password                              | the previous password                         |
 * | --------------------------------------------- | --------------------------------------------- |
 * | any, if others may know the previous one      | ends                                          |
 * | for a higher epoch, with an overlap           | works for that time; an older one ends        |
 * | for a higher epoch, without overlap           | ends                                          |
 * | for the same epoch: the file was lost, or a   | ends, if anybody had it; an older one that    |
 * | run was interrupted before it was in place    | still works keeps its end time                |
 *
 * Verifiers that arrive on a connection while it is recording others are recorded together, because a commit waits for
 * the disk, and one commit serves many.
 */
export async function recordVerifier(client: Client, made: MadePassword): Promise<void> {
  const gathered = gathering.get(client);
  if (gathered !== undefined) {
    gathered.made.push(made);
    return gathered.recorded;
  }
  const all = [made];
  const before = recording.get(client) ?? Promise.resolve();
  const recorded = before.then(() => {
    gathering.delete(client);
    return recordTogether(client, all);
  });
  gathering.set(client, { made: all, recorded });
  recording.set(
    client,
    recorded.catch(() => {}), // callers get the error from `recorded` itself
  );
  return recorded;
}

/** Records verifiers in one transaction, at most one for each account. */
async function recordTogether(client: Client, made: readonly MadePassword[]): Promise<void> {
  // rows are locked in this order everywhere, so that transactions never deadlock
  const sorted = made.toSorted((a, b) => a.account - b.account);
  try {
    await Promise.all([
      client.query('BEGIN; SET LOCAL synchronous_commit = on'),
      client.query({
        name: 'record-verifiers',
        text: `WITH made AS (
                 SELECT * FROM unnest($1::int[], $2::int[], $3::text[], $4::bool[])
                   AS m (account, epoch, verifier, known))
               INSERT INTO database_verifiers AS v (account, epoch, verifier)
               SELECT account, epoch, verifier FROM made ORDER BY account
               ON CONFLICT (account) DO UPDATE
               SET epoch = excluded.epoch, verifier = excluded.verifier, recorded_at = now(),
                   (previous_verifier, previous_until) = (
                     SELECT CASE WHEN m.epoch = v.epoch THEN v.previous_verifier ELSE v.verifier END,
                            CASE WHEN m.epoch = v.epoch THEN v.previous_until
                                 ELSE now() + make_interval(secs => c.overlap_seconds) END
                     FROM made m JOIN credentials c USING (account)
                     WHERE account = excluded.account AND NOT m.known
                       AND (m.epoch = v.epoch OR m.epoch > v.epoch AND c.overlap_seconds > 0))`,
        values: [
          sorted.map(({ account }) => account),
          sorted.map(({ epoch }) => epoch),
          sorted.map(({ verifier }) => verifier),
          sorted.map(({ known }) => known),
        ],
      }),
      client.query('COMMIT'), // rolls back if the statement before failed
    ]);
  } catch (cause) {
    throw faultOf(cause, 'recording a verifier');
  }
}

/**
 * Returns a function that reads the verifier of an account and epoch. Undefined if none is recorded for that epoch.
 * Reads that are requested at the same time, such as by a job's steps on each server, use one statement.
 */
export function openVerifiers(
  pool: Pick<Pool, 'query'>,
): (account: number, epoch: number) => Promise<RecordedVerifier | undefined> {
  let asked: number[] = [];
  let reading: Promise<VerifierRow[]> | undefined;
  return async (account, epoch) => {
    asked.push(account);
    reading ??= setImmediate().then(() => {
      const accounts = asked;
      [asked, reading] = [[], undefined];
      return readVerifiers(pool, accounts);
    });
    const rows = await reading;
    const row = rows.find((each) => each.account === account && each.epoch === epoch);
    if (row === undefined) return undefined;
    return { verifier: row.verifier, ...(row.previous === null ? {} : { previous: row.previous }) };
  };
}

interface VerifierRow {
  account: number;
  epoch: number;
  verifier: string;
  previous: string | null;
}

async function readVerifiers(
  pool: Pick<Pool, 'query'>,
  accounts: readonly number[],
): Promise<VerifierRow[]> {
  const query = {
    name: 'read-verifiers',
    text: `SELECT account, epoch, verifier, previous_verifier AS previous FROM database_verifiers
           WHERE account = ANY ($1)`,
    values: [accounts],
  };
  const { rows } = await pool.query(query).catch((cause: unknown) => {
    throw faultOf(cause, 'reading verifiers');
  });
  return rows as VerifierRow[];
}

/**
 * Makes the databases role check accounts again whose password was changed on a server, that many seconds ago, after
 * the role last worked on them (migrations/0011_bounds.sql).
 */
export async function lookAtPasswords(
  pool: Pool,
  changed: readonly { subject: number; secondsAgo: number }[],
): Promise<void> {
  if (changed.length === 0) return;
  await pool.query('SELECT look_at_passwords($1, $2)', [
    changed.map(({ subject }) => subject),
    changed.map(({ secondsAgo }) => secondsAgo),
  ]);
}
