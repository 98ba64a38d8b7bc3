/** Asks the roles for a survey, for each command that needs one. Changes nothing itself. */
import { randomUUID } from 'node:crypto';
import { Option, type Command } from 'commander';
import type { Config } from '../shared/config.ts';
import { openQueues } from '../backends/redis/queue.ts';
import { ChamberlainError } from '../shared/errors.ts';
import type { Role } from '../reconcile/wanted.ts';
import { REGISTRY, ROLES, roleOfTarget, targetNamed } from '../roles/index.ts';
import { digestSteps } from '../reconcile/digest.ts';
import {
  mergeReports,
  onlyTarget,
  type Report,
  undecidedOf,
  unreadableRole,
} from '../reconcile/report.ts';
import { type Client, openPool } from '../database/connection.ts';
import { findSubjectsByWord, look } from '../database/overview.ts';
import { collectReports, type Waited } from './collecting.ts';
import { readAbsent } from './reports-table.ts';
import { deleteSurvey, recordSurvey } from './surveys-table.ts';
import { readUnmanaged } from '../unmanaged/unmanaged-table.ts';
import { notReportedOf } from '../unmanaged/unmanaged-things.ts';
import { configOf, wantsJson } from '../cli/configuration.ts';
import { EXIT } from '../cli/exit.ts';
import { startProgress } from '../cli/progress.ts';
import { parseSeconds } from '../cli/options/seconds.ts';
import { unknownSubject, withAdmin } from '../cli/admin.ts';

/** After so long without a sign of a role, it is checked whether the role runs at all. */
const QUIET_MS = 2000;

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

/** A finished survey: each role's own report, in the order of the roles, and all of them merged. */
export interface Asked {
  reports: Map<Role, Report>;
  report: Report;
  /** of the steps of `report` */
  digest: string;
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
  const only = owner ?? role;
  const config = known ?? configOf(command);
  const progress = startProgress({ json: wantsJson(command) });
  try {
    const subjects = await subjectsOf(config, words, target);
    const reports = await askRoles(config, subjects, {
      roles: only === undefined ? ROLES : [only],
      timeoutMs: timeout * 1000,
      say: progress.say,
    });
    if (target !== undefined) {
      for (const [of, report] of reports) reports.set(of, onlyTarget(report, target));
    }
    const report = mergeReports([...reports.values()]);
    if (subjects === undefined && target === undefined) {
      const things = await withAdmin(config, readUnmanaged);
      const of = things.filter(({ role: its }) => reports.has(its));
      report.unmanaged = notReportedOf(of, report, { realm: config.realm, base: config.ldap.base });
    }
    return { reports, report, digest: digestSteps(report.steps) };
  } finally {
    progress.end();
  }
}

/** 4 if something could not be read, else 3 if there is a step or a finding, else 0. */
export function exitOf(report: Report): number {
  const { steps, findings, unreadable } = report;
  if (unreadable.length > 0) return EXIT.unreadable;
  const open = steps.length + findings.length + undecidedOf(report).length;
  return open > 0 ? EXIT.pending : EXIT.done;
}

/**
 * The uids that the words name, each once, in order; undefined, which means everything, if there is no word.
 * Throws USAGE if a word names no subject, or if no named subject can have the target.
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
      const found = await findSubjectsByWord(client, word);
      if (found.length === 0) throw await unknownSubject(client, word, 'USAGE');
      for (const { uid, kind } of found) {
        uids.add(uid);
        canHave ||= kinds?.includes(kind) === true;
      }
    }
    if (!canHave) {
      const whom = words.length === 1 ? 'this subject' : 'these subjects';
      const sentence = `${words.join(', ')}: ${whom} can never have a ${target}`;
      throw new ChamberlainError('USAGE', sentence);
    }
    return [...uids].toSorted((a, b) => a - b);
  });
}

/**
 * One report of each role, in the order in which they are asked. A role that gives no answer and no
 * other sign of life for `timeoutMs` is reported as unreadable under its own name.
 *
 * @param subjects uids; undefined: every subject
 * @param say is called with how far the roles are
 */
export async function askRoles(
  config: Config,
  subjects: readonly number[] | undefined,
  {
    roles,
    timeoutMs,
    say,
  }: { roles: readonly Role[]; timeoutMs: number; say?: (text: string) => void },
): Promise<Map<Role, Report>> {
  const id = randomUUID();
  const patience = { silentMs: timeoutMs, mostPutOff: Infinity };
  say?.(`asking ${roles.join(', ')}`);
  const pool = openPool(config, 'admin', { max: 1, durable: true });
  const queues = openQueues(config, 'admin');
  try {
    return await look(pool, async (client) => {
      await recordSurvey(client, id, subjects);
      try {
        for (const role of roles) await queues.addSurvey(role, id);
        const reports = await collectReports(client, id, roles, patience, async (waited) =>
          say?.(await describeProgress(client, roles, waited)),
        );
        return new Map(roles.map((role) => [role, reports.get(role) ?? noAnswer(role, timeoutMs)]));
      } finally {
        await deleteSurvey(client, id).catch(() => {});
      }
    });
  } finally {
    await queues.close();
    await pool.end();
  }
}

function targetNames(): string[] {
  return REGISTRY.flatMap(({ targets }) => targets.map(({ name }) => name));
}

async function describeProgress(
  client: Client,
  roles: readonly Role[],
  waited: readonly Waited[],
): Promise<string> {
  const of = new Map(waited.map((each) => [each.role, each]));
  const isQuiet = ({ progress, quietMs }: Waited) => progress === undefined && quietMs >= QUIET_MS;
  const quiet = waited.filter(isQuiet).map(({ role }) => role);
  const absent = await readAbsent(client, quiet);
  const describe = (role: Role): string => {
    const { progress } = of.get(role) ?? {};
    if (progress !== undefined) return `${progress.done} of ${progress.total}`;
    if (!of.has(role)) return 'done';
    return absent.includes(role) ? 'does not seem to run' : '…';
  };
  return roles.map((role) => `${role} ${describe(role)}`).join(', ');
}

function noAnswer(role: Role, timeoutMs: number): Report {
  const sentence = `no answer within ${timeoutMs / 1000} s; is \`chamberlain work ${role}\` running?`;
  return unreadableRole(role, sentence);
}
