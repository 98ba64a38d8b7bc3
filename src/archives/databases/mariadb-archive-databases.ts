/**
 * Archives the databases of a user: they are dumped, read back, compared and recorded. Nothing is dropped here.
 */
import { ChamberlainError, describeError } from '../../shared/errors.ts';
import type { LongStep } from '../archive-keeping.ts';
import {
  type Contents,
  type DatabasesManifest,
  differenceOf,
  whatIsOther,
} from '../databases-manifest.ts';
import { keepArchive, type Packer } from '../container.ts';
import {
  archiveDiffers,
  freeFile,
  removePiece,
  resumePart,
  writePiece,
} from './database-archives.ts';
import {
  type ArchiveActionOf,
  type ArchiveRealm,
  type ArchiveTerms,
  type OpenArchiveRealm,
  placeOf,
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
 * | none                  | a dump of each, all as before   | complete                                    |
 */
export async function archiveDatabases(
  realm: OpenArchiveRealm,
  terms: ArchiveTerms,
  action: ArchiveActionOf<'databases.archive'>,
  step: LongStep,
): Promise<void> {
  const { signal } = step;
  const { user, account, uid, archival, subject } = action;
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
  const packer: Packer<DatabasesManifest> = {
    async pack(part, head) {
      const pieces = await dumpAll(realm, { part, user, there }, step);
      const databases = pieces.toSorted((a, b) => (a.file < b.file ? -1 : 1));
      // nobody can log in; but something that runs by itself, such as an event, may have written
      await requireAsArchived(
        realm,
        { comparing: `${account} with its archive`, databases },
        there,
        signal,
        (piece) => removePiece(part, piece),
      );
      const servers = there.map(({ server: name, version }) => ({ name, version }));
      return { ...head, user, servers, databases };
    },
    compare: ({ path, manifest: { databases } }) =>
      requireAsArchived(
        realm,
        { comparing: `the databases with the archive ${path}`, databases },
        there,
        signal,
      ),
  };
  await keepArchive(realm.archives, { account, archival, uid }, packer, terms, step);
}

async function dumpAll(
  realm: ArchiveRealm,
  { part, user, there }: { part: string; user: string; there: Databases[] },
  step: LongStep,
): Promise<DatabasesManifest['databases']> {
  const { signal } = step;
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
      const of = { place, login: realm.login, folder: part, file, database, holds, total };
      const dumped = await dumpDatabase(of, step).catch((cause: unknown) => {
        throw explainFailure(server, cause);
      });
      const piece = { server, database, holds, contents, file, ...dumped };
      await writePiece(part, piece);
      pieces.push(piece);
    }
  }
  // databases that no longer exist
  for (const piece of before) if (!pieces.includes(piece)) removePiece(part, piece);
  return pieces;
}

/** Why a database was not dumped, and what to do; the cause itself if nothing more is known. */
function explainFailure(server: string, cause: unknown): unknown {
  const [, view] = /View '([^']+)' references invalid/u.exec(describeError(cause)) ?? [];
  if (view === undefined) return cause;
  const why = `the view ${view} on ${server} refers to something that is gone, so nothing can read it: note what SHOW CREATE VIEW says, drop the view as an administrator, then run repair`;
  return new Error(why, { cause });
}

/**
 * Throws unless each server has exactly what the manifest says; `changed` is called with each database that
 * differs.
 */
async function requireAsArchived(
  realm: ArchiveRealm,
  { comparing, databases }: { comparing: string } & Pick<DatabasesManifest, 'databases'>,
  there: readonly Databases[],
  signal: AbortSignal,
  changed?: (piece: DatabasesManifest['databases'][number]) => void,
): Promise<void> {
  const isKnown = (server: string, database: string) =>
    databases.some((each) => each.server === server && each.database === database);
  for (const { server, names } of there) {
    const extra = names.find((database) => !isKnown(server, database));
    if (extra !== undefined) throw archiveDiffers(comparing, `${extra} on ${server} is not in it`);
  }
  for (const piece of databases) {
    const { server, database } = piece;
    const place = placeOf(realm, server);
    const now = await usePatiently(place, realm.login, signal, async (connection) => {
      const holds = await readInventory(connection, database);
      return holds && { holds, contents: await readContents(connection, database, holds) };
    });
    const difference = now === undefined ? 'it is gone' : changeOf(piece, now);
    if (difference === undefined) continue;
    if (changed === undefined)
      throw archiveDiffers(comparing, `${database} on ${server}: ${difference}`);
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
