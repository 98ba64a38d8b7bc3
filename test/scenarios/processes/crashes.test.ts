/** kill -9 of `chamberlain work` at any moment; crashes.long.test.ts does it a thousand times. */
import { afterAll, beforeAll, expect, test } from '@jest/globals';
import { startWorkers, surviveCrashes } from './crash.ts';
import { admit, openRunning, type Running } from '../running.ts';

let running: Running;

beforeAll(async () => {
  running = await openRunning('crashes');
  await admit(running.portal, 'alice');
  await running.stopWork();
});

afterAll(async () => {
  await running?.close();
});

test('killed 3 times while 12 tools are requested, all are complete in the end', async () => {
  const seed = Number(process.env['CHAMBERLAIN_SEED'] ?? Date.now() % 1_000_000);
  process.stdout.write(`crashes: CHAMBERLAIN_SEED=${seed}\n`);
  await surviveCrashes(running, { rounds: 3, toolsPerRound: 4, seed });
}, 180_000);

test('SIGTERM stops it soon with exit code 0, even under load', async () => {
  const { portal, world } = running;
  const sending = Promise.all(
    Array.from({ length: 20 }, (_, n) =>
      portal.send({ kind: 'tool.create', requestedBy: 'alice', name: `term-${n}`, title: 'x' }),
    ),
  );
  const { child } = await startWorkers(world);
  await portal.hear('tool.ready');
  const asked = performance.now();
  const exit = new Promise<number | null>((resolve) => child.once('exit', resolve));
  child.kill('SIGTERM');
  expect(await exit).toBe(0);
  // it ends itself after 5 s, whatever work is in progress
  expect(performance.now() - asked).toBeLessThan(20_000);
  const ids = await sending;
  await running.startWork();
  for (const id of ids) await portal.finish(id);
});
