/** `chamberlain prepare`: makes the file server's areas ready, by someone who knows they are mounted. */
import type { Command } from 'commander';
import { prepareFileAreas } from '../edges/file-acls.ts';
import { configOf, wantsJson } from './configuration.ts';
import { describeExamples, describeExits } from './exit.ts';
import { print, printJson } from './table.ts';

export function definePrepare(command: Command): void {
  command
    .description(
      'Makes a root-only folder `.chamberlain` in each area of homes, in which new homes are built. It\n' +
        'is also the mark that the area is mounted: without it the role `homes` does nothing there. Run\n' +
        'it once, as root on the file server, when the areas are mounted; again is harmless.',
    )
    .addHelpText('after', describeExamples('prepare') + `\n${describeExits({})}`)
    .action(async () => {
      const { files } = configOf(command);
      const { groupWrite } = await prepareFileAreas(files);
      if (wantsJson(command)) printJson({ groupWrite });
      else {
        print(`ready: ${files.root}${files.toolHomes} and ${files.root}${files.personHomes}`);
        if (groupWrite === 'unsupported') {
          print(
            'This file system keeps no POSIX ACLs: what a maintainer makes stays theirs to write.',
          );
        }
      }
    });
}
