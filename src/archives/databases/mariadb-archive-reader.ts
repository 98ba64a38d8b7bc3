/** Reads which databases exist, by name, and which archives of them: for the reader of the role. */
import { ChamberlainError } from '../../shared/errors.ts';
import type { SeenDeletion } from '../deletion.ts';
import type { ArchiveName } from '../manifest.ts';
import type { DatabaseArchiveReader, DatabasesArchive } from '../../targets/databases-reader.ts';
import {
  findArchive,
  isBegun,
  isEmptied,
  namesOfArchives,
  openArchives,
  lookInArchives,
} from '../container.ts';
import {
  databaseArchives,
  hasNote,
  type OpenDatabaseArchives,
  readDatabaseDeletions,
} from './database-archives.ts';
import { type ListedPath, listUnmanaged } from '../../backends/files/file-listing.ts';
import { withoutSecrets } from '../../backends/mariadb/mariadb.ts';
import {
  type DatabaseLogin,
  type DatabaseServerPlace,
  openServers,
  type Servers,
} from '../../backends/mariadb/mariadb-connections.ts';
import { prefixOf, readOwnDatabases } from '../../backends/mariadb/mariadb-inventory.ts';

export interface OpenDatabaseArchiveReader extends DatabaseArchiveReader {
  /** The same, but each server is asked only once, when it is first needed: for a survey of everything. */
  once(): DatabaseArchiveReader;
  /** What is in the folder of archives and is not ours. */
  listUnmanaged(isOurs: Parameters<typeof listUnmanaged>[1]): Promise<ListedPath[]>;
  /** The deletions that archives show, except those with these names. Throws BACKEND_UNREADABLE. */
  readDeletions(recorded: ReadonlySet<string>): Promise<SeenDeletion[]>;
  close(): Promise<void>;
}

/** Opens the reader; it reads nothing until it is asked to. */
export function openDatabaseArchiveReader(
  places: readonly DatabaseServerPlace[],
  login: DatabaseLogin,
  folder: string,
): OpenDatabaseArchiveReader {
  const servers = openServers(places, login, 1);
  const place = databaseArchives(folder);
  async function read<T>(act: string, look: (archives: OpenDatabaseArchives) => T): Promise<T> {
    try {
      return lookInArchives(place, look);
    } catch (cause) {
      throw unreadable(act, cause);
    }
  }

  const through = (
    readServer: (server: string) => ReturnType<typeof readAll>,
  ): DatabaseArchiveReader => ({
    async lookForDatabases(server, users) {
      const all = await readServer(server);
      const own = users.map((user) => [user, all.get(user) ?? []] as const);
      return new Map(own.filter(([, names]) => names.length > 0));
    },
    lookAtArchive: (account, archival) =>
      read(`reading the archive of the databases of ${account}`, (archives) =>
        lookAtArchive(archives, { account, archival }),
      ),
    isAnyThere: (account) =>
      read(
        `looking for archives of the databases of ${account}`,
        (archives) => namesOfArchives(archives, account).length > 0,
      ),
    isPartThere: (account, archival) =>
      read(`looking for what is left of an archive of ${account}`, (archives) =>
        isBegun(archives, { account, archival }),
      ),
  });

  return {
    ...through((server) => readAll(servers, server)),
    once() {
      const asked = new Map<string, ReturnType<typeof readAll>>();
      return through((server) => {
        const reading = asked.get(server) ?? readAll(servers, server);
        asked.set(server, reading);
        return reading;
      });
    },
    listUnmanaged: (isOurs) =>
      listUnmanaged(() => openArchives(place), isOurs).catch((cause: unknown) => {
        throw unreadable('listing the archives of databases', cause);
      }),
    readDeletions: (recorded) =>
      read('reading the archives of databases', (archives) =>
        readDatabaseDeletions(archives, recorded),
      ),
    close: () => servers.close(),
  };
}

/** By user, all databases of the server that belong to a user. */
async function readAll(servers: Servers, server: string): Promise<ReadonlyMap<string, string[]>> {
  try {
    const names = await servers.use(server, readOwnDatabases);
    return Map.groupBy(names, (name) => name.slice(0, name.indexOf(prefixOf(''))));
  } catch (cause) {
    throw unreadable(`reading the databases of ${server}`, withoutSecrets(cause));
  }
}

function lookAtArchive(
  archives: OpenDatabaseArchives,
  name: ArchiveName,
): DatabasesArchive | 'emptied' | undefined {
  const found = findArchive(archives, name);
  if (found === undefined) return isEmptied(archives, name) ? 'emptied' : undefined;
  const { sha256, manifest } = found;
  const of = (server: string) => ({
    databases: manifest.databases
      .filter((each) => each.server === server)
      .map(({ database }) => database),
    isReturned: hasNote(archives, name, server, 'returned'),
  });
  return {
    manifest: sha256,
    servers: new Map(manifest.servers.map(({ name: server }) => [server, of(server)])),
  };
}

function unreadable(act: string, cause: unknown): ChamberlainError {
  return new ChamberlainError('BACKEND_UNREADABLE', act, { cause });
}
