/** `chamberlain prepare`: makes the file server's areas ready, by someone who knows they are mounted. */
import type { Command } from 'commander';
import { prepareFileAreas } from '../../backends/files/file-acls.ts';
import { prepareArchives } from '../../archives/homes/file-archive-mount.ts';
import { configOf, wantsJson } from '../configuration.ts';
import { describeExamples, describeExits } from '../exit.ts';
import { whileWaiting } from '../progress.ts';
import { print, printJson } from '../table.ts';

export function definePrepare(command: Command): void {
  command
    .description(
      'Makes a root-only folder `.chamberlain` in each area of homes, in which new homes are built, and\n' +
        'one in the folder for archives of homes, which it makes too. It is also the mark that what it is\n' +
        'in is mounted: without it the role `homes` does nothing there. Run it once, as root on the file\n' +
        'server, when all are mounted; again is harmless.',
    )
    .addHelpText('after', describeExamples('prepare') + `\n${describeExits({})}`)
    .action(async () => {
      const { files, archives } = configOf(command);
      const { groupWrite } = await whileWaiting('making the areas of homes ready', () =>
        prepareFileAreas(files),
      );
      await whileWaiting(`making ${archives.homes} ready`, () => prepareArchives(archives.homes));
      if (wantsJson(command)) printJson({ groupWrite });
      else {
        print(`ready: ${files.root}${files.toolHomes} and ${files.root}${files.personHomes}`);
        print(`ready for archives: ${archives.homes}`);
        if (groupWrite === 'unsupported') {
          print(
            'This file system keeps no POSIX ACLs: what a maintainer makes stays theirs to write.',
          );
        }
      }
    });
}
