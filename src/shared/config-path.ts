/** Where the configuration lies. */
import { existsSync } from 'node:fs';
import { ChamberlainError } from './errors.ts';

/** The configuration of a machine, where nothing else is said. */
export const CONFIG_FILE = '/etc/chamberlain/config.yaml';

/**
 * Where the configuration lies: the file that was named, else that of $CHAMBERLAIN_CONFIG unless it is empty, else
 * CONFIG_FILE. Throws USAGE where that one is meant and is not there.
 */
export function configPath(named: string | undefined): string {
  const path = named ?? (process.env['CHAMBERLAIN_CONFIG'] || CONFIG_FILE);
  if (path === CONFIG_FILE && !existsSync(path)) {
    throw new ChamberlainError('USAGE', `there is no configuration ${path}`, {
      action: 'Give --config FILE, or set CHAMBERLAIN_CONFIG.',
    });
  }
  return path;
}
