/** `chamberlain survey`: what has drifted, in groups. Changes nothing: it asks the roles, merges and renders. */
import { countSurvey, renderSurvey } from '../../../drift/render-survey.ts';
import { groupSurvey } from '../../../drift/survey-groups.ts';
import type { Command } from '../../command.ts';
import { wantsJson } from '../../configuration.ts';
import { printPage } from '../../fold.ts';
import { addSurveyOptions, askByOptions, exitOf } from '../../../drift/surveying.ts';
import { paint, printJson } from '../../table.ts';

/** How many accounts of a group the JSON names; the lists beside the groups hold all. */
const FIRST = 5;

export function define(command: Command): void {
  addSurveyOptions(command);
  command
    .description(
      'Asks the roles to look at SUBJECTs, or at everything, and shows what differs from what is wanted,\n' +
        'in groups. The groups, worst first, are: what could not be read; findings and unmanaged things, on\n' +
        'which an admin must decide; and drift (too much access, what is to be destroyed, what is missing,\n' +
        'what is different). Changes nothing.',
    )
    .examples(
      'survey',
      'survey tools.bridgebot alice 50017',
      'survey --role databases',
      "survey --json | jq '.groups[] | {kind, code, target, what, count}'",
    )
    .exits({
      0: 'clean: no drift, no finding',
      3: 'there is drift, or a finding',
      4: 'something is UNREADABLE: a role did not answer, or could not read a server',
    })
    .action(async (words: string[]) => {
      const { report, digest } = await askByOptions(command, words);
      if (wantsJson(command)) {
        const groups = groupSurvey(report).map(({ items, ...group }) => ({
          ...group,
          first: items.slice(0, FIRST).flatMap(({ account }) => account ?? []),
        }));
        const { steps, findings, waiting, unreadable, unmanaged = [] } = report;
        const all = { steps, findings, waiting, unreadable, unmanaged };
        printJson({ groups, ...all, totals: countSurvey(report), digest });
      } else {
        printPage(renderSurvey(report, (text) => paint('bold', text)));
      }
      process.exitCode = exitOf(report);
    });
}
