/** `chamberlain freeze`: stops all verdicts and all work until `thaw`. */
import { setTimeout as sleep } from 'node:timers/promises';
import type { Config } from '../../shared/config.ts';
import { timeOf } from '../../shared/time.ts';
import { type Acting, freeze, type Freeze, readActing } from '../../database/freeze.ts';
import type { Command } from '../command.ts';
import { configOf, wantsJson } from '../configuration.ts';
import { EXIT } from '../exit.ts';
import { operatorName } from '../operator.ts';
import { withProgress } from '../progress.ts';
import { parseSeconds } from '../options/seconds.ts';
import { withAdmin } from '../admin.ts';
import { count, printable } from '../../shared/printable.ts';
import { print, printJson } from '../table.ts';

/** How often it checks which workers are still at work. */
const LOOK_MS = 100;

interface FreezeOptions {
  reason: string;
  keep?: boolean;
  timeoutMs: number;
  json: boolean;
}

export function define(command: Command): void {
  command
    .description(
      'Freezes the realm: until `chamberlain thaw`, no request gets a verdict and no worker changes a\n' +
        'server, even after a restart. The workers still do surveys, deliver events, write the audit and\n' +
        'publish the heartbeat for login hosts. Requests that arrive meanwhile wait in their queue. The\n' +
        'command returns when the work in progress is done. If the realm is already frozen, the new reason\n' +
        'replaces the old one.',
    )
    .requiredOption('--reason <text>', 'why; `status` shows it (required)')
    .option('--timeout <seconds>', 'how long to wait for the work in progress', parseSeconds, 60)
    .examples(
      'freeze --reason "the file server moves"',
      'freeze --reason "a backup is restored" --json',
    )
    .exits({
      0: 'the realm is frozen, or was so already, and no worker is at work',
      5: 'the realm is frozen, but a worker has not finished its work in progress',
    })
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
        print(
          `Still at work: ${describeActing(acting)}. Run the same command again to wait longer.`,
        );
      }
    });
}

function renderFrozen(held: Freeze, was: Freeze | undefined, given: string): string {
  if (was === undefined) {
    return 'Frozen: no request gets a verdict and no worker changes a server. `chamberlain thaw` ends the freeze.';
  }
  const already = `The realm is already ${describeFreeze(held)}.`;
  if (held.reason !== given) {
    return `${already} Your reason is not recorded: only \`chamberlain recover\` ends that freeze.`;
  }
  if (was.reason === given) return already;
  return `${already}\nThe reason was: ${printable(was.reason ?? 'none')} (${was.frozenBy}).`;
}

/**
 * Freezes the realm, and waits until no worker is at work, for at most `timeoutMs`; returns those that still are.
 * With `keep`, an existing freeze keeps its reason.
 */
export async function freezeAndWait(
  config: Config,
  { reason, keep, timeoutMs, json }: FreezeOptions,
): Promise<{ held: Freeze; was: Freeze | undefined; acting: Acting[] }> {
  return withAdmin(config, (client) =>
    withProgress(json, async (say) => {
      const terms = { by: operatorName(), reason, keep: keep === true };
      const { freeze: held, was } = await freeze(client, terms);
      const deadline = performance.now() + timeoutMs;
      for (;;) {
        say('frozen; waiting for verdicts in progress');
        const acting = await readActing(client);
        if (acting.length === 0 || performance.now() >= deadline) return { held, was, acting };
        say(`frozen; waiting for the work in progress: ${describeActing(acting)}`);
        await sleep(LOOK_MS);
      }
    }),
  );
}

/** `frozen (since …, by …): reason`, without a full stop. */
export function describeFreeze({ frozenAt, frozenBy, reason }: Freeze): string {
  const why = reason === null ? '' : `: ${reason}`;
  return printable(`frozen (since ${timeOf(frozenAt)}, by ${frozenBy})${why}`);
}

/** `intake, homes (3 subjects), directory (1 subject)`. */
export function describeActing(acting: readonly Acting[]): string {
  return [...Map.groupBy(acting, ({ role }) => role)]
    .map(([role, { length }]) =>
      role === 'intake' ? role : `${role} (${count(length, 'subject')})`,
    )
    .join(', ');
}
