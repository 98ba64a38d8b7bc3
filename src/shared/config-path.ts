/** The path of the configuration. */
import { existsSync } from 'node:fs';
import { ChamberlainError } from './errors.ts';

/** The default configuration of a machine. */
export const CONFIG_FILE = '/etc/chamberlain/config.yaml';

/**
 * The path of the configuration: the named file, or else $CHAMBERLAIN_CONFIG unless it is empty, or else CONFIG_FILE.
 * Throws USAGE if that is CONFIG_FILE and it does not exist.
 */
export function configPath(named: string | undefined): string {
  const path = named ?? (process.env['CHAMBERLAIN_CONFIG'] || CONFIG_FILE);
  if (path === CONFIG_FILE && !existsSync(path)) {
    throw new ChamberlainError('USAGE', `there is no configuration file ${path}`, {
      action: 'Give --config FILE, or set CHAMBERLAIN_CONFIG.',
    });
  }
  return path;
}
