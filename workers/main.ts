/** Starts workers: all in one process, or some. */
import type { ConfigInUse } from '../src/configuration/config-in-use.ts';
import type { Config } from '../src/shared/config.ts';
import type { Log } from '../src/shared/log.ts';
import { startIntake } from './intake.ts';
import type { RoleDescriptor } from '../src/roles/descriptor.ts';
import { REGISTRY } from '../src/roles/index.ts';
import type { Worker } from '../src/shared/loop.ts';
import { startPlaceMarkers } from '../src/seals/publish-place-markers.ts';
import { startRelay } from './relay.ts';
import { startRole } from '../src/reconcile/role.ts';
import { startSweep } from './sweep.ts';
import { startWatching } from '../src/unmanaged/watch.ts';

type Start = (inUse: ConfigInUse, log: Log, looksMs?: number) => Promise<Worker>;

const START = new Map<string, Start>([
  ['intake', async (inUse, log) => startIntake(inUse, log)],
  ['relay', async (inUse, log) => startRelay(inUse, log)],
  ...REGISTRY.map((role): [string, Start] => [role.name, (...of) => startAllOf(role, ...of)]),
  ['sweep', async (inUse, log) => startSweep(inUse, log)],
  // no other process needs an HTTP server
  ['api', async (inUse, log) => (await import('./api.ts')).startApi(inUse, log)],
]);

/** What `chamberlain work` can be told to do. */
export const WORK_ROLES = [...START.keys()];

/** What it does without being told: all, and the API if the configuration has one. */
export function defaultRoles({ api }: Pick<Config, 'api'>): string[] {
  return WORK_ROLES.filter((role) => role !== 'api' || api !== undefined);
}

/** What a role does: its subjects, the markers of its places, looking for what is not ours, and more of its own. */
async function startAllOf(
  { loadParts }: RoleDescriptor,
  inUse: ConfigInUse,
  log: Log,
  looksMs?: number,
): Promise<Worker> {
  const parts = await loadParts();
  const config = inUse.current();
  const markers = parts.openMarkers?.(config);
  const more = parts.startMore?.(config, log);
  return together([
    startRole(parts, config, log),
    ...(markers === undefined ? [] : [startPlaceMarkers(parts, markers, config, log, looksMs)]),
    ...(more === undefined ? [] : [more]),
    startWatching(parts, config, log, looksMs),
  ]);
}

function together(workers: readonly Worker[]): Worker {
  return {
    async close() {
      await Promise.all(workers.map((worker) => worker.close()));
    },
  };
}

/**
 * Starts the workers of these roles; closing finishes what is in hand.
 *
 * @param looksMs how often they look at their places, where nobody tells them what has changed
 */
export async function startWork(
  inUse: ConfigInUse,
  { roles, log, looksMs }: { roles: readonly string[]; log: Log; looksMs?: number },
): Promise<Worker> {
  const starts = roles.map((role) => START.get(role) as Start);
  return together(await Promise.all(starts.map((start) => start(inUse, log, looksMs))));
}
