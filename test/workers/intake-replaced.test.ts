/** An intake that another has replaced: it leaves alone what the other has in hand. */
import { fixedConfig } from '../../src/configuration/config-in-use.ts';
import { afterAll, beforeAll, expect, test } from '@jest/globals';
import { Redis } from 'ioredis';
import { openLog } from '../../src/shared/log.ts';
import { openPool, type Pool } from '../../src/database/connection.ts';
import { startIntake } from '../../workers/intake.ts';
import type { Worker } from '../../src/shared/loop.ts';
import { eventually } from '../scenarios/eventually.ts';
import { openWorld, type World } from '../stack.ts';

let world: World;
let owner: Pool;
let redis: Redis;
let intake: Worker | undefined;
const log: string[] = [];

beforeAll(async () => {
  world = await openWorld('intake-replaced', { needs: ['postgres', 'redis'] });
  owner = openPool(world.config, 'owner', { max: 1, durable: false });
  redis = new Redis(world.redis.urlOf('owner'));
});
afterAll(async () => {
  await intake?.close();
  redis?.disconnect();
  await owner?.end();
  await world?.close();
});

test('it puts back nothing that the other one holds', async () => {
  const write = (line: string) => void log.push(line);
  intake = startIntake(fixedConfig(world.config), openLog('trace', { write }));
  await eventually('it to wait for a job', async () =>
    String(await redis.client('LIST')).includes('cmd=bzpopmin'),
  );
  const job = { name: 'request', data: '{"token":"x"}', opts: '{}', timestamp: '1' };
  await redis.hset('bull:requests.portal:1', job);
  // the other has the lease, and takes a job
  await owner.query(
    `UPDATE leases SET epoch = epoch + 1, renewed_at = now() + interval '1 hour' WHERE name = 'intake'`,
  );
  await redis.lpush('bull:requests.portal:active', '1');
  await eventually('it to give up', () => log.some((line) => /another has the lease/u.test(line)));
  await intake.close();
  intake = undefined;
  expect(await redis.lrange('bull:requests.portal:active', 0, -1)).toEqual(['1']);
  expect(await redis.exists('bull:requests.portal:wait')).toBe(0);
});
