/** `chamberlain thaw`: ends a freeze. */
import { thaw } from '../../database/freeze.ts';
import type { Command } from '../command.ts';
import { configOf, wantsJson } from '../configuration.ts';
import { describeFreeze } from './freeze.ts';
import { operatorName } from '../operator.ts';
import { withAdmin } from '../admin.ts';
import { print, printJson } from '../table.ts';

export function define(command: Command): void {
  command
    .description(
      'Ends a freeze: within a second, waiting requests get their verdicts and due work begins. It refuses\n' +
        'if Chamberlain itself has frozen the realm, because PostgreSQL is an older copy: then run\n' +
        '`chamberlain recover`, which thaws the realm when that is safe.',
    )
    .examples('thaw', 'thaw --json')
    .exits({ 0: 'the realm is thawed, or was not frozen' })
    .action(async () => {
      const ended = await withAdmin(configOf(command), (client) => thaw(client, operatorName()));
      if (wantsJson(command)) printJson({ thawed: ended !== undefined, was: ended ?? null });
      else if (ended === undefined) print('The realm was not frozen.');
      else print(`Thawed. The realm was ${describeFreeze(ended)}.`);
    });
}
