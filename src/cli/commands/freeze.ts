/** `chamberlain freeze`: no verdict is given and no worker acts, until thawed. */
import { setTimeout as sleep } from 'node:timers/promises';
import type { Command } from 'commander';
import type { Config } from '../../shared/config.ts';
import { timeOf } from '../../shared/time.ts';
import { type Acting, freeze, type Freeze, readActing } from '../../database/freeze.ts';
import { configOf, wantsJson } from '../configuration.ts';
import { describeExamples, describeExits, EXIT } from '../exit.ts';
import { operatorName } from '../operator.ts';
import { startProgress } from '../progress.ts';
import { parseSeconds } from '../seconds.ts';
import { withAdmin } from '../admin.ts';
import { print, printJson, withoutControls } from '../table.ts';

/** How often it is looked who still acts. */
const LOOK_MS = 100;

interface FreezeOptions {
  reason: string;
  keep?: boolean;
  timeoutMs: number;
  json: boolean;
}

export function defineFreeze(command: Command): void {
  command
    .description(
      'From now on no request gets a verdict and no worker acts, until `chamberlain thaw`; both survive\n' +
        'restarts. Surveys, events, the audit and the heartbeat for login hosts go on. Returns when what\n' +
        'was in hand is done. Requests that come meanwhile wait in their queue. Where it is frozen\n' +
        'already, the new reason replaces the one before.',
    )
    .requiredOption('--reason <text>', 'why: `status` shows it')
    .option('--timeout <seconds>', 'how long to wait for what is in hand', parseSeconds, 60)
    .addHelpText(
      'after',
      describeExamples(
        'freeze --reason "the file server moves"',
        'freeze --reason "a backup is restored" --json',
      ) +
        `\n${describeExits({
          0: 'frozen, and nothing acts any more; also where it was frozen before',
          5: 'frozen, but a worker is still at what it had begun',
        })}`,
    )
    .action(async () => {
      const { reason, timeout } = command.opts<{ reason: string; timeout: number }>();
      if (reason.trim() === '') command.error('error: --reason is empty: say why');
      const json = wantsJson(command);
      const { held, was, acting } = await freezeAndWait(configOf(command), {
        reason: reason.trim(),
        timeoutMs: timeout * 1000,
        json,
      });
      if (acting.length > 0) process.exitCode = EXIT.timeout;
      if (json) {
        printJson({ ...held, already: was !== undefined, was: was ?? null, acting });
        return;
      }
      print(renderFrozen(held, was, reason.trim()));
      if (acting.length > 0) {
        print(`Still at work: ${describeActing(acting)}. Run the same command again to wait on.`);
      }
    });
}

function renderFrozen(held: Freeze, was: Freeze | undefined, told: string): string {
  if (was === undefined) {
    return 'Frozen: no verdict is given and no worker acts. `chamberlain thaw` ends it.';
  }
  const already = `It is already ${describeFreeze(held)}.`;
  if (held.reason !== told) {
    return `${already} Your reason is not recorded: \`chamberlain recover\` alone ends that freeze.`;
  }
  if (was.reason === told) return already;
  return `${already}\nThe reason was: ${withoutControls(was.reason ?? 'none')} (${was.frozenBy}).`;
}

/**
 * Freezes, and waits until nothing acts any more, or `timeoutMs`: then what still does is returned. With `keep`, a
 * freeze that holds already keeps its reason.
 */
export async function freezeAndWait(
  config: Config,
  { reason, keep, timeoutMs, json }: FreezeOptions,
): Promise<{ held: Freeze; was: Freeze | undefined; acting: Acting[] }> {
  return withAdmin(config, async (client) => {
    const progress = startProgress({ json });
    try {
      const terms = { by: operatorName(), reason, keep: keep === true };
      const { freeze: held, was } = await freeze(client, terms);
      const deadline = performance.now() + timeoutMs;
      for (;;) {
        progress.say('frozen; waiting for verdicts in hand');
        const acting = await readActing(client);
        if (acting.length === 0 || performance.now() >= deadline) return { held, was, acting };
        progress.say(`frozen; waiting for what is in hand: ${describeActing(acting)}`);
        await sleep(LOOK_MS);
      }
    } finally {
      progress.end();
    }
  });
}

/** `frozen since …, by …: reason`, without a full stop. */
export function describeFreeze({ frozenAt, frozenBy, reason }: Freeze): string {
  const why = reason === null ? '' : `: ${reason}`;
  return withoutControls(`frozen since ${timeOf(frozenAt)}, by ${frozenBy}${why}`);
}

/** `intake, homes (3 subjects), directory (1 subject)`. */
export function describeActing(acting: readonly Acting[]): string {
  return [...Map.groupBy(acting, ({ role }) => role)]
    .map(([role, { length }]) =>
      role === 'intake' ? role : `${role} (${length} subject${length === 1 ? '' : 's'})`,
    )
    .join(', ');
}
