/** The tables `credentials` (which epoch is wanted) and `database_verifiers` (what was made). */
import { setImmediate } from 'node:timers/promises';
import { type Client, faultOf, type Pool } from '../database/connection.ts';

// Where the password before was to die at once and that is still to come, no later wish keeps it alive.
const NEXT_EPOCH = (overlapSeconds: string) => `
  wanted_epoch = c.wanted_epoch + 1,
  overlap_seconds = CASE WHEN EXISTS (
    SELECT FROM database_verifiers v WHERE v.account = c.account AND v.epoch = c.wanted_epoch)
    THEN ${overlapSeconds} ELSE least(c.overlap_seconds, ${overlapSeconds}) END`;

/**
 * Wants new credentials; returns the epoch, or undefined where the account has none.
 *
 * @param overlapSeconds for so long the password before works as well; 0: it dies at once
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
 * Wants new credentials of every account that has a home to keep them in: those that are locked too,
 * since whoever took a password waits for its day. Returns the accounts.
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

/** A tool whose password somebody may know who shall not use it any more. */
export interface ReachedTool {
  uid: number;
  name: string;
  account: string;
  /** the one that is wanted now */
  epoch: number;
  /** shell names of those who maintain it directly still: they may be told */
  maintainers: string[];
}

/** Shell names of those who maintain a tool directly and may log in, but for some. */
const MAINTAINERS = (tool: string, except = `'{}'`) => `ARRAY(
  SELECT p.shell_name FROM maintainers m JOIN people p ON p.uid = m.maintainer
    JOIN realm_members r ON r.person = p.uid
  WHERE m.tool = ${tool} AND p.state = 'active' AND p.uid <> ALL (${except}::int[]) ORDER BY p.shell_name)`;

/**
 * So long after the first a second password is made: by then login hosts have ended what ran as the tool,
 * as far as they know whose it was (their agents look at all once a minute).
 */
const AGAIN = `interval '90 s'`;
/** So long it is put off at the most while the directory has doors left to close. */
const AGAIN_AT_MOST = `interval '10 min'`;

/** Tools that a maintainer in `from` may act as, directly or through other tools. */
const REACHED = (from: string) => `reached AS (
  ${from}
  UNION
  SELECT m.tool FROM reached JOIN tools via ON via.uid = reached.tool AND via.state <> 'deleted'
    JOIN maintainers m ON m.maintainer = via.uid)`;

/** Whether a password of that epoch, or one before it, may let in still. Columns of `known_credentials k`. */
const LETS_IN = `(SELECT coalesce(bool_and(k.epoch >= v.epoch OR v.previous_until IS NOT NULL), true)
  FROM database_verifiers v WHERE v.account = k.tool)`;

/**
 * Notes which passwords are known to people who can come to a tool, before what they come by is no
 * more: the tool's own, and those of all that it may act as. They are not changed now, since others'
 * programs use them; but where one of these people is shut out later (`wantNewEpochsOfReached`).
 *
 * @param by only those who come by these maintainers; undefined: by any
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
 * Wants new credentials, at once, of every tool that one of these people could come to, directly or
 * through other tools, and of those whose password they know since they could. A tool that is disabled
 * may have been passed through before it was; one that is put away has no credentials that work. And
 * once more later, since the first may be read while doors close.
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
 * Wants a tool's second password, whose time has come. While the directory has doors left to close that
 * is put off, but not for ever: what keeps one door open may last. Returns the tool as those who
 * maintain it are told of it; undefined: it was put off, or there is nothing to be done any more.
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
  /** of the password before, while that works as well */
  previous?: string;
}

/** A password that the homes role has just made. */
export interface MadePassword {
  account: number;
  epoch: number;
  verifier: string;
  /** whether others may know the password before */
  known: boolean;
}

/** By connection, what will be recorded next, and when what is being recorded has ended. */
const gathering = new WeakMap<Client, { made: MadePassword[]; recorded: Promise<void> }>();
const recording = new WeakMap<Client, Promise<void>>();

/**
 * Records the verifier of a password that the homes role has just made, and so touches `databases`: in a
 * durable transaction, before the file gets its place. On the connection that holds the lock of the
 * account: with the lock lost, nothing is recorded.
 *
 * | what is made                                  | the password before                           |
 * | --------------------------------------------- | --------------------------------------------- |
 * | any, where others may know the one before     | dies                                          |
 * | for a higher epoch, with an overlap           | works for so long; an older one dies          |
 * | for a higher epoch, at once                   | dies                                          |
 * | for the same epoch: the file was lost, or a   | dies, if anybody had it; one that works as    |
 * | run was cut before it had its place           | well does so until its time                   |
 *
 * All that come on a connection while it is recording others are recorded together: a commit waits for
 * the disk, and one does for many.
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
    recorded.catch(() => {}), // those who wait for it are told
  );
  return recorded;
}

/** In one transaction; of each account one at the most. */
async function recordTogether(client: Client, made: readonly MadePassword[]): Promise<void> {
  // whoever locks several rows does it in this order
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
      client.query('COMMIT'), // rolls back where the statement before has failed
    ]);
  } catch (cause) {
    throw faultOf(cause, 'recording a verifier');
  }
}

/**
 * Reads what is recorded for an account and epoch: undefined where nothing or another is. All that are asked for at
 * the same time, as by the steps of a job on each server, are read in one statement.
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
 * Has the role databases look again at accounts whose password was changed on a server, so long ago, after the role had
 * last been at them (migrations/0011_bounds.sql).
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
