/** Work that may take hours runs separately, even if it is in the wrong queue. */
import { afterAll, beforeAll, expect, test } from '@jest/globals';
import { Queue } from 'bullmq';
import { Redis } from 'ioredis';
import { slowQueue } from '../../../src/backends/redis/queue.ts';
import { eventually } from '../eventually.ts';
import {
  archivesOf,
  type LeavingWorld,
  openLeavingWorld,
  owedOf,
} from '../leaving/leaving-world.ts';
import { query, readAccounts, settled } from '../outside.ts';

let leaving: LeavingWorld;
let redis: Redis;

beforeAll(async () => {
  leaving = await openLeavingWorld('slow apart');
  redis = new Redis(leaving.world.config.redis.url, { maxRetriesPerRequest: null });
});

afterAll(async () => {
  redis?.disconnect();
  await leaving?.close();
});

test('a subject whose archival begins while it shares a job with others moves to the slow queue', async () => {
  const { world } = leaving;
  const [going, staying] = [await leaving.makeTool('going'), await leaving.makeTool('staying')];
  await settled(world);
  await leaving.stopWork();
  await leaving.startWork(['homes']);
  await query(world, 'INSERT INTO archivals (subject, archival) VALUES ($1, 1)', [going.uid]);
  await query(world, `UPDATE tools SET state = 'archived' WHERE uid = $1`, [going.uid]);
  for (const { uid } of [going, staying]) {
    await query(world, `SELECT touch_generation($1, 'homes')`, [uid]);
  }
  const add = async (name: string, subjects: number[]) => {
    const queue = new Queue(name, { connection: redis });
    await queue.add('converge', { subjects });
    await queue.close();
  };
  await add('homes', [going.uid, staying.uid]);
  await eventually('the other', async () => (await owedOf(world, staying)).length === 0);
  // the outcomes of all subjects of a job are written together
  expect(await owedOf(world, going)).toEqual(['homes due']);
  expect(await archivesOf(world, going)).toEqual([]);
  // that job unlocks its subjects a moment after the outcomes, and here no relay asks again for one that is locked
  const unlock = await leaving.hold(going, 'homes');
  await unlock();
  await add(slowQueue('homes'), [going.uid]);
  await eventually('the archive', async () => (await owedOf(world, going)).length === 0);
  expect(await archivesOf(world, going)).toMatchObject([{ role: 'homes' }]);
});

test('a person who waits behind another archive loses access meanwhile', async () => {
  const { world } = leaving;
  await leaving.stopWork();
  await leaving.startWork();
  const tool = await leaving.makeTool('waits');
  await settled(world);
  await leaving.stopWork();
  await query(world, 'INSERT INTO archivals (subject, archival) VALUES ($1, 1)', [tool.uid]);
  await query(world, `UPDATE tools SET state = 'archived' WHERE uid = $1`, [tool.uid]);
  await query(world, `SELECT touch_generation($1, 'databases')`, [tool.uid]);
  // the slow queue is busy with another subject for hours
  const slow = new Queue(slowQueue('databases'), { connection: redis });
  await slow.pause();
  await leaving.startWork(['relay', 'databases']);
  for (const server of ['replica', 'tools'] as const) {
    await eventually(
      'the lock',
      async () => (await readAccounts(world, server)).get(`s${tool.uid}`)?.locked,
    );
  }
  expect(await owedOf(world, tool)).toEqual(['databases due']);
  expect(await archivesOf(world, tool)).toEqual([]);
  await slow.resume();
  await slow.close();
  await eventually('the archive', async () => (await owedOf(world, tool)).length === 0);
});
