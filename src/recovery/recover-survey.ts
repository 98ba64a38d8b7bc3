/** The survey at the beginning of `chamberlain recover`, which must be complete. */
import type { Command } from 'commander';
import type { Config } from '../shared/config.ts';
import type { Role } from '../reconcile/wanted.ts';
import type { Report, Unreadable } from '../reconcile/report.ts';
import { wantsJson } from '../cli/configuration.ts';
import { EXIT, failureLine, RUN_AGAIN } from '../cli/exit.ts';
import { startProgress } from '../cli/progress.ts';
import { askRoles } from '../drift/asking.ts';
import { print, printJson } from '../cli/table.ts';

export interface RecoverOptions {
  database?: true;
  expect?: string;
  keep?: string[];
  /** paths of files `seals` of login hosts */
  seals?: string[];
  timeout: number;
}

/** What to do if the list has changed. */
export const READ_AGAIN =
  'Read the list again: run the command with the same options, without --expect.';

const AGAIN = 'Correct this, and run the command again.';

export interface Surveyed {
  reports: ReadonlyMap<Role, Report>;
  /** everything that could not be read, except the doubt that is being recovered from */
  unreadable: Unreadable[];
  doubt: Report['doubt'];
}

/** Asks these roles for a survey of everything. */
export async function surveyAll(
  command: Command,
  config: Config,
  roles: readonly Role[],
): Promise<Surveyed> {
  const { timeout } = command.opts<RecoverOptions>();
  const progress = startProgress({ json: wantsJson(command) });
  const terms = { roles, timeoutMs: timeout * 1000, say: progress.say };
  const reports = await askRoles(config, undefined, terms).finally(progress.end);
  const doubt = reports.get('directory')?.doubt;
  return {
    reports,
    unreadable: [...reports.values()]
      .flatMap(({ unreadable }) => unreadable)
      .filter(({ sentence }) => sentence !== doubt?.sentence),
    doubt,
  };
}

/**
 * Prints what could not be read, each with what to do. Returns whether there was anything.
 *
 * @param unreadable an `action` is needed where no server is away
 */
export function refuseUnread(
  command: Command,
  unreadable: readonly (Unreadable & { action?: string })[],
  end: string,
): boolean {
  if (unreadable.length === 0) return false;
  process.exitCode = EXIT.unreadable;
  if (wantsJson(command)) printJson({ recovered: false, unreadable });
  const lines = unreadable.map(({ target, sentence, action = RUN_AGAIN }) =>
    failureLine('BACKEND_UNREADABLE', `${target}: ${sentence}`, action),
  );
  for (const line of new Set(lines)) process.stderr.write(`${line}\n`);
  if (!wantsJson(command)) print(`Nothing was done; ${end}. ${AGAIN}`);
  return true;
}
