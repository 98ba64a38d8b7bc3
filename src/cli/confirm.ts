/** Asking the one at the terminal. */
import { createInterface } from 'node:readline';

/** Whether somebody is there who can answer. */
export function canAsk(): boolean {
  return process.stdin.isTTY && process.stdout.isTTY;
}

/** Asks on the terminal. Its end, or Ctrl-C, is a no. */
export function confirm(question: string): Promise<boolean> {
  const lines = createInterface({ input: process.stdin, output: process.stdout });
  return new Promise((resolve) => {
    lines.once('close', () => resolve(false));
    lines.question(question, (answer) => {
      resolve(/^y(es)?$/iu.test(answer.trim()));
      lines.close();
    });
  });
}
