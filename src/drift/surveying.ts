/** Asks the roles for a survey, for each command that needs one. Changes nothing itself. */
import { Option, type Command } from 'commander';
import type { Config } from '../shared/config.ts';
import { ChamberlainError } from '../shared/errors.ts';
import type { Role } from '../reconcile/wanted.ts';
import { REGISTRY, ROLES, roleOfTarget, targetNamed } from '../roles/index.ts';
import { heededIn, type Report } from '../reconcile/report.ts';
import { type Asked, askSurvey } from './asking.ts';
import { configOf, wantsJson } from '../cli/configuration.ts';
import { EXIT } from '../cli/exit.ts';
import { withProgress } from '../cli/progress.ts';
import { parseSeconds } from '../cli/options/seconds.ts';
import { requireSubjects, withAdmin } from '../cli/admin.ts';

/** The options of `survey`, `plan` and `repair` that say what to look at. */
export interface SurveyOptions {
  all?: true;
  role?: Role;
  target?: string;
  timeout: number;
}

/**
 * Adds SUBJECTs and the options of `SurveyOptions` to a command.
 *
 * @param timeout what --timeout means there
 */
export function addSurveyOptions(
  command: Command,
  timeout = 'how long a role may take without a sign of life',
): Command {
  return command
    .argument('[SUBJECT...]', 'shell names, tools (bridgebot or tools.bridgebot), or uids')
    .option('--all', 'look at every subject (the default without SUBJECT)')
    .addOption(new Option('--role <role>', 'ask only this role').choices(ROLES))
    .addOption(new Option('--target <target>', 'look only at this target').choices(targetNames()))
    .option('--timeout <seconds>', timeout, parseSeconds, 30);
}

/**
 * Asks for the survey that SUBJECTs and options name, and shows progress. Refuses contradictory options.
 *
 * @param known the configuration, if the caller has already read it
 */
export async function askByOptions(
  command: Command,
  words: readonly string[],
  known?: Config,
): Promise<Asked> {
  const { all, role, target, timeout } = command.opts<SurveyOptions>();
  if (all && words.length > 0) {
    command.error('error: --all and SUBJECT exclude each other: give one of them');
  }
  const owner = target === undefined ? undefined : roleOfTarget(target);
  if (role !== undefined && owner !== undefined && role !== owner) {
    command.error(`error: ${target} is a target of ${owner}, not of ${role}`);
  }
  const config = known ?? configOf(command);
  return await withProgress(wantsJson(command), async (say) => {
    const subjects = await subjectsOf(config, words, target);
    return await askSurvey(config, 'admin', {
      ...{ subjects, target, role: owner ?? role },
      ...{ timeoutMs: timeout * 1000, say },
    });
  });
}

/** 4 if something could not be read, else 3 if there is a step or a finding that counts, else 0. */
export function exitOf(report: Report): number {
  const { steps, unreadable } = report;
  if (unreadable.length > 0) return EXIT.unreadable;
  return steps.length + heededIn(report) > 0 ? EXIT.pending : EXIT.done;
}

/**
 * The uids that the words name, each once, in order; undefined, which means everything, if there is no word.
 * Throws PERSON_UNKNOWN or TOOL_UNKNOWN if a word names no subject, and USAGE if no named subject can have the target.
 */
export async function subjectsOf(
  config: Config,
  words: readonly string[],
  target?: string,
): Promise<number[] | undefined> {
  if (words.length === 0) return undefined;
  const kinds = target === undefined ? undefined : targetNamed(target)?.of;
  return await withAdmin(config, async (client) => {
    const uids = new Set<number>();
    let canHave = kinds === undefined;
    for (const word of words) {
      for (const { uid, kind } of await requireSubjects(client, word)) {
        uids.add(uid);
        canHave ||= kinds?.includes(kind) === true;
      }
    }
    if (!canHave) {
      const whom = words.length === 1 ? 'this subject' : 'these subjects';
      const sentence = `${words.join(', ')}: ${whom} can never have the target ${target}`;
      throw new ChamberlainError('USAGE', sentence);
    }
    return [...uids].toSorted((a, b) => a - b);
  });
}

function targetNames(): string[] {
  return REGISTRY.flatMap(({ targets }) => targets.map(({ name }) => name));
}
