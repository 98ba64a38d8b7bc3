/** Asks for a passphrase on the terminal, without showing it. It is never an argument or a variable of the environment. */
import { openSync, writeSync } from 'node:fs';
import { createInterface } from 'node:readline';
import { Writable } from 'node:stream';
import { ReadStream } from 'node:tty';
import { ChamberlainError } from '../../shared/errors.ts';

/** Asks one question after another, also while standard input is a file. Throws USAGE without a terminal, or after Ctrl-C. */
export async function askPassphrases(questions: readonly string[]): Promise<string[]> {
  let fd: number;
  try {
    fd = openSync('/dev/tty', 'r+');
  } catch (cause) {
    throw new ChamberlainError('USAGE', 'there is no terminal to ask for the passphrase on', {
      cause,
      action: 'Run it on a terminal, or put the key into an ssh-agent and name its .pub file.',
    });
  }
  const terminal = new ReadStream(fd);
  // what is typed goes nowhere; without a history, nobody gets it again with the arrows
  const output = new Writable({ write: (_text, _encoding, done) => done() });
  const lines = createInterface({ input: terminal, output, terminal: true, historySize: 0 });
  const answers: string[] = [];
  try {
    writeSync(fd, questions[0] ?? '');
    for await (const line of lines) {
      answers.push(line);
      writeSync(fd, `\r\n${questions[answers.length] ?? ''}`);
      if (answers.length === questions.length) return answers;
    }
    throw new ChamberlainError('USAGE', 'no passphrase was given', { action: 'Try again.' });
  } finally {
    lines.close();
    terminal.destroy();
  }
}
