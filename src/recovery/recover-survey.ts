/** The survey that `chamberlain recover` begins with, and what it may not lack. */
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
  /** files `seals` of login hosts */
  seals?: string[];
  timeout: number;
}

/** What to do where the list is another by now. */
export const READ_AGAIN = 'Read the list again: run it with the same options, without --expect.';

const AGAIN = 'Mend that, and run it again.';

export interface Surveyed {
  reports: ReadonlyMap<Role, Report>;
  /** all that could not be seen, but for the doubt that this is about */
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
  try {
    const reports = await askRoles(config, undefined, {
      roles,
      timeoutMs: timeout * 1000,
      say: progress.say,
    });
    const doubt = reports.get('directory')?.doubt;
    return {
      reports,
      unreadable: [...reports.values()]
        .flatMap(({ unreadable }) => unreadable)
        .filter(({ sentence }) => sentence !== doubt?.sentence),
      doubt,
    };
  } finally {
    progress.end();
  }
}

/** Says what could not be read; whether there was anything. */
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
