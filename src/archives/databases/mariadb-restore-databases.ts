/** Restores databases from their archive, and drops those that are in one or that must be erased. */
import { join } from 'node:path';
import {
  type DatabasesManifest,
  differenceOf,
  type Inventory,
  whatCame,
  whatIsOther,
} from '../databases-manifest.ts';
import type { LongStep } from '../archive-keeping.ts';
import { shellWord } from '../../shared/run-programs.ts';
import { nameFew } from '../../shared/printable.ts';
import type { Action } from '../../reconcile/action.ts';
import { checkFile, requireArchive } from '../container.ts';
import { archiveDiffers, noteLoading, noteReturned, readLoaded } from './database-archives.ts';
import {
  type ArchiveActionOf,
  type ArchiveRealm,
  type ArchiveTerms,
  dropWhole,
  type OpenArchiveRealm,
  placeOf,
  stale,
} from './mariadb-archiving.ts';
import {
  type Connection,
  usePatiently,
  type DatabaseServerPlace,
} from '../../backends/mariadb/mariadb-connections.ts';
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
 * Drops a database that the archive holds, unless the database holds anything that the archive does not: one
 * that came back from a backup since may have the same names, and as many rows.
 */
export async function dropArchived(
  realm: OpenArchiveRealm,
  terms: ArchiveTerms,
  action: ArchiveActionOf<'databases.drop'>,
  step: LongStep,
): Promise<void> {
  const { server, user, database, manifest } = action;
  if (!database.startsWith(prefixOf(user))) throw new TypeError('not a database of that user');
  const found = requireArchive(realm.archives, action, manifest);
  const piece = found.manifest.databases.find(
    (each) => each.server === server && each.database === database,
  );
  if (piece === undefined || found.manifest.user !== user) {
    throw archiveDiffers(
      `the databases with the archive ${found.path}`,
      `${database} on ${server} is not in it`,
    );
  }
  await checkFile(found.path, piece, step);
  await usePatiently(placeOf(realm, server), realm.login, step.signal, async (connection) => {
    await requireRights(connection, user);
    const now = await readInventory(connection, database);
    if (now === undefined) throw stale(user, server, `${database} was dropped meanwhile`);
    await refuseUnlessHeld(connection, server, piece, now);
    // reading the archive may have taken an hour
    const isWanted = await terms.stillWanted({ ...action, returning: undefined });
    if (!isWanted) throw stale(user, server, 'it is no longer wanted');
    await dropWhole(connection, database);
  });
}

/** Throws ARCHIVE_DIFFERS if anything in a database is not in its archive. */
async function refuseUnlessHeld(
  connection: Connection,
  server: string,
  { database, holds, contents }: Piece,
  now: Inventory,
): Promise<void> {
  const came =
    whatCame(holds, now) ?? whatIsOther(contents, await readContents(connection, database, now));
  if (came !== undefined) throw archiveDiffers(`${database} on ${server} with its archive`, came);
}

/** Drops a database that is in no archive, because its user is erased. */
export async function eraseDatabase(
  realm: ArchiveRealm,
  { server, user, database }: Extract<Action, { verb: 'databases.erase' }>,
  signal: AbortSignal,
): Promise<void> {
  if (!database.startsWith(prefixOf(user))) throw new TypeError('not a database of that user');
  await usePatiently(placeOf(realm, server), realm.login, signal, async (connection) => {
    await requireRights(connection, user);
    await dropWhole(connection, database);
  });
}

/**
 * For each database that the archive holds on the server:
 *
 * | on the server                          | then                                               |
 * | -------------------------------------- | -------------------------------------------------- |
 * | exactly as archived, and no load began | left                                               |
 * | as archived, and its load has ended    | left                                               |
 * | as archived, by an administrator       | left: see `explainFailure`                         |
 * | none                                   | created, loaded, compared                          |
 * | some of its things, as archived        | dropped, then as above: a drop was interrupted     |
 * | a part of it, and a load had begun     | dropped, then as above: that load was interrupted  |
 * | something else                         | left, ARCHIVE_DIFFERS                              |
 *
 * The beginning of a load is noted next to the archive, at a time when the database does not exist: what is
 * loaded holds what was archived, but is not equal to the byte. So is its end: before it, a database has all its
 * things by their names while its views still are what mariadb-dump puts in their place (`SELECT NULL AS a`).
 *
 * A view may need what is in another database. So what cannot be loaded is tried again after the others, as
 * long as at least one more was loaded.
 */
export async function restoreDatabases(
  realm: OpenArchiveRealm,
  terms: ArchiveTerms,
  action: ArchiveActionOf<'databases.restore'>,
  step: LongStep,
): Promise<void> {
  const { signal } = step;
  const { server, user, manifest } = action;
  const found = requireArchive(realm.archives, action, manifest);
  const place = placeOf(realm, server);
  const inspect: Restoring['inspect'] = (work) => usePatiently(place, realm.login, signal, work);
  await inspect((connection) => requireRights(connection, user));
  const noted = readLoaded(realm.archives, action, server);
  const loaded = new Set<string>();
  const waiting: Piece[] = [];
  for (const piece of found.manifest.databases.filter((each) => each.server === server)) {
    const { database, holds } = piece;
    const isBack = await inspect(async (connection) => {
      const now = await readInventory(connection, database);
      if (now === undefined) return false;
      if (noted === undefined) await refuseUnlessHeld(connection, server, piece, now);
      if (differenceOf(holds, now) !== undefined) return false;
      if (noted === undefined || noted.has(piece.file)) return true;
      return await isByAdministrator(connection, piece, now);
    });
    if (isBack) {
      loaded.add(piece.file);
      continue;
    }
    await checkFile(found.path, piece, step);
    waiting.push(piece);
  }
  if (waiting.length > 0) {
    const note = () => noteLoading(realm.archives, action, server, loaded);
    await note();
    const onLoaded = ({ file }: Piece) => (loaded.add(file), note());
    const of: Restoring = {
      place,
      path: found.path,
      scratch: realm.folder,
      inspect,
      onLoaded,
      step,
    };
    const load = (tenant: Tenant) => loadAll(of, waiting, tenant);
    await withTenant({ place, login: realm.login, user }, terms, load, signal);
  } else {
    // if an earlier run was interrupted after everything was loaded
    await inspect((connection) => connection.query(`DROP ROLE IF EXISTS ${loadingRole(user)}`));
  }
  signal.throwIfAborted();
  await noteReturned(realm.archives, action, server);
}

/**
 * Whether an administrator has loaded a database that has all its things by their names, as `explainFailure` asks for:
 * our own load can only have got that far with views that are not yet made.
 */
async function isByAdministrator(
  connection: Connection,
  { database, holds, contents }: Piece,
  now: Inventory,
): Promise<boolean> {
  if ((holds.others ?? []).length === 0) return false;
  const views = { ...now, tables: [], triggers: [], routines: [], events: [] };
  const is = await readContents(connection, database, views);
  return contents === undefined || whatIsOther(contents, is) === undefined;
}

interface Restoring {
  place: DatabaseServerPlace;
  /** the archive */
  path: string;
  /** a folder for what is loaded */
  scratch: string;
  inspect: <T>(work: (connection: Connection) => Promise<T>) => Promise<T>;
  /** records that it was loaded completely */
  onLoaded: (piece: Piece) => Promise<void>;
  step: LongStep;
}

async function loadAll(of: Restoring, pieces: readonly Piece[], tenant: Tenant): Promise<void> {
  let waiting = pieces;
  while (waiting.length > 0) {
    const failed: { piece: Piece; error: unknown }[] = [];
    for (const piece of waiting) {
      try {
        await loadOne(of, piece, tenant);
      } catch (error) {
        of.step.signal.throwIfAborted();
        failed.push({ piece, error });
        continue;
      }
      await of.onLoaded(piece);
    }
    if (failed.length === waiting.length) throw failed[0]?.error;
    waiting = failed.map(({ piece }) => piece);
  }
}

async function loadOne(of: Restoring, piece: Piece, tenant: Tenant): Promise<void> {
  const { place, path, scratch, inspect, step } = of;
  const { database, holds } = piece;
  await inspect(async (connection) => {
    const now = await readInventory(connection, database);
    const came = now === undefined ? undefined : whatCame(holds, now);
    if (came !== undefined)
      throw archiveDiffers(`${database} on ${place.name} with its archive`, came);
    if (now !== undefined) await dropWhole(connection, database);
    const { charset, collation, comment } = holds;
    await connection.query(
      `CREATE DATABASE ${connection.escapeId(database)} CHARACTER SET ${connection.escapeId(charset)}
       COLLATE ${connection.escapeId(collation)} COMMENT ?`,
      [comment],
    );
  });
  await loadDatabase({ place, tenant, path, piece, scratch }, step).catch(
    async (cause: unknown) => {
      throw await explainFailure(of, piece, cause);
    },
  );
  const now = await inspect((connection) => readInventory(connection, database));
  const difference = now === undefined ? 'it does not exist' : differenceOf(holds, now);
  if (difference === undefined) return;
  throw new Error(`${database} was not loaded completely: ${difference}`);
}

/** Why a database was not loaded, and what to do; the cause itself if nothing more is known. */
async function explainFailure(
  { place, path, inspect }: Restoring,
  { database, holds, file }: Piece,
  cause: unknown,
): Promise<unknown> {
  const others = holds.others ?? [];
  if (isForAnother(cause) && others.length > 0) {
    // tenants name databases, and an administrator will run the command
    const command = `zstd -dc ${shellWord(join(path, file))} | mariadb ${shellWord(database)}`;
    const why = `${database} holds objects that only an administrator may create (${nameFew(others)}): load it on ${place.name} as an administrator, with \`${command}\`, then run repair`;
    return new Error(why, { cause });
  }
  if (!isServerAway(cause)) return cause;
  // a server that answers has closed the connection, as it does for a statement that is too long for it
  const most = await inspect((connection) => readLongestStatement(connection));
  const why = `${place.name} closed the connection that loads ${database}: if the text form of a row is longer than max_allowed_packet (${most} bytes), set max_allowed_packet to 1G`;
  return new Error(why, { cause });
}
