/** `chamberlain recover`, if the directory was restored: the older copy is accepted and brought up to date. */
import { setTimeout as sleep } from 'node:timers/promises';
import { openOwner } from '../database/connection.ts';
import type { Command } from 'commander';
import type { Config } from '../shared/config.ts';
import { ChamberlainError } from '../shared/errors.ts';
import { digestSteps } from '../reconcile/digest.ts';
import { acceptOlderDirectory, type CatchingUp, readCatchingUp } from '../seals/heartbeat-table.ts';
import { configOf, wantsJson } from '../cli/configuration.ts';
import { canAsk, confirm } from '../cli/confirm.ts';
import { EXIT, failureLine } from '../cli/exit.ts';
import { operatorName } from '../cli/operator.ts';
import { startProgress } from '../cli/progress.ts';
import { READ_AGAIN, type RecoverOptions, refuseUnread, type Surveyed } from './recover-survey.ts';
import { withAdmin } from '../cli/admin.ts';
import { count, printable } from '../shared/printable.ts';
import { print, printJson } from '../cli/table.ts';

/** How often the progress of the directory is read. */
const LOOK_MS = 250;

/** Shows how much there is to do, asks, makes the directory role do it, and waits until it is done. */
export async function recoverDirectory(
  command: Command,
  { reports, unreadable, doubt }: Surveyed,
): Promise<void> {
  const config = configOf(command);
  const json = wantsJson(command);
  const { expect, timeout } = command.opts<RecoverOptions>();
  if (refuseUnread(command, unreadable, 'no heartbeat is published for login hosts yet')) return;
  const owner = await openOwner(config);
  try {
    const steps = reports.get('directory')?.steps ?? [];
    const revoking = new Set(
      steps.filter(({ effect }) => effect === 'revoke').map(({ subject }) => subject),
    );
    const accounts = new Set(steps.map(({ subject }) => subject)).size;
    const digest = digestSteps(steps);
    if (expect !== undefined && expect !== digest) {
      const sentence = `the digest is ${digest} now, not ${expect}; nothing was done`;
      throw new ChamberlainError('PLAN_MOVED', sentence, { action: READ_AGAIN });
    }
    if (!json) {
      print(`${printable(doubt?.sentence.replace(/;.*$/u, '') ?? '')}.`);
      print(
        `To bring it up to date: ${count(steps.length, 'step')} for ${count(accounts, 'subject')}. See ` +
          `\`chamberlain plan --role directory\`.\n\ndigest ${digest}`,
      );
    }
    if (expect === undefined) {
      if (json) printJson({ recovered: false, digest, steps: steps.length, subjects: accounts });
      if (!canAsk(command)) {
        if (!json) print(TO_CONFIRM(digest));
        process.exitCode = EXIT.pending;
        return;
      }
      if (!(await confirm('\nDo this? [y/N] '))) return;
    }
    const touched = await acceptOlderDirectory(owner, [...revoking], operatorName());
    const { accepted, behind, parked } = await followDirectory(
      config,
      touched,
      timeout * 1000,
      json,
    );
    if (accepted) {
      process.exitCode = EXIT.timeout;
      const sentence =
        behind === 0
          ? 'no heartbeat was published yet; check that `chamberlain work directory` is running'
          : `still behind: ${behind} of ${count(touched, 'subject')}; see \`chamberlain status\``;
      process.stderr.write(`${failureLine('TIMEOUT', sentence)}\n`);
    }
    if (json) printJson({ recovered: !accepted, touched, behind, parked });
    else if (!accepted) {
      const but = parked === 0 ? '' : `, except ${parked} parked (see \`chamberlain status\`)`;
      print(`\nThe directory is up to date${but}, and its heartbeat is published again.`);
    }
  } finally {
    await owner.end();
  }
}

const TO_CONFIRM = (digest: string) =>
  `\nNothing was done. If this is right, run \`chamberlain recover --expect ${digest}\`.`;

/** Waits until a heartbeat is published, or until there was no progress for the timeout. */
async function followDirectory(
  config: Config,
  touched: number,
  timeoutMs: number,
  json: boolean,
): Promise<CatchingUp> {
  const progress = startProgress({ json });
  return await withAdmin(config, async (client) => {
    let movedAt = performance.now();
    let before = touched;
    for (;;) {
      const now = await readCatchingUp(client);
      if (now.behind !== before) movedAt = performance.now();
      before = now.behind;
      if (!now.accepted || performance.now() - movedAt > timeoutMs) return now;
      progress.say(
        now.behind === 0
          ? 'publishing the heartbeat'
          : `directory ${touched - now.behind} of ${touched} up to date`,
      );
      await sleep(LOOK_MS);
    }
  }).finally(progress.end);
}
