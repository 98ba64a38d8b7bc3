/**
 * Eight portals at once, 64 requests in progress, 200 tools, all doubled and shuffled, two `chamberlain work`.
 */
import { afterAll, beforeAll, expect, test } from '@jest/globals';
import type { World } from '../../stack.ts';
import { endProcess, randomFrom, startWorkers } from './crash.ts';
import { query } from '../outside.ts';
import { expectWhole } from './outage.ts';
import { newPortalKey, openPortal, type Portal, type Wish } from '../portal.ts';
import { admit, openRunning, type Running } from '../running.ts';

const TOOLS = 200;
const IN_FLIGHT = 64;
const identities = Array.from({ length: 8 }, (_, n) => newPortalKey(`portal-${n}`));

let running: Running;
let world: World;
let portals: Portal[];

beforeAll(async () => {
  running = await openRunning('parallel', {
    adjust: (config) => ({
      ...config,
      portals: [
        ...config.portals,
        ...identities.map(({ name, kid, publicKey }) => ({
          name,
          keys: [{ kid, publicKey }],
          kinds: 'all' as const,
          subjectEvents: false,
          speaksForAdmins: false,
        })),
      ],
    }),
  });
  ({ world } = running);
  portals = identities.map((identity) => openPortal(world, identity));
  await admit(running.portal, ...Array.from({ length: 8 }, (_, n) => `person-${n}`));
  await running.stopWork();
}, 120_000);

afterAll(async () => {
  await Promise.all((portals ?? []).map((portal) => portal.close()));
  await running?.close();
});

test('200 tools, 200 different numbers, none skipped, one verdict and one set of events each', async () => {
  const seed = Number(process.env['CHAMBERLAIN_SEED'] ?? Date.now() % 1_000_000);
  process.stdout.write(`parallel: CHAMBERLAIN_SEED=${seed}\n`);
  const random = randomFrom(seed);
  const wishes = Array.from(
    { length: TOOLS },
    (_, n): { portal: Portal; wish: Wish; id: string } => ({
      portal: portals[n % portals.length] as Portal,
      wish: {
        kind: 'tool.create',
        requestedBy: `person-${n % 8}`,
        name: `parallel-${n}`,
        title: `Tool ${n}`,
      },
      id: crypto.randomUUID(),
    }),
  );
  const shuffle = <T>(list: readonly T[]): T[] =>
    list
      .map((item) => ({ item, at: random() }))
      .sort((a, b) => a.at - b.at)
      .map(({ item }) => item);
  const doubled = shuffle([...wishes, ...wishes]);
  const workers = await Promise.all([startWorkers(world), startWorkers(world)]);
  try {
    const lanes = Array.from({ length: IN_FLIGHT }, async () => {
      for (let next = doubled.shift(); next !== undefined; next = doubled.shift()) {
        await next.portal.send(next.wish, { id: next.id });
        await next.portal.finish(next.id);
      }
    });
    await Promise.all(lanes);
    for (const { portal, id } of wishes) {
      expect(portal.told(id)).toEqual(['request.accepted', 'tool.ready', 'request.done']);
    }
    const rows = await query(
      world,
      `SELECT verdict, count(*)::int AS n, count(DISTINCT jti)::int AS ids FROM requests
       WHERE portal LIKE 'portal-%' GROUP BY verdict`,
    );
    expect(rows).toEqual([{ verdict: 'accepted', n: TOOLS, ids: TOOLS }]);
    await expectWhole(
      running,
      wishes.map(({ wish }) => String(wish['name'])),
    );
    for (const portal of portals) expect(portal.disorder).toEqual([]);
  } finally {
    for (const { child } of workers) expect(await endProcess(child, 'SIGTERM')).toBe(0);
  }
}, 300_000);
