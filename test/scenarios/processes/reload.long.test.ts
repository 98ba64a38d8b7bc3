/** As reload.test.ts, with many more: 200 reloads during 20,000 requests. */
import { afterAll, beforeAll, expect, test } from '@jest/globals';
import { openReloads, type Realm, reloadUnderLoad } from './reloads.ts';

let realm: Realm;

beforeAll(async () => {
  realm = await openReloads('reload long');
});
afterAll(async () => {
  await realm?.close();
});

test('200 reloads during 20,000 requests from eight portals: each gets its one right verdict', async () => {
  const outcome = await reloadUnderLoad(realm, {
    ...{ each: 2500, reloads: 200, killAt: [31, 77, 123, 160], withinMs: 600_000 },
  });
  expect(outcome).toMatchObject({
    ...{ sent: 17_500, accepted: 17_500, refused: 0, disorder: [], told: 17_500 },
    mixed: { accepted: 0, waiting: 0 },
  });
  expect(Object.values(outcome.exits).reduce((sum, n) => sum + n, 0)).toBeGreaterThanOrEqual(200);
}, 1_200_000);
