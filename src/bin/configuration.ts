/** Where a command finds its configuration. */
import type { Command } from 'commander';
import { loadConfig, type Config } from '../config.ts';
import { ChamberlainError } from '../errors.ts';

/** The options that every command has. */
export interface CommonOptions {
  config?: string;
  json?: true;
}

/** The configuration that `--config` or CHAMBERLAIN_CONFIG names. Throws USAGE where neither does. */
export function configOf(command: Command): Config {
  return loadConfig(configPathOf(command));
}

/** Where that is. */
export function configPathOf(command: Command): string {
  const path = command.optsWithGlobals<CommonOptions>().config ?? process.env['CHAMBERLAIN_CONFIG'];
  if (path === undefined || path === '') {
    throw new ChamberlainError(
      'USAGE',
      'no configuration is named. Give --config FILE, or set CHAMBERLAIN_CONFIG',
    );
  }
  return path;
}

/** Whether the output is for programs. */
export function wantsJson(command: Command): boolean {
  return command.optsWithGlobals<CommonOptions>().json === true;
}
