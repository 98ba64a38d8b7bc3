/**
 * The archives of databases as they are on disk, in a folder of the role's own:
 *
 *     <account>.<archival>/              an archive: never written to again
 *       manifest.json                     what it holds; see src/archives/databases-manifest.ts
 *       <server>.<n>.sql.zst              one database each
 *       <server>.<n>.sql.zst.json         its part of the manifest: its dump was read back
 *     .<account>.<archival>.part/        one that is being made; an interrupted run is continued
 *     .<account>.<archival>.<server>.loading    its content of the server is being loaded
 *     .<account>.<archival>.<server>.returned   its content of the server was restored
 */
import { createHash } from 'node:crypto';
import {
  closeSync,
  constants,
  createReadStream,
  fsyncSync,
  lstatSync,
  mkdirSync,
  openSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmdirSync,
  rmSync,
  statSync,
  writeFileSync,
} from 'node:fs';
import { join } from 'node:path';
import { ChamberlainError } from '../../shared/errors.ts';
import {
  type ArchivedDatabase,
  type DatabasesManifest,
  parseManifest,
  parsePiece,
} from '../databases-manifest.ts';
import { type ArchiveName, archiveName, renderManifest, sha256Of } from '../manifest.ts';
import { parseArchiveName, type SeenDeletion } from '../deletion.ts';
import { isArchiveOf } from '../../unmanaged/unmanaged-things.ts';

const MANIFEST = 'manifest.json';

/** An archive as it is on disk. */
export interface FoundArchive {
  path: string;
  /** of the manifest as it is on disk now */
  sha256: string;
  manifest: DatabasesManifest;
}

/** The archive's folder, and the paths next to it that belong to it. */
export function placesOf(folder: string, { account, archival }: ArchiveName) {
  // names of our grammar contain no `/` and do not begin with a dot
  if (!/^[a-z][a-z0-9._-]{0,70}$/.test(account) || !Number.isInteger(archival)) {
    throw new TypeError('not the name of an archive');
  }
  const name = archiveName({ account, archival });
  return {
    whole: join(folder, name),
    part: join(folder, `.${name}.part`),
    loading: (server: string) => join(folder, `.${name}.${server}.loading`),
    returned: (server: string) => join(folder, `.${name}.${server}.returned`),
  };
}

/**
 * Throws unless the folder is our own, and no other account has rights on it. A mount point usually belongs to
 * root, so if nothing is mounted there, the folder is refused instead of being taken for empty.
 */
function requireOwn(folder: string): void {
  const { uid, mode } = lstatSync(folder);
  const own = process.geteuid?.();
  const why =
    (mode & constants.S_IFMT) !== constants.S_IFDIR
      ? 'it is not a folder'
      : uid !== own
        ? `it belongs to uid ${uid}, not to ${own}`
        : (mode & 0o077) !== 0
          ? 'others have rights on it'
          : undefined;
  if (why !== undefined) throw new Error(`${folder} cannot be used: ${why}`);
}

/** Opens the folder of archives. Throws if anyone else may use it. */
export function openOwn(folder: string): { fd: number } {
  requireOwn(folder);
  return {
    fd: openSync(folder, constants.O_RDONLY | constants.O_DIRECTORY | constants.O_NOFOLLOW),
  };
}

/**
 * The names in the folder that belong to any archive of the account, complete or not. Throws if the folder is
 * not ours.
 */
export function namesOfArchives(folder: string, account: string): string[] {
  requireOwn(folder);
  return readdirSync(folder).filter((name) => isArchiveOf(account, name));
}

/** Removes every archive of the account. An interrupted removal is continued by the next call. */
export function eraseArchives(folder: string, account: string): void {
  for (const name of namesOfArchives(folder, account)) {
    rmSync(join(folder, name), { recursive: true, force: true });
  }
  syncFolder(folder);
}

/** Looks for an archive. Undefined if the folder exists and is ours, but holds no such archive. */
export function findArchive(folder: string, name: ArchiveName): FoundArchive | undefined {
  requireOwn(folder);
  const path = placesOf(folder, name).whole;
  const bytes = ifThere(() => readFileSync(join(path, MANIFEST)));
  if (bytes === undefined) {
    // an empty folder is left by an interrupted removal
    if ((ifThere(() => readdirSync(path)) ?? []).length === 0) return undefined;
    throw new Error(`${path} has no ${MANIFEST}`);
  }
  const manifest = parseManifest(bytes, name);
  if (manifest === undefined)
    throw new Error(`${join(path, MANIFEST)} is not a manifest of this archive`);
  return { path, sha256: sha256Of(bytes), manifest };
}

/**
 * The deletions that the archives show whose names are not in the set. An archive whose manifest cannot be read
 * shows nothing.
 */
export function readDeletions(folder: string, recorded: ReadonlySet<string>): SeenDeletion[] {
  requireOwn(folder);
  return readdirSync(folder).flatMap((name): SeenDeletion[] => {
    const named = recorded.has(name) ? undefined : parseArchiveName(name);
    const bytes = named && ifThere(() => readFileSync(join(folder, name, MANIFEST)));
    const manifest = bytes && parseManifest(bytes, named);
    if (named === undefined || bytes === undefined || manifest === undefined) return [];
    const { madeAt = statSync(join(folder, name, MANIFEST)).mtime.toISOString() } = manifest;
    return [
      {
        ...{ role: 'databases', ...named, uid: manifest.uid, deletedAt: madeAt },
        fingerprints: manifest.fingerprints ?? [],
        ...{ archive: join(folder, name), manifest: sha256Of(bytes) },
        bytes: manifest.databases.reduce((sum, piece) => sum + piece.bytes, 0),
        ...backOf(folder, named, manifest),
      },
    ];
  });
}

/** Whether an archive's content was restored, by the notes next to it for each server. */
function backOf(
  folder: string,
  name: ArchiveName,
  { servers }: DatabasesManifest,
): Pick<SeenDeletion, 'back'> {
  if (servers.length === 0) return {};
  const back = servers.filter((server) => isReturned(folder, name, server.name));
  if (back.length === servers.length) return { back: 'yes' };
  const isBegun = servers.some((server) => isLoading(folder, name, server.name));
  return { back: back.length > 0 || isBegun ? 'partly' : 'no' };
}

/** The archive, if its manifest is the recorded one. Throws ARCHIVE_DAMAGED otherwise. */
export function requireArchive(folder: string, name: ArchiveName, manifest: string): FoundArchive {
  const found = findArchive(folder, name);
  if (found !== undefined && found.sha256 === manifest) return found;
  const what = found === undefined ? 'it does not exist' : 'its manifest is not the recorded one';
  throw archiveDamaged(placesOf(folder, name).whole, what);
}

/** What exists differs from an archive. */
export function archiveDiffers(what: string, why: string): ChamberlainError {
  return new ChamberlainError('ARCHIVE_DIFFERS', `comparing ${what} with its archive`, {
    cause: new Error(why),
  });
}

/** An archive is not the recorded one. */
export function archiveDamaged(path: string, why: string): ChamberlainError {
  return new ChamberlainError('ARCHIVE_DAMAGED', `reading ${path}`, { cause: new Error(why) });
}

/** Throws ARCHIVE_DAMAGED unless a file of an archive has the length and hash of its manifest. */
export async function checkFile(
  path: string,
  { file, sha256, bytes }: ArchivedDatabase,
  signal: AbortSignal,
): Promise<void> {
  const at = join(path, file);
  const hash = createHash('sha256');
  let length = 0;
  try {
    for await (const chunk of createReadStream(at, { signal })) {
      hash.update(chunk as Buffer);
      length += (chunk as Buffer).length;
    }
  } catch (cause) {
    signal.throwIfAborted();
    throw archiveDamaged(at, (cause as Error).message);
  }
  if (length !== bytes || hash.digest('hex') !== sha256) throw archiveDamaged(at, 'it was changed');
}

/**
 * The databases of an unfinished archive whose dumps were read back; removes everything else from its folder.
 * Creates the folder if it does not exist.
 */
export function resumePart(part: string): ArchivedDatabase[] {
  if (ifThere(() => statSync(part)) === undefined) {
    mkdirSync(part, { mode: 0o700 });
    return [];
  }
  const pieces: ArchivedDatabase[] = [];
  const kept = new Set<string>();
  for (const name of readdirSync(part)) {
    if (!name.endsWith('.sql.zst.json')) continue;
    const piece = parsePiece(readFileSync(join(part, name)));
    const size = piece && ifThere(() => statSync(join(part, piece.file)).size);
    if (piece === undefined || name !== `${piece.file}.json` || size !== piece.bytes) continue;
    pieces.push(piece);
    kept.add(name).add(piece.file);
  }
  for (const name of readdirSync(part)) {
    if (!kept.has(name)) rmSync(join(part, name), { recursive: true, force: true });
  }
  return pieces;
}

/** Whether anything exists of an archive that was never recorded, complete or not. */
export function isPartThere(folder: string, name: ArchiveName): boolean {
  requireOwn(folder);
  const { part, whole } = placesOf(folder, name);
  return [part, whole].some((place) => ifThere(() => lstatSync(place)) !== undefined);
}

/** Removes what exists of an archive that was never recorded, complete or not. */
export function removePart(folder: string, name: ArchiveName): void {
  const { part, whole } = placesOf(folder, name);
  for (const place of [part, whole]) rmSync(place, { recursive: true, force: true });
}

/** Removes what earlier archivals of an account left unfinished. */
export function removeOlderParts(folder: string, { account, archival }: ArchiveName): void {
  const [before, after] = [`.${account}.`, '.part'];
  for (const name of readdirSync(folder)) {
    if (!name.startsWith(before) || !name.endsWith(after)) continue;
    const number = name.slice(before.length, -after.length);
    if (!/^[1-9][0-9]*$/.test(number) || Number(number) >= archival) continue;
    rmSync(join(folder, name), { recursive: true, force: true });
  }
}

/** The first file name for a dump of that server that no piece uses. */
export function freeFile(server: string, pieces: readonly ArchivedDatabase[]): string {
  for (let n = 1; ; n += 1) {
    const file = `${server}.${n}.sql.zst`;
    if (!pieces.some((piece) => piece.file === file)) return file;
  }
}

/** Records that a database's dump was read back. */
export function writePiece(part: string, piece: ArchivedDatabase): void {
  writeDurably(part, `${piece.file}.json`, renderManifest(piece));
}

export function removePiece(part: string, { file }: ArchivedDatabase): void {
  rmSync(join(part, `${file}.json`), { force: true });
  rmSync(join(part, file), { force: true });
}

/** Makes the unfinished archive a complete one, and reads its manifest back from its final place. */
export function completeArchive(
  folder: string,
  name: ArchiveName,
  manifest: DatabasesManifest,
): FoundArchive {
  const { part, whole } = placesOf(folder, name);
  writeDurably(part, MANIFEST, renderManifest(manifest));
  syncFolder(part);
  if (ifThere(() => statSync(whole)) !== undefined) throw new Error(`${whole} already exists`);
  renameSync(part, whole);
  syncFolder(folder);
  const found = findArchive(folder, name);
  if (found === undefined) throw new Error(`${whole} cannot be read back`);
  return found;
}

/**
 * Notes that loading an archive's content of a server begins: whatever exists there from now on is a part of
 * it.
 */
export function noteLoading(folder: string, name: ArchiveName, server: string): void {
  closeSync(openSync(placesOf(folder, name).loading(server), 'w', 0o600));
  syncFolder(folder);
}

export function isLoading(folder: string, name: ArchiveName, server: string): boolean {
  return ifThere(() => statSync(placesOf(folder, name).loading(server))) !== undefined;
}

/** Notes that an archive's content of a server was restored. */
export function noteReturned(folder: string, name: ArchiveName, server: string): void {
  const { loading, returned } = placesOf(folder, name);
  closeSync(openSync(returned(server), 'w', 0o600));
  rmSync(loading(server), { force: true });
  syncFolder(folder);
}

export function isReturned(folder: string, name: ArchiveName, server: string): boolean {
  return ifThere(() => statSync(placesOf(folder, name).returned(server))) !== undefined;
}

/** Removes an archive, its manifest last, so that an interrupted removal can be continued. */
export function removeArchive(folder: string, name: ArchiveName, found: FoundArchive): void {
  const { loading, returned } = placesOf(folder, name);
  for (const { name: server } of found.manifest.servers) {
    for (const mark of [loading(server), returned(server)]) rmSync(mark, { force: true });
  }
  for (const entry of readdirSync(found.path)) {
    if (entry !== MANIFEST) rmSync(join(found.path, entry), { recursive: true, force: true });
  }
  syncFolder(found.path);
  rmSync(join(found.path, MANIFEST));
  rmdirSync(found.path);
  syncFolder(folder);
}

function writeDurably(folder: string, name: string, bytes: Buffer): void {
  const fresh = join(folder, `${name}.new`);
  writeFileSync(fresh, bytes, { mode: 0o600, flush: true });
  renameSync(fresh, join(folder, name));
  syncFolder(folder);
}

export function syncFolder(path: string): void {
  const fd = openSync(path, 'r');
  try {
    fsyncSync(fd);
  } finally {
    closeSync(fd);
  }
}

function ifThere<T>(look: () => T): T | undefined {
  try {
    return look();
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return undefined;
    throw error;
  }
}
