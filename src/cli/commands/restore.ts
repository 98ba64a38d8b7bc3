/** `chamberlain restore`: restores a deleted tool from its archives. The work is done in restoring.ts. */
import { Option, type Command } from 'commander';
import { describeExamples, describeExits } from '../exit.ts';
import { parseSeconds } from '../options/seconds.ts';

/** A large home takes hours. */
const TIMEOUT_SECONDS = 24 * 3600;

export function defineRestore(command: Command): void {
  command
    .description(
      'Restores a deleted tool from its archives, with the same number, name, databases and home, and a\n' +
        "new database password. Signs the request with the admin's own key, like `submit tool.restore`, and\n" +
        'follows it to its end. If the command is interrupted, the restoration continues by itself.',
    )
    .argument('<TOOL>', 'a tool (bridgebot or tools.bridgebot)')
    .option('--portal-key <file>', "the admin's key (default: as for `submit`)")
    .addOption(
      new Option('--timeout <seconds>', 'how long to follow it')
        .argParser(parseSeconds)
        .default(TIMEOUT_SECONDS),
    )
    .addHelpText(
      'after',
      describeExamples('restore tools.bridgebot', 'restore bridgebot --json') +
        `\n${describeExits({
          0: 'the tool is active, and everything is in place',
          1: 'refused, or a role has given up: see standard error, `CODE: sentence`',
          5: 'not everything is in place after --timeout seconds; the restoration continues',
        })}`,
    )
    .action(async (tool: string) => {
      const { restore } = await import('../restoring.ts');
      await restore(command, tool);
    });
}
