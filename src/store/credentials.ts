/** The tables `credentials` (which epoch is wanted) and `database_verifiers` (what was made). */
import { type Client, faultOf, type Pool } from './postgres.ts';

// Where the password before was to die at once and that is still to come, no later wish keeps it alive.
const RAISE_EPOCH = (overlapSeconds: string) => `
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
    text: `UPDATE credentials c SET ${RAISE_EPOCH('$2::int')} WHERE account = $1
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
    `UPDATE credentials c SET ${RAISE_EPOCH('$1::int')}
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

/**
 * So long after the first a second password is made: by then login hosts have ended what ran as the tool
 * (their agents look at all once a minute), and nobody shut out can have read it.
 */
const AGAIN = `interval '90 s'`;

/**
 * Wants new credentials, at once, of every tool that one of these people could come to, directly or
 * through other tools. A tool that is disabled may have been passed through before it was; one that is
 * put away has no credentials that work. And once more later, since the first may be read while doors close.
 */
export async function wantNewEpochsOfReached(
  client: Client,
  people: readonly number[],
  now: Date,
): Promise<ReachedTool[]> {
  const { rows } = await client.query({
    name: 'want-new-epochs-of-reached',
    text: `WITH RECURSIVE reached (tool) AS (
             SELECT m.tool FROM maintainers m JOIN realm_members r ON r.person = m.maintainer
             WHERE m.maintainer = ANY ($1)
             UNION
             SELECT m.tool FROM reached JOIN tools via ON via.uid = reached.tool AND via.state <> 'deleted'
               JOIN maintainers m ON m.maintainer = via.uid
           ), rotated AS (
             UPDATE credentials c SET ${RAISE_EPOCH('0')}, again_at = $2::timestamptz + ${AGAIN}
             FROM reached JOIN tools t ON t.uid = reached.tool
             WHERE c.account = t.uid AND t.state IN ('active', 'disabled')
             RETURNING t.uid, t.name, t.account, c.wanted_epoch AS epoch
           )
           SELECT o.*, ARRAY(
             SELECT p.shell_name FROM maintainers m JOIN people p ON p.uid = m.maintainer
               JOIN realm_members r ON r.person = p.uid
             WHERE m.tool = o.uid AND p.state = 'active' AND p.uid <> ALL ($1) ORDER BY p.shell_name
           ) AS maintainers
           FROM rotated o ORDER BY o.uid`,
    values: [people, now],
  });
  return rows as ReachedTool[];
}

/**
 * Wants the second password of those tools whose time has come; returns those that can use it. While the
 * directory has doors left to close that time is put off, of all.
 */
export async function wantNewEpochsAgain(
  client: Client,
  now: Date,
  most: number,
): Promise<{ subject: number; account: string }[]> {
  const { rowCount: left } = await client.query(
    `SELECT FROM convergence WHERE role = 'directory' AND urgent AND applied < wanted AND state <> 'parked' LIMIT 1`,
  );
  if (left !== 0) {
    await client.query(
      `UPDATE credentials SET again_at = $1::timestamptz + ${AGAIN} WHERE again_at <= $1`,
      [now],
    );
    return [];
  }
  const { rows } = await client.query(
    `WITH due AS (SELECT account FROM credentials WHERE again_at <= $1 ORDER BY again_at, account LIMIT $2),
     again AS (
       UPDATE credentials c SET ${RAISE_EPOCH('0')}, again_at = NULL FROM due WHERE c.account = due.account
       RETURNING c.account)
     SELECT t.uid AS subject, t.account FROM again a JOIN tools t ON t.uid = a.account
     WHERE t.state IN ('active', 'disabled') ORDER BY t.uid`,
    [now, most],
  );
  return rows as { subject: number; account: string }[];
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
 * Records the verifier of a password that the homes role has just made, and so raises `databases`: in a
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

/** What is recorded for that epoch, or undefined where nothing or another is. */
export async function readVerifier(
  pool: Pool,
  account: number,
  epoch: number,
): Promise<RecordedVerifier | undefined> {
  const query = {
    name: 'read-verifier',
    text: `SELECT verifier, previous_verifier AS previous FROM database_verifiers
           WHERE account = $1 AND epoch = $2`,
    values: [account, epoch],
  };
  const { rows } = await pool.query(query).catch((cause: unknown) => {
    throw faultOf(cause, 'reading a verifier');
  });
  const [row] = rows as { verifier: string; previous: string | null }[];
  if (row === undefined) return undefined;
  return { verifier: row.verifier, ...(row.previous === null ? {} : { previous: row.previous }) };
}
