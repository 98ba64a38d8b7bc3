/**
 * How each server is lost and comes back, and what an operator does then, as docs/recovery.md and
 * docs/backups.md say.
 */
import { readdirSync, rmSync, writeFileSync } from 'node:fs';
import { setTimeout as sleep } from 'node:timers/promises';
import { join } from 'node:path';
import { openLog } from '../../../src/shared/log.ts';
import { PLACES } from '../../../src/login-host/places.ts';
import { DATABASES, openDatabasesMarkers } from '../../../src/roles/databases/worker.ts';
import { HOMES, openHomesMarkers } from '../../../src/roles/homes/worker.ts';
import type { Worker } from '../../../src/shared/loop.ts';
import { startMarker } from '../../../src/seals/publish-heartbeat.ts';
import { startPlaceMarkers } from '../../../src/seals/publish-place-markers.ts';
import { runCli, type Ended } from '../../cli/run-cli.ts';
import {
  restoreDatabaseCopy,
  restoreDirectoryCopy,
  restoreHomesCopy,
  restoreServerCopy,
  copyHomes,
  dumpDatabase,
  dumpDirectory,
  dumpServer,
} from './backup.ts';
import { eventually } from '../eventually.ts';
import type { AgentStatus, Login } from '../login/login.ts';
import { query } from '../outside.ts';
import { difference, filesBySeals, filesOf } from '../drift/sealed-files.ts';
import { startServer, stopServer } from '../../stack.ts';

/** `mariadb`: one of the two servers; `host`: what the login host remembers. */
export const PLACES_TO_LOSE = [
  ...(['database', 'directory', 'mariadb', 'homes', 'redis', 'host'] as const),
];
export type Lost = (typeof PLACES_TO_LOSE)[number];

/** The programs' own loops look every 3 s and every 20 s; these additional ones look five times a second. */
const LOOK_MS = 200;
/** How long an operator does what messages say, again and again. */
const RECOVER_MS = 120_000;

const CLOSED = `${PLACES.login}/closed`;

type Back = () => Promise<void> | void;

export interface Realm {
  startWork(): Promise<void>;
  stopWork(): Promise<void>;
  /** Until every place has a marker of a later time than now. */
  nextBeat(): Promise<void>;
  /** Makes a backup of each; returns a function that restores it. No worker may be running. */
  backUp(lost: readonly Lost[]): Promise<() => Promise<void>>;
  /** A copy of what the login host remembers. */
  copySeals(): string;
  /** Until the login host trusts the directory, and lets in everybody whom its seals let in. */
  hostSettled(): Promise<void>;
  /** `chamberlain recover`, read and confirmed: the list. */
  recover(...args: string[]): Promise<Record<string, unknown>>;
  cli(...args: string[]): Promise<Ended>;
}

export function realmOf(login: Login): Realm {
  const { world, host } = login;
  let markers: Worker[] = [];
  const cli = (...args: string[]) => runCli(args, { config: world.configFile });

  async function restoreRedisCopy(): Promise<void> {
    await stopServer(world.redis);
    const data = join(world.redis.folder, 'data');
    for (const file of readdirSync(data)) rmSync(join(data, file), { recursive: true });
    await startServer(world.redis);
  }

  async function forgetHost(): Promise<void> {
    for (const each of [host.agent, host.helper]) await each.stop();
    await host.machine.must(['/bin/sh', '-c', `rm -rf ${PLACES.login}/* ${PLACES.keys}/*`]);
    await host.helper.start();
    await host.agent.start();
  }

  /** Each makes a backup, and returns a function that restores it. */
  const copies: Record<Lost, () => Promise<Back> | Back> = {
    async database() {
      const file = await dumpDatabase(world);
      return () => restoreDatabaseCopy(world, file);
    },
    directory() {
      const ldif = dumpDirectory(world);
      return () => restoreDirectoryCopy(world, ldif);
    },
    mariadb() {
      const dump = dumpServer(world);
      return () => restoreServerCopy(world, dump);
    },
    homes() {
      const copy = copyHomes(world);
      return () => restoreHomesCopy(world, copy);
    },
    redis: () => restoreRedisCopy,
    host: () => forgetHost,
  };

  return {
    cli,
    async startWork() {
      await login.startWork();
      const { config } = world;
      const log = openLog('fatal', { write: () => {} });
      markers = [
        startMarker(config, log, LOOK_MS),
        startPlaceMarkers(DATABASES, openDatabasesMarkers(config), config, log, LOOK_MS),
        startPlaceMarkers(HOMES, openHomesMarkers(config), config, log, LOOK_MS),
      ];
    },
    async stopWork() {
      await Promise.all(markers.map((each) => each.close()));
      markers = [];
      await login.stopWork();
    },
    async nextBeat() {
      const [{ now } = { now: new Date() }] = await query<{ now: Date }>(
        world,
        'SELECT clock_timestamp() AS now',
      );
      await eventually('every place to have a new marker', async () => {
        const told = await query(
          world,
          `SELECT FROM directory_heartbeat WHERE published_at > $1
           UNION ALL SELECT FROM place_markers WHERE published_at > $1`,
          [now],
        );
        return told.length === 5;
      });
    },
    async backUp(lost) {
      const back: Back[] = [];
      for (const each of lost) back.push(await copies[each]());
      return async () => {
        for (const each of back) await each();
      };
    },
    copySeals() {
      const file = join(world.dir, `host-${process.hrtime.bigint()}.seals`);
      writeFileSync(file, login.file(`${PLACES.login}/seals`));
      return file;
    },
    async hostSettled() {
      // deletions are noticed when the agent compares all names, which it does each minute and when it starts
      await host.agent.stop();
      await host.agent.start();
      let accepted = '';
      await eventually('the login host to match the seals', async () => {
        // the helper's own status: `keys-agent status` would be one more process for each look
        const text = login.file(`${PLACES.login}/status.json`);
        const { trusted, held } = JSON.parse(text) as Partial<AgentStatus>;
        const of = String(held?.names ?? '');
        if (of !== '' && of !== accepted) await host.keysAgent('accept');
        accepted = of;
        const are = filesOf(login);
        const mustBe = await filesBySeals(login);
        // of gone subjects it remembers that their access was revoked
        const wrong = difference(are, { ...mustBe, [CLOSED]: are[CLOSED] ?? [] });
        if (trusted && wrong === undefined) return true;
        await sleep(LOOK_MS);
        throw new Error(wrong ?? text);
      });
    },
    async recover(...args) {
      // The operator does as messages say. PostgreSQL may be late on a busy machine, and a request that is accepted
      // between the list and its confirmation changes what must be done.
      const deadline = performance.now() + RECOVER_MS;
      for (;;) {
        const isLast = performance.now() > deadline;
        const listed = await cli('recover', '--json', ...args);
        if (listed.err.startsWith('BACKEND_UNAVAILABLE') && !isLast) continue;
        if (listed.exit !== 3) {
          throw new Error(`recover: ${listed.exit} ${listed.out}${listed.err}`);
        }
        const list = JSON.parse(listed.out) as Record<string, unknown>;
        const done = await cli('recover', '--json', '--expect', String(list['digest']), ...args);
        if (done.err.startsWith('PLAN_MOVED') && !isLast) continue;
        if (done.exit !== 0) {
          throw new Error(`recover --expect: ${done.exit} ${done.out}${done.err}`);
        }
        return { ...list, ...(JSON.parse(done.out) as Record<string, unknown>) };
      }
    },
  };
}
