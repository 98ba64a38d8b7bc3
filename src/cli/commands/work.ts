/** `chamberlain work`: runs workers in this process until a signal. */
import { Argument } from 'commander';
import { defaultRoles, startWork, WORK_ROLES } from '../../../workers/main.ts';
import { serveMetrics } from '../../shared/metrics.ts';
import { openLog } from '../../shared/log.ts';
import { tellSystemd } from '../../shared/systemd.ts';
import type { Command } from '../command.ts';
import { configPathOf } from '../configuration.ts';
import { openConfigInUse } from '../../configuration/config-in-use.ts';
import { startReloading } from '../../configuration/reloading.ts';
import { loadConfig } from '../../shared/config.ts';

/** Work that is not finished by then is left, and done again at the next start. Exiting takes some time too. */
const CLOSE_MS = 4500;

export function define(command: Command): void {
  command
    .description(
      'Runs workers until SIGTERM or SIGINT. Then it finishes the work in progress and exits 0 within\n' +
        '5 s; a second signal ends it at once. SIGHUP makes it read its configuration again, as\n' +
        '`chamberlain reload` does for every process. Without ROLE, it runs all roles in this process.\n' +
        'Each role uses only its own accounts, so in production run each role as a unix user of its own.\n' +
        'The log goes to standard error, one JSON object a line.',
    )
    .addArgument(new Argument('[ROLE...]', 'the roles to run').choices(WORK_ROLES))
    .option('--metrics <address>', 'serve /metrics for Prometheus at HOST:PORT (default: nowhere)')
    .examples(
      'work',
      'work intake relay',
      'work homes                 (needs root)',
      'work --metrics 127.0.0.1:9464',
    )
    .exits({ 0: 'a signal ended it' })
    .action(async (roles: string[]) => {
      const { metrics } = command.opts<{ metrics?: string }>();
      const log = openLog(process.env['CHAMBERLAIN_LOG_LEVEL'] ?? 'info');
      const asked = untilSignal();
      // before the file is read, there is nothing to read again
      let onHangup = (): void => {};
      process.on('SIGHUP', () => onHangup());
      const served = metrics === undefined ? undefined : await serveMetrics(metrics);
      if (served !== undefined) log.info({ port: served.port }, 'serving metrics');
      const path = configPathOf(command);
      const all = roles.length === 0 ? defaultRoles(loadConfig(path)) : [...new Set(roles)];
      const inUse = openConfigInUse(path, all);
      const reloading = startReloading(inUse, { works: all, log });
      onHangup = () => reloading.reload();
      const work = await startWork(inUse, { roles: all, log });
      log.info({ roles: all }, 'working');
      tellSystemd(log);
      const signal = await asked;
      log.info({ signal }, 'ending: finishing the work in progress');
      await Promise.all([work.close(), reloading.close(), served?.close()]);
      log.info('ended');
      process.exit(0);
    });
}

/**
 * Waits for the first SIGTERM or SIGINT. From then on the process ends within CLOSE_MS, even if it was
 * still starting; a second signal ends it at once.
 */
function untilSignal(): Promise<NodeJS.Signals> {
  return new Promise((resolve) => {
    let signals = 0;
    const onSignal = (signal: NodeJS.Signals) => {
      signals += 1;
      if (signals > 1) process.exit(1);
      setTimeout(() => process.exit(0), CLOSE_MS).unref();
      resolve(signal);
    };
    process.on('SIGTERM', onSignal);
    process.on('SIGINT', onSignal);
  });
}
