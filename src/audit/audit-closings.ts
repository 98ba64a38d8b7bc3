/** The table `audit_closings`, and the chain up to the end of a year. PostgreSQL decides what may be closed. */
import { ChamberlainError } from '../shared/errors.ts';
import { writeOperatorAction } from './operator-actions.ts';
import { FIRST_HASH, hashAuditRow, type HashedRow, yearOf } from './audit-chain.ts';
import { PAGE, readPage, rowOf } from './audit-pages.ts';
import { type Client, sqlState, transact } from '../database/connection.ts';

/** A closed year, whose rows are in a file. */
export interface AuditClosing {
  year: number;
  /** places in the chain, and the last row's number and hash */
  first: number;
  last: number;
  row: string;
  hash: string;
  /** the name of the file, and its digest when it was read back */
  file: string;
  sha256: string;
  closedAt: Date;
}

/** The process that closes a year holds this lock on its connection, so that no other removes rows meanwhile. */
const CLOSING_LOCK = 8;

/**
 * Throws AUDIT_NOT_CLOSABLE if another process is closing a year. It waits some seconds, because the session of a
 * process that was killed ends a little later.
 */
export async function holdClosings(client: Client, year: number): Promise<void> {
  await client.query("SET lock_timeout = '3s'");
  try {
    await client.query('SELECT pg_advisory_lock($1)', [CLOSING_LOCK]);
  } catch (error) {
    if (sqlState(error) !== '55P03') throw error; // lock_not_available
    throw notClosable(year, 'another `chamberlain audit close` is running');
  } finally {
    await client.query('RESET lock_timeout');
  }
}

/** The closed years, the oldest first. */
export async function readClosings(client: Pick<Client, 'query'>): Promise<AuditClosing[]> {
  const { rows } = await client.query(
    `SELECT year, first::float8, last::float8, audit_id AS row, encode(hash, 'hex') AS hash, file, sha256,
            closed_at AS "closedAt" FROM audit_closings ORDER BY last`,
  );
  return rows as AuditClosing[];
}

/** A year to be closed: its places in the chain, the hash before its first row, and the hash of its last. */
export type ClosableYear = Pick<AuditClosing, 'year' | 'first' | 'last' | 'row' | 'hash'> & {
  after: string;
  /** the last year that is closed */
  closedUpTo: number;
};

/**
 * Finds the end of a year in the chain: the last of its rows, in the order in which they were sealed. Rows of the next
 * year may come before that: `readYear` says which are accepted. Throws AUDIT_NOT_CLOSABLE if the year may not be closed.
 */
export async function findYear(client: Client, year: number): Promise<ClosableYear> {
  await requireOver(client, year);
  const before = (await readClosings(client)).at(-1);
  const first = (before?.last ?? 0) + 1;
  const end = await findEnd(client, year, first);
  if (end === undefined) {
    throw notClosable(
      year,
      'no row of that year or of an earlier one is left to be closed',
      'Nothing needs to be done.',
    );
  }
  const after = before?.hash ?? FIRST_HASH.toString('hex');
  const found = { year, first, ...end, after, closedUpTo: before?.year ?? 0 };
  // PostgreSQL is asked before anything is written
  const tried = { ...found, file: '', sha256: '0'.repeat(64) };
  await client.query('BEGIN');
  try {
    await insertClosing(client, tried, '');
  } finally {
    await client.query('ROLLBACK');
  }
  return found;
}

/** Throws AUDIT_NOT_CLOSABLE until a day after the end of the year, by the clock of PostgreSQL. */
async function requireOver(client: Client, year: number): Promise<void> {
  const { rows } = await client.query(
    `SELECT now() >= make_timestamptz($1 + 1, 1, 2, 0, 0, 0, 'UTC') AS over`,
    [year],
  );
  if ((rows as { over: boolean }[])[0]?.over === true) return;
  throw notClosable(year, `that is possible from ${year + 1}-01-02 on`, '');
}

/** Searches backwards from the end of the chain, page by page. */
async function findEnd(
  client: Client,
  year: number,
  first: number,
): Promise<Pick<AuditClosing, 'last' | 'row' | 'hash'> | undefined> {
  for (let below: string | null = '9223372036854775807'; below !== null;) {
    const page: { rows: unknown[] } = await client.query(
      `WITH page AS MATERIALIZED (
         SELECT s.position, s.audit_id, s.hash, a.at FROM audit_seals s JOIN audit a ON a.id = s.audit_id
         WHERE s.position < $1 AND s.position >= $2 ORDER BY s.position DESC LIMIT ${PAGE})
       SELECT (SELECT min(position) FROM page) AS below, e.position::float8 AS last, e.audit_id AS row,
              encode(e.hash, 'hex') AS hash
       FROM (SELECT) AS one LEFT JOIN LATERAL (
         SELECT * FROM page WHERE at < make_timestamptz($3 + 1, 1, 1, 0, 0, 0, 'UTC')
         ORDER BY position DESC LIMIT 1) AS e ON true`,
      [below, first, year],
    );
    const [found] = page.rows as [
      { below: string | null; last: number; row: string | null; hash: string },
    ];
    if (found.row !== null) return { last: found.last, row: found.row, hash: found.hash };
    below = found.below;
  }
  return undefined;
}

/**
 * Reads and checks the rows of a year with their hashes. Throws AUDIT_BROKEN if a row is not as it was sealed, and
 * AUDIT_NOT_CLOSABLE for a row that does not belong in the file:
 *
 * | the row is of                   | it is accepted                                                               |
 * | ------------------------------- | ---------------------------------------------------------------------------- |
 * | an earlier year, closed         | yes: it was written when the clock had gone back; no other file can hold it  |
 * | an earlier year, not closed     | if that year cannot be closed by itself, because rows of this one are in it  |
 * | a later year, on its first day  | yes: transactions of the last minutes end out of order                       |
 * | a later year, after that        | no: a row that is dated wrongly would take rows of a year that is not over   |
 * | no year between 1 and 9999      | no                                                                           |
 */
export async function* readYear(
  client: Client,
  { year, first, last, after, closedUpTo }: ClosableYear,
): AsyncGenerator<{ hash: string; row: Record<string, unknown> & { id: string } }> {
  let hash: Buffer = Buffer.from(after, 'hex');
  let place = first - 1;
  let latest: HashedRow | undefined;
  const mixed = new Set<number>();
  while (place < last) {
    const page = await readPage(client, String(place));
    for (const seal of page) {
      const row = rowOf(seal);
      place += 1;
      if (row !== undefined) hash = hashAuditRow(hash, row);
      if (row === undefined || Number(seal.position) !== place || !hash.equals(seal.hash)) {
        const sentence = `the audit of ${year} is not as it was sealed: see \`chamberlain audit verify\``;
        throw new ChamberlainError('AUDIT_BROKEN', sentence);
      }
      const rowYear = yearOf(row);
      if (rowYear === undefined) throw isOfNoYear(year, row);
      if (rowYear < year && rowYear > closedUpTo && !mixed.has(rowYear)) {
        if (!(await isMixed(client, rowYear, first))) {
          const sentence = `row ${row.id} belongs to ${rowYear}, which must be closed first`;
          throw notClosable(year, sentence);
        }
        mixed.add(rowYear);
      }
      if (latest === undefined || row.at > latest.at) latest = row;
      // only now, because an edited row matters more
      if (place === last && isOfLaterYear(latest, year)) throw takesLaterRows(year, latest, row);
      yield { hash: hash.toString('hex'), row };
      if (place === last) return;
    }
    if (page.length === 0)
      throw new ChamberlainError('AUDIT_BROKEN', `the audit of ${year} ends too early`);
  }
}

/** Whether a row is of a later year, and not of its first day. */
function isOfLaterYear({ at }: HashedRow, year: number): boolean {
  return at >= `${year + 1}-01-02`;
}

/** Whether a year cannot be closed by itself, because rows of a later year were sealed before its last one. */
async function isMixed(client: Client, year: number, first: number): Promise<boolean> {
  const end = await findEnd(client, year, first);
  const { rows } = await client.query(
    `SELECT FROM audit_seals s JOIN audit a ON a.id = s.audit_id
     WHERE s.position BETWEEN $1 AND $2 AND a.at >= make_timestamptz($3 + 1, 1, 2, 0, 0, 0, 'UTC') LIMIT 1`,
    [first, end?.last, year],
  );
  return rows.length > 0;
}

function takesLaterRows(year: number, later: HashedRow, last: HashedRow): ChamberlainError {
  const laterYear = yearOf(later);
  return notClosable(
    year,
    `row ${later.id} of ${later.at} was sealed before row ${last.id} of ${last.at}, and would be closed with it`,
    'Nothing was removed. Look at both rows, and run `chamberlain audit verify`. If neither was forged, ' +
      `run \`chamberlain audit close ${laterYear}\` once ${laterYear} is over: its file holds the rows of both years.`,
  );
}

function isOfNoYear(year: number, { id, at }: HashedRow): ChamberlainError {
  return notClosable(
    year,
    `row ${id} has the time ${at}, which is in no year that can be closed`,
    'Nothing was removed. Find out who wrote it: only the owner of the database can choose the time of a row. ' +
      'Until then the rows stay in PostgreSQL.',
  );
}

/** Records, durably, a year whose file was read back. From then on, the chain begins after that year. */
export async function recordClosing(
  client: Client,
  closing: Omit<AuditClosing, 'closedAt'>,
  by: string,
): Promise<void> {
  await transact(
    client,
    async () => {
      await insertClosing(client, closing, by);
      const fields = [String(closing.year), `sha256:${closing.sha256}`];
      await writeOperatorAction(client, { kind: 'audit.close', by, fields });
    },
    { durable: true },
  );
}

async function insertClosing(
  client: Client,
  { year, first, last, row, hash, file, sha256 }: Omit<AuditClosing, 'closedAt'>,
  by: string,
): Promise<void> {
  try {
    await client.query(
      `INSERT INTO audit_closings (year, first, last, audit_id, hash, file, sha256, closed_by)
       VALUES ($1, $2, $3, $4, $5, $6, $7, $8)`,
      [year, first, last, row, Buffer.from(hash, 'hex'), file, sha256, by],
    );
  } catch (error) {
    if (sqlState(error) !== '55000') throw error;
    throw notClosable(year, (error as Error).message);
  }
}

/** @param action what to do, if that is not what the table of codes says */
export function notClosable(year: number, sentence: string, action?: string): ChamberlainError {
  return new ChamberlainError(
    'AUDIT_NOT_CLOSABLE',
    `the audit of ${year} cannot be closed: ${sentence}`,
    action === undefined ? {} : { action },
  );
}

/** How many rows of closed years are not removed yet. */
export async function countClosed(client: Pick<Client, 'query'>): Promise<number> {
  const { rows } = await client.query(
    `SELECT count(*)::int AS count FROM audit_seals WHERE position <= (SELECT max(last) FROM audit_closings)`,
  );
  return (rows[0] as { count: number }).count;
}

/**
 * Removes up to 1,000 rows of closed years with their seals, and returns how many. The trigger `guard_closed` allows the
 * removal of no other rows. It identifies a row by its seal, so all rows are removed before the seals; the seal of a row
 * that was lost is removed too.
 */
export async function removeClosed(client: Pick<Client, 'query'>): Promise<number> {
  const { rowCount } = await client.query(
    `WITH due AS MATERIALIZED (
       SELECT audit_id FROM audit_seals WHERE position <= (SELECT max(last) FROM audit_closings)
       ORDER BY position LIMIT 1000
     ), gone AS (
       DELETE FROM audit a USING due WHERE a.id = due.audit_id RETURNING a.id
     )
     DELETE FROM audit_seals s USING due
     WHERE s.audit_id = due.audit_id AND (SELECT count(*) FROM gone) IS NOT NULL`,
  );
  return rowCount ?? 0;
}
