/** Starts workers: all in one process, or some. */
import type { Config } from '../src/config.ts';
import type { Log } from '../src/log.ts';
import { DATABASES, openDatabasesMarkers } from './databases.ts';
import { DIRECTORY } from './directory.ts';
import { HOMES, openHomesMarkers } from './homes.ts';
import { startIntake } from './intake.ts';
import type { Worker } from './loop.ts';
import { startMarker } from './marker.ts';
import { startPlaceMarkers } from './place-markers.ts';
import { startRelay } from './relay.ts';
import { startRole } from './role.ts';
import { startSweep } from './sweeping.ts';
import { startWatching } from './unmanaged.ts';

const START: Record<string, (config: Config, log: Log) => Worker> = {
  intake: startIntake,
  relay: startRelay,
  directory: (config, log) =>
    together([
      startRole(DIRECTORY, config, log),
      startMarker(config, log),
      startWatching(DIRECTORY, config, log),
    ]),
  homes: (config, log) =>
    together([
      startRole(HOMES, config, log),
      startPlaceMarkers(HOMES, openHomesMarkers(config), config, log),
      startWatching(HOMES, config, log),
    ]),
  databases: (config, log) =>
    together([
      startRole(DATABASES, config, log),
      startPlaceMarkers(DATABASES, openDatabasesMarkers(config), config, log),
      startWatching(DATABASES, config, log),
    ]),
  sweep: startSweep,
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

/** Starts the workers of these roles; closing finishes what is in hand. */
export async function startWork(
  config: Config,
  { roles, log }: { roles: readonly string[]; log: Log },
): Promise<Worker> {
  return together(roles.map((role) => (START[role] as (typeof START)[string])(config, log)));
}
