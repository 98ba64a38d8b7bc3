/** What `status` counts. */
import { afterAll, beforeAll, expect, test } from '@jest/globals';
import { MOST_OUTSTANDING, readPortalEvents } from '../../src/database/overview.ts';
import { numberEvents } from '../../src/events/deliveries.ts';
import { openPool, type Pool, withClient } from '../../src/database/connection.ts';
import { runCli } from '../cli/run-cli.ts';
import { openWorld, type World } from '../stack.ts';

let world: World;
let owner: Pool;
let admin: Pool;
let relay: Pool;

beforeAll(async () => {
  world = await openWorld('overview', { needs: ['postgres'] });
  owner = openPool(world.config, 'owner', { max: 1, durable: false });
  admin = openPool(world.config, 'admin', { max: 1, durable: false });
  relay = openPool(world.config, 'relay', { max: 1, durable: false });
});
afterAll(async () => {
  await Promise.all([owner.end(), admin.end(), relay.end()]);
  await world.close();
});

async function tell(count: number): Promise<void> {
  await owner.query(
    `INSERT INTO events (portal, event) SELECT 'portal', 'x' FROM generate_series(1, $1)`,
    [count],
  );
  while ((await numberEvents(relay)) > 0);
}
const outstanding = async () =>
  (await withClient(admin, readPortalEvents)).map(({ last, outstanding: open }) => [last, open]);

test('events that a portal has not taken are counted, not the numbers that a recovery skips', async () => {
  await tell(5);
  expect(await outstanding()).toEqual([['5', '5']]);
  await owner.query(`INSERT INTO event_deliveries (portal, completed) VALUES ('portal', 3)`);
  expect(await outstanding()).toEqual([['5', '2']]);
  // as src/recovery/write-recovery.ts does
  await owner.query('UPDATE event_sequences SET last = last + 1000000');
  expect(await outstanding()).toEqual([['1000005', '2']]);
  await tell(1);
  expect(await outstanding()).toEqual([['1000006', '3']]);
});

test('a great many are not counted to the end, and the output says so', async () => {
  await tell(MOST_OUTSTANDING);
  expect(await outstanding()).toEqual([['1010006', String(MOST_OUTSTANDING + 1)]]);
  const { out } = await runCli(['status'], { config: world.configFile });
  expect(out).toMatch(/^portal +1010006 +more than 10000 /mu);
});

test('the oldest request is named, even one that no portal has sent', async () => {
  await runCli(['bootstrap', 'steward'], { config: world.configFile });
  const { out } = await runCli(['status'], { config: world.configFile });
  expect(out).toMatch(/^oldest unfinished request: bootstrap, \d+ s old$/mu);
});
