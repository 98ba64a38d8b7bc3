/** `chamberlain explain`: all that is known about one word, on one page. Changes nothing. */
import type { Explanation } from '../../explain/explanation.ts';
import { renderExplanation } from '../../explain/render-explain.ts';
import type { Command } from '../command.ts';
import { configOf, wantsJson } from '../configuration.ts';
import { EXIT } from '../exit.ts';
import { explain } from '../../explain/explaining.ts';
import { printPage } from '../fold.ts';
import { parseSeconds } from '../options/seconds.ts';
import { paint, printJson } from '../table.ts';

/** The longest wait for a role that hangs. The page is shown as soon as all roles have answered. */
const TIMEOUT_SECONDS = 0.3;

export function define(command: Command): void {
  command
    .description(
      'Shows all that is known about WORD: who or what it is, who requested and approved it, what is\n' +
        'wanted, what each system has now and since when it differs, and who can become it, through which\n' +
        'chain of tools and with which key. Changes nothing.',
    )
    .argument(
      '<WORD>',
      'a shell name, display name, tool, uid, DN, database or its user, path in a home, fingerprint or public key',
    )
    .option('--timeout <seconds>', 'how long to wait for the roles', parseSeconds, TIMEOUT_SECONDS)
    .addHelpText(
      'after',
      `
Marks:
  + create   ~ change   - revoke (access goes, data stays)   ! destroy
  ? a finding   i one that an admin ignores   … waits for another role, or until a finding is resolved
  × could not be read`,
    )
    .examples(
      'explain tools.bridgebot',
      'explain 50001 --json',
      'explain /data/project/bridgebot/logs',
      'explain SHA256:CdJhaw8trPQaPlbHaEFi7I0Ko7eRHJ7Oq1wFrpA7QJA',
      'explain "$(cat id_ed25519.pub)"',
    )
    .exits({
      0: 'everything is as wanted',
      1: 'WORD names no person or tool (standard output says what is known of it), or the command failed',
      3: 'something differs or waits, or an admin must decide',
      4: 'something is UNREADABLE, or a role did not answer in time',
    })
    .action(async (word: string) => {
      const { timeout } = command.opts<{ timeout: number }>();
      const explanation = await explain(configOf(command), word, {
        timeoutMs: timeout * 1000,
        now: new Date(),
      });
      process.exitCode = exitOf(explanation);
      if (wantsJson(command)) printJson(explanation);
      else printPage(renderExplanation(explanation, paint));
    });
}

function exitOf({ subjects }: Explanation): number {
  if (subjects.length === 0) return EXIT.failed;
  const states = new Set(subjects.flatMap(({ targets }) => targets.map(({ state }) => state)));
  if (states.has('unreadable') || states.has('no answer')) return EXIT.unreadable;
  return states.size > 1 || !states.has('as wanted') ? EXIT.pending : EXIT.done;
}
