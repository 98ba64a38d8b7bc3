/** Asks for a passphrase on the terminal, without showing it. It is never an argument or a variable of the environment. */
import { openSync, writeSync } from 'node:fs';
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
  terminal.setEncoding('utf8');
  terminal.setRawMode(true);
  try {
    writeSync(fd, questions[0] ?? '');
    return await readLines(terminal, questions.length, (line) => {
      writeSync(fd, `\r\n${questions[line] ?? ''}`);
    });
  } finally {
    terminal.setRawMode(false);
    terminal.destroy();
  }
}

const KEY = {
  end: ['\r', '\n', '\u0004'],
  abort: '\u0003',
  erase: ['\u007f', '\b'],
  clear: '\u0015',
};

async function readLines(
  terminal: ReadStream,
  count: number,
  onLine: (lines: number) => void,
): Promise<string[]> {
  const lines: string[] = [];
  let typed: string[] = [];
  for await (const text of terminal.iterator({ destroyOnReturn: false }) as AsyncIterable<string>) {
    for (const char of text) {
      if (char === KEY.abort)
        throw new ChamberlainError('USAGE', 'no passphrase was given', { action: 'Try again.' });
      if (KEY.end.includes(char)) {
        lines.push(typed.join(''));
        typed = [];
        onLine(lines.length);
        if (lines.length === count) return lines;
      } else if (KEY.erase.includes(char)) typed.pop();
      else if (char === KEY.clear) typed = [];
      else typed.push(char);
    }
  }
  throw new ChamberlainError('USAGE', 'no passphrase was given', { action: 'Try again.' });
}
