/** `chamberlain plan`: a survey as steps. Changes nothing: it asks the roles, merges and renders. */
import { countPlan, renderPlan } from '../../../reconcile/render-plan.ts';
import type { Command } from '../../command.ts';
import { wantsJson } from '../../configuration.ts';
import { printPage } from '../../fold.ts';
import { addSurveyOptions, askByOptions, exitOf } from '../../../drift/surveying.ts';
import { paint, printJson } from '../../table.ts';

export function define(command: Command): void {
  addSurveyOptions(command);
  command
    .description(
      'Asks the roles to look at SUBJECTs, or at everything, and shows what they would do: each step with\n' +
        'its reason, each finding on which an admin must decide, and what could not be read. Changes\n' +
        'nothing. The digest at the end identifies the steps shown: give it to `repair --expect`.',
    )
    .addHelpText(
      'after',
      `
Marks:
  + create   ~ change   - revoke (access goes, data stays)   ! destroy
  ? a finding, also one that an admin ignores   … waits for another role`,
    )
    .examples('plan tools.bridgebot', 'plan --all --role homes', 'plan alice --json | jq .digest')
    .exits({
      0: 'as wanted: no step, no finding',
      3: 'there is a step or a finding',
      4: 'something is UNREADABLE: a role did not answer, or could not read a server',
    })
    .action(async (words: string[]) => {
      const { report, digest } = await askByOptions(command, words);
      if (wantsJson(command)) {
        const { steps, findings, waiting, unreadable, unmanaged = [] } = report;
        const all = { steps, findings, waiting, unreadable, unmanaged };
        printJson({ ...all, totals: countPlan(report), digest });
      } else {
        printPage(renderPlan(report, digest, paint));
      }
      process.exitCode = exitOf(report);
    });
}
