/** `chamberlain reload`: every process applies what was changed in the configuration. */
import { hostname } from 'node:os';
import { setTimeout as sleep } from 'node:timers/promises';
import {
  askReload,
  type ConfigStatus,
  type ConfigUse,
  describeConfigUser,
  readConfigStatus,
  readConfigUses,
} from '../../configuration/configurations-table.ts';
import { effectiveOf } from '../../configuration/effective.ts';
import { changedSettings, decides, fixedSettings } from '../../configuration/reloadable.ts';
import type { Client } from '../../database/connection.ts';
import { needed, readLeaders } from '../../database/locks.ts';
import type { Config } from '../../shared/config.ts';
import { ChamberlainError } from '../../shared/errors.ts';
import { withAdmin } from '../admin.ts';
import type { Command } from '../command.ts';
import { configOf, wantsJson } from '../configuration.ts';
import { EXIT } from '../exit.ts';
import { printPage } from '../fold.ts';
import { paint, print, printJson } from '../table.ts';
import { count } from '../../shared/printable.ts';

const LOOK_MS = 20;
/** A process that has not answered by then is in the middle of a decision, or hangs. */
const MOST_MS = 10_000;

export function define(command: Command): void {
  command
    .description(
      'Makes every process apply what was changed in the configuration: portals with their keys, rights and\n' +
        'limits, reserved names, and how long things wait and are kept. No process is restarted, and no\n' +
        'request is lost or refused.\n\n' +
        'The file is checked first: if it is wrong, or if it changes a setting that needs a restart, nothing\n' +
        'changes anywhere. Each process then reads its own file, also on other machines. The command returns\n' +
        'when every process uses the new configuration. Otherwise it says which one does not, and why.',
    )
    .examples('reload', 'reload --json')
    .exits({ 3: 'a process does not use the new configuration' })
    .action(async () => {
      const config = configOf(command);
      await withAdmin(config, async (client) => {
        const wanted = await effectiveOf(config, client);
        requireNoRestart(wanted, await readConfigUses(client));
        await askReload(client);
        const silent = await untilLoaded(client);
        show(await readConfigStatus(client, wanted), silent, wantsJson(command));
      });
    });
}

/** Before any process is told. Those of other machines have other files. */
function requireNoRestart(config: Config, uses: readonly ConfigUse[]): void {
  const here = uses.filter(({ machine }) => machine === hostname());
  const changed = here.flatMap(({ works, fixed }) => {
    const settings = changedSettings(fixed, fixedSettings(works, config));
    return settings.length === 0 ? [] : [{ settings, works }];
  });
  if (changed.length === 0) return;
  const settings = [...new Set(changed.flatMap((each) => each.settings))].sort();
  const works = changed.map((each) => each.works.join(' '));
  throw new ChamberlainError('CONFIG_INVALID', 'reloading the configuration', {
    cause: new Error(
      `${settings.join(', ')} changed, which these processes read only when they start: ${works.join(', ')}. Nothing was changed`,
    ),
    action: 'Restart them: they then use the whole file. Or undo that change, and reload the rest.',
  });
}

/** Returns the works that a process does without saying by which configuration. */
async function untilLoaded(client: Client): Promise<string[]> {
  const until = performance.now() + MOST_MS;
  for (;;) {
    const uses = await readConfigUses(client);
    const silent = await findSilent(client, uses);
    // also a reload that another command has asked for since
    const isOver = uses.every(({ reload, asked }) => BigInt(reload) >= BigInt(asked));
    if ((isOver && silent.length === 0) || performance.now() >= until) return silent;
    await sleep(LOOK_MS);
  }
}

/** A process that has lost only the connection on which it says what it uses goes on with what it has. */
async function findSilent(client: Client, uses: readonly ConfigUse[]): Promise<string[]> {
  const said = new Set(uses.flatMap(({ works }) => works));
  const leading = needed(await readLeaders(client)).map(({ name }) => name);
  return leading.filter((name) => decides([name]) && !said.has(name));
}

function show({ digest, processes }: ConfigStatus, silent: readonly string[], json: boolean): void {
  const behind = processes.filter(({ why }) => why !== null);
  if (behind.length + silent.length > 0) process.exitCode = EXIT.pending;
  if (json) {
    printJson({ digest, processes, silent });
    return;
  }
  for (const work of silent) {
    const todo = 'See its log, and reload again';
    printPage(
      paint('red', `the process that works as ${work} does not say what it uses. ${todo}.`),
    );
  }
  for (const each of behind) {
    printPage(
      paint('red', `${describeConfigUser(each)} does not use the new configuration: ${each.why}`),
    );
  }
  if (processes.length + silent.length === 0)
    print('no worker is running: each reads the configuration when it starts');
  const done = processes.length - behind.length;
  if (done > 0)
    print(
      `${done} of ${count(processes.length, 'process', 'processes')} ${done === 1 ? 'uses' : 'use'} configuration ${digest.slice(0, 12)}`,
    );
}
