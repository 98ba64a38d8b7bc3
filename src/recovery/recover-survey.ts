/** The survey at the beginning of `chamberlain recover`, which must be complete. */
import type { Command } from 'commander';
import type { Config } from '../shared/config.ts';
import type { Role } from '../reconcile/wanted.ts';
import type { Report, Unreadable } from '../reconcile/report.ts';
import { wantsJson } from '../cli/configuration.ts';
import { EXIT, failureLine, RUN_AGAIN } from '../cli/exit.ts';
import { startProgress } from '../cli/progress.ts';
import { askRoles } from '../drift/surveying.ts';
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

/** Prints what could not be read. Returns whether there was anything. */
export function refuseUnread(
  command: Command,
  unreadable: readonly Unreadable[],
  end: string,
): boolean {
  if (unreadable.length === 0) return false;
  process.exitCode = EXIT.unreadable;
  if (wantsJson(command)) printJson({ recovered: false, unreadable });
  for (const text of new Set(unreadable.map(({ target, sentence }) => `${target}: ${sentence}`))) {
    process.stderr.write(`${failureLine('BACKEND_UNREADABLE', text, RUN_AGAIN)}\n`);
  }
  if (!wantsJson(command)) print(`Nothing was done; ${end}. ${AGAIN}`);
  return true;
}
