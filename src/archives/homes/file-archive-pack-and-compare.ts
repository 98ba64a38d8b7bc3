/**
 * Packs a folder that nobody changes, reads the file back, and unpacks it.
 *
 * Reading back checks the following, each over the whole file, in one reading from the disk:
 *
 * - its SHA-256;
 * - that it is byte for byte the same as the folder packed again: names, contents, owners, modes, times, links,
 *   ACLs and extended attributes, and nothing that has come since (so the names are sorted, and holes are asked
 *   of the file system, not read: one of 8 EiB takes no time);
 * - that it has as many entries of each type, and bytes, as `find`, another program, counts in the folder.
 *
 * If somebody who still has a file open writes to it meanwhile, that shows as a difference: STILL_CHANGING.
 *
 * tar reads trees of any depth, but creates no path longer than PATH_MAX (4096 bytes). Whatever is deeper is
 * unpacked under shorter names, by `file-archive-shorten.ts`, and then moved to its place.
 */
import { open } from 'node:fs/promises';
import { extname, join } from 'node:path';
import { ChamberlainError, codeOf, describeError } from '../../shared/errors.ts';
import { readHashed } from '../container.ts';
import type { HomeManifest } from '../homes-manifest.ts';
import { beginningsOfLines } from '../lines.ts';
import { itself } from '../../backends/files/file-mount.ts';
import { PACKING, runScript, type Script, SCRIPTS, writeTo } from './file-archive-programs.ts';
import type { LongStep } from '../archive-keeping.ts';

type Entries = Extract<HomeManifest['what'], { kind: 'home' }>['entries'];

/** What is in a folder, as `find` or as tar counts it. */
export interface Counted {
  entries: Entries;
  /** of files, each counted once */
  bytes: bigint;
  sockets: number;
  /** of entries of an unknown type */
  others: number;
}

const RECORD_BYTES = 65_536;

function nothingCounted(): Counted {
  const entries = {
    directories: 0,
    files: 0,
    hardLinks: 0,
    symbolicLinks: 0,
    fifos: 0,
    devices: 0,
  };
  return { entries, bytes: 0n, sockets: 0, others: 0 };
}

/** By the letters of `find -printf %y` and of `tar -tv`. */
const KINDS: Record<string, keyof Entries> = {
  d: 'directories',
  f: 'files',
  '-': 'files',
  h: 'hardLinks',
  l: 'symbolicLinks',
  p: 'fifos',
  b: 'devices',
  c: 'devices',
};

function countOne(counted: Counted, type: string, sizeBytes: string): void {
  const kind = KINDS[type];
  if (kind !== undefined) counted.entries[kind] += 1;
  else if (type === 's') counted.sockets += 1;
  else counted.others += 1;
  if (kind === 'files') counted.bytes += BigInt(sizeBytes);
}

/** Counts what is in a folder. */
async function countFolder(folder: { fd: number }, step: LongStep): Promise<Counted> {
  step.report('counting', 0, undefined);
  const counted = nothingCounted();
  const linked = new Set<string>();
  await runScript('counting what is in the home', {
    script: SCRIPTS.count,
    cwd: itself(folder),
    signal: step.signal,
    onOutput: beginningsOfLines((line) => {
      const [type = '', links = '', inode = '', sizeBytes = ''] = line.split(' ');
      // tar keeps further names of files and symbolic links as links, and further names of all other types as
      // separate entries
      const isLinked = (type === 'f' || type === 'l') && links !== '1';
      const isFurther = isLinked && linked.has(inode);
      if (isLinked) linked.add(inode);
      countOne(counted, isFurther ? 'h' : type, sizeBytes);
    }),
  });
  if (counted.others > 0) {
    throw new ChamberlainError('STEP_FAILED', 'packing an entry of an unknown type');
  }
  return counted;
}

/** Packs a folder into a new file, and flushes it to disk. Meanwhile counts what is in the folder. */
export async function packFolder(
  folder: { fd: number },
  path: string,
  step: LongStep,
): Promise<Counted> {
  let total: number | undefined;
  const into = await open(path, 'wx', 0o600);
  try {
    const counting = countFolder(folder, step).then((counted) => {
      total = Number(counted.bytes);
      return counted;
    });
    step.report('packing', 0, total);
    const packing = runScript('packing the home', {
      script: SCRIPTS.pack,
      cwd: itself(folder),
      into: into.fd,
      signal: step.signal,
      onLine(line) {
        const records = /^tar: (\d+)$/u.exec(line)?.[1];
        if (records === undefined) return false;
        step.report('packing', Math.min(Number(records) * RECORD_BYTES, total ?? Infinity), total);
        return true;
      },
    });
    // neither program goes on after this has ended
    const [counted, packed] = await Promise.allSettled([counting, packing]);
    if (packed.status === 'rejected') throw packed.reason;
    if (counted.status === 'rejected') throw counted.reason;
    await into.sync();
    return counted.value;
  } finally {
    await into.close();
  }
}

/**
 * Reads an archive back whole, and compares it with the folder if there is one: the folder is packed again, and
 * must give the same bytes. Returns its length and hash. Throws STILL_CHANGING if the folder is not as it was
 * packed, STEP_FAILED if the archive cannot be read.
 */
export async function readBack(
  path: string,
  { folder, counted }: { folder?: { fd: number } | undefined; counted?: Counted | undefined },
  step: LongStep,
): Promise<{ bytes: number; sha256: string }> {
  const listed = nothingCounted();
  const [act, script] =
    folder === undefined
      ? ['reading the archive back', SCRIPTS.list]
      : [COMPARING, SCRIPTS.compare];
  const read = await feedTo(
    { act, path, progressAct: 'reading back' },
    {
      script,
      cwd: folder === undefined ? '/' : itself(folder),
      onOutput: beginningsOfLines((line) => {
        const found = /^(.)\S* +\d+\/\d+ +(\d+)/u.exec(line);
        countOne(listed, found?.[1] ?? '?', found?.[2] ?? '0');
      }),
    },
    step,
  ).catch((error: unknown) => {
    throw asChange(error);
  });
  if (counted !== undefined) refuseUnlessSame(counted, listed);
  return read;
}

/**
 * Compares a folder with an archive, as `readBack` does; without a folder, only reads the archive back. Throws
 * `differs` if they are not the same.
 *
 * If another tar made the archive, or the same with other options, the bytes would not be the same again. If
 * `madeBy` is given, that is refused, or, with `orCounts`, only the entries are counted, and the rest relies on
 * tar. (tar --compare would read holes: one of 8 EiB.)
 */
export async function compareFolder(
  { path, madeBy }: { path: string; madeBy?: string },
  folder: { fd: number } | undefined,
  { differs, orCounts = false }: { differs: (cause: unknown) => Error; orCounts?: boolean },
  step: LongStep,
): Promise<void> {
  const isSame = madeBy === undefined || (await packedBy(step)).tar === madeBy;
  if (!isSame && !orCounts) {
    throw differs(new Error(`it was packed by ${madeBy}, and only that tar can compare it`));
  }
  const counted = folder && (await countFolder(folder, step));
  await readBack(path, { folder: isSame ? folder : undefined, counted }, step).catch(
    (cause: unknown) => {
      throw codeOf(cause) === 'STILL_CHANGING' ? differs(cause) : cause;
    },
  );
}

/** The programs that pack here: the versions of tar, with its options, and of zstd. */
export async function packedBy({ signal }: LongStep): Promise<HomeManifest['programs']> {
  let versions = '';
  await runScript('asking the programs for their versions', {
    script: SCRIPTS.versions,
    cwd: '/',
    signal,
    onOutput: (chunk) => (versions += chunk.toString('utf8')),
  });
  const [tar = '', zstd = ''] = versions.split('\n');
  return { tar: `${tar} ${PACKING}`, zstd };
}

const COMPARING = 'comparing the archive with what it was made of';

/** cmp found a difference: the archive itself was readable, or that would have failed first. */
function asChange(error: unknown): unknown {
  const differs = / differ: |cmp: EOF on /u.test(describeError(error));
  if (codeOf(error) !== 'STEP_FAILED' || !differs) return error;
  return new ChamberlainError('STILL_CHANGING', COMPARING, { cause: error });
}

function refuseUnlessSame(counted: Counted, listed: Counted): void {
  const [was, is] = [counted, listed].map(({ entries, bytes, others }) =>
    Object.entries({ ...entries, others, bytes })
      .map(([kind, count]) => `${count} ${kind.replace('Links', ' links')}`)
      .join(', '),
  );
  if (was === is) return;
  throw new ChamberlainError('STILL_CHANGING', 'counting what is in the archive', {
    cause: new Error(`in the home: ${was}; in the archive: ${is}`),
  });
}

/**
 * Unpacks an archive into an empty folder, and flushes it to disk. Throws unless the archive has the given
 * hash. Returns false, and leaves what it has created, if some of it is too deep: call it again with `isDeep`
 * then.
 */
export async function unpackInto(
  folder: { fd: number },
  { path, sha256, isDeep }: { path: string; sha256: string; isDeep: boolean },
  step: LongStep,
): Promise<boolean> {
  // no name in the archive is its own hash
  const words = isDeep ? [`.${sha256}`, process.execPath, SHORTEN] : [];
  const script = isDeep ? SCRIPTS.unpackDeep : SCRIPTS.unpack;
  const act = 'unpacking the archive';
  try {
    const run = { script, words, cwd: itself(folder) };
    const read = await feedTo({ act, path, progressAct: 'unpacking' }, run, step);
    if (read.sha256 === sha256) return true;
  } catch (error) {
    if (!isDeep && / File name too long/u.test(describeError(error))) return false;
    throw error;
  }
  throw new ChamberlainError('ARCHIVE_DAMAGED', 'unpacking an archive of another SHA-256');
}

const SHORTEN = join(import.meta.dirname, `file-archive-shorten${extname(import.meta.filename)}`);

/** Runs a script that reads an archive, and returns the length and hash of what it read. */
async function feedTo(
  { act, path, progressAct }: { act: string; path: string; progressAct: string },
  run: Pick<Script, 'script' | 'words' | 'cwd' | 'onOutput'>,
  step: LongStep,
): Promise<{ bytes: number; sha256: string }> {
  const { pieces, read } = readHashed(path, step, progressAct);
  await runScript(act, {
    ...run,
    signal: step.signal,
    async feed(program) {
      program.on('error', () => {}); // its exit reports that
      for await (const piece of pieces) await writeTo(program, piece);
      program.end();
    },
  });
  return read();
}
