/** `chamberlain repair`: has the roles do what `plan` shows. Has no writer: it asks, and waits. */
import { randomUUID } from 'node:crypto';
import type { Command } from 'commander';
import type { Config } from '../../shared/config.ts';
import { ChamberlainError } from '../../shared/errors.ts';
import { digestSteps } from '../../reconcile/digest.ts';
import { countPlan, renderPlan } from '../../reconcile/render-plan.ts';
import { readGivenUp, recordRepair } from '../../drift/asked-repairs.ts';
import { readFreeze } from '../../database/freeze.ts';
import type { Client } from '../../database/connection.ts';
import { configOf, wantsJson } from '../configuration.ts';
import { canAsk, confirm } from '../confirm.ts';
import { describeExamples, describeExits, EXIT } from '../exit.ts';
import { followRepair } from '../../drift/follow-repair.ts';
import { printPage } from '../fold.ts';
import { operatorName } from '../operator.ts';
import { startProgress } from '../progress.ts';
import { type AskedPart, draftParts } from '../../drift/repair-parts.ts';
import { failuresOf, type Repaired, renderRepaired, toJson } from '../../drift/repaired.ts';
import { withAdmin } from '../admin.ts';
import {
  addSurveyOptions,
  type Asked,
  askByOptions,
  subjectsOf,
  type SurveyOptions,
} from '../../drift/surveying.ts';
import { paint, print, printJson } from '../table.ts';

interface RepairOptions extends SurveyOptions {
  expect?: string;
  destroy?: true;
  yes?: true;
}

export function defineRepair(command: Command): void {
  addSurveyOptions(
    command.description(
      'Asks the roles to do what `plan` shows for the same words and options, exactly that: each plans\n' +
        'anew, and acts on a subject only where its plan is still the one that was read; the other\n' +
        'subjects go on. A finding withholds only the steps on that very object. Ends when what follows\n' +
        'from the steps, such as a new verifier on every server, is there too.',
    ),
  )
    .option('--expect <digest>', 'do nothing unless the plan has this digest')
    .option('--destroy', 'do steps that destroy (`!`), too')
    .option('--yes', 'do not ask; without a terminal this or --expect is needed')
    .addHelpText(
      'after',
      `
It may be interrupted at any moment. What was asked for by then may still be done; run it again for the
rest. What a role has given up on (\`parked\`) is looked at again.
` +
        describeExamples(
          'repair tools.bridgebot',
          'repair --all --role homes --yes',
          'repair --all --expect "$(chamberlain plan --all --json | jq -r .digest)"',
        ) +
        `\n${describeExits({
          0: 'every step shown was done, or there was none; findings do not count',
          1: 'a step was refused, withheld or failed, or does not show on every server yet',
          4: 'nothing failed, but something is UNREADABLE',
        })}`,
    )
    .action(async (words: string[]) => {
      const options = command.opts<RepairOptions>();
      const json = wantsJson(command);
      const isAsked = options.yes === true || options.expect !== undefined;
      if (!isAsked && (json || !canAsk())) {
        command.error('error: nobody can be asked here; give --expect DIGEST, or --yes');
      }
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
      if (!isAsked && parts.length > 0 && !(await confirm(questionOf(steps, withheld.length)))) {
        print('Nothing was done.');
        process.exitCode = EXIT.failed;
        return;
      }
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

async function refuseFrozen(client: Client): Promise<void> {
  const frozen = await readFreeze(client);
  if (frozen === undefined) return;
  const { frozenBy, reason } = frozen;
  const why = reason === null ? '' : `: ${reason}`;
  throw new ChamberlainError('FROZEN', `frozen by ${frozenBy}${why}; nothing was done`);
}

async function draft(
  config: Config,
  words: readonly string[],
  { reports }: Asked,
  { target, destroy }: RepairOptions,
): Promise<ReturnType<typeof draftParts>> {
  // one target alone does not mend all that a role has given up
  const roles = target === undefined ? [...reports.keys()] : [];
  const subjects = await subjectsOf(config, words);
  const givenUp = await withAdmin(config, (client) => readGivenUp(client, roles, subjects));
  return draftParts(reports, { target, destroy: destroy ?? false }, givenUp);
}

async function repair(
  config: Config,
  parts: readonly AskedPart[],
  { options, json }: { options: RepairOptions; json: boolean },
) {
  const id = randomUUID();
  const by = operatorName();
  await withAdmin(config, async (client) => {
    await refuseFrozen(client);
    await recordRepair(client, {
      id,
      by,
      destroy: options.destroy ?? false,
      target: options.target,
      parts: parts.map(({ subject, role, steps, sideConditions }) => ({
        subject,
        role,
        digest: digestSteps(steps),
        sideConditions,
      })),
      acts: [...Map.groupBy(parts, ({ subject }) => subject)].map(([subject, of]) => ({
        kind: 'repair',
        by,
        subject,
        account: of[0]?.account ?? '',
        fields: [...new Set(of.flatMap(({ steps }) => steps.map(({ target }) => target)))],
      })),
    });
  });
  const progress = startProgress({ json });
  const onSignal = () => {
    progress.end();
    process.stderr.write(
      `interrupted: repair ${id} was asked for, and the roles may still do what is left of it. ` +
        'Run it again to see.\n',
    );
    process.exit(EXIT.failed);
  };
  process.on('SIGINT', onSignal).on('SIGTERM', onSignal);
  try {
    const timeoutMs = options.timeout * 1000;
    return { id, ...(await followRepair(config, { id, parts, timeoutMs, say: progress.say })) };
  } finally {
    progress.end();
    process.off('SIGINT', onSignal).off('SIGTERM', onSignal);
  }
}

function questionOf(steps: number, withheld: number): string {
  const what =
    steps === 0
      ? 'No step is left; have the roles look again at what they have given up?'
      : `Do ${steps === 1 ? 'this step' : `these ${steps} steps`}?`;
  const left = withheld === 0 ? '' : ` (${withheld} that destroy are left out: --destroy)`;
  return `\n${what}${left} [y/N] `;
}
