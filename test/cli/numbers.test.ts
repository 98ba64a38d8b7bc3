/** The warnings when the numbers for new accounts run out. */
import { afterAll, beforeAll, expect, test } from '@jest/globals';
import { EXIT } from '../../src/cli/exit.ts';
import { lookAtWork } from '../../src/doctor/work.ts';
import { openPool, type Pool, withClient } from '../../src/database/connection.ts';
import { openWorld, type World } from '../stack.ts';
import { pretendWork } from './pretend-work.ts';
import { type Ended, runCli } from './run-cli.ts';

let world: World;
let owner: Pool;
let admin: Pool;

beforeAll(async () => {
  world = await openWorld('numbers', { needs: ['postgres', 'redis'] });
  owner = openPool(world.config, 'owner', { max: 1, durable: false });
  admin = openPool(world.config, 'admin', { max: 1, durable: false });
  await run('bootstrap', 'steward');
});
afterAll(async () => {
  await Promise.all([owner.end(), admin.end()]);
  await world.close();
});

function run(...args: string[]): Promise<Ended> {
  return runCli(args, { config: world.configFile });
}

/** Pretends that so many of the 10,000 numbers for tools were given. */
async function give(count: number): Promise<void> {
  await owner.query(`UPDATE id_ranges SET next = first + $1 WHERE kind = 'tool'`, [count]);
}

test('status and doctor warn when four in five are given out, and say what to do', async () => {
  await give(7_999);
  await pretendWork(owner);
  const enough = await run('status', '--json');
  expect(enough.exit).toBe(EXIT.done);
  expect(JSON.parse(enough.out)).toMatchObject({
    numbers: [
      { kind: 'person', size: 9_000, left: 8_999 },
      { kind: 'tool', size: 10_000, left: 2_001 },
    ],
  });

  await give(8_000);
  const { exit, out } = await run('status');
  expect(exit).toBe(EXIT.pending);
  expect(out).toMatch(
    /^Scarce: few numbers are left for new tools: 2000 of 10000\. First add a range to `login-host\.yaml` on each login host.* Then add it to `ids\.tools` /u,
  );
  const lines = await withClient(admin, (client) => lookAtWork(client, world.config, new Date()));
  expect(lines.filter(({ what }) => /\bnumbers\b/u.test(what))).toMatchObject([
    { state: 'ok', what: '8999 of 9000 numbers are left for new people' },
    { state: 'fix', what: 'few numbers are left for new tools: 2000 of 10000' },
  ]);
});

test('a higher number that an import has given is not left; another range counts', async () => {
  await give(7_999);
  await pretendWork(owner);
  const { last } = world.config.ids.tools[0] as { last: number };
  await owner.query(`INSERT INTO posix_ids (id, kind) VALUES ($1, 'tool')`, [last]);
  expect((await run('status')).exit).toBe(EXIT.pending);
  await owner.query(
    `INSERT INTO id_ranges (kind, first, last, next) VALUES ('tool', 3000000, 3000999, 3000000)`,
  );
  await pretendWork(owner);
  expect((await run('status')).exit).toBe(EXIT.done);
});
