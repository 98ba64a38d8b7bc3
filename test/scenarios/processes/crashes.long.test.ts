/** kill -9 of `chamberlain work` at hundreds of moments. */
import { afterAll, beforeAll, test } from '@jest/globals';
import { surviveCrashes } from './crash.ts';
import { admit, openRunning, type Running } from '../running.ts';

const ROUNDS = Number(process.env['CHAMBERLAIN_ROUNDS'] ?? 300);

let running: Running;

beforeAll(async () => {
  running = await openRunning('many crashes');
  await admit(running.portal, 'alice');
  await running.stopWork();
});

afterAll(async () => {
  await running?.close();
}, 60_000);

test(
  `killed ${ROUNDS} times, everything is complete in the end`,
  async () => {
    const seed = Number(process.env['CHAMBERLAIN_SEED'] ?? Date.now() % 1_000_000);
    process.stdout.write(`crashes: CHAMBERLAIN_SEED=${seed}\n`);
    await surviveCrashes(running, { rounds: ROUNDS, toolsPerRound: 3, seed });
  },
  ROUNDS * 4000 + 120_000,
);
