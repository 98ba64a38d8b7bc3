/** Recomputes the hash chain over the audit, page by page, in one snapshot of the database. */
import {
  backdated,
  type ChainFault,
  FIRST_HASH,
  followChain,
  HASHED_COLUMNS,
  type HashedRow,
  isBackdated,
} from './audit-chain.ts';
import type { Client } from './postgres.ts';

const PAGE = 2000;
/** Rows looked at together for those without a seal. */
const WINDOW = 50_000;
const LOWEST_ID = '-9223372036854775808';
const HIGHEST_ID = '9223372036854775807';
/** No more are listed; all are counted. */
const MOST_FAULTS = 1000;

export interface ChainVerdict {
  /** of the last row that is sealed, 64 hexadecimal digits; all 0 where none is */
  head: string;
  row: string | undefined;
  at: string | undefined;
  /** how many rows are sealed */
  sealed: number;
  /** rows that the sealer has not come to yet */
  waiting: number;
  /** whether the head that was given is one of the chain; undefined where none was given */
  headFound: boolean | undefined;
  /** no more than the first 1,000 */
  faults: ChainFault[];
  faultsInAll: number;
}

/**
 * Verifies the whole chain.
 *
 * @param head one that was printed before, 64 hexadecimal digits: it must be among the seals
 * @param onProgress told how many seals of how many have been looked at
 */
export async function verifyAudit(
  client: Client,
  {
    head,
    onProgress,
  }: { head?: string | undefined; onProgress?: (done: number, of: number) => void },
): Promise<ChainVerdict> {
  const faults: ChainFault[] = [];
  let faultsInAll = 0;
  const named = new Set<string>();
  const report = (fault: ChainFault) => {
    faultsInAll += 1;
    if (faults.length >= MOST_FAULTS) return;
    faults.push(fault);
    if (fault.kind === 'seal-missing' && fault.row !== undefined) named.add(fault.row);
  };
  await client.query('BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY');
  try {
    const last = await client.query(
      'SELECT position FROM audit_seals ORDER BY position DESC LIMIT 1',
    );
    const total = Number((last.rows[0] as { position: string } | undefined)?.position ?? 0);
    const chain = followChain(report, (id) => readRow(client, id));
    const wanted = head === undefined ? undefined : Buffer.from(head, 'hex');
    let headFound = wanted?.equals(FIRST_HASH);
    let sealed = 0;
    let end: SealRow | undefined;
    for (let after: string | undefined = LOWEST_ID; after !== undefined;) {
      const page: SealRow[] = await readPage(client, after);
      for (const seal of page) {
        await chain.next({
          position: Number(seal.position),
          auditId: seal.audit_id,
          hash: seal.hash,
          previous: seal.previous ?? undefined,
          row: rowOf(seal),
        });
        if (wanted !== undefined) headFound ||= seal.hash.equals(wanted);
      }
      sealed += page.length;
      end = page.at(-1) ?? end;
      after = page.length < PAGE ? undefined : end?.position;
      onProgress?.(sealed, Math.max(sealed, total));
    }
    const lastRow = chain.end();
    const waiting = await lookAtUnsealed(client, named, lastRow, report);
    if (headFound === false) {
      const sentence =
        'the head that was given is nowhere in the chain: rows were taken from its end, or it was made anew';
      report({ kind: 'head', row: undefined, at: undefined, sentence });
    }
    return {
      head: (end?.hash ?? FIRST_HASH).toString('hex'),
      row: end?.audit_id,
      at: lastRow?.at,
      sealed,
      waiting,
      headFound,
      faults,
      faultsInAll,
    };
  } finally {
    await client.query('ROLLBACK');
  }
}

interface SealRow extends HashedRow {
  position: string;
  audit_id: string;
  hash: Buffer;
  previous: string | null;
}

async function readPage(client: Client, after: string): Promise<SealRow[]> {
  const { rows } = await client.query({
    name: 'audit-page',
    text: `SELECT s.position, s.audit_id, s.hash, s.previous, ${HASHED_COLUMNS}
           FROM audit_seals s LEFT JOIN audit a ON a.id = s.audit_id
           WHERE s.position > $1 ORDER BY s.position LIMIT ${PAGE}`,
    values: [after],
  });
  return rows as SealRow[];
}

/** The row of the audit alone; undefined where the seal has none. */
function rowOf(seal: SealRow): HashedRow | undefined {
  const { position: _p, audit_id: _a, hash: _h, previous: _v, ...row } = seal;
  return (row.id as string | null) === null ? undefined : row;
}

async function readRow(client: Client, id: string): Promise<HashedRow | undefined> {
  const { rows } = await client.query(`SELECT ${HASHED_COLUMNS} FROM audit a WHERE a.id = $1`, [
    id,
  ]);
  return rows[0] as HashedRow | undefined;
}

/** Rows without a seal: those that wait for it are counted, any other is a fault. */
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
        const sentence = 'it is not sealed, and does not wait for it';
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
      sentence: 'it is gone, before it was sealed',
    });
  }
  return waiting;
}
