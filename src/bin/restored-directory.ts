/** `chamberlain restored --directory`: an older copy of the directory is accepted, and brought up to date. */
import { setTimeout as sleep } from 'node:timers/promises';
import type { Command } from 'commander';
import type { Config } from '../config.ts';
import { ChamberlainError } from '../errors.ts';
import { count } from '../plan/render.ts';
import { openOwner } from '../store/import.ts';
import { acceptOlderDirectory, type CatchingUp, readCatchingUp } from '../store/marker.ts';
import { configOf, wantsJson } from './configuration.ts';
import { confirm } from './confirm.ts';
import { EXIT, failureLine } from './exit.ts';
import { operatorName } from './operator.ts';
import { startProgress } from './progress.ts';
import { type RestoredOptions, refuseUnread, surveyAll } from './restored-survey.ts';
import { withAdmin } from './status.ts';
import { print, printJson, withoutControls } from './table.ts';

/** How often it is looked how far the directory is. */
const LOOK_MS = 250;

/** Shows how much there is to do and asks, then has the role directory do it, and waits for that. */
export async function restoredDirectory(command: Command): Promise<void> {
  const config = configOf(command);
  const json = wantsJson(command);
  const { yes, timeout } = command.opts<RestoredOptions>();
  const owner = await openOwner(config);
  try {
    const { reports, unreadable, doubt } = await surveyAll(command, config, ['directory']);
    if (doubt?.older === 'database') throw new ChamberlainError('DATABASE_OLDER', doubt.sentence);
    if (refuseUnread(command, unreadable, 'login hosts are told nothing still')) return;
    const steps = reports.get('directory')?.steps ?? [];
    const revoking = new Set(
      steps.filter(({ effect }) => effect === 'revoke').map(({ subject }) => subject),
    );
    const accounts = new Set(steps.map(({ subject }) => subject)).size;
    if (!json) {
      print(
        doubt === undefined
          ? 'The directory is no older than what it was last told.'
          : `${withoutControls(doubt.sentence.replace(/;.*$/u, ''))}.`,
      );
      print(
        `${count(steps.length, 'step')} for ${count(accounts, 'subject')} bring it up to date; read ` +
          '`chamberlain plan --role directory`.',
      );
    }
    if (yes !== true && !(await confirm('\nDo that? [y/N] '))) {
      print('Nothing was done.');
      process.exitCode = EXIT.failed;
      return;
    }
    const raised = await acceptOlderDirectory(owner, [...revoking], operatorName());
    const { accepted, behind, parked } = await followDirectory(
      config,
      raised,
      timeout * 1000,
      json,
    );
    if (accepted) {
      process.exitCode = EXIT.timeout;
      const sentence =
        behind === 0
          ? 'the marker was not told yet; is `chamberlain work directory` running?'
          : `${behind} of ${raised} subjects are behind still; see \`chamberlain status\``;
      process.stderr.write(`${failureLine('TIMEOUT', sentence)}\n`);
    }
    if (json) printJson({ restored: !accepted, raised, behind, parked });
    else if (!accepted) {
      const but = parked === 0 ? '' : `, but for ${parked} parked (see \`chamberlain status\`)`;
      print(`\nUp to date${but}, and login hosts are told again.`);
    }
  } finally {
    await owner.end();
  }
}

/** Waits until the marker is told, or nothing has moved for so long. */
async function followDirectory(
  config: Config,
  raised: number,
  timeoutMs: number,
  json: boolean,
): Promise<CatchingUp> {
  const progress = startProgress({ json });
  try {
    return await withAdmin(config, async (client) => {
      let movedAt = performance.now();
      let before = raised;
      for (;;) {
        const now = await readCatchingUp(client);
        if (now.behind !== before) movedAt = performance.now();
        before = now.behind;
        if (!now.accepted || performance.now() - movedAt > timeoutMs) return now;
        progress.say(
          now.behind === 0
            ? 'telling login hosts'
            : `directory ${raised - now.behind} of ${raised} up to date`,
        );
        await sleep(LOOK_MS);
      }
    });
  } finally {
    progress.end();
  }
}
