/**
 * The file that a closed year of the audit is kept in: JSON lines, signed by an admin's own key.
 *
 *     {"audit": <realm>, "year": 2025, "first": <place in the chain>, "after": <hash, hex>}
 *     {"hash": <hash, hex>, "row": {…}}              for each row, in the order of the chain
 *     {"last": <place>, "row": <id>, "hash": <hash, hex>, "sha256": <of the lines above, hex>,
 *      "signedBy": "admin.alice", "publicKey": <PEM>, "signature": <base64>}
 *
 * `after` is the hash that the chain has before the first row: of the year before, or 64 zeros. The signature is Ed25519
 * (RFC 8032) over `chamberlain-audit-1\n` and the last line as canonical JSON, without `signature`.
 */
import { createHash, createPublicKey, type KeyObject, verify } from 'node:crypto';
import { createReadStream, type PathLike } from 'node:fs';
import { link, open, rm } from 'node:fs/promises';
import { basename, dirname } from 'node:path';
import * as z from 'zod';
import { signBytes, type Signing } from '../requests/token.ts';
import { ChamberlainError } from '../shared/errors.ts';
import { canonicalJson } from '../shared/canonical-json.ts';
import { flushFolder, removeLeftovers } from '../shared/durable-file.ts';

const SIGNED = 'chamberlain-audit-1\n';
/** No line of such a file is as long. */
const MOST_LINE_BYTES = 4 * 1024 * 1024;
/** How many characters of lines are written together. */
const WRITE_LENGTH = 256 * 1024;

const headSchema = z.object({
  /** the realm */
  audit: z.string(),
  year: z.int(),
  first: z.int(),
  after: z.string(),
});
export type AuditFileHead = z.infer<typeof headSchema>;

const rowSchema = z.object({ hash: z.string(), row: z.looseObject({ id: z.string() }) });
export type AuditFileRow = z.infer<typeof rowSchema>;

const endSchema = z.object({
  last: z.int(),
  ...{ row: z.string(), hash: z.string(), sha256: z.string() },
  ...{ signedBy: z.string(), publicKey: z.string(), signature: z.string() },
});
export type AuditFileEnd = z.infer<typeof endSchema>;

/** The signer of a file. */
export interface AuditSigner {
  portal: string;
  publicKey: KeyObject;
  signing: Signing;
}

/** The name of the file of a year. */
export function auditFileName(realm: string, year: number): string {
  return `audit-${realm}-${year}.jsonl`;
}

/** Whether a file has the name of one of a closed year. */
export function isAuditFileName(path: string): boolean {
  return /^audit-.+-\d{4}\.jsonl$/u.test(basename(path));
}

/**
 * Writes a file completely or not at all, so that it would survive a loss of power. An existing file is never
 * replaced. Throws AUDIT_NOT_CLOSABLE if the folder or the disk does not accept it. Removes what an interrupted run has
 * left next to it.
 */
export async function writeAuditFile(
  path: string,
  signer: AuditSigner,
  head: AuditFileHead,
  rows: AsyncIterable<AuditFileRow>,
): Promise<void> {
  try {
    await writeWhole(path, signer, head, rows);
  } catch (cause) {
    if ((cause as NodeJS.ErrnoException).syscall === undefined) throw cause;
    throw new ChamberlainError('AUDIT_NOT_CLOSABLE', `writing ${path}`, { cause });
  }
}

async function writeWhole(
  path: string,
  signer: AuditSigner,
  head: AuditFileHead,
  rows: AsyncIterable<AuditFileRow>,
): Promise<void> {
  removeLeftovers(
    dirname(path),
    new RegExp(`^${basename(path).replaceAll('.', '\\.')}\\.(\\d+)\\.new$`, 'u'),
  );
  const temporary = `${path}.${process.pid}.new`;
  try {
    const file = await open(temporary, 'wx', 0o440);
    try {
      const sha256 = createHash('sha256');
      let text = `${JSON.stringify(head)}\n`;
      const flush = async () => {
        sha256.update(text);
        await file.writeFile(text);
        text = '';
      };
      let last: AuditFileRow | undefined;
      let place = head.first - 1;
      for await (last of rows) {
        place += 1;
        text += `${JSON.stringify(last)}\n`;
        if (text.length >= WRITE_LENGTH) await flush();
      }
      if (last === undefined)
        throw new ChamberlainError('INTERNAL', `writing ${path}: it would have no row`);
      await flush();
      const end = {
        last: place,
        row: last.row.id,
        hash: last.hash,
        sha256: sha256.digest('hex'),
        signedBy: signer.portal,
        publicKey: signer.publicKey.export({ type: 'spki', format: 'pem' }) as string,
      };
      const signature = (await signBytes(signer.signing, signedText(end))).toString('base64');
      await file.writeFile(`${JSON.stringify({ ...end, signature })}\n`);
      await file.sync();
    } finally {
      await file.close();
    }
    await link(temporary, path); // unlike a rename, it replaces nothing
  } finally {
    await rm(temporary, { force: true });
  }
  flushFolder(dirname(path));
}

function signedText(end: Omit<AuditFileEnd, 'signature'>): Buffer {
  return Buffer.from(SIGNED + canonicalJson(end));
}

/** A file that was read to its end. */
export interface AuditFileRead {
  head: AuditFileHead | undefined;
  end: AuditFileEnd | undefined;
  /** of the whole file, hex */
  sha256: string;
  /** whether at least one of its lines is one of such a file: if not, it is no such file, or nothing of it is left */
  isAudit: boolean;
  /** the first fault, such as `line 7 is not a row`; undefined if there is none */
  wrong: string | undefined;
}

/**
 * Reads a file line by line, and checks its form, its digest and its signature. The caller must check who has signed it
 * and whether its rows are in the chain. Throws if it cannot be read.
 *
 * @param onRow is called with each row and the number of its line, and may return a fault
 */
export async function readAuditFile(
  path: string,
  onHead: (head: AuditFileHead) => void,
  onRow: (row: AuditFileRow, line: number) => string | undefined,
): Promise<AuditFileRead> {
  const whole = createHash('sha256');
  const body = createHash('sha256');
  let head: AuditFileHead | undefined;
  let wrong: string | undefined;
  let isAudit = false;
  let number = 0;
  let before: Buffer | undefined;
  const take = (line: Buffer): void => {
    number += 1;
    body.update(line);
    if (wrong !== undefined && isAudit) return;
    const value = parseLine(line);
    isAudit ||= fits(headSchema, value) || fits(rowSchema, value);
    if (wrong !== undefined) return;
    if (number === 1) {
      if (fits(headSchema, value)) onHead((head = value));
      else wrong = 'it does not begin like a closed year of the audit';
    } else if (fits(rowSchema, value)) wrong = onRow(value, number);
    else wrong = `line ${number} is not a row of the audit`;
  };
  for await (const line of readLines(path)) {
    whole.update(line);
    if (before !== undefined) take(before);
    before = line;
  }
  const last = before && parseLine(before);
  const end = fits(endSchema, last) ? last : undefined;
  const cut = `it ends with line ${number + 1}, without a signature: the rest was cut off`;
  wrong ??= end === undefined ? cut : wrongEnd(end, body.digest('hex'));
  return { head, end, sha256: whole.digest('hex'), isAudit: isAudit || end !== undefined, wrong };
}

function wrongEnd(end: AuditFileEnd, sha256: string): string | undefined {
  const { signature, ...signed } = end;
  try {
    const key = createPublicKey(end.publicKey);
    if (!verify(null, signedText(signed), key, Buffer.from(signature, 'base64'))) {
      return 'its last line was changed after it was signed';
    }
  } catch {
    return 'its last line was changed after it was signed';
  }
  return end.sha256 === sha256 ? undefined : 'it was changed after it was signed';
}

/** The lines with their ends; a line longer than any of ours comes in parts. */
async function* readLines(path: PathLike): AsyncGenerator<Buffer> {
  let rest: Buffer = Buffer.alloc(0);
  for await (const chunk of createReadStream(path, { highWaterMark: 1024 * 1024 })) {
    rest = Buffer.concat([rest, chunk as Buffer]);
    let from = 0;
    for (let at = rest.indexOf(10); at >= 0; at = rest.indexOf(10, from)) {
      yield rest.subarray(from, at + 1);
      from = at + 1;
    }
    rest = rest.subarray(from);
    if (rest.length > MOST_LINE_BYTES) {
      yield rest;
      rest = Buffer.alloc(0);
    }
  }
  if (rest.length > 0) yield rest;
}

/** The value in a complete line; undefined if it is not complete, or not JSON. */
function parseLine(line: Buffer): unknown {
  try {
    const text = new TextDecoder('utf-8', { fatal: true }).decode(line);
    return text.endsWith('\n') ? JSON.parse(text) : undefined;
  } catch {
    return undefined;
  }
}

/** Whether it has what the schema names. What else it has is signed too, so it is kept. */
function fits<T>(schema: z.ZodType<T>, value: unknown): value is T {
  return schema.safeParse(value).success;
}
