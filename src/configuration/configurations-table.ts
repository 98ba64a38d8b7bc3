/** Which configuration each process uses, as it says itself (migrations/0032_configuration.sql). */
import type { Client } from '../database/connection.ts';
import type { Config } from '../shared/config.ts';
import { decides, digestOfConfig, type FixedSettings } from './reloadable.ts';

/** What a process says of itself. */
export interface ProcessConfig {
  /** what it does: its roles, as `chamberlain work` is told */
  works: readonly string[];
  machine: string;
  /** on its machine */
  osPid: number;
  /** of what a reload can change */
  digest: string;
  fixed: FixedSettings;
  /** the number of the reload that it has carried out */
  reload: string;
  /** why the last reload changed nothing */
  error: string | null;
}

/** The configuration that a process uses, as PostgreSQL knows it. */
export interface ConfigUse extends ProcessConfig {
  since: Date;
  /** the number of the last reload that was asked for */
  asked: string;
}

/**
 * Records the configuration that this process uses; it counts as long as the connection is open.
 *
 * @param seconds how long it has used it
 * @returns the number of the last reload that was asked for, and of the last one that also meant the file
 */
export async function noteConfig(
  client: Pick<Client, 'query'>,
  of: ProcessConfig,
  seconds: number,
): Promise<{ asked: string; askedOfFile: string }> {
  const { rows } = await client.query(
    `SELECT asked, asked_of_file AS "askedOfFile" FROM note_configuration($1, $2, $3, $4, $5, $6, $7, $8)`,
    [of.works, of.machine, of.osPid, of.digest, seconds, of.fixed, of.reload, of.error],
  );
  return rows[0] as { asked: string; askedOfFile: string };
}

/** Makes every process read its file again, and what PostgreSQL adds to it. Returns the number of this reload. */
export async function askReload(client: Pick<Client, 'query'>): Promise<string> {
  const { rows } = await client.query('SELECT ask_reload() AS number');
  return (rows[0] as { number: string }).number;
}

/** The configuration of each process that works. */
export async function readConfigUses(client: Pick<Client, 'query'>): Promise<ConfigUse[]> {
  const { rows } = await client.query(
    `SELECT works, machine, os_pid AS "osPid", digest, since, fixed, reload, asked, error FROM configurations_in_use()`,
  );
  return rows as ConfigUse[];
}

/**
 * Why a process does not use this configuration; undefined if it does. Processes that run only roles decide by nothing
 * that a reload can change, so another digest of theirs does not matter.
 */
function whyBehind(
  { works, digest, reload, asked, error }: ConfigUse,
  wanted: string,
): string | undefined {
  if (error !== null) return error;
  if (BigInt(reload) < BigInt(asked)) return 'it has not read its file again yet';
  if (!decides(works) || digest === wanted) return undefined;
  return 'it uses another configuration';
}

/** Which configuration is in use, compared with that of whoever asks. */
export interface ConfigStatus {
  /** of what a reload can change, as the asker has it */
  digest: string;
  processes: ConfigUser[];
}

/** A process, and the configuration that it uses. */
export interface ConfigUser {
  works: readonly string[];
  machine: string;
  pid: number;
  digest: string;
  since: Date;
  /** why it does not use that of the asker; null: it does */
  why: string | null;
}

/** What to do about a process that does not use the configuration in the file. */
export const RELOAD_TODO =
  'Run `chamberlain reload`. If that names a setting that needs a restart, restart the process.';

/** A process that works, such as `intake relay on realm1 (process 812)`. */
export function describeConfigUser({ works, machine, pid }: ConfigUser): string {
  return `${works.join(' ')} on ${machine} (process ${pid})`;
}

export async function readConfigStatus(client: Client, config: Config): Promise<ConfigStatus> {
  const wanted = digestOfConfig(config);
  const processes = (await readConfigUses(client)).map((use): ConfigUser => {
    const { works, machine, osPid: pid, digest, since } = use;
    return { works, machine, pid, digest, since, why: whyBehind(use, wanted) ?? null };
  });
  return { digest: wanted, processes };
}
