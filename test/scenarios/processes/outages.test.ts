/**
 * Each of the five servers is frozen (SIGSTOP), and killed and started again, while requests come: whatever
 * does not need it goes on, and the rest is done within 5 s of its return, without intervention. Finally, Redis
 * is flushed.
 */
import { afterAll, beforeAll, describe, expect, test } from '@jest/globals';
import { setTimeout as sleep } from 'node:timers/promises';
import { Redis } from 'ioredis';
import { administer, startServer, stopServer, type World } from '../../stack.ts';
import { eventually } from '../eventually.ts';
import { query } from '../outside.ts';
import { expectWhole, OUTAGES, surviveOutage, tool } from './outage.ts';
import type { Portal, Wish } from '../portal.ts';
import { admit, openRunning, type Running } from '../running.ts';

/** Until clients are in the middle of it; those of outages.long.test.ts outlast every time-out of the program. */
const OUTAGE_MS = 1500;

let running: Running;
let world: World;
let portal: Portal;
const names: string[] = [];

beforeAll(async () => {
  running = await openRunning('outages', { own: true });
  ({ world, portal } = running);
  await admit(portal, 'alice');
});

afterAll(async () => {
  await running?.close();
});

test.each(OUTAGES)(
  '$server $how: the others go on, and everything is done within 5 s of its return',
  async ({ server, how }) => {
    const outage = { server, how, outageMs: OUTAGE_MS, name: `${server}-${how}` };
    names.push(...(await surviveOutage(running, outage)));
  },
  120_000,
);

async function verdictsOn(ids: readonly string[]): Promise<void> {
  await eventually('verdicts', async () => {
    const rows = await query(world, 'SELECT FROM requests WHERE jti = ANY ($1)', [ids]);
    return rows.length === ids.length;
  });
}

async function flush(): Promise<void> {
  const redis = new Redis(world.config.redis.url);
  await redis.flushall();
  redis.disconnect();
}

test('a subject that fails again and again for one reason is in the log once', async () => {
  const from = running.log.length;
  await stopServer(world.slapd);
  names.push('logged-once');
  const id = await portal.send(tool('logged-once'));
  const failing = () =>
    query(world, "SELECT FROM convergence WHERE role = 'directory' AND state = 'failing'");
  try {
    await eventually('the failure', async () => (await failing()).length > 0);
    await sleep(5000); // it is tried every 1.5 s
    expect((await failing()).length).toBeGreaterThan(0);
  } finally {
    await startServer(world.slapd);
  }
  await portal.finish(id);
  const failures = running.log
    .slice(from)
    .map((line) => JSON.parse(line) as Record<string, unknown>)
    .filter(({ msg, role }) => msg === 'not as wanted' && role === 'directory')
    .map(({ subject, sentence }) => `${String(subject)}: ${String(sentence)}`);
  expect(failures).toEqual([...new Set(failures)]);
  expect(failures.length).toBeGreaterThan(0);
});

/** Suspends somebody new while the tools database does not lock their account; returns the id of the request. */
async function suspendMeanwhile(person: string, before: string, code: string): Promise<string> {
  await admit(portal, person);
  await administer(world.tools.socket, before);
  const wish = { kind: 'person.suspend', requestedBy: 'steward', person, reason: 'x' };
  const id = await portal.send(wish);
  await eventually('the failure', async () => {
    const rows = await query(
      world,
      `SELECT FROM convergence WHERE role = 'databases' AND state = 'failing' AND code = $1`,
      [code],
    );
    return rows.length > 0;
  });
  return id;
}

/** As if so many tries had failed, or the pause until the next one were over. */
const pass = (set: string) =>
  query(world, `UPDATE convergence SET ${set} WHERE role = 'databases' AND applied < wanted`);

test('a suspension while a database server is read-only is done when it is not, however long that takes', async () => {
  const readOnly = 'SET GLOBAL read_only = 1';
  const id = await suspendMeanwhile('ruth', readOnly, 'BACKEND_UNAVAILABLE');
  await pass('attempts = 7');
  await sleep(2000); // it is tried every 1.5 s
  await administer(world.tools.socket, 'SET GLOBAL read_only = 0');
  await portal.finish(id);
  expect(portal.told(id)).not.toContain('request.stuck');
}, 60_000);

test('a suspension that a server refuses is reported, and done when it refuses no more', async () => {
  // a connection keeps the rights that it began with
  const right = (act: string) => `${act} chamberlain_databases; KILL USER chamberlain_databases`;
  try {
    const revoke = right('REVOKE CREATE USER ON *.* FROM');
    const id = await suspendMeanwhile('sam', revoke, 'STEP_FAILED');
    await pass('attempts = 7, next_try_at = now()');
    await portal.hear('request.stuck', id);
    await administer(world.tools.socket, right('GRANT CREATE USER ON *.* TO'));
    await pass(`next_try_at = now() - interval '61 s'`);
    await portal.hear('request.done', id);
  } finally {
    await administer(world.tools.socket, right('GRANT CREATE USER ON *.* TO'));
  }
}, 60_000);

describe('Redis loses everything', () => {
  test('after the verdicts, everything is done, and no event is lost or out of order', async () => {
    const made = Array.from({ length: 20 }, (_, n) => `flushed-${n}`);
    names.push(...made);
    const ids = await Promise.all(made.map((each) => portal.send(tool(each))));
    await verdictsOn(ids);
    await flush();
    await eventually('one done', () =>
      portal.heard.some(
        ({ request, event }) => event === 'request.done' && ids.includes(request ?? ''),
      ),
    );
    await flush();
    for (const id of ids) await portal.finish(id);
    for (const id of ids) {
      expect(portal.told(id)).toEqual(['request.accepted', 'tool.ready', 'request.done']);
    }
    expect(portal.disorder).toEqual([]);
  });

  test('events that nobody has fetched are sent again, in order', async () => {
    await portal.pause();
    const wish = (n: number): Wish => ({
      ...{ kind: 'tool.update', requestedBy: 'alice', tool: 'flushed-0' },
      title: `Title ${n}`,
    });
    const ids = await Promise.all(Array.from({ length: 50 }, (_, n) => portal.send(wish(n))));
    await verdictsOn(ids);
    await flush();
    await portal.resume();
    for (const id of ids) await portal.finish(id);
    expect(portal.disorder).toEqual([]);
  });
});

test('in the end everything is complete: tools, passwords, numbers, events', async () => {
  await expectWhole(running, names);
});
