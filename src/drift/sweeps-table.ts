/** The tables `sweeps` and `sweep_releases`: each sweep with its outcome, and what admins request of the next one. */
import type { Role } from '../reconcile/wanted.ts';
import { writeOperatorAction } from '../audit/operator-actions.ts';
import type { NewEvent } from '../events/events-table.ts';
import { writeEvents } from '../events/events-table.ts';
import { type Client, transact } from '../database/connection.ts';

/**
 *   running ──▶ clean        nothing had drifted
 *      │ ├────▶ touched      the roles are correcting what had drifted, or trying again what they had given up on
 *      │ ├────▶ held         too much had drifted; an admin must release the sweep
 *      │ ├────▶ frozen       something had drifted, but the realm is frozen
 *      │ ├────▶ unreadable   something could not be read; nothing else had drifted
 *      │ ├────▶ moving       the only differences are on subjects that a role is working on
 *      ╰──────▶ cut          it failed, or its process ended; it is repeated
 */
export type SweepState =
  'running' | 'clean' | 'touched' | 'held' | 'frozen' | 'unreadable' | 'moving' | 'cut';

export interface Sweep {
  id: string;
  beganAt: Date;
  endedAt: Date | null;
  state: SweepState;
  subjects: number;
  drifted: number;
  touched: number;
  steps: number;
  findings: number;
  unreadable: number;
  digest: string | null;
  sentence: string | null;
}

/** What a sweep found, and its decision. */
export type SweepEnding = Omit<Sweep, 'id' | 'beganAt' | 'endedAt' | 'touched'>;

const COLUMNS = `id, began_at AS "beganAt", ended_at AS "endedAt", state, subjects, drifted, touched, steps,
  findings, unreadable, digest, sentence`;

/** States in which a sweep has judged everything: in the others it saw only a part, or could do nothing. */
const JUDGED: readonly SweepState[] = ['clean', 'touched', 'held'];

/** When the last sweep began that looked at everything; null: none did yet. */
export async function readSweptAt(client: Pick<Client, 'query'>): Promise<Date | null> {
  const { rows } = await client.query(
    'SELECT max(began_at) AS at FROM sweeps WHERE state = ANY ($1)',
    [[...JUDGED, 'moving']],
  );
  return (rows[0] as { at: Date | null }).at;
}

/** The last sweeps, the newest first. */
export async function readSweeps(client: Pick<Client, 'query'>, limit: number): Promise<Sweep[]> {
  const { rows } = await client.query(
    `SELECT ${COLUMNS} FROM sweeps ORDER BY began_at DESC LIMIT $1`,
    [limit],
  );
  return rows as Sweep[];
}

export async function readSweep(
  client: Pick<Client, 'query'>,
  id: string,
): Promise<Sweep | undefined> {
  const { rows } = await client.query(`SELECT ${COLUMNS} FROM sweeps WHERE id = $1`, [id]);
  return rows[0] as Sweep | undefined;
}

/** Some of the last sweeps; undefined if there is none. */
export interface LastSweeps {
  last: Sweep | undefined;
  /** the last that has ended, in any state */
  ended: Sweep | undefined;
  /** the one that an admin must release */
  held: Sweep | undefined;
}

export async function readLastSweeps(client: Pick<Client, 'query'>): Promise<LastSweeps> {
  const newest = (which: string) =>
    `(SELECT id FROM sweeps WHERE ${which} ORDER BY began_at DESC LIMIT 1)`;
  const { rows } = await client.query(
    `SELECT ${COLUMNS} FROM sweeps WHERE id IN (
       ${newest('true')} UNION ALL ${newest('ended_at IS NOT NULL')} UNION ALL ${newest('state = ANY ($1)')})
     ORDER BY began_at DESC`,
    [JUDGED],
  );
  const sweeps = rows as Sweep[];
  const judged = sweeps.find(({ state }) => JUDGED.includes(state));
  return {
    last: sweeps[0],
    ended: sweeps.find(({ endedAt }) => endedAt !== null),
    held: judged?.state === 'held' ? judged : undefined,
  };
}

/**
 * In how many milliseconds the next sweep is due, by the clock of PostgreSQL: 0 if the last one was cut; undefined
 * if there was none.
 */
export async function readNextInMs(
  client: Pick<Client, 'query'>,
  everyMinutes: number,
): Promise<number | undefined> {
  const { rows } = await client.query(
    `SELECT CASE WHEN state = 'cut' THEN 0 ELSE
       extract(epoch FROM began_at + make_interval(secs => $1) - clock_timestamp()) * 1000 END AS ms
     FROM sweeps ORDER BY began_at DESC LIMIT 1`,
    [everyMinutes * 60],
  );
  const row = rows[0] as { ms: string } | undefined;
  return row === undefined ? undefined : Number(row.ms);
}

/** Begins a sweep, and its survey with the same id. The caller holds the lock, so no other sweep runs. */
export async function beginSweep(client: Client, id: string): Promise<Date> {
  return transact(client, async () => {
    await cutSweeps(client);
    const { rows } = await client.query('INSERT INTO sweeps (id) VALUES ($1) RETURNING began_at', [
      id,
    ]);
    await client.query(`INSERT INTO surveys (id, pace) VALUES ($1, 'background')`, [id]);
    return (rows[0] as { began_at: Date }).began_at;
  });
}

/** Marks interrupted sweeps as cut, and deletes their surveys, so that no role works on them for nothing. */
export async function cutSweeps(client: Client): Promise<void> {
  await client.query(
    `DELETE FROM surveys WHERE id IN (SELECT id FROM sweeps WHERE state = 'running')`,
  );
  await client.query(`UPDATE sweeps SET state = 'cut', ended_at = now() WHERE state = 'running'`);
}

/** Ends a sweep: writes what it found, which releases it has used, and its events. */
export async function endSweep(
  client: Client,
  id: string,
  ending: SweepEnding,
  { used, events }: { used: readonly string[]; events: readonly NewEvent[] },
): Promise<void> {
  await transact(client, async () => {
    await client.query(
      `UPDATE sweeps SET ended_at = clock_timestamp(), state = $2, subjects = $3, drifted = $4, steps = $5,
         findings = $6, unreadable = $7, digest = $8, sentence = $9 WHERE id = $1`,
      [
        id,
        ending.state,
        ending.subjects,
        ending.drifted,
        ending.steps,
        ending.findings,
        ending.unreadable,
        ending.digest,
        ending.sentence,
      ],
    );
    await client.query('UPDATE sweep_releases SET sweep = $1 WHERE id = ANY ($2)', [id, used]);
    await client.query('DELETE FROM surveys WHERE id = $1', [id]);
    await writeEvents(client, events);
  });
}

/** What an admin has requested of the next sweep. */
export interface Release {
  id: string;
  /** null: only that it begins now */
  digest: string | null;
}

/** A release expires after this time, because the state that it was given for may have changed. */
const EXPIRES_AFTER = '1 hour';

/** Requests that have not expired and that no sweep has used. */
export async function readReleases(client: Pick<Client, 'query'>): Promise<Release[]> {
  const { rows } = await client.query(
    `SELECT id, digest FROM sweep_releases
     WHERE sweep IS NULL AND at > now() - interval '${EXPIRES_AFTER}' ORDER BY at`,
  );
  return rows as Release[];
}

/** Requests a sweep now. With a digest it is a release, which the audit records. */
export async function askForSweep(
  client: Client,
  by: string,
  digest: string | undefined,
): Promise<string> {
  return transact(client, async () => {
    const id = await insertRelease(client, by, digest);
    if (digest !== undefined) await writeOperatorAction(client, { kind: 'sweep.release', by });
    return id;
  });
}

/** As `askForSweep`, without the audit. */
export async function insertRelease(
  client: Client,
  by: string,
  digest: string | undefined,
): Promise<string> {
  const { rows } = await client.query(
    'INSERT INTO sweep_releases (digest, by) VALUES ($1, $2) RETURNING id',
    [digest ?? null, by],
  );
  return (rows[0] as { id: string }).id;
}

/** The sweep that has used a release; undefined if none has yet. */
export async function readSweepOf(client: Client, release: string): Promise<Sweep | undefined> {
  const { rows } = await client.query('SELECT sweep FROM sweep_releases WHERE id = $1', [release]);
  const { sweep } = rows[0] as { sweep: string | null };
  return sweep === null ? undefined : readSweep(client, sweep);
}

/** A row that a sweep has touched, or that was touched as a consequence, and that is not applied yet. */
export interface Left {
  subject: number;
  account: string;
  role: Role;
  state: string;
  code: string | null;
  sentence: string | null;
  /** the role had given up on it before */
  again: boolean;
}

/**
 * What is not corrected of the drift, and of what had been given up and is tried again: rows in progress, and rows
 * that are parked again.
 */
export async function readLeft(
  client: Pick<Client, 'query'>,
  { id, beganAt }: Pick<Sweep, 'id' | 'beganAt'>,
): Promise<Left[]> {
  const { rows } = await client.query(
    `SELECT c.subject, coalesce(t.account, p.shell_name) AS account, c.role, c.state, c.code, c.sentence,
       r.again
     FROM convergence c LEFT JOIN people p ON p.uid = c.subject LEFT JOIN tools t ON t.uid = c.subject
       JOIN sweeps s ON s.id = $2, LATERAL (SELECT c.subject || ' ' || c.role = ANY (s.again) AS again) r
     WHERE c.applied < c.wanted
       AND (r.again OR c.since >= $1 AND EXISTS (SELECT FROM drifts d WHERE d.subject = c.subject))
     ORDER BY account, c.role`,
    [beganAt, id],
  );
  return rows as Left[];
}
