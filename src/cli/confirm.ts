/** Asks the operator at the terminal. */
import { createInterface } from 'node:readline';
import type { Command } from 'commander';
import { wantsJson } from './configuration.ts';
import { EXIT } from './exit.ts';
import { print } from './table.ts';

/** Whether there is a terminal to ask on, and the output is for people. */
export function canAsk(command: Command): boolean {
  return !wantsJson(command) && process.stdin.isTTY && process.stdout.isTTY;
}

/** Refuses the command line if the operator cannot be asked, and names the options to give instead. */
export function requireTerminal(command: Command, options: string): void {
  if (canAsk(command)) return;
  command.error(`error: there is no terminal to confirm on; give ${options}`);
}

/** Asks on the terminal. End of input, or Ctrl-C, means no, which fails the command: prints `declined`. */
export async function confirm(question: string, declined = 'Nothing was done.'): Promise<boolean> {
  const lines = createInterface({ input: process.stdin, output: process.stdout });
  const isAgreed = await new Promise<boolean>((resolve) => {
    lines.once('close', () => resolve(false));
    lines.question(question, (answer) => {
      resolve(/^y(es)?$/iu.test(answer.trim()));
      lines.close();
    });
  });
  if (!isAgreed) {
    print(declined);
    process.exitCode = EXIT.failed;
  }
  return isAgreed;
}
