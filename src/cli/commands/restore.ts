/** `chamberlain restore`: a deleted tool comes back from its archives. What it does is in restoring.ts. */
import { Option, type Command } from 'commander';
import { describeExamples, describeExits } from '../exit.ts';
import { parseSeconds } from '../seconds.ts';

/** A large home takes its time. */
const TIMEOUT_SECONDS = 24 * 3600;

export function defineRestore(command: Command): void {
  command
    .description(
      'Brings a deleted tool back from its archives: the same number, name and databases, its home as\n' +
        "it was, a new database password. Asked for with the admin's own key, as `submit tool.restore`\n" +
        'does; then it is followed to its end, which may be interrupted: it goes on by itself.',
    )
    .argument('<TOOL>', 'a tool (bridgebot or tools.bridgebot)')
    .option('--portal-key <file>', "the admin's key (default: as `submit` finds it)")
    .addOption(
      new Option('--timeout <seconds>', 'how long it is followed')
        .argParser(parseSeconds)
        .default(TIMEOUT_SECONDS),
    )
    .addHelpText(
      'after',
      describeExamples('restore tools.bridgebot', 'restore bridgebot --json') +
        `\n${describeExits({
          0: 'the tool is active, and all of it is in place',
          1: 'refused, or a role has given up: standard error says `CODE: sentence`',
          5: 'not all is in place after --timeout seconds; it goes on',
        })}`,
    )
    .action(async (tool: string) => {
      const { restore } = await import('../restoring.ts');
      await restore(command, tool);
    });
}
