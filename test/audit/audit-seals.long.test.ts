/** The audit's hash chain, of many rows. */
import { afterAll, beforeAll, expect, test } from '@jest/globals';
import { verifyAudit } from '../../src/audit/audit-verify.ts';
import { sealAudit } from '../../src/audit/audit-seals.ts';
import { openPool, type Pool, withClient } from '../../src/database/connection.ts';
import { runCli } from '../cli/run-cli.ts';
import { openWorld, type World } from '../stack.ts';

let world: World;
let pools: Record<'relay' | 'admin' | 'owner', Pool>;

beforeAll(async () => {
  world = await openWorld('long audit', { needs: ['postgres'] });
  const open = (role: keyof typeof pools) =>
    openPool(world.config, role, { max: 2, durable: false });
  pools = { relay: open('relay'), admin: open('admin'), owner: open('owner') };
});
afterAll(async () => {
  await Promise.all(Object.values(pools).map((pool) => pool.end()));
  await world.close();
});

test('30,000 rows are verified page by page, in a heap that could not hold them', async () => {
  await pools.owner.query(
    `INSERT INTO audit (kind, requested_by, approved_by, subject, account, fields, verdict)
     SELECT 'tool.create', 'alice', 'alice', n, 'tools.t' || n, '{name,title}', 'accepted'
     FROM generate_series(1, 30012) n`,
  );
  await sealAudit(pools.relay);
  const seen: [number, number][] = [];
  const verdict = await withClient(pools.admin, (client) =>
    verifyAudit(client, { onProgress: (done, of) => seen.push([done, of]) }),
  );
  expect(verdict).toMatchObject({ sealed: 30_012, faultsInAll: 0 });
  expect(seen.length).toBe(16);
  expect(seen.at(0)).toEqual([2000, 30_012]);
  expect(seen.at(-1)).toEqual([30_012, 30_012]);
  const ended = await runCli(['audit', 'verify', '--json'], {
    config: world.configFile,
    env: { NODE_OPTIONS: '--max-old-space-size=32' },
  });
  expect({ ...ended, out: '' }).toEqual({ exit: 0, out: '', err: '' });
  expect(JSON.parse(ended.out)).toMatchObject({ sealed: 30_012, head: verdict.head });
});
