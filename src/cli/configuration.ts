/** How a command finds its configuration. */
import type { Command } from 'commander';
import { loadConfig, type Config } from '../shared/config.ts';
import { configPath } from './command.ts';

/** The options that every command has. */
interface CommonOptions {
  config?: string;
  json?: true;
}

/** The configuration that `--config` or CHAMBERLAIN_CONFIG names, or else that of the machine. */
export function configOf(command: Command): Config {
  return loadConfig(configPathOf(command));
}

/** The path of that configuration. */
export function configPathOf(command: Command): string {
  return configPath(command.optsWithGlobals<CommonOptions>().config);
}

/** Whether the output is for programs. */
export function wantsJson(command: Command): boolean {
  return command.optsWithGlobals<CommonOptions>().json === true;
}
