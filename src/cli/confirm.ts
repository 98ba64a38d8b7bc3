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

/** Why `canAsk` is false. */
export function whyNotAsked(command: Command): string {
  return wantsJson(command) ? 'with --json nothing is asked' : 'there is no terminal to confirm on';
}

/** Refuses the command line if the operator cannot be asked, and names the options to give instead. */
export function requireTerminal(command: Command, options: string): void {
  if (canAsk(command)) return;
  command.error(`error: ${whyNotAsked(command)}; give ${options}`);
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

/** What is asked for a text. */
interface Asked {
  text: string;
  fallback?: string;
  /** why a text is no answer, or undefined */
  refuses: (text: string) => string | undefined;
}

/** Asks each question until it has an answer. Undefined at the end of input, or after Ctrl-C. */
export async function askEach(questions: readonly Asked[]): Promise<string[] | undefined> {
  const lines = createInterface({ input: process.stdin, output: process.stdout });
  const answers: string[] = [];
  const show = ({ text, fallback }: Asked): void => {
    lines.setPrompt(`${text}${fallback === undefined ? '' : ` [${fallback}]`}: `);
    lines.prompt();
  };
  try {
    if (questions[0] !== undefined) show(questions[0]);
    for await (const line of lines) {
      const { fallback = '', refuses } = questions[answers.length] as Asked;
      const text = line.trim() || fallback;
      const refusal = refuses(text);
      if (refusal === undefined) answers.push(text);
      else print(refusal);
      const next = questions[answers.length];
      if (next === undefined) return answers;
      show(next);
    }
    return undefined;
  } finally {
    lines.close();
  }
}
