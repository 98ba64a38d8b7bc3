/** Eight portals at once, 64 requests in progress, all doubled and shuffled, two `chamberlain work`. */
import { expect } from '@jest/globals';
import { endProcess, randomFrom, startWorkers } from './crash.ts';
import { query } from '../outside.ts';
import { expectWhole } from './outage.ts';
import { newPortalKey, openPortal, type Portal, type Wish } from '../portal.ts';
import { admit, openRunning, type Running } from '../running.ts';

const IN_FLIGHT = 64;
const identities = Array.from({ length: 8 }, (_, n) => newPortalKey(`portal-${n}`));

export interface Parallel {
  running: Running;
  portals: Portal[];
  close(): Promise<void>;
}

/** A realm with eight portals and eight people, in which nothing works. */
export async function openParallel(name: string): Promise<Parallel> {
  const running = await openRunning(name, {
    adjust: (config) => ({
      ...config,
      portals: [
        ...config.portals,
        ...identities.map(({ name: of, kid, publicKey }) => ({
          name: of,
          keys: [{ kid, publicKey }],
          kinds: 'all' as const,
          subjectEvents: false,
          speaksForAdmins: false,
        })),
      ],
    }),
  });
  const portals = identities.map((identity) => openPortal(running.world, identity));
  await admit(running.portal, ...Array.from({ length: 8 }, (_, n) => `person-${n}`));
  await running.stopWork();
  return {
    running,
    portals,
    async close() {
      await Promise.all(portals.map((portal) => portal.close()));
      await running.close();
    },
  };
}

/** Has them all create as many tools: different numbers, none skipped, one verdict and one set of events each. */
export async function createInParallel(
  { running, portals }: Parallel,
  tools: number,
): Promise<void> {
  const { world } = running;
  const seed = Number(process.env['CHAMBERLAIN_SEED'] ?? Date.now() % 1_000_000);
  process.stdout.write(`parallel: CHAMBERLAIN_SEED=${seed}\n`);
  const random = randomFrom(seed);
  const wishes = Array.from(
    { length: tools },
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
    expect(rows).toEqual([{ verdict: 'accepted', n: tools, ids: tools }]);
    await expectWhole(
      running,
      wishes.map(({ wish }) => String(wish['name'])),
    );
    for (const portal of portals) expect(portal.disorder).toEqual([]);
  } finally {
    for (const { child } of workers) expect(await endProcess(child, 'SIGTERM')).toBe(0);
  }
}
