/** Brings databases back from their archive, and drops those that are in one, or are to be erased. */
import { join } from 'node:path';
import {
  type DatabasesManifest,
  differenceOf,
  type Inventory,
  whatCame,
  whatIsOther,
} from '../databases-manifest.ts';
import { shellWord } from '../../shared/shell-word.ts';
import type { Action } from '../../reconcile/action.ts';
import {
  archiveDiffers,
  checkFile,
  isLoading,
  noteLoading,
  noteReturned,
  requireArchive,
} from './database-archives.ts';
import {
  type ArchiveActionOf,
  type ArchiveRealm,
  type ArchiveTerms,
  dropWhole,
  placeOf,
  reporter,
  stale,
} from './mariadb-archiving.ts';
import { type Connection, usePatiently } from '../../backends/mariadb/mariadb-connections.ts';
import { readContents } from '../../backends/mariadb/mariadb-contents.ts';
import { loadDatabase } from './mariadb-dumps.ts';
import {
  loadingRole,
  prefixOf,
  readInventory,
  readLongestStatement,
  requireRights,
} from '../../backends/mariadb/mariadb-inventory.ts';
import { isForAnother, isServerAway } from '../../backends/mariadb/mariadb-programs.ts';
import { type Tenant, withTenant } from '../../backends/mariadb/mariadb-tenant.ts';

type Piece = DatabasesManifest['databases'][number];

/**
 * Drops a database that the archive holds, and that has nothing in it that the archive has not: what came back from a
 * backup since may have the same names, and as many rows.
 */
export async function dropArchived(
  realm: ArchiveRealm,
  terms: ArchiveTerms,
  action: ArchiveActionOf<'databases.drop'>,
  signal: AbortSignal,
): Promise<void> {
  const { server, user, database, manifest } = action;
  if (!database.startsWith(prefixOf(user))) throw new TypeError('no database of that user');
  const found = requireArchive(realm.folder, action, manifest);
  const piece = found.manifest.databases.find(
    (each) => each.server === server && each.database === database,
  );
  if (piece === undefined || found.manifest.user !== user) {
    throw archiveDiffers(found.path, `${database} on ${server} is not in it`);
  }
  await checkFile(found.path, piece, signal);
  await usePatiently(placeOf(realm, server), realm.login, signal, async (connection) => {
    await requireRights(connection, user);
    const now = await readInventory(connection, database);
    if (now === undefined) throw stale(user, server, `${database} vanished meanwhile`);
    await refuseUnlessHeld(connection, server, piece, now);
    // to read the archive through may have taken an hour
    const isWanted = await terms.stillWanted({ ...action, returning: undefined });
    if (!isWanted) throw stale(user, server, 'it is wanted no more');
    await dropWhole(connection, database);
  });
}

/** Throws ARCHIVE_DIFFERS where anything in a database is not in its archive. */
async function refuseUnlessHeld(
  connection: Connection,
  server: string,
  { database, holds, contents }: Piece,
  now: Inventory,
): Promise<void> {
  const came =
    whatCame(holds, now) ?? whatIsOther(contents, await readContents(connection, database, now));
  if (came !== undefined) throw archiveDiffers(`${database} on ${server}`, came);
}

/** Drops a database that is in no archive: its user is erased. */
export async function eraseDatabase(
  realm: ArchiveRealm,
  { server, user, database }: Extract<Action, { verb: 'databases.erase' }>,
  signal: AbortSignal,
): Promise<void> {
  if (!database.startsWith(prefixOf(user))) throw new TypeError('no database of that user');
  await usePatiently(placeOf(realm, server), realm.login, signal, async (connection) => {
    await requireRights(connection, user);
    await dropWhole(connection, database);
  });
}

/**
 * Of each database that the archive holds on the server:
 *
 * | there                                  | then                                               |
 * | -------------------------------------- | -------------------------------------------------- |
 * | just as archived                       | left                                               |
 * | none                                   | made, loaded, compared                             |
 * | some of its things, as archived        | dropped, then as above: a drop was cut             |
 * | a part of it, and a load had begun     | dropped, then as above: that load was cut          |
 * | something else                         | left, ARCHIVE_DIFFERS                              |
 *
 * That a load begins is noted beside the archive, when there is nothing else: what is loaded has what was archived in it,
 * but not to the byte.
 *
 * A view may need what is in another database: what cannot be loaded is tried again after the others, as
 * long as one more has come.
 */
export async function restoreDatabases(
  realm: ArchiveRealm,
  terms: ArchiveTerms,
  action: ArchiveActionOf<'databases.restore'>,
  signal: AbortSignal,
): Promise<void> {
  const { server, user, subject, manifest } = action;
  const found = requireArchive(realm.folder, action, manifest);
  const place = placeOf(realm, server);
  const inspect = <T>(work: (connection: Connection) => Promise<T>) =>
    usePatiently(place, realm.login, signal, work);

  await inspect((connection) => requireRights(connection, user));
  const wasLoading = isLoading(realm.folder, action, server);
  let waiting: Piece[] = [];
  for (const piece of found.manifest.databases.filter((each) => each.server === server)) {
    const { database, holds } = piece;
    const isBack = await inspect(async (connection) => {
      const now = await readInventory(connection, database);
      if (now !== undefined && !wasLoading) await refuseUnlessHeld(connection, server, piece, now);
      return now !== undefined && differenceOf(holds, now) === undefined;
    });
    if (isBack) continue;
    await checkFile(found.path, piece, signal);
    waiting.push(piece);
  }
  if (waiting.length > 0) noteLoading(realm.folder, action, server);
  const load = async (tenant: Tenant) => {
    while (waiting.length > 0) {
      const failed: { piece: Piece; error: unknown }[] = [];
      for (const piece of waiting) {
        try {
          await loadOne(piece, tenant);
        } catch (error) {
          signal.throwIfAborted();
          failed.push({ piece, error });
        }
      }
      if (failed.length === waiting.length) throw failed[0]?.error;
      waiting = failed.map(({ piece }) => piece);
    }
  };
  const loadOne = async (piece: Piece, tenant: Tenant) => {
    const { database, holds, bytes } = piece;
    await inspect(async (connection) => {
      const now = await readInventory(connection, database);
      const came = now === undefined ? undefined : whatCame(holds, now);
      if (came !== undefined) throw archiveDiffers(`${database} on ${server}`, came);
      if (now !== undefined) await dropWhole(connection, database);
      const { charset, collation, comment } = holds;
      await connection.query(
        `CREATE DATABASE ${connection.escapeId(database)} CHARACTER SET ${connection.escapeId(charset)}
         COLLATE ${connection.escapeId(collation)} COMMENT ?`,
        [comment],
      );
    });
    const tell = reporter(terms, subject, bytes);
    await loadDatabase(
      { place, tenant, path: found.path, piece, scratch: realm.folder },
      tell,
      signal,
    ).catch(async (cause: unknown) => {
      const others = holds.others ?? [];
      if (isForAnother(cause) && others.length > 0) {
        const file = join(found.path, piece.file);
        // a tenant names the database, and an administrator runs the command
        const command = `zstd -dc ${shellWord(file)} | mariadb ${shellWord(database)}`;
        const few = others.slice(0, FEW).join(', ');
        const more = others.length > FEW ? `, and ${others.length - FEW} more` : '';
        const why = `${database} holds what an administrator alone may make, ${few}${more}: load it on ${server} as one with \`${command}\`, and repair`;
        throw new Error(why, { cause });
      }
      if (!isServerAway(cause)) throw cause;
      // where it answers it has hung up, as it does on a statement that is too long for it
      const most = await inspect((connection) => readLongestStatement(connection));
      const why = `${place.name} ended the connection that loads ${database}: where a row is longer as text than its max_allowed_packet of ${most} bytes, touch that to 1G`;
      throw new Error(why, { cause });
    });
    const now = await inspect((connection) => readInventory(connection, database));
    const difference = now === undefined ? 'it is not there' : differenceOf(holds, now);
    if (difference !== undefined)
      throw new Error(`${database} was not loaded whole: ${difference}`);
  };
  if (waiting.length > 0) {
    await withTenant({ place, login: realm.login, user }, terms, load, signal);
  } else {
    // where a run was cut when all was loaded
    await inspect((connection) => connection.query(`DROP ROLE IF EXISTS ${loadingRole(user)}`));
  }
  signal.throwIfAborted();
  noteReturned(realm.folder, action, server);
}

/** So many objects are named to people. */
const FEW = 5;
