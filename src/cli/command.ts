/** A command of `chamberlain`: one of commander's, whose help ends with examples and exit codes. */
import { existsSync } from 'node:fs';
import { Command as Commander } from 'commander';
import { ChamberlainError } from '../shared/errors.ts';
import { describeExits } from './exit.ts';

/** The default configuration of a machine. */
export const CONFIG_FILE = '/etc/chamberlain/config.yaml';

export class Command extends Commander {
  override createCommand(name?: string): Command {
    return new Command(name);
  }

  /** Shows example command lines, each without the word `chamberlain`. */
  examples(...examples: string[]): this {
    const lines = examples.map((example) => `  $ chamberlain ${example}`);
    return this.addHelpText('after', `\nExamples:\n${lines.join('\n')}`);
  }

  /** Shows the exit codes of every command, and what its own ones mean. */
  exits(exits: Record<number, string> = {}): this {
    return this.addHelpText('after', describeExits(exits));
  }
}

/**
 * The path of the configuration: the named file, or else $CHAMBERLAIN_CONFIG unless it is empty, or else CONFIG_FILE.
 * Throws USAGE if that is CONFIG_FILE and it does not exist.
 */
export function configPath(named: string | undefined): string {
  const path = named ?? (process.env['CHAMBERLAIN_CONFIG'] || CONFIG_FILE);
  if (path === CONFIG_FILE && !existsSync(path)) {
    throw new ChamberlainError('USAGE', `there is no configuration file ${path}`, {
      action:
        'Give --config FILE, or set CHAMBERLAIN_CONFIG. On a machine that is to be a realm, run `chamberlain setup` first.',
    });
  }
  return path;
}
