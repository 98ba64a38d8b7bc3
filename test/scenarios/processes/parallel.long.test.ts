/** Eight portals at once, with two `chamberlain work`. */
import { afterAll, beforeAll, test } from '@jest/globals';
import { createInParallel, openParallel, type Parallel } from './parallel.ts';

let parallel: Parallel;

beforeAll(async () => {
  parallel = await openParallel('long parallel');
});
afterAll(async () => {
  await parallel?.close();
});

test('200 tools, 200 different numbers, none skipped, one verdict and one set of events each', async () => {
  await createInParallel(parallel, 200);
}, 300_000);
