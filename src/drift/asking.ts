/** Asks the roles for a survey, for a command or for the process that sweeps. Changes nothing itself. */
import { randomUUID } from 'node:crypto';
import type { Config } from '../shared/config.ts';
import { openQueues } from '../backends/redis/queue.ts';
import type { Role } from '../reconcile/wanted.ts';
import { ROLES } from '../roles/index.ts';
import { digestSteps } from '../reconcile/digest.ts';
import { mergeReports, onlyTarget, type Report, unreadableRole } from '../reconcile/report.ts';
import { type Client, openPool } from '../database/connection.ts';
import { look } from '../database/overview.ts';
import { collectReports, type Waited } from './collecting.ts';
import { readAbsent } from './reports-table.ts';
import { deleteSurvey, recordSurvey } from './surveys-table.ts';
import { readUnmanaged } from '../unmanaged/unmanaged-table.ts';
import { notReportedOf } from '../unmanaged/unmanaged-things.ts';

/** After so long without a sign of a role, it is checked whether the role runs at all. */
const QUIET_MS = 2000;

/** Whose accounts in PostgreSQL and Redis ask. */
export type Asker = 'admin' | 'sweep';

/** What a survey looks at. */
export interface Scope {
  /** uids; undefined: every subject */
  subjects: readonly number[] | undefined;
  /** undefined: each of them */
  role: Role | undefined;
  /** undefined: every target */
  target: string | undefined;
}

/** A finished survey: each role's own report, in the order of the roles, and all of them merged. */
export interface Asked {
  reports: Map<Role, Report>;
  report: Report;
  /** of the steps of `report` */
  digest: string;
}

/**
 * Asks for a survey, and merges what the roles answer. A survey of everything also tells of unmanaged things.
 *
 * @param of.timeoutMs how long a role may give no sign of life
 * @param of.say is called with how far the roles are
 */
export async function askSurvey(
  config: Config,
  account: Asker,
  of: Scope & { timeoutMs: number; say?: (text: string) => void },
): Promise<Asked> {
  const { subjects, role, target, timeoutMs, say } = of;
  const roles = role === undefined ? ROLES : [role];
  const reports = await askRoles(config, subjects, { roles, timeoutMs, say, account });
  if (target !== undefined) {
    for (const [each, report] of reports) reports.set(each, onlyTarget(report, target));
  }
  const report = mergeReports([...reports.values()]);
  if (subjects === undefined && target === undefined) {
    const all = await withAccount(config, account, readUnmanaged);
    const things = all.filter(({ role: its }) => reports.has(its));
    report.unmanaged = notReportedOf(things, report, {
      realm: config.realm,
      base: config.ldap.base,
    });
  }
  return { reports, report, digest: digestSteps(report.steps) };
}

/** Runs `act` on a connection of its own. */
export async function withAccount<T>(
  config: Config,
  account: Asker,
  act: (client: Client) => Promise<T>,
): Promise<T> {
  const pool = openPool(config, account, { max: 1, durable: true });
  try {
    return await look(pool, act);
  } finally {
    await pool.end();
  }
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
    account = 'admin',
  }: {
    roles: readonly Role[];
    timeoutMs: number;
    say?: ((text: string) => void) | undefined;
    account?: Asker;
  },
): Promise<Map<Role, Report>> {
  const id = randomUUID();
  const patience = { silentMs: timeoutMs, mostPutOff: Infinity };
  say?.(`asking ${roles.join(', ')}`);
  const pool = openPool(config, account, { max: 1, durable: true });
  const queues = openQueues(config, account);
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
