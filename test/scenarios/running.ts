/** A world with its bootstrapping admin (`steward`), all workers in this process, and the portal `portal`. */
import { fixedConfig } from '../../src/configuration/config-in-use.ts';
import { defaultRoles, startWork } from '../../workers/main.ts';
import type { Worker } from '../../src/shared/loop.ts';
import { openLog } from '../../src/shared/log.ts';
import { openWorld, type World, type WorldOptions } from '../stack.ts';
import { settled } from './outside.ts';
import { openPortal, type Portal } from './portal.ts';

export interface Running {
  world: World;
  portal: Portal;
  /** lines of the workers' log, all levels */
  log: string[];
  /** Ends the workers, as SIGTERM would, and starts them again at the next call. */
  stopWork(): Promise<void>;
  startWork(roles?: readonly string[]): Promise<void>;
  close(): Promise<void>;
}

export interface RunningOptions extends WorldOptions {
  /** How often the workers look at their places; every 20 s, as the program does, by default. */
  readonly looksMs?: number;
}

export async function openRunning(
  name: string,
  { looksMs, ...options }: RunningOptions = {},
): Promise<Running> {
  const world = await openWorld(name, options);
  const log: string[] = [];
  let work: Worker | undefined;
  const running: Running = {
    world,
    log,
    portal: openPortal(world),
    async stopWork() {
      await work?.close();
      work = undefined;
    },
    async startWork(roles = defaultRoles(world.config)) {
      work = await startWork(fixedConfig(world.config), {
        roles,
        ...(looksMs === undefined ? {} : { looksMs }),
        log: openLog('trace', { write: (line) => void log.push(line) }),
      });
    },
    async close() {
      await running.portal.close();
      await running.stopWork();
      await world.close();
    },
  };
  await world.chamberlain('prepare');
  await world.chamberlain('bootstrap', 'steward');
  await running.startWork();
  await settled(world);
  return running;
}

/** Brings people into the realm, each named after the shell name. */
export async function admit(portal: Portal, ...names: string[]): Promise<void> {
  await Promise.all(
    names.map(async (shellName) => {
      await portal.get({
        kind: 'person.create',
        requestedBy: shellName,
        shellName,
        displayName: `The ${shellName}`,
        email: `${shellName}@example.org`,
      });
      await portal.get({ kind: 'access.grant', requestedBy: 'steward', person: shellName });
    }),
  );
}
