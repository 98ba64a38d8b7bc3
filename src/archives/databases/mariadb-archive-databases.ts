/**
 * Archives the databases of a user: they are dumped, read back, compared and recorded. Nothing is dropped here.
 */
import { ChamberlainError } from '../../shared/errors.ts';
import type { LongStep } from '../archive-keeping.ts';
import type { ArchiveName } from '../manifest.ts';
import {
  type Contents,
  type DatabasesManifest,
  differenceOf,
  whatIsOther,
} from '../databases-manifest.ts';
import {
  archiveDiffers,
  checkFile,
  completeArchive,
  findArchive,
  type FoundArchive,
  freeFile,
  placesOf,
  removeOlderParts,
  removePiece,
  resumePart,
  writePiece,
} from './database-archives.ts';
import {
  type ArchiveActionOf,
  type ArchiveRealm,
  type ArchiveTerms,
  placeOf,
  reporter,
  stale,
} from './mariadb-archiving.ts';
import { usePatiently } from '../../backends/mariadb/mariadb-connections.ts';
import { readContents, requireLoadable } from '../../backends/mariadb/mariadb-contents.ts';
import { dumpDatabase } from './mariadb-dumps.ts';
import {
  estimateBytes,
  prefixOf,
  readInventory,
  readOwnDatabases,
  readVersion,
  requireRights,
} from '../../backends/mariadb/mariadb-inventory.ts';
import { lockUser } from '../../backends/mariadb/mariadb-tenant.ts';

interface Databases {
  server: string;
  version: string;
  names: string[];
}

/**
 * | in its final place    | in its unfinished folder        | then                                        |
 * | --------------------- | ------------------------------- | ------------------------------------------- |
 * | an archive            |                                 | recorded, if it holds exactly what exists   |
 * | none                  | a dump of what exists           | kept                                        |
 * | none                  | no dump, or of something else   | dumped, and read back                       |
 * | none                  | a dump of each, all as before   | complete: renamed, read back, recorded      |
 */
export async function archiveDatabases(
  realm: ArchiveRealm,
  terms: ArchiveTerms,
  action: ArchiveActionOf<'databases.archive'>,
  step: LongStep,
): Promise<void> {
  const { signal } = step;
  const { user, account, uid, archival, subject } = action;
  const name = { account, archival };
  if (uid !== subject) throw new TypeError('the user has another number');
  const there: Databases[] = [];
  for (const server of action.servers) {
    there.push(
      await usePatiently(placeOf(realm, server), realm.login, signal, async (connection) => {
        await requireRights(connection, user);
        await lockUser(connection, user);
        const own = await readOwnDatabases(connection);
        const names = own.filter((each) => each.startsWith(prefixOf(user)));
        return { server, version: await readVersion(connection), names };
      }),
    );
  }
  const present = findArchive(realm.folder, name);
  if (present !== undefined) {
    // an earlier run was interrupted before it was recorded
    await requireAsArchived(realm, present, there, signal);
    for (const piece of present.manifest.databases) await checkFile(present.path, piece, signal);
    return await record(terms, subject, name, present);
  }
  removeOlderParts(realm.folder, name);
  const pieces = await dumpAll(realm, { name, user, there }, step);
  const manifest: DatabasesManifest = {
    version: 1,
    ...{ account, uid, user, archival },
    madeAt: terms.now().toISOString(),
    fingerprints: await terms.readFingerprints(subject),
    servers: there.map(({ server, version }) => ({ name: server, version })),
    databases: pieces.toSorted((a, b) => (a.file < b.file ? -1 : 1)),
  };
  const { part } = placesOf(realm.folder, name);
  // nobody can log in; but something that runs by itself, such as an event, may have written
  await requireAsArchived(realm, { path: part, manifest }, there, signal, (piece) =>
    removePiece(part, piece),
  );
  signal.throwIfAborted();
  await record(terms, subject, name, completeArchive(realm.folder, name, manifest));
}

async function dumpAll(
  realm: ArchiveRealm,
  { name, user, there }: { name: ArchiveName; user: string; there: Databases[] },
  step: LongStep,
): Promise<DatabasesManifest['databases']> {
  const { signal } = step;
  const { part } = placesOf(realm.folder, name);
  const before = resumePart(part);
  const pieces: DatabasesManifest['databases'] = [];
  for (const { server, names } of there) {
    const place = placeOf(realm, server);
    for (const database of names) {
      const seen = await usePatiently(place, realm.login, signal, async (connection) => {
        const holds = await readInventory(connection, database);
        if (holds === undefined) throw stale(user, server, `${database} was dropped meanwhile`);
        await requireLoadable(connection, database, holds);
        const contents = await readContents(connection, database, holds);
        return { holds, contents, total: await estimateBytes(connection, database) };
      });
      const { holds, contents, total } = seen;
      const known = before.find((each) => each.server === server && each.database === database);
      if (known !== undefined && changeOf(known, seen) === undefined) {
        pieces.push(known);
        continue;
      }
      if (known !== undefined) {
        removePiece(part, known);
        before.splice(before.indexOf(known), 1);
      }
      const file = freeFile(server, [...before, ...pieces]);
      const report = reporter(step, total);
      const dumped = await dumpDatabase(
        { place, login: realm.login, folder: part, file, database, holds },
        report,
        signal,
      );
      const piece = { server, database, holds, contents, file, ...dumped };
      writePiece(part, piece);
      pieces.push(piece);
    }
  }
  // databases that no longer exist
  for (const piece of before) if (!pieces.includes(piece)) removePiece(part, piece);
  return pieces;
}

/**
 * Throws unless each server has exactly what the manifest says; `changed` is called with each database that
 * differs.
 */
async function requireAsArchived(
  realm: ArchiveRealm,
  { path, manifest }: Pick<FoundArchive, 'path' | 'manifest'>,
  there: readonly Databases[],
  signal: AbortSignal,
  changed?: (piece: DatabasesManifest['databases'][number]) => void,
): Promise<void> {
  const isKnown = (server: string, database: string) =>
    manifest.databases.some((each) => each.server === server && each.database === database);
  for (const { server, names } of there) {
    const extra = names.find((database) => !isKnown(server, database));
    if (extra !== undefined) throw archiveDiffers(path, `${extra} on ${server} is not in it`);
  }
  for (const piece of manifest.databases) {
    const { server, database } = piece;
    const place = placeOf(realm, server);
    const now = await usePatiently(place, realm.login, signal, async (connection) => {
      const holds = await readInventory(connection, database);
      return holds && { holds, contents: await readContents(connection, database, holds) };
    });
    const difference = now === undefined ? 'it is gone' : changeOf(piece, now);
    if (difference === undefined) continue;
    if (changed === undefined)
      throw archiveDiffers(path, `${database} on ${server}: ${difference}`);
    changed(piece);
    throw new ChamberlainError('STILL_CHANGING', `archiving ${database} on ${server}`, {
      cause: new Error(difference),
    });
  }
}

type Held = Pick<DatabasesManifest['databases'][number], 'holds'> & { contents: Contents };

/** What has changed in a database since it was dumped, for people. */
function changeOf(was: DatabasesManifest['databases'][number], is: Held): string | undefined {
  return differenceOf(was.holds, is.holds) ?? whatIsOther(was.contents, is.contents);
}

async function record(
  terms: ArchiveTerms,
  subject: number,
  { archival }: ArchiveName,
  { path, sha256, manifest }: FoundArchive,
): Promise<void> {
  const bytes = manifest.databases.reduce((sum, piece) => sum + piece.bytes, 0);
  await terms.record({ subject, archival, manifestSha256: sha256, path, bytes });
}
