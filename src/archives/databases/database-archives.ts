/**
 * What an archive of databases holds besides its manifest, and what is noted next to it:
 *
 *     <server>.<n>.sql.zst          one database each
 *     <server>.<n>.sql.zst.json     its part of the manifest: its dump was read back
 *
 *     .<account>.<archival>.<server>.loading    its content of the server is being loaded: a line for each file
 *                                               that was loaded completely
 *     .<account>.<archival>.<server>.returned   its content of the server was restored
 */
import {
  closeSync,
  lstatSync,
  openSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
} from 'node:fs';
import { basename, join } from 'node:path';
import { syncFolder } from '../../backends/files/file-mount.ts';
import { ChamberlainError } from '../../shared/errors.ts';
import {
  type ArchivePlace,
  type Archives,
  placesOf,
  readDeletions,
  writeDurably,
} from '../container.ts';
import {
  type ArchivedDatabase,
  type DatabasesManifest,
  parseManifest,
  parsePiece,
} from '../databases-manifest.ts';
import type { SeenDeletion } from '../deletion.ts';
import { type ArchiveName, renderManifest } from '../manifest.ts';

export type OpenDatabaseArchives = Archives<DatabasesManifest>;

/** The archives of databases in that folder, which is the role's own. */
export function databaseArchives(path: string): ArchivePlace<DatabasesManifest> {
  return {
    ...{ role: 'databases', path, isRoots: false, resumes: true, parse: parseManifest },
    filesOf: ({ databases }) => databases,
  };
}

/** The deletions that the archives show whose names are not in the set. */
export function readDatabaseDeletions(
  archives: OpenDatabaseArchives,
  recorded: ReadonlySet<string>,
): SeenDeletion[] {
  return readDeletions(archives, recorded, (manifest) => {
    const { servers } = manifest;
    if (servers.length === 0) return undefined;
    const isNoted = (note: 'loading' | 'returned') =>
      servers.filter(({ name }) => hasNote(archives, manifest, name, note));
    const back = isNoted('returned');
    if (back.length === servers.length) return 'yes';
    return back.length > 0 || isNoted('loading').length > 0 ? 'partly' : 'no';
  });
}

/** What exists differs from an archive. `comparing` says what with which. */
export function archiveDiffers(comparing: string, why: string): ChamberlainError {
  return new ChamberlainError('ARCHIVE_DIFFERS', `comparing ${comparing}`, {
    cause: new Error(why),
  });
}

/** The databases of an unfinished archive whose dumps were read back; removes everything else from its folder. */
export function resumePart(part: string): ArchivedDatabase[] {
  const pieces: ArchivedDatabase[] = [];
  const kept = new Set<string>();
  for (const name of readdirSync(part)) {
    if (!name.endsWith('.sql.zst.json')) continue;
    const piece = parsePiece(readFileSync(join(part, name)));
    const size = piece && statSync(join(part, piece.file), { throwIfNoEntry: false })?.size;
    if (piece === undefined || name !== `${piece.file}.json` || size !== piece.bytes) continue;
    pieces.push(piece);
    kept.add(name).add(piece.file);
  }
  for (const name of readdirSync(part)) {
    if (!kept.has(name)) rmSync(join(part, name), { recursive: true, force: true });
  }
  return pieces;
}

/** The first file name for a dump of that server that no piece uses. */
export function freeFile(server: string, pieces: readonly ArchivedDatabase[]): string {
  for (let n = 1; ; n += 1) {
    const file = `${server}.${n}.sql.zst`;
    if (!pieces.some((piece) => piece.file === file)) return file;
  }
}

/** Records that a database's dump was read back. */
export async function writePiece(part: string, piece: ArchivedDatabase): Promise<void> {
  await writeDurably(part, `${piece.file}.json`, renderManifest(piece));
}

export function removePiece(part: string, { file }: ArchivedDatabase): void {
  rmSync(join(part, `${file}.json`), { force: true });
  rmSync(join(part, file), { force: true });
}

/** Notes that loading an archive's content of a server has begun, and which of its files were loaded completely. */
export async function noteLoading(
  archives: OpenDatabaseArchives,
  name: ArchiveName,
  server: string,
  loaded: ReadonlySet<string>,
): Promise<void> {
  const path = noteOf(archives, name, server, 'loading');
  await writeDurably(
    archives.path,
    basename(path),
    [...loaded].map((file) => `${file}\n`).join(''),
  );
}

/**
 * The files of an archive that were loaded completely; undefined if loading its content of the server has not begun.
 * Older versions noted no files.
 */
export function readLoaded(
  archives: OpenDatabaseArchives,
  name: ArchiveName,
  server: string,
): Set<string> | undefined {
  if (!hasNote(archives, name, server, 'loading')) return undefined;
  const text = readFileSync(noteOf(archives, name, server, 'loading'), 'utf8');
  return new Set(text.split('\n').filter((file) => file !== ''));
}

/** Notes that all of an archive's content of a server was restored. */
export async function noteReturned(
  archives: OpenDatabaseArchives,
  name: ArchiveName,
  server: string,
): Promise<void> {
  closeSync(openSync(noteOf(archives, name, server, 'returned'), 'w', 0o600));
  rmSync(noteOf(archives, name, server, 'loading'), { force: true });
  await syncFolder(archives.path);
}

export function hasNote(
  archives: OpenDatabaseArchives,
  name: ArchiveName,
  server: string,
  note: 'loading' | 'returned',
): boolean {
  const path = noteOf(archives, name, server, note);
  return lstatSync(path, { throwIfNoEntry: false }) !== undefined;
}

function noteOf(archives: OpenDatabaseArchives, name: ArchiveName, server: string, note: string) {
  return placesOf(archives, name).beside(`${server}.${note}`);
}
