/** `chamberlain repair`: has the roles take the steps that `plan` shows. It asks them, and waits. */
import { randomUUID } from 'node:crypto';
import type { Config } from '../../../shared/config.ts';
import { ChamberlainError } from '../../../shared/errors.ts';
import { countPlan, renderPlan } from '../../../reconcile/render-plan.ts';
import { recordRepair } from '../../../drift/repairs-table.ts';
import type { Command } from '../../command.ts';
import { configOf, wantsJson } from '../../configuration.ts';
import { confirm, requireTerminal } from '../../confirm.ts';
import { EXIT } from '../../exit.ts';
import { followRepair } from '../../../drift/follow-repair.ts';
import { printPage } from '../../fold.ts';
import { operatorName } from '../../operator.ts';
import { startProgress } from '../../progress.ts';
import type { draftParts } from '../../../drift/repair-parts.ts';
import { actsOf, draftRepair, refuseFrozen } from '../../../drift/drafting.ts';
import { type AskedPart, mayBegin } from '../../../drift/repair-parts.ts';
import type { Asked } from '../../../drift/asking.ts';
import { failuresOf, type Repaired, renderRepaired, toJson } from '../../../drift/repaired.ts';
import { withAdmin } from '../../admin.ts';
import {
  addSurveyOptions,
  askByOptions,
  subjectsOf,
  type SurveyOptions,
} from '../../../drift/surveying.ts';
import { paint, print, printJson } from '../../table.ts';

interface RepairOptions extends SurveyOptions {
  expect?: string;
  destroy?: true;
  yes?: true;
}

export function define(command: Command): void {
  addSurveyOptions(
    command,
    'how long to wait while a role completes nothing; what it has begun continues',
  );
  command
    .description(
      'Asks the roles to take exactly the steps that `plan` shows for the same arguments and options. Each\n' +
        'role plans again, and skips a subject whose plan has changed since it was shown. A finding blocks\n' +
        'only the steps on the object that it names. The command ends when the consequences of the steps are\n' +
        'in place too, such as a new verifier on every database server.',
    )
    .option('--expect <digest>', 'do nothing unless the plan has this digest')
    .option('--destroy', 'also take steps that destroy data (`!`)')
    .option(
      '--yes',
      'do not ask for confirmation; without a terminal, this or --expect is required',
    )
    .addHelpText(
      'after',
      `
The command may be interrupted at any moment. The roles may still take the steps that they were asked
for; run the command again for the rest. Subjects that a role has given up on (\`parked\`) are tried again.`,
    )
    .examples(
      'repair tools.bridgebot',
      'repair --all --role homes --yes',
      'repair --all --expect DIGEST',
    )
    .exits({
      0: 'every step shown was taken, or there was none; findings do not count',
      1: 'a step was refused, withheld or failed, or is not in place on every server yet',
      4: 'nothing failed, but something is UNREADABLE',
    })
    .action(async (words: string[]) => {
      const options = command.opts<RepairOptions>();
      const json = wantsJson(command);
      const isAsked = options.yes === true || options.expect !== undefined;
      if (!isAsked) requireTerminal(command, '--expect DIGEST, or --yes');
      const config = configOf(command);
      await withAdmin(config, refuseFrozen);
      const asked = await askByOptions(command, words, config);
      if (options.expect !== undefined && options.expect !== asked.digest) {
        throw new ChamberlainError(
          'PLAN_MOVED',
          `the digest is ${asked.digest} now, not ${options.expect}; nothing was done`,
        );
      }
      const { parts, withheld } = await draft(config, words, asked, options);
      if (!json) printPage(renderPlan(asked.report, asked.digest, paint));
      const steps = parts.reduce((sum, part) => sum + part.steps.length, 0);
      const mustAsk = !isAsked && parts.length > 0;
      if (mustAsk && !(await confirm(questionOf(steps, withheld.length)))) return;
      const done = parts.length === 0 ? NOTHING : await repair(config, parts, { options, json });
      const repaired: Repaired = { ...done, ...asked, withheld };
      if (json) printJson({ ...toJson(repaired), totals: countPlan(asked.report) });
      else print(renderRepaired(repaired));
      const failures = failuresOf(repaired);
      for (const line of failures) process.stderr.write(`${line}\n`);
      if (asked.report.unreadable.length > 0) process.exitCode = EXIT.unreadable;
      if (failures.length > 0) process.exitCode = EXIT.failed;
    });
}

const NOTHING = { id: undefined, parts: [], owed: [] };

async function draft(
  config: Config,
  words: readonly string[],
  { reports }: Asked,
  { target, destroy }: RepairOptions,
): Promise<ReturnType<typeof draftParts>> {
  const subjects = await subjectsOf(config, words);
  return withAdmin(config, (client) =>
    draftRepair(client, reports, { subjects, target, destroy: destroy === true }),
  );
}

async function repair(
  config: Config,
  parts: readonly AskedPart[],
  { options, json }: { options: RepairOptions; json: boolean },
) {
  const id = randomUUID();
  const by = operatorName();
  const progress = startProgress({ json });
  const onSignal = () => {
    progress.end();
    process.stderr.write(
      `interrupted: after ten seconds, the roles begin no more steps of repair ${id}. They finish those that they have begun. ` +
        'Run the command again for the rest.\n',
    );
    process.exit(EXIT.failed);
  };
  process.on('SIGINT', onSignal).on('SIGTERM', onSignal);
  try {
    await withAdmin(config, async (client) => {
      await refuseFrozen(client);
      await recordRepair(client, {
        id,
        by,
        destroy: options.destroy ?? false,
        target: options.target,
        parts: mayBegin(parts),
        acts: actsOf(parts).map((act) => ({ kind: 'repair', by, ...act })),
      });
    });
    const timeoutMs = options.timeout * 1000;
    return {
      id,
      ...(await followRepair(config, 'admin', { id, parts, timeoutMs, say: progress.say })),
    };
  } finally {
    progress.end();
    process.off('SIGINT', onSignal).off('SIGTERM', onSignal);
  }
}

function questionOf(steps: number, withheld: number): string {
  const what =
    steps === 0
      ? 'There is no step to take. Have the roles try again what they have given up on?'
      : `Take ${steps === 1 ? 'this step' : `these ${steps} steps`}?`;
  const left =
    withheld === 0
      ? ''
      : ` (without ${withheld} that ${withheld === 1 ? 'destroys' : 'destroy'} data: see --destroy)`;
  return `\n${what}${left} [y/N] `;
}
