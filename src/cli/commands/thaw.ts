/** `chamberlain thaw`: ends a freeze. */
import type { Command } from 'commander';
import { thaw } from '../../database/freeze.ts';
import { configOf, wantsJson } from '../configuration.ts';
import { describeExamples, describeExits } from '../exit.ts';
import { describeFreeze } from './freeze.ts';
import { operatorName } from '../operator.ts';
import { withAdmin } from '../admin.ts';
import { print, printJson } from '../table.ts';

export function defineThaw(command: Command): void {
  command
    .description(
      'Ends a freeze: requests that wait get their verdicts, and what is due is done, within a second.\n' +
        'Where the program itself has frozen, because the database is an older copy, it refuses: run\n' +
        '`chamberlain recover`, which thaws when it is safe.',
    )
    .addHelpText(
      'after',
      describeExamples('thaw', 'thaw --json') +
        `\n${describeExits({ 0: 'thawed; also where nothing was frozen' })}`,
    )
    .action(async () => {
      const ended = await withAdmin(configOf(command), (client) => thaw(client, operatorName()));
      if (wantsJson(command)) printJson({ thawed: ended !== undefined, was: ended ?? null });
      else if (ended === undefined) print('It was not frozen.');
      else print(`Thawed. It was ${describeFreeze(ended)}.`);
    });
}
