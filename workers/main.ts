/** Starts workers: all in one process, or some. */
import type { Config } from '../src/shared/config.ts';
import type { Log } from '../src/shared/log.ts';
import { DATABASES, openDatabasesMarkers } from './databases.ts';
import { DIRECTORY } from './directory.ts';
import { HOMES, openHomesMarkers } from './homes.ts';
import { startIntake } from './intake.ts';
import type { Worker } from '../src/shared/loop.ts';
import { startMarker } from '../src/seals/publish-heartbeat.ts';
import { startPlaceMarkers } from '../src/seals/publish-place-markers.ts';
import { startRelay } from './relay.ts';
import { startRole } from '../src/reconcile/role.ts';
import { startSweep } from './sweep.ts';
import { startWatching } from '../src/unmanaged/watch.ts';

type Start = (config: Config, log: Log, looksMs?: number) => Worker;

const START: Record<string, Start> = {
  intake: (config, log) => startIntake(config, log),
  relay: startRelay,
  directory: (config, log, looksMs) =>
    together([
      startRole(DIRECTORY, config, log),
      startMarker(config, log),
      startWatching(DIRECTORY, config, log, looksMs),
    ]),
  homes: (config, log, looksMs) =>
    together([
      startRole(HOMES, config, log),
      startPlaceMarkers(HOMES, openHomesMarkers(config), config, log, looksMs),
      startWatching(HOMES, config, log, looksMs),
    ]),
  databases: (config, log, looksMs) =>
    together([
      startRole(DATABASES, config, log),
      startPlaceMarkers(DATABASES, openDatabasesMarkers(config), config, log, looksMs),
      startWatching(DATABASES, config, log, looksMs),
    ]),
  sweep: (config, log) => startSweep(config, log),
};

/** What `chamberlain work` can be told to do. */
export const WORK_ROLES = Object.keys(START);

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
  config: Config,
  { roles, log, looksMs }: { roles: readonly string[]; log: Log; looksMs?: number },
): Promise<Worker> {
  return together(roles.map((role) => (START[role] as Start)(config, log, looksMs)));
}
