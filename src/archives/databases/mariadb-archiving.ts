/** What archiving and restoring databases have in common. */
import { ChamberlainError } from '../../shared/errors.ts';
import type { Action } from '../../reconcile/action.ts';
import type { ArchiveKeeping } from '../archive-keeping.ts';
import type { TenantMaker } from '../../backends/mariadb/mariadb-tenant.ts';
import type {
  Connection,
  DatabaseLogin,
  DatabaseServerPlace,
} from '../../backends/mariadb/mariadb-connections.ts';
import type { OpenDatabaseArchives } from './database-archives.ts';
import { readInventory } from '../../backends/mariadb/mariadb-inventory.ts';

export type ArchiveActionOf<Verb extends Action['verb']> = Extract<Action, { verb: Verb }> & {
  /** the number in the user's name */
  subject: number;
};

/** What is needed from our PostgreSQL, and what is configured. */
export type ArchiveTerms = TenantMaker & ArchiveKeeping;

export interface ArchiveRealm {
  /** the archives' folder: it must exist */
  folder: string;
  places: readonly DatabaseServerPlace[];
  login: DatabaseLogin;
}

/** The same while the folder is open. */
export interface OpenArchiveRealm extends ArchiveRealm {
  archives: OpenDatabaseArchives;
}

/** Drops a database with everything in it. */
export async function dropWhole(connection: Connection, database: string): Promise<void> {
  // a FOREIGN KEY of another database may refer to it
  await connection.query('SET SESSION foreign_key_checks = 0');
  await connection.query(`DROP DATABASE ${connection.escapeId(database)}`);
  if ((await readInventory(connection, database)) !== undefined) {
    throw new Error(`${database} is still there`);
  }
}

export function placeOf({ places }: ArchiveRealm, server: string): DatabaseServerPlace {
  const place = places.find(({ name }) => name === server);
  if (place === undefined) throw new TypeError(`no database server ${server} is configured`);
  return place;
}

export function stale(user: string, server: string, what: string): ChamberlainError {
  return new ChamberlainError('STEP_STALE', `looking at the databases of ${user} on ${server}`, {
    cause: new Error(what),
    context: { server, user },
  });
}
