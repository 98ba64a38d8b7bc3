/** The hash chain over the audit: what is hashed, and what is wrong with a row that does not fit. */
import { createHash } from 'node:crypto';
import { canonicalJson } from '../shared/canonical-json.ts';

/** The hash before the first row. */
export const FIRST_HASH = Buffer.alloc(32);

/**
 * Every column of `audit`, as table `a`, in a form that does not depend on the settings of a session, and that differs
 * for different values. `to_char` writes no era and no infinity, and an array is read without the number of its first
 * element: those are added, only where they are not the usual ones, because chains were made without them.
 */
export const HASHED_COLUMNS = `
  a.id::text,
  CASE WHEN isfinite(a.at) THEN to_char(a.at AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"')
    || CASE WHEN a.at < '0001-01-01 00:00:00Z' THEN ' BC' ELSE '' END ELSE a.at::text END AS at,
  a.request::text, a.portal, a.kind, a.requested_by, a.approved_by, a.subject, a.account,
  CASE WHEN a.fields::text LIKE '[%' THEN ARRAY[a.fields::text] ELSE a.fields END AS fields,
  a.verdict, a.code, a.key`;

/** A row in the form that is hashed. */
export interface HashedRow extends Record<string, unknown> {
  id: string;
  /** ISO 8601 in UTC, with microseconds; before the year 1 with ` BC` after it; or `infinity` or `-infinity` */
  at: string;
}

/** The year of a time in a row; undefined if it is not between 1 and 9999, which only forged rows have. */
export function yearOf({ at }: HashedRow): number | undefined {
  return /^\d{4}-\S+$/u.test(at) ? Number(at.slice(0, 4)) : undefined;
}

/** A time in a row, in milliseconds: infinite if its year is not between 1 and 9999. */
function millisecondsOf(row: HashedRow): number {
  if (yearOf(row) !== undefined) return Date.parse(row.at);
  return row.at.startsWith('-') || row.at.endsWith('BC') ? -Infinity : Infinity;
}

/**
 * The hash of one row: SHA-256 over the hash before it and the row as canonical JSON. A row without a key is hashed as
 * before there was that column.
 */
export function hashAuditRow(previous: Buffer, { key, ...rest }: Record<string, unknown>): Buffer {
  const row = (key ?? undefined) === undefined ? rest : { ...rest, key };
  return createHash('sha256').update(previous).update(canonicalJson(row)).digest();
}

/** A seal with its row; `row` is undefined if that is gone. */
export interface SealedRow {
  position: number;
  auditId: string;
  hash: Buffer;
  /** the row before it in the chain, undefined for the first */
  previous: string | undefined;
  row: HashedRow | undefined;
}

type FaultKind =
  | 'edited'
  | 'exchanged'
  | 'missing'
  | 'inserted'
  | 'seal-edited'
  | 'seal-missing'
  | 'unsealed'
  | 'head'
  // of the file of a closed year
  | 'file'
  | 'file-missing';

/** One fault, with the row that it concerns. */
export interface ChainFault {
  kind: FaultKind;
  /** the row's id; undefined if no row can be named */
  row: string | undefined;
  /** the time in the row, if that is known */
  at: string | undefined;
  sentence: string;
}

/**
 * A transaction that began so long before the one that was sealed before it would have been ended. So a row with a
 * lower number and an older time than that was inserted afterwards.
 */
const LATEST_COMMIT_MS = 10 * 60_000;

/** Whether a row claims a place among older ones than the row before it in the chain. */
export function isBackdated(row: HashedRow, before: HashedRow): boolean {
  return (
    BigInt(row.id) < BigInt(before.id) &&
    millisecondsOf(row) < millisecondsOf(before) - LATEST_COMMIT_MS
  );
}

export function backdated(row: HashedRow): ChainFault {
  const sentence = 'its number and its time are older than those of rows sealed before it';
  return { kind: 'inserted', row: row.id, at: row.at, sentence };
}

/** What is remembered of a link until the next one has been checked. */
interface Link {
  position: number;
  auditId: string | undefined;
  /** as it is stored */
  hash: Buffer;
  /** what the hash should be, if it is not what is stored */
  due?: Buffer;
  row: HashedRow | undefined;
  fault?: ChainFault | undefined;
  edit?: Edit;
}

/** A row that does not match its hash: it may have the contents of another row. */
interface Edit {
  before: Buffer;
  hash: Buffer;
  row: HashedRow;
  fault: ChainFault;
}
/** At most so many edited rows are compared with each other. */
const MOST_EDITS = 200;

/** The link after which the chain begins. */
export type ChainBegin = Pick<Link, 'position' | 'auditId' | 'hash'>;

/** The chain as far as it was followed. */
interface Chain {
  readonly report: (fault: ChainFault) => void;
  readonly findRow: (id: string) => Promise<HashedRow | undefined>;
  beforeLast: Link | undefined;
  last: Link;
  readonly edits: Edit[];
}

/**
 * Follows the chain seal by seal, in the order of positions. After a row that does not fit, it continues with the
 * stored hash, so that each fault is named once:
 *
 * | the seal names before it       | its hash fits                      | result                            |
 * | ------------------------------ | ---------------------------------- | --------------------------------- |
 * | the one before                 | after the stored hash of that      | ok                                |
 * | the one before                 | after what that hash should be     | the seal before was edited        |
 * | the one before                 | no                                 | the row was edited, or the row    |
 * |                                |                                    | before it together with its seal  |
 * | the one before                 | its row is gone                    | the row is missing                |
 * | another, or has another place  | after the stored hash before it    | its seal was edited               |
 * | the one but last               | after the stored hash of that      | the one before was inserted       |
 * | one without a seal             | after that row, or cannot be known | the seal of that row is missing   |
 * | one that is nowhere            | cannot be known                    | that row is missing with its seal |
 * | one that stands elsewhere      | no                                 | the row was inserted, or moved    |
 */
export function followChain(
  report: Chain['report'],
  findRow: Chain['findRow'],
  begin: ChainBegin = { position: 0, auditId: undefined, hash: FIRST_HASH },
): { next(seal: SealedRow): Promise<void>; end(): HashedRow | undefined } {
  const last: Link = { ...begin, row: undefined };
  const chain: Chain = { report, findRow, beforeLast: undefined, last, edits: [] };
  return {
    async next(seal) {
      const link = await judge(chain, seal);
      settle(chain);
      chain.beforeLast = chain.last;
      chain.last = link;
    },
    end() {
      settle(chain);
      for (const fault of namedEdits(chain.edits)) report(fault);
      return chain.last.row;
    },
  };
}

/** Reports the fault of the last link, which the next one may have found. */
function settle({ report, edits, last: { edit, fault } }: Chain): void {
  if (edit !== undefined && fault === edit.fault && edits.length < MOST_EDITS) {
    edits.push(edit); // reported at the end, when more may be known
  } else if (fault !== undefined) {
    report(fault);
  }
}

async function judge(chain: Chain, seal: SealedRow): Promise<Link> {
  const { report, last, beforeLast } = chain;
  const { position, auditId, hash, row } = seal;
  const link: Link = { position, auditId, hash, row };
  const fault = (kind: FaultKind, sentence: string): ChainFault => ({
    kind,
    row: auditId,
    at: row?.at,
    sentence,
  });
  const fits = (before: Buffer) => row !== undefined && hashAuditRow(before, row).equals(hash);
  const isNext = position === last.position + 1;

  if (seal.previous !== last.auditId && !fits(last.hash)) {
    if (beforeLast !== undefined && beforeLast.auditId === seal.previous && fits(beforeLast.hash)) {
      last.fault = {
        kind: 'inserted',
        row: last.auditId,
        at: last.row?.at,
        sentence: 'it was inserted, or moved here: the chain has no place for it',
      };
      return link;
    }
    const named = await whatIsMissing(chain, seal, isNext, fits);
    if (named !== undefined) {
      report(named);
      return link;
    }
  }
  if (row === undefined) {
    link.fault = fault('missing', 'it is gone, but its seal exists');
    return link;
  }
  const linkHolds = isNext && seal.previous === last.auditId;
  if (fits(last.hash)) {
    if (!linkHolds)
      link.fault = fault(
        'seal-edited',
        'the place in the chain that its seal names was edited; the row is unchanged',
      );
    else if (last.row !== undefined && isBackdated(row, last.row)) link.fault = backdated(row);
    return link;
  }
  if (last.due !== undefined && fits(last.due)) {
    last.fault = {
      kind: 'seal-edited',
      row: last.auditId,
      at: last.row?.at,
      sentence: 'the hash in its seal was edited; the row is unchanged',
    };
    return link;
  }
  if (seal.previous !== last.auditId) {
    const named = seal.previous === undefined ? 'no row' : `row ${seal.previous}`;
    const sentence = `it was inserted, or moved here: its seal names ${named} before it`;
    link.fault = fault('inserted', sentence);
    return link;
  }
  link.due = hashAuditRow(last.hash, row);
  // a seal that was made again fits its row, and only the next seal reveals it
  const orBefore =
    last.auditId === undefined || last.fault !== undefined
      ? ''
      : `; or row ${last.auditId}, before it, was edited together with its seal`;
  link.fault = fault('edited', `it is not what was sealed${orBefore}`);
  link.edit = { before: last.hash, hash, row, fault: link.fault };
  return link;
}

/** The fault of the row that a seal names before it, if that is not the row that stands there. */
async function whatIsMissing(
  { findRow, last }: Chain,
  seal: SealedRow,
  isNext: boolean,
  fits: (before: Buffer) => boolean,
): Promise<ChainFault | undefined> {
  if (seal.previous === undefined) return undefined;
  const row = await findRow(seal.previous);
  if (row !== undefined && isNext) return undefined;
  const more = Math.max(0, seal.position - last.position - 2);
  const from = last.auditId === undefined ? 'the beginning of the chain' : `row ${last.auditId}`;
  const others = more === 0 ? '' : `, and ${more} more before it, back to ${from}`;
  if (row !== undefined) {
    const isWhole = more === 0 && fits(hashAuditRow(last.hash, row));
    const doubt = isWhole ? 'the row is unchanged' : 'whether the row was edited cannot be known';
    const sentence = `its seal is missing${others}; ${doubt}`;
    return { kind: 'seal-missing', row: row.id, at: row.at, sentence };
  }
  const times = [
    ...(last.row === undefined ? [] : [`after ${last.row.at}`]),
    ...(seal.row === undefined ? [] : [`before ${seal.row.at}`]),
  ].join(' and ');
  const written = times === '' ? '' : `; it was written ${times}`;
  const sentence = `it is gone with its seal${others}${written}`;
  return { kind: 'missing', row: seal.previous, at: undefined, sentence };
}

/** The faults of edited rows. Two rows that have each other's contents are named as exchanged. */
function namedEdits(edits: readonly Edit[]): ChainFault[] {
  const fitsWith = (edit: Edit, other: Edit) =>
    hashAuditRow(edit.before, { ...other.row, id: edit.row.id }).equals(edit.hash);
  return edits.map((edit) => {
    const other = edits.find(
      (each) => each !== edit && fitsWith(edit, each) && fitsWith(each, edit),
    );
    if (other === undefined) return edit.fault;
    const sentence = `it has the contents of row ${other.row.id}, and that row has the contents of this one`;
    return { ...edit.fault, kind: 'exchanged', sentence };
  });
}
