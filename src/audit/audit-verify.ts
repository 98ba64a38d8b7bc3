/**
 * Recomputes the hash chain over the audit, page by page, in one snapshot of the database: from its beginning, or from
 * the last row of the closed years. Those are in files, which src/audit/audit-files.ts checks.
 */
import {
  backdated,
  type ChainBegin,
  type ChainFault,
  FIRST_HASH,
  followChain,
  HASHED_COLUMNS,
  type HashedRow,
  isBackdated,
} from './audit-chain.ts';
import { type AuditClosing, countClosed, readClosings } from './audit-closings.ts';
import { PAGE, readPage, rowOf } from './audit-pages.ts';
import type { Client } from '../database/connection.ts';

/** How many rows are searched together for rows without a seal. */
const WINDOW = 50_000;
const LOWEST_ID = '-9223372036854775808';
const HIGHEST_ID = '9223372036854775807';
/** How many faults are listed; all are counted. */
const MOST_FAULTS = 1000;

export interface ChainVerdict {
  /** the hash of the last sealed row, 64 hexadecimal digits; all 0 if there is none */
  head: string;
  row: string | undefined;
  at: string | undefined;
  /** years whose rows are in files: the chain begins after them */
  closed: AuditClosing[];
  /** rows of those years that are not removed yet */
  toRemove: number;
  /** how many rows are sealed, without those of closed years */
  sealed: number;
  /** rows that wait to be sealed */
  waiting: number;
  /** whether the given head is in the chain; undefined if none was given */
  headFound: boolean | undefined;
  /** no more than the first 1,000 */
  faults: ChainFault[];
  faultsInAll: number;
}

/** A hash that a file has at a place of the chain. */
export interface ChainPlace {
  position: number;
  /** 64 hexadecimal digits */
  hash: string;
  /** the fault if the chain has another hash there, or none */
  apart: ChainFault;
}

/**
 * Verifies the whole chain.
 *
 * @param head a head that was printed earlier, 64 hexadecimal digits, which must be among the seals
 * @param options.places where files join the chain
 * @param options.isInFile whether the head is in a file that was read
 * @param onProgress is called with the number of seals that have been checked, and their total
 */
export async function verifyAudit(
  client: Client,
  {
    head,
    places = [],
    isInFile = false,
    onProgress,
  }: {
    head?: string | undefined;
    places?: readonly ChainPlace[];
    isInFile?: boolean;
    onProgress?: (done: number, of: number) => void;
  },
): Promise<ChainVerdict> {
  const found = { faults: [] as ChainFault[], faultsInAll: 0, named: new Set<string>() };
  const report = (fault: ChainFault) => {
    found.faultsInAll += 1;
    if (found.faults.length >= MOST_FAULTS) return;
    found.faults.push(fault);
    if (fault.kind === 'seal-missing' && fault.row !== undefined) found.named.add(fault.row);
  };
  await client.query('BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY');
  try {
    const last = await client.query(
      'SELECT position FROM audit_seals ORDER BY position DESC LIMIT 1',
    );
    const closed = await readClosings(client);
    const base = closed.at(-1);
    const end = Number((last.rows[0] as { position: string } | undefined)?.position ?? 0);
    const total = Math.max(0, end - (base?.last ?? 0));
    const chain = followChain(report, (id) => readRow(client, id), linkOf(base));
    const wanted = head === undefined ? undefined : Buffer.from(head, 'hex');
    let headFound = wanted && (isInFile || closed.some(({ hash }) => hash === head));
    // the end of each year, and then each place where a file joins
    const hashes = new Map([[0, FIRST_HASH.toString('hex')]]);
    for (const { last: position, hash } of closed) hashes.set(position, hash);
    const asked = new Set(places.map(({ position }) => position));
    let sealed = 0;
    let [headHash, headRow] = [base?.hash ?? FIRST_HASH.toString('hex'), base?.row];
    for (let after = base === undefined ? LOWEST_ID : String(base.last), more = true; more;) {
      const page = await readPage(client, after);
      for (const seal of page) {
        const [position, previous] = [Number(seal.position), seal.previous ?? undefined];
        const { audit_id: auditId, hash } = seal;
        await chain.next({ position, auditId, hash, previous, row: rowOf(seal) });
        if (wanted !== undefined) headFound ||= hash.equals(wanted);
        if (asked.has(position)) hashes.set(position, hash.toString('hex'));
      }
      sealed += page.length;
      const lastSeal = page.at(-1);
      if (lastSeal !== undefined) {
        after = lastSeal.position;
        [headHash, headRow] = [lastSeal.hash.toString('hex'), lastSeal.audit_id];
      }
      more = page.length === PAGE;
      onProgress?.(sealed, Math.max(sealed, total));
    }
    for (const { position, hash, apart } of places)
      if (hashes.get(position) !== hash) report(apart);
    const lastRow = chain.end();
    const waiting = await lookAtUnsealed(client, found.named, lastRow, report);
    if (headFound === false) report(headMissing(base !== undefined));
    const { faults, faultsInAll } = found;
    return {
      ...{ head: headHash, row: headRow, at: lastRow?.at, closed },
      toRemove: await countClosed(client),
      ...{ sealed, waiting, headFound, faults, faultsInAll },
    };
  } finally {
    await client.query('ROLLBACK');
  }
}

function headMissing(areYearsClosed: boolean): ChainFault {
  const sentence =
    'the given head is not in the chain: rows were removed from the end of the chain, or the chain was made again' +
    (areYearsClosed
      ? '; or the head is in the file of a closed year: give the files of closed years too'
      : '');
  return { kind: 'head', row: undefined, at: undefined, sentence };
}

/** The link after which the chain begins. */
function linkOf(base: AuditClosing | undefined): ChainBegin | undefined {
  return base && { position: base.last, auditId: base.row, hash: Buffer.from(base.hash, 'hex') };
}

async function readRow(client: Client, id: string): Promise<HashedRow | undefined> {
  const { rows } = await client.query(`SELECT ${HASHED_COLUMNS} FROM audit a WHERE a.id = $1`, [
    id,
  ]);
  return rows[0] as HashedRow | undefined;
}

/** Checks rows without a seal: those that wait to be sealed are counted, any other is a fault. */
async function lookAtUnsealed(
  client: Client,
  named: ReadonlySet<string>,
  last: HashedRow | undefined,
  report: (fault: ChainFault) => void,
): Promise<number> {
  let waiting = 0;
  for (let after: string | undefined = LOWEST_ID; after !== undefined;) {
    const next: { rows: unknown[] } = await client.query({
      name: 'audit-window',
      text: `SELECT id FROM audit WHERE id > $1 ORDER BY id OFFSET ${WINDOW} LIMIT 1`,
      values: [after],
    });
    const until: string | undefined = (next.rows[0] as { id: string } | undefined)?.id;
    const { rows } = await client.query({
      name: 'audit-unsealed',
      text: `SELECT ${HASHED_COLUMNS},
               EXISTS (SELECT FROM audit_unsealed u WHERE u.audit_id = a.id) AS waits
             FROM audit a WHERE a.id > $1 AND a.id <= coalesce($2::bigint, ${HIGHEST_ID})
               AND NOT EXISTS (SELECT FROM audit_seals s WHERE s.audit_id = a.id) ORDER BY a.id`,
      values: [after, until],
    });
    after = until;
    for (const row of rows as (HashedRow & { waits: boolean })[]) {
      if (named.has(row.id)) continue;
      if (!row.waits) {
        const sentence = 'it is not sealed, and does not wait to be sealed';
        report({ kind: 'unsealed', row: row.id, at: row.at, sentence });
      } else if (last !== undefined && isBackdated(row, last)) report(backdated(row));
      else waiting += 1;
    }
  }
  const gone = await client.query(
    `SELECT u.audit_id AS id FROM audit_unsealed u
     WHERE NOT EXISTS (SELECT FROM audit a WHERE a.id = u.audit_id) ORDER BY 1 LIMIT ${MOST_FAULTS}`,
  );
  for (const { id } of gone.rows as { id: string }[]) {
    report({
      kind: 'missing',
      row: id,
      at: undefined,
      sentence: 'it was removed before it was sealed',
    });
  }
  return waiting;
}
