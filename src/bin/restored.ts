/** `chamberlain restored`: makes it safe to go on after a backup was restored. */
import type { Command } from 'commander';
import { wantsJson } from './configuration.ts';
import { canAsk } from './confirm.ts';
import { describeExamples, describeExits } from './exit.ts';
import { restoredDatabase } from './restored-database.ts';
import { restoredDirectory } from './restored-directory.ts';
import type { RestoredOptions } from './restored-survey.ts';
import { parseSeconds } from './seconds.ts';

export function defineRestored(command: Command): void {
  command
    .description(
      'After PostgreSQL came back from a backup: freezes the realm, asks the roles for all that they can\n' +
        'see, shows what it would move, asks, does that in one transaction, and thaws. Numbers go on beyond\n' +
        'the highest in use and 100 more; names in use that the backup does not know are taken for another’s;\n' +
        'who has a password that the backup does not know gets a new one; who was erased by law is erased\n' +
        'again; events go on a million later, so that no portal takes one for an old one. The workers must\n' +
        'run. Until it has ended well, the realm stays frozen; it may be interrupted at any moment, and run\n' +
        'again.\n\n' +
        'After the directory came back (--directory): brings everybody’s entries up to date, first where\n' +
        'something is to be taken away; then login hosts are told again.\n\n' +
        'Writes as the owner of the database, for no other account may move numbers, and needs its secret.',
    )
    .option('--directory', 'it is the directory that came back from a backup')
    .option('--yes', 'do not ask; without a terminal this is needed')
    .option(
      '--erase <people>',
      'with --yes: whom it may erase again, if erasures.log names them: a,b',
      (text) => text.split(','),
    )
    .option(
      '--timeout <seconds>',
      'how long a role may take without a sign of life',
      parseSeconds,
      60,
    )
    .addHelpText(
      'after',
      describeExamples('restored', 'restored --yes --json', 'restored --directory') +
        `\n${describeExits({
          1: 'it failed, or the answer was no: standard error says why',
          4: 'a role or a server did not answer, so nothing was done; the realm stays frozen',
          5: 'a worker is still at what it had begun; with --directory: what was raised is not all applied',
        })}`,
    )
    .action(async () => {
      const { directory, yes } = command.opts<RestoredOptions>();
      if (yes !== true && (wantsJson(command) || !canAsk())) {
        command.error('error: nobody can be asked here; give --yes');
      }
      await (directory === true ? restoredDirectory(command) : restoredDatabase(command));
    });
}
