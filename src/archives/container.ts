/**
 * The container of archives: the life of an archive, whatever a role packs into it.
 *
 * The folder of a role's archives belongs to the role alone, and holds:
 *
 *     <account>.<archival>/          an archive: never written to again
 *       manifest.json                 what it holds; PostgreSQL records its SHA-256
 *       …                             the files that the manifest lists
 *     .<account>.<archival>.part/    one that is being made
 *     .<account>.<archival>.<note>   what a packer notes next to it
 *
 * An archive is made in this order, each durable before the next: its files, which are read back whole; its
 * manifest; its name; its manifest, read back from there; its record. So a folder with the name of an archive is
 * complete. A run that finds one that was not recorded compares it with what exists, and records it.
 *
 * Nothing is destroyed and nothing is restored unless the manifest is the recorded one. An archive is removed
 * with its manifest last, so that an interrupted removal can be continued.
 */
import { createHash } from 'node:crypto';
import {
  closeSync,
  createReadStream,
  fstatSync,
  fsync,
  lstatSync,
  openSync,
  readdirSync,
  readFileSync,
  statSync,
} from 'node:fs';
import { mkdir, rename, rm, rmdir, unlink } from 'node:fs/promises';
import { join } from 'node:path';
import { promisify } from 'node:util';
import {
  errnoOf,
  itself,
  ofStaging,
  OPEN_DIRECTORY,
  OPEN_SAFELY,
  stale,
  STAGING,
  STAGING_FORBIDS,
  syncFolder,
  whyUnsafe,
  withOpened,
} from '../backends/files/file-mount.ts';
import { replaceFile } from '../shared/durable-file.ts';
import { ChamberlainError } from '../shared/errors.ts';
import { archiveOfName, isArchiveOf } from '../unmanaged/unmanaged-things.ts';
import type { ArchiveKeeping, LongStep } from './archive-keeping.ts';
import { parseArchiveName, type SeenDeletion } from './deletion.ts';
import { type ArchiveName, archiveName, renderManifest, sha256Of } from './manifest.ts';

/** What every manifest says. */
export interface Manifest extends ArchiveName {
  uid: number;
  /** RFC 3339, UTC; left out by older versions, like the next */
  madeAt?: string | undefined;
  /** of all keys that the person ever had */
  fingerprints?: string[] | undefined;
}

/** The same of a manifest that is being made. */
interface ManifestHead extends Manifest {
  version: 1;
  madeAt: string;
  fingerprints: string[];
}

/** A file of an archive, as its manifest lists it. */
export interface ArchivedFile {
  file: string;
  bytes: number;
  sha256: string;
}

/** Where a role's archives are, and how to read what the role packs into them. */
export interface ArchivePlace<M extends Manifest> {
  role: SeenDeletion['role'];
  /** the path of the folder */
  path: string;
  /** The folder is root's, and `.chamberlain` in it shows that it is mounted; otherwise it is our own. */
  isRoots: boolean;
  /** whether a run continues what an interrupted one has packed; otherwise it begins anew */
  resumes: boolean;
  parse(bytes: Buffer, of: ArchiveName & { uid?: number }): M | undefined;
  filesOf(manifest: M): readonly ArchivedFile[];
}

/** The folder while it is open. Nobody can unmount it then. */
export interface Archives<M extends Manifest> extends ArchivePlace<M> {
  fd: number;
}

/** A complete archive. */
export interface FoundArchive<M extends Manifest> {
  path: string;
  /** of the manifest as it is on disk now */
  sha256: string;
  manifest: M;
}

/** What a role does to make an archive. */
export interface Packer<M extends Manifest> {
  /** Packs everything into the folder `part`, durably, and reads it back; returns the manifest. */
  pack(part: string, head: ManifestHead): Promise<M>;
  /** Throws unless an archive that an earlier run has made holds exactly what exists. */
  compare(found: FoundArchive<M>): Promise<void>;
}

const MANIFEST = 'manifest.json';
/** A longer one is not ours. */
const MANIFEST_BYTES = 64 * 1024 * 1024;
const sync = promisify(fsync);

/** Opens the folder of archives. Throws BACKEND_UNAVAILABLE if it is not mounted, or if others may use it. */
export function openArchives<M extends Manifest>(place: ArchivePlace<M>): Archives<M> {
  const { path, isRoots } = place;
  let fd: number | undefined;
  try {
    fd = openSync(path, OPEN_DIRECTORY);
    const owner = isRoots ? 0 : process.geteuid?.();
    const unsafe =
      whyUnsafe(fstatSync(fd), STAGING_FORBIDS, owner) ??
      (isRoots ? whyUnsafe(lstatSync(`${itself({ fd })}/${STAGING}`), STAGING_FORBIDS) : undefined);
    if (unsafe !== undefined) throw new Error(unsafe);
    return { ...place, fd };
  } catch (cause) {
    if (fd !== undefined) closeSync(fd);
    const why = new Error('it cannot be used', { cause: ofStaging(cause, path) });
    throw new ChamberlainError('BACKEND_UNAVAILABLE', `opening ${path}`, { cause: why });
  }
}

/** Opens the folder of archives, passes it on and closes it. Throws as `openArchives` does. */
export async function withArchives<M extends Manifest, T>(
  place: ArchivePlace<M>,
  act: (archives: Archives<M>) => Promise<T>,
): Promise<T> {
  const archives = openArchives(place);
  try {
    return await act(archives);
  } finally {
    closeSync(archives.fd);
  }
}

/** The same at once: of many looks, one folder is open at a time. */
export function lookInArchives<M extends Manifest, T>(
  place: ArchivePlace<M>,
  look: (archives: Archives<M>) => T,
): T {
  const archives = openArchives(place);
  try {
    return look(archives);
  } finally {
    closeSync(archives.fd);
  }
}

/** The path of an archive, of the folder in which it is made, and of a note next to it. */
export function placesOf({ path }: { path: string }, archive: ArchiveName) {
  const name = archiveName(archive);
  // names of our grammar contain no `/` and do not begin with a dot
  if (!/^[a-z][a-z0-9._-]*\.\d+$/u.test(name)) throw new TypeError(`${name} names no archive`);
  const beside = (note: string) => join(path, `.${name}.${note}`);
  return { whole: join(path, name), part: beside('part'), beside };
}

/** Archives what exists, unless an earlier run has, and records the archive. */
export async function keepArchive<M extends Manifest>(
  archives: Archives<M>,
  archive: ArchiveName & { uid: number },
  packer: Packer<M>,
  keeping: ArchiveKeeping,
  step: LongStep,
): Promise<void> {
  const made = findArchive(archives, archive);
  if (made !== undefined) {
    await packer.compare(made);
    for (const file of archives.filesOf(made.manifest)) await checkFile(made.path, file, step);
  }
  const { path, sha256, manifest } =
    made ?? (await makeArchive(archives, archive, packer, keeping, step));
  step.report('recording', 0, undefined);
  step.signal.throwIfAborted();
  const { uid: subject, archival } = archive;
  const bytes = bytesOf(archives, manifest);
  await keeping.record({ subject, archival, manifestSha256: sha256, path, bytes });
}

async function makeArchive<M extends Manifest>(
  archives: Archives<M>,
  archive: ArchiveName & { uid: number },
  packer: Packer<M>,
  keeping: ArchiveKeeping,
  step: LongStep,
): Promise<FoundArchive<M>> {
  const { part, whole } = placesOf(archives, archive);
  await removeOlderParts(archives, archive);
  if (!archives.resumes) await remove(part);
  if (!archives.resumes || !isThere(part)) await mkdir(part, 0o700);
  try {
    return await withOpened(part, OPEN_DIRECTORY, async (opened) => {
      const now = () => keeping.now().toISOString();
      const fingerprints = await keeping.readFingerprints(archive.uid);
      const head = { version: 1, ...archive, madeAt: now(), fingerprints } as const;
      // packing may have taken hours
      const manifest = { ...(await packer.pack(itself(opened), head)), madeAt: now() };
      const text = renderManifest(manifest);
      await writeDurably(itself(opened), MANIFEST, text);
      // another run may have started anew if our lock was lost
      if (fstatSync(opened.fd).ino !== lstatSync(part).ino) throw stale(part);
      step.signal.throwIfAborted();
      await rename(part, whole); // the kernel refuses to replace a folder that is not empty
      await sync(archives.fd);
      return requireArchive(archives, archive, sha256Of(text));
    });
  } catch (error) {
    if (!archives.resumes) await remove(part).catch(() => {});
    throw error;
  }
}

/**
 * Looks for an archive. Undefined if there is none, or only the empty folder that an interrupted removal leaves.
 * Throws ARCHIVE_DAMAGED if what has its name is not this archive.
 */
export function findArchive<M extends Manifest>(
  archives: Archives<M>,
  archive: ArchiveName & { uid?: number },
): FoundArchive<M> | undefined {
  const { whole: path } = placesOf(archives, archive);
  const bytes = readManifest(archives, archive);
  const manifest = bytes && archives.parse(bytes, archive);
  if (manifest !== undefined) return { path, sha256: sha256Of(bytes as Buffer), manifest };
  if (bytes === undefined && (!isThere(path) || isEmptied(archives, archive))) return undefined;
  throw archiveDamaged(path, `it has no ${MANIFEST} of this archive`);
}

/** The archive, if its manifest is the recorded one. Throws ARCHIVE_DAMAGED otherwise. */
export function requireArchive<M extends Manifest>(
  archives: Archives<M>,
  archive: ArchiveName & { uid?: number },
  manifest: string,
): FoundArchive<M> {
  const found = findArchive(archives, archive);
  if (found?.sha256 === manifest) return found;
  const why = found === undefined ? 'it does not exist' : 'its manifest is not the recorded one';
  throw archiveDamaged(placesOf(archives, archive).whole, why);
}

/** Errors of a name that is none of a file (errno(3)). */
const NO_FILE = ['ENOENT', 'ENOTDIR', 'ELOOP'];
/** Those, or the disk cannot read the file. */
const DAMAGE = [...NO_FILE, 'EIO'];

/** The bytes of the manifest of an archive; undefined if there is no such file, or one that is too long. */
export function readManifest(archives: { path: string }, archive: ArchiveName): Buffer | undefined {
  let fd: number | undefined;
  try {
    fd = openSync(join(placesOf(archives, archive).whole, MANIFEST), OPEN_SAFELY);
    return fstatSync(fd).size > MANIFEST_BYTES ? undefined : readFileSync(fd);
  } catch (cause) {
    if (NO_FILE.includes(errnoOf(cause) ?? '')) return undefined;
    throw cause;
  } finally {
    if (fd !== undefined) closeSync(fd);
  }
}

/** Throws ARCHIVE_DAMAGED unless a file of an archive has the length and the SHA-256 of its manifest. */
export async function checkFile(
  path: string,
  { file, sha256, bytes }: ArchivedFile,
  step: LongStep,
): Promise<void> {
  const at = join(path, file);
  const { pieces, read } = readHashed(at, step, 'reading the archive');
  try {
    for await (const _ of pieces);
  } catch (cause) {
    step.signal.throwIfAborted();
    if (!DAMAGE.includes(errnoOf(cause) ?? '')) throw cause;
    throw archiveDamaged(at, (cause as Error).message);
  }
  const found = read();
  if (found.bytes === bytes && found.sha256 === sha256) return;
  const cause = new Error('it was changed');
  throw new ChamberlainError('ARCHIVE_DAMAGED', `comparing ${at} with its SHA-256`, { cause });
}

/** Reads a file whole, in pieces, and reports that as an act; afterwards `read` says its length and SHA-256. */
export function readHashed(path: string, step: LongStep, act: string) {
  const hash = createHash('sha256');
  let bytes = 0;
  async function* readPieces(): AsyncGenerator<Buffer> {
    const fd = openSync(path, OPEN_SAFELY);
    const { size } = fstatSync(fd);
    for await (const chunk of createReadStream('', { fd, highWaterMark: READ_BYTES })) {
      const piece = chunk as Buffer;
      step.signal.throwIfAborted();
      hash.update(piece);
      bytes += piece.length;
      step.report(act, bytes, size);
      yield piece;
    }
  }
  return { pieces: readPieces(), read: () => ({ bytes, sha256: hash.digest('hex') }) };
}
const READ_BYTES = 1024 * 1024;

/** Whether the folder of an archive exists and is empty: only the last act of its removal is missing. */
export function isEmptied(archives: { path: string }, archive: ArchiveName): boolean {
  try {
    return readdirSync(placesOf(archives, archive).whole).length === 0;
  } catch (cause) {
    if (['ENOENT', 'ENOTDIR'].includes(errnoOf(cause) ?? '')) return false;
    throw cause;
  }
}

/** Whether anything of an archive exists, complete or not. */
export function isBegun(archives: { path: string }, archive: ArchiveName): boolean {
  const { part, whole } = placesOf(archives, archive);
  return isThere(part) || isThere(whole);
}

/** The names in the folder that belong to any archive of the account, complete or not. */
export function namesOfArchives({ path }: { path: string }, account: string): string[] {
  return readdirSync(path).filter((name) => isArchiveOf(account, name));
}

/** Removes what exists of an archive that was never recorded, complete or not. */
export async function removeUnrecorded<M extends Manifest>(
  archives: Archives<M>,
  archive: ArchiveName,
): Promise<void> {
  const { part, whole } = placesOf({ path: itself(archives) }, archive);
  for (const place of [whole, part]) await remove(place);
}

/** Removes what earlier archivals of an account left unfinished. */
async function removeOlderParts(
  archives: { path: string },
  { account, archival }: ArchiveName,
): Promise<void> {
  for (const name of namesOfArchives(archives, account)) {
    const unfinished = /^\..+\.(\d+)\.part$/u.exec(name)?.[1];
    if (Number(unfinished) < archival) await remove(join(archives.path, name));
  }
}

/** Removes an archive that was kept long enough, with all that is next to it; or its empty folder. */
export async function removeArchive<M extends Manifest>(
  archives: Archives<M>,
  archive: ArchiveName & { uid?: number },
  manifest: string,
): Promise<void> {
  const { whole } = placesOf(archives, archive);
  const own = archiveName(archive);
  const isRest = isEmptied(archives, archive);
  if (!isRest) requireArchive(archives, archive, manifest);
  for (const name of readdirSync(archives.path)) {
    if (name !== own && archiveOfName(name) === own) await remove(join(archives.path, name));
  }
  if (!isRest) {
    for (const name of readdirSync(whole)) {
      if (name !== MANIFEST) await remove(join(whole, name));
    }
    await syncFolder(whole);
    await unlink(join(whole, MANIFEST));
  }
  await rmdir(whole);
  await sync(archives.fd);
}

/** Removes every archive of an account. An interrupted removal is continued by the next call. */
export async function eraseArchives<M extends Manifest>(
  archives: Archives<M>,
  account: string,
  { signal }: LongStep,
): Promise<void> {
  // not by its path, where another folder may be by now: nothing would be erased there
  const path = itself(archives);
  for (const name of namesOfArchives({ path }, account)) {
    signal.throwIfAborted();
    await remove(join(path, name));
  }
  await sync(archives.fd);
}

/**
 * The deletions that the archives show whose names are not in the set. An archive whose manifest cannot be read
 * shows nothing. `lookBack` says whether what an archive holds was restored.
 */
export function readDeletions<M extends Manifest>(
  archives: Archives<M>,
  recorded: ReadonlySet<string>,
  lookBack: (manifest: M, kind: SeenDeletion['kind']) => SeenDeletion['back'],
): SeenDeletion[] {
  const { role, path } = archives;
  return readdirSync(path).flatMap((name): SeenDeletion[] => {
    const named = recorded.has(name) ? undefined : parseArchiveName(name);
    const bytes = named && readManifest(archives, named);
    const manifest = bytes && archives.parse(bytes, named);
    if (named === undefined || bytes === undefined || manifest === undefined) return [];
    const archive = join(path, name);
    const { uid, fingerprints = [] } = manifest;
    const { madeAt = statSync(join(archive, MANIFEST)).mtime.toISOString() } = manifest;
    return [
      {
        ...{ role, ...named, uid, deletedAt: madeAt, fingerprints },
        ...{ archive, manifest: sha256Of(bytes), bytes: bytesOf(archives, manifest) },
        back: lookBack(manifest, named.kind),
      },
    ];
  });
}

/** An archive is not the recorded one, or is not whole. */
export function archiveDamaged(path: string, why: string): ChamberlainError {
  return new ChamberlainError('ARCHIVE_DAMAGED', `reading ${path}`, { cause: new Error(why) });
}

/** Writes a file that is either complete or absent after a crash. */
export async function writeDurably(folder: string, name: string, text: string): Promise<void> {
  replaceFile(join(folder, name), text, { mode: 0o600 }, true);
  await syncFolder(folder);
}

function bytesOf<M extends Manifest>(archives: ArchivePlace<M>, manifest: M): number {
  return archives.filesOf(manifest).reduce((sum, { bytes }) => sum + bytes, 0);
}

function isThere(path: string): boolean {
  return lstatSync(path, { throwIfNoEntry: false }) !== undefined;
}

async function remove(path: string): Promise<void> {
  await rm(path, { recursive: true, force: true });
}
