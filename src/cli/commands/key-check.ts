/** `chamberlain key check`: parses a pasted key strictly. Needs no configuration and no server. */
import { createReadStream } from 'node:fs';
import { cannotRead } from '../../shared/errors.ts';
import { parseSshKey } from '../../ssh-keys/ssh-key.ts';
import type { Command } from '../command.ts';
import { wantsJson } from '../configuration.ts';
import { EXIT } from '../exit.ts';
import { print, printJson } from '../table.ts';

/** A longer input cannot be a key, and is not read further. */
const MAX_INPUT_BYTES = 64 * 1024;

export function define(key: Command): void {
  key
    .description('Checks public SSH keys. Needs no configuration and no server.')
    .helpCommand(false)
    .examples('key check ~/.ssh/id_ed25519.pub');
  const check = key.command('check').summary('check one key in a file or on standard input');
  check
    .description(
      'Reads one public SSH key from FILE, or from standard input, exactly as it was pasted, and shows its\n' +
        'properties. If the key is not accepted, prints one line to standard error: a code, and what the\n' +
        'person should do.',
    )
    .argument('[FILE]', 'the file with the key; `-` for standard input', '-')
    .examples('key check ~/.ssh/id_ed25519.pub', 'key check --json < pasted.txt')
    .addHelpText(
      'after',
      `
Exit codes:
  0  the key is accepted
  2  the key is not accepted (standard error: \`KEY_…: sentence\`), or the file or the command line
     is wrong (\`USAGE: …\`)`,
    )
    .action(async (file: string) => {
      const verdict = parseSshKey(await readInput(file));
      if (!verdict.ok) {
        process.stderr.write(`${verdict.code}: ${verdict.sentence}\n`);
        process.exitCode = EXIT.usage;
        return;
      }
      const { type, bits, fingerprint, line, options, label } = verdict.key;
      if (wantsJson(check)) {
        printJson({ type, bits, fingerprint, line, options });
        return;
      }
      print(`type         ${type}, ${bits} bits`);
      print(`fingerprint  ${fingerprint}`);
      if (options.length > 0) print(`options      ${options.join(',')}`);
      if (label !== '') print(`label        ${label}`);
      print(`line         ${line}`);
    });
}

/**
 * A file, or standard input (`-`), as text, up to a little more than any key. Bytes that are not UTF-8 become U+0000,
 * which no key may hold; a byte order mark stays, and is refused like any other letter.
 */
async function readInput(file: string): Promise<string> {
  const input = file === '-' ? process.stdin : createReadStream(file);
  const chunks: Buffer[] = [];
  let sizeBytes = 0;
  try {
    for await (const chunk of input) {
      chunks.push(chunk as Buffer);
      sizeBytes += (chunk as Buffer).length;
      if (sizeBytes > MAX_INPUT_BYTES) break;
    }
  } catch (cause) {
    throw cannotRead('file', file, cause, 'USAGE');
  }
  input.destroy(); // so that a writer gets EPIPE
  const bytes = Buffer.concat(chunks);
  try {
    return new TextDecoder('utf-8', { fatal: true, ignoreBOM: true }).decode(bytes);
  } catch {
    // cut off within a letter, or not UTF-8 at all
    return bytes.toString('latin1').replace(/[^\x20-\x7e\r\n\t]/gu, '\0');
  }
}
