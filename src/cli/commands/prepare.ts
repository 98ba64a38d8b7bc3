/** `chamberlain prepare`: prepares the areas of the file server. An operator runs it who knows that they are mounted. */
import { prepareFileAreas } from '../../backends/files/file-acls.ts';
import { prepareArchives } from '../../archives/homes/file-archive-mount.ts';
import type { Command } from '../command.ts';
import { configOf, wantsJson } from '../configuration.ts';
import { whileWaiting } from '../progress.ts';
import { print, printJson } from '../table.ts';

export function define(command: Command): void {
  command
    .description(
      'Makes the folder for archives of homes. In that folder and in each area of homes, makes a folder\n' +
        '`.chamberlain`, which only root can enter. Each new home is built in the `.chamberlain` of its area.\n' +
        'That folder also shows that the file system is mounted: without it, the role `homes` does nothing\n' +
        'in that area, and archives nothing. Run the command once, as root on the file server, when\n' +
        'everything is mounted. While everything is mounted, running it again is harmless. If the folder\n' +
        'is missing in an area that had it, the file system is probably not mounted: mount it, and do not\n' +
        'run this. Otherwise all homes would be made again on the wrong disk.',
    )
    .examples('prepare')
    .exits()
    .action(async () => {
      const { files, archives } = configOf(command);
      const { groupWrite } = await whileWaiting('preparing the areas of homes', () =>
        prepareFileAreas(files),
      );
      await whileWaiting(`preparing ${archives.homes}`, () => prepareArchives(archives.homes));
      if (wantsJson(command)) printJson({ groupWrite });
      else {
        print(`ready: ${files.root}${files.toolHomes} and ${files.root}${files.personHomes}`);
        print(`ready for archives: ${archives.homes}`);
        if (groupWrite === 'unsupported') {
          print(
            'This file system has no POSIX ACLs: only the maintainer who makes a file can write to it.',
          );
        }
      }
    });
}
