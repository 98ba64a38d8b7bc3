/** Files of closed years of the audit: whether each is unchanged since it was signed, and where it joins the chain. */
import { createPublicKey } from 'node:crypto';
import { basename } from 'node:path';
import { adminOfPortal, type Config } from '../shared/config.ts';
import {
  type AuditFileEnd,
  type AuditFileHead,
  isAuditFileName,
  readAuditFile,
} from './audit-file.ts';
import { cannotRead, ChamberlainError } from '../shared/errors.ts';
import { type ChainFault, hashAuditRow } from './audit-chain.ts';
import type { AuditClosing } from './audit-closings.ts';
import type { ChainPlace } from './audit-verify.ts';

/** A complete, signed file. */
export interface AuditFile {
  /** as it was named on the command line */
  path: string;
  sha256: string;
  head: AuditFileHead;
  end: AuditFileEnd;
  /** how many rows it has */
  count: number;
  /** whether it holds the hash that was looked for */
  hasHash: boolean;
}

/** A file, or its fault. */
export type CheckedFile = { path: string; fault: ChainFault } | { path: string; file: AuditFile };

/**
 * Reads a file, follows the chain through its rows, and checks its signature. Throws USAGE if it cannot be read, or has
 * neither a line nor the name of such a file.
 *
 * @param hash a hash to look for in the file
 * @param onProgress is called with the number of rows that have been checked
 */
export async function checkAuditFile(
  path: string,
  realm: string,
  hash?: string,
  onProgress?: (rows: number) => void,
): Promise<CheckedFile> {
  let before: Buffer = Buffer.alloc(32);
  let row: string | undefined;
  let count = 0;
  let hasHash = false;
  const faulty = (sentence: string) => ({ path, fault: faultOf(path, sentence) });
  const read = await readAuditFile(
    path,
    ({ after }) => (before = Buffer.from(after, 'hex')),
    (line, number) => {
      const is = hashAuditRow(before, line.row);
      if (is.toString('hex') !== line.hash) {
        return `line ${number}, row ${line.row.id}, is not what was sealed after the line before it`;
      }
      [before, row, count] = [is, line.row.id, count + 1];
      hasHash ||= line.hash === hash;
      if (count % 10_000 === 0) onProgress?.(count);
      return undefined;
    },
  ).catch((cause: unknown) => {
    throw cannotRead('file', path, cause, 'USAGE');
  });
  const { head, end, sha256, isAudit, wrong } = read;
  if (!isAudit && !isAuditFileName(path)) {
    throw new ChamberlainError('USAGE', `${path} is not a file of the audit`, {
      action: 'Name only files that `chamberlain audit close` has written.',
    });
  }
  if (wrong !== undefined || head === undefined || end === undefined) {
    return faulty(wrong ?? 'it is not a closed year of the audit');
  }
  if (
    end.last !== head.first + count - 1 ||
    end.row !== row ||
    end.hash !== before.toString('hex')
  ) {
    return faulty('its rows do not match its last line');
  }
  if (head.audit !== realm) return faulty(`it belongs to the realm ${head.audit}`);
  return { path, file: { path, sha256, head, end, count, hasHash } };
}

/** Whether it is signed with an admin's own key that the configuration lists. */
export function isSignedByAdmin({ portals }: Config, { publicKey }: AuditFileEnd): boolean {
  const key = createPublicKey(publicKey);
  return portals
    .filter(({ name }) => adminOfPortal(name) !== undefined)
    .some(({ keys }) => keys.some((each) => createPublicKey(each.publicKey).equals(key)));
}

/**
 * Faults of files apart from their contents: the file of a closed year was not given, or differs from the recorded one;
 * or nobody known has signed a file.
 */
export function compareWithRecord(
  config: Config,
  files: readonly AuditFile[],
  given: readonly string[],
  closed: readonly AuditClosing[],
): ChainFault[] {
  const others = files.flatMap(({ path, sha256, head, end }) => {
    const record = closed.find(({ year }) => year === head.year);
    if (record !== undefined && record.sha256 !== sha256) {
      return [
        faultOf(path, `it differs from the file that was recorded when ${head.year} was closed`),
      ];
    }
    // the admin may have left since then: the record vouches for the file
    if (record !== undefined || isSignedByAdmin(config, end)) return [];
    return [
      faultOf(
        path,
        `it is signed with a key that the configuration does not list for any admin (${end.signedBy})`,
      ),
    ];
  });
  // a broken file has a fault of its own; an intact one of another year is no substitute, whatever its name
  const broken = given.filter((path) => !files.some((file) => file.path === path));
  const missing = closed
    .filter(
      ({ year, file }) =>
        !files.some(({ head }) => head.year === year) &&
        !broken.some((path) => basename(path) === file),
    )
    .map(({ year, file, sha256 }): ChainFault => ({
      kind: 'file-missing',
      row: undefined,
      at: undefined,
      sentence: `${file}: the file of ${year} was not given (sha256 ${sha256})`,
    }));
  return [...others, ...missing];
}

/** Where the files join each other, and the rows in PostgreSQL. */
export function placesOf(files: readonly AuditFile[]): ChainPlace[] {
  return files.flatMap(({ path, head, end }) => [
    {
      position: head.first - 1,
      hash: head.after,
      apart: faultOf(path, 'it does not continue from the end of the year before it'),
    },
    {
      position: end.last,
      hash: end.hash,
      apart: faultOf(path, 'the chain does not continue from its end'),
    },
  ]);
}

function faultOf(path: string, sentence: string): ChainFault {
  return { kind: 'file', row: undefined, at: undefined, sentence: `${path}: ${sentence}` };
}

/** Reads a file back. Throws AUDIT_NOT_CLOSABLE if it is not complete. */
export async function readBack(
  path: string,
  realm: string,
  onProgress?: (rows: number) => void,
): Promise<AuditFile> {
  const checked = await checkAuditFile(path, realm, undefined, onProgress);
  if ('file' in checked) return checked.file;
  throw new ChamberlainError('AUDIT_NOT_CLOSABLE', checked.fault.sentence);
}
