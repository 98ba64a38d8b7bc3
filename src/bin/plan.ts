/** `chamberlain plan`: the survey by the roles. Holds no hands: it asks, merges and renders. */
import { createHash, randomUUID } from 'node:crypto';
import { Option, type Command } from 'commander';
import type { Config } from '../config.ts';
import { openQueues } from '../edges/queue.ts';
import { ROLES, type Role } from '../model/wanted.ts';
import { digestSteps } from '../plan/digest.ts';
import { countPlan, renderPlan } from '../plan/render.ts';
import { mergeReports, onlyTarget, type Report } from '../plan/report.ts';
import { openSurvey } from '../store/survey-answers.ts';
import { configOf, wantsJson } from './configuration.ts';
import { describeExamples, describeExits, EXIT } from './exit.ts';
import { parseSeconds } from './seconds.ts';
import { requireSubjects, withAdmin } from './status.ts';
import { print, printJson } from './table.ts';

interface PlanOptions {
  all?: true;
  role?: Role;
  target?: string;
  timeout: number;
}

export function definePlan(command: Command): void {
  command
    .description(
      'Asks the roles to survey SUBJECTs, or everything, and shows what they would do: each step with\n' +
        'its reason, each finding that an admin must decide, what could not be read. Nothing is touched.\n' +
        'The digest at the end is that of the steps shown.',
    )
    .argument('[SUBJECT...]', 'shell names, tools (bridgebot or tools.bridgebot), or uids')
    .option('--all', 'every subject; the same as naming none')
    .addOption(new Option('--role <role>', 'ask this role alone').choices(ROLES))
    .option('--target <target>', 'show this target alone, such as home-directory')
    .option('--timeout <seconds>', 'how long a role may take', parseSeconds, 30)
    .addHelpText(
      'after',
      `
Marks:
  + create   ~ change   - revoke (access goes, data stays)   ! destroy
  ? a finding   … waits for another role
` +
        describeExamples(
          'plan tools.bridgebot',
          'plan --all --role homes',
          'plan alice --json | jq .digest',
        ) +
        `\n${describeExits({
          0: 'as wanted: no step, no finding',
          3: 'there is something to do, or to decide',
          4: 'something is UNREADABLE: a role did not answer, or could not read',
        })}`,
    )
    .action(async (words: string[]) => {
      const options = command.opts<PlanOptions>();
      if (options.all && words.length > 0) {
        command.error('error: --all and a SUBJECT at once: which of the two is meant?');
      }
      const config = configOf(command);
      const merged = mergeReports(await survey(config, words, options));
      const report = options.target === undefined ? merged : onlyTarget(merged, options.target);
      const digest = digestSteps(report.steps, (text) =>
        createHash('sha256').update(text).digest('hex'),
      );
      if (wantsJson(command)) {
        const { steps, findings, waiting, unreadable } = report;
        printJson({ steps, findings, waiting, unreadable, totals: countPlan(report), digest });
      } else {
        print(renderPlan(report, digest));
      }
      const isPending = report.steps.length > 0 || report.findings.length > 0;
      if (isPending) process.exitCode = EXIT.pending;
      if (report.unreadable.length > 0) process.exitCode = EXIT.unreadable;
    });
}

/** One report for each role that is asked; a role that does not answer is unreadable. */
async function survey(config: Config, words: string[], options: PlanOptions): Promise<Report[]> {
  const subjects =
    words.length === 0
      ? undefined
      : await withAdmin(config, async (client) => {
          const uids = new Set<number>();
          for (const word of words) {
            for (const { uid } of await requireSubjects(client, word)) uids.add(uid);
          }
          return [...uids];
        });
  const roles = options.role === undefined ? ROLES : [options.role];
  const id = randomUUID();
  const asked = await openSurvey(config, id, subjects);
  const queues = openQueues(config.redis.url, id);
  try {
    for (const role of roles) await queues.addSurvey(role, id);
    const reports = await asked.collect(roles, options.timeout * 1000);
    return roles.map((role) => reports.get(role) ?? noAnswer(role, options.timeout));
  } finally {
    await queues.close();
    await asked.close();
  }
}

function noAnswer(role: Role, seconds: number): Report {
  const sentence = `no answer within ${seconds} s; is \`chamberlain work ${role}\` running?`;
  return {
    steps: [],
    findings: [],
    waiting: [],
    unreadable: [{ target: role, sentence }],
    subjects: 0,
  };
}
