/** `chamberlain work`: the workers, in this process, until a signal. */
import { Argument, type Command } from 'commander';
import { startWork, WORK_ROLES } from '../../../workers/main.ts';
import { serveMetrics } from '../../shared/metrics.ts';
import { openLog } from '../../shared/log.ts';
import { configOf } from '../configuration.ts';
import { describeExamples, describeExits } from '../exit.ts';

/** Whatever is still in hand then is left; it is done again at the next start. To exit takes a while too. */
const CLOSE_MS = 4500;

export function defineWork(command: Command): void {
  command
    .description(
      'Works on the queues until SIGTERM or SIGINT: then finishes what is in hand and exits 0 within\n' +
        '5 s; a second signal ends it at once. Without ROLE, all roles in this process. Each role opens\n' +
        'its own accounts alone, so run each as a unix user of its own for real. Logs JSON lines to\n' +
        'standard error.',
    )
    .addArgument(new Argument('[ROLE...]', 'some roles').choices(WORK_ROLES))
    .option(
      '--metrics <address>',
      'HOST:PORT where Prometheus may ask for /metrics; nowhere by default',
    )
    .addHelpText(
      'after',
      describeExamples(
        'work',
        'work intake relay',
        'work homes                 (needs root)',
        'work --metrics 127.0.0.1:9464',
      ) + `\n${describeExits({ 0: 'ended by a signal, as asked' })}`,
    )
    .action(async (roles: string[]) => {
      const config = configOf(command);
      const { metrics } = command.opts<{ metrics?: string }>();
      const log = openLog(process.env['CHAMBERLAIN_LOG_LEVEL'] ?? 'info');
      const asked = untilSignal();
      const served = metrics === undefined ? undefined : await serveMetrics(metrics);
      if (served !== undefined) log.info({ port: served.port }, 'metrics are told');
      const work = await startWork(config, {
        roles: roles.length === 0 ? [...WORK_ROLES] : [...new Set(roles)],
        log,
      });
      log.info({ roles: roles.length === 0 ? WORK_ROLES : roles }, 'working');
      const signal = await asked;
      log.info({ signal }, 'ending: finishing what is in hand');
      await Promise.all([work.close(), served?.close()]);
      log.info('ended');
      process.exit(0);
    });
}

/**
 * The first SIGTERM or SIGINT. From then on the process ends within CLOSE_MS, even when it was
 * still starting, and at once at a second signal.
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
