/** How a command ends: its exit code, and one line on standard error that says why. */
import { stripVTControlCharacters } from 'node:util';
import { CommanderError } from 'commander';
import {
  ChamberlainError,
  type Code,
  CODES,
  codeOf,
  describeError,
  isNotMigrated,
} from '../shared/errors.ts';
import { printable } from '../shared/printable.ts';

export const EXIT = {
  done: 0,
  failed: 1,
  /** the command line or the configuration */
  usage: 2,
  /** something needs attention */
  pending: 3,
  /** something could not be read, so the answer is incomplete */
  unreadable: 4,
  timeout: 5,
} as const;

/** The exit codes that every command has. */
const COMMON_EXITS = {
  1: 'the command failed: see standard error, `CODE: sentence. What to do.`',
  2: 'the command line or the configuration is wrong',
};

/** Renders the section on exit codes of a `--help`. */
export function describeExits(exits: Record<number, string>): string {
  const lines = Object.entries({ ...COMMON_EXITS, ...exits }).map(
    ([exit, meaning]) => `  ${exit}  ${meaning}`,
  );
  return `\nExit codes:\n${lines.join('\n')}`;
}

const NOT_MIGRATED =
  'CONFIG_INVALID: the database is not migrated to this version. Run `chamberlain migrate`.';

/** The advice when a server fails a command. Workers try again by themselves, a command does not. */
export const RUN_AGAIN =
  'Check that the server runs and can be reached. Then run the command again.';

/** The line for standard error: `CODE: sentence. What to do.`, and the exit code. */
export function describeFailure(error: unknown): { line: string; exit: number } {
  if (isNotMigrated(error)) return { line: NOT_MIGRATED, exit: EXIT.usage };
  const code = codeOf(error);
  const exit = code === 'USAGE' || code === 'CONFIG_INVALID' ? EXIT.usage : EXIT.failed;
  const isServers = code === 'BACKEND_UNAVAILABLE' || code === 'BACKEND_UNREADABLE';
  const action =
    (error as Partial<ChamberlainError> | null)?.action ?? (isServers ? RUN_AGAIN : undefined);
  return { line: failureLine(code, describeError(error), action), exit };
}

/**
 * Runs a program of deploy/. An error becomes one line on standard error, without a stack trace.
 *
 * @param usage the text for `--help`
 */
export function runProgram(usage: string, main: () => void): void {
  if (process.argv.slice(2).some((word) => word === '--help' || word === '-h')) {
    process.stdout.write(usage);
    return;
  }
  try {
    main();
  } catch (error) {
    const { code, message } = error as NodeJS.ErrnoException;
    const isOptions = code?.startsWith('ERR_PARSE_ARGS') === true;
    const reported = isOptions ? new ChamberlainError('USAGE', message, { action: '' }) : error;
    const { line, exit } = describeFailure(reported);
    process.stderr.write(`${line}\n`);
    process.exitCode = exit;
  }
}

/** Ends a command that has thrown, or whose command line commander has refused. */
export function endCommand(error: unknown): void {
  if (error instanceof CommanderError) {
    process.exitCode = error.exitCode === 0 ? EXIT.done : EXIT.usage;
    // without a command, commander has printed the help itself
    if (error.exitCode !== 0 && error.code !== 'commander.help') {
      const sentence = error.message.replace(/^error: /u, '').replace(/\s+\(Did/u, ' (did');
      process.stderr.write(`${failureLine('USAGE', sentence)}\n`);
    }
    return;
  }
  const { line, exit } = describeFailure(error);
  process.stderr.write(`${line}\n`);
  if (process.env['CHAMBERLAIN_DEBUG']) console.error(error);
  process.exit(exit); // a failed command may have left connections open
}

/** `CODE: sentence. What to do.` The default action comes from the table of codes. */
export function failureLine(
  code: string,
  sentence: string,
  action = Object.hasOwn(CODES, code) ? CODES[code as Code].action : '',
): string {
  const text = printable(stripVTControlCharacters(sentence)).trim();
  return `${code}: ${text}${/[.?!]$/u.test(text) ? '' : '.'} ${action}`.trimEnd();
}
