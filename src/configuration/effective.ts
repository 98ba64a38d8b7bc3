/**
 * The effective configuration: that of the file, and what PostgreSQL adds to it. Everybody who decides by it reads it
 * here, so that there is one place where both are put together.
 */
import type { Client } from '../database/connection.ts';
import { readAddedPortals } from '../requests/portals-table.ts';
import { type Config, withPortals } from '../shared/config.ts';

/** What PostgreSQL adds to the file. */
export interface ConfigRows {
  /** not checked */
  portals: readonly { name: string }[];
}

/**
 * The configuration of a file, and what PostgreSQL adds to it.
 *
 * @param client without it, that of the file
 * @throws CONFIG_INVALID for a row that is wrong
 */
export async function effectiveOf(file: Config, client?: Client): Promise<Config> {
  return composeConfig(file, client === undefined ? undefined : await readConfigRows(client));
}

/**
 * The one place where both are put together; what it returns is frozen. Where the file lists a portal of the same name,
 * the file counts: an operator can always replace what a request has added.
 *
 * @throws CONFIG_INVALID for a row that is wrong
 */
export function composeConfig(file: Config, rows?: ConfigRows): Config {
  const listed = new Set(file.portals.map(({ name }) => name));
  const added = rows?.portals.filter(({ name }) => !listed.has(name)) ?? [];
  if (added.length === 0) return file;
  return withPortals(file, added);
}

async function readConfigRows(client: Client): Promise<ConfigRows> {
  return { portals: await readAddedPortals(client) };
}
