/** Eight portals at once, with two `chamberlain work`; parallel.long.test.ts has more tools. */
import { afterAll, beforeAll, test } from '@jest/globals';
import { createInParallel, openParallel, type Parallel } from './parallel.ts';

let parallel: Parallel;

beforeAll(async () => {
  parallel = await openParallel('parallel');
});
afterAll(async () => {
  await parallel?.close();
});

test('50 tools, 50 different numbers, none skipped, one verdict and one set of events each', async () => {
  await createInParallel(parallel, 50);
});
