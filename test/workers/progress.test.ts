/** Which loops of a process hang: a leader that does nothing does, and one that waits for a server does not. */
import { fixedConfig } from '../../src/configuration/config-in-use.ts';
import { generateKeyPairSync } from 'node:crypto';
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, afterEach, beforeAll, describe, expect, test } from '@jest/globals';
import { openPool, type Pool } from '../../src/database/connection.ts';
import { startLeased } from '../../src/database/leased.ts';
import { startMarker } from '../../src/seals/publish-heartbeat.ts';
import type { Config } from '../../src/shared/config.ts';
import { openLog } from '../../src/shared/log.ts';
import type { Worker } from '../../src/shared/loop.ts';
import { HANGS_MS, hangingLoops } from '../../src/shared/progress.ts';
import { startIntake } from '../../workers/intake.ts';
import { startRelay } from '../../workers/relay.ts';
import { startSweep } from '../../workers/sweep.ts';
import { wantTool } from '../laws-world.ts';
import { eventually } from '../scenarios/eventually.ts';
import { openWorld, type World } from '../stack.ts';

const log = openLog('silent');

let world: World;
let owner: Pool;
beforeAll(async () => {
  world = await openWorld('progress', { needs: ['postgres'] });
  owner = openPool(world.config, 'owner', { max: 1, durable: false });
  // work that the relay cannot queue while Redis is away
  const { uid } = await wantTool(owner, world, []);
  await owner.query(`SELECT touch_generation($1, 'homes')`, [uid]);
});
afterAll(async () => {
  await owner?.end();
  await world?.close();
});

const open: Worker[] = [];
afterEach(async () => {
  await Promise.all(open.splice(0).map((each) => each.close()));
  expect(hangingLoops(Infinity)).toEqual([]); // what is closed is forgotten
});

/** When a loop would hang that makes no more progress from now on; and a little later. */
const hangsAt = (): number => performance.now() + HANGS_MS + 1;

const NOWHERE = '127.0.0.1';
const withoutRedis = (): Config => ({ ...world.config, redis: { url: `redis://${NOWHERE}:1` } });
const withoutPostgres = (): Config => ({
  ...withoutRedis(),
  postgres: { ...world.config.postgres, host: NOWHERE, port: 1 },
});
const leaderOf = async (work: string): Promise<boolean> => {
  const { rows } = await owner.query('SELECT FROM leaders() WHERE work = $1 AND pid > 0', [work]);
  return rows.length > 0;
};

describe.each<[string, (config: Config) => Worker]>([
  ['intake', (config) => startIntake(fixedConfig(config), log)],
  ['relay', (config) => startRelay(fixedConfig(config), log)],
  ['sweep', (config) => startSweep(fixedConfig(config), log)],
])('%s', (work, start) => {
  test('does not hang while Redis is away', async () => {
    open.push(start(withoutRedis()));
    await eventually('the lease', () => leaderOf(work));
    const later = hangsAt();
    await eventually('progress', () => hangingLoops(later).length === 0);
  });

  test('does not hang while PostgreSQL is away', async () => {
    open.push(start(withoutPostgres()));
    const later = hangsAt();
    await eventually('progress', () => hangingLoops(later).length === 0);
  });
});

test('the heartbeat does not hang while PostgreSQL is away', async () => {
  const { privateKey } = generateKeyPairSync('ed25519');
  const { secrets } = world.config;
  writeFileSync(join(secrets, 'seal-key'), privateKey.export({ type: 'pkcs8', format: 'pem' }));
  writeFileSync(join(secrets, 'ldap-directory'), 'unused');
  open.push(startMarker(withoutPostgres(), log, 50));
  const later = hangsAt();
  await eventually('progress', () => hangingLoops(later).length === 0);
});

describe('work under a lease', () => {
  /** Begins work that only ends when its lease does. */
  async function begin(mayWait: boolean) {
    let leased: Parameters<Parameters<typeof startLeased>[1]>[0] | undefined;
    const worker = startLeased({ ...world, role: 'sweep', log, mayWait }, async (given) => {
      leased = given;
      const { signal } = given.held;
      await new Promise((resolve) => signal.addEventListener('abort', resolve));
    });
    open.push(worker);
    return await eventually('the lease', () => leased);
  }

  test('hangs if it makes no progress for a minute', async () => {
    const { progress, waits } = await begin(false);
    for (const goOn of [progress, async () => waits()]) {
      const later = hangsAt();
      expect(hangingLoops(later)).toEqual(['sweep']);
      await eventually('later', async () => {
        await goOn();
        return hangingLoops(later).length === 0;
      });
    }
  });

  test('is not known to hang if it may wait', async () => {
    await begin(true);
    expect(hangingLoops(Number.MAX_VALUE)).toEqual([]);
  });
});
