/**
 * What a portal receives, by the sample of docs/portals.md as it is: each event at least once and in order,
 * whatever fails, dies or is lost; with BullMQ 6 and 5.
 */
import { fixedConfig } from '../../../src/configuration/config-in-use.ts';
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdirSync, readFileSync, symlinkSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { setTimeout as sleep } from 'node:timers/promises';
import { afterAll, afterEach, beforeAll, describe, expect, test } from '@jest/globals';
import { Queue } from 'bullmq';
import { Queue as Queue5 } from 'bullmq5';
import { Redis } from 'ioredis';
import { startRelay } from '../../../workers/relay.ts';
import { openLog } from '../../../src/shared/log.ts';
import { openPool } from '../../../src/database/connection.ts';
import { blockOf } from '../../page-blocks.ts';
import { openWorld, type World } from '../../stack.ts';
import { eventually } from '../eventually.ts';
import { query } from '../outside.ts';
import { signClaims } from '../portal.ts';
import { createPrivateKey, generateKeyPairSync } from 'node:crypto';

const ROOT = join(import.meta.dirname, '../../..');
const SAMPLE = blockOf('portal:hear');

let world: World;
let redis: Redis;
let relay: { close(): Promise<void> };
const portals: SamplePortal[] = [];
const log: string[] = [];

beforeAll(async () => {
  world = await openWorld('hearing', { needs: ['postgres', 'redis'] });
  redis = new Redis(world.config.redis.url, { maxRetriesPerRequest: null });
  redis.on('error', () => {});
  relay = startRelay(
    fixedConfig(world.config),
    openLog('warn', { write: (line) => void log.push(line) }),
  );
  for (const version of ['bullmq', 'bullmq5']) {
    const folder = join(world.dir, version);
    mkdirSync(join(folder, 'node_modules'), { recursive: true });
    symlinkSync(join(ROOT, 'node_modules', version), join(folder, 'node_modules/bullmq'));
    symlinkSync(join(ROOT, 'node_modules/jose'), join(folder, 'node_modules/jose'));
  }
  writeFileSync(join(world.dir, 'events-key.pem'), world.eventsKey);
});
afterEach(async () => {
  await Promise.all(portals.splice(0).map((portal) => portal.end('SIGKILL')));
});
afterAll(async () => {
  await relay?.close();
  redis?.disconnect();
  await world?.close();
});

/** A process that runs the sample. */
interface SamplePortal {
  /** the numbers that it has printed, one list for each life of the process */
  readonly lives: number[][];
  readonly errors: string[];
  end(signal: NodeJS.Signals): Promise<void>;
  again(): void;
}

/**
 * @param inHandler is done before each event is taken
 * @param inJob is done before each job
 */
function startPortal(version: string, inHandler = '', inJob = ''): SamplePortal {
  const file = join(world.dir, version, 'portal.mjs');
  writeFileSync(
    file,
    SAMPLE.replace('  console.log(', () => `${inHandler}\n  console.log(`).replace(
      '    const { payload }',
      () => `${inJob}\n    const { payload }`,
    ),
  );
  const lives: number[][] = [];
  const errors: string[] = [];
  let child: ChildProcess | undefined;
  const again = () => {
    const life: number[] = [];
    lives.push(life);
    child = spawn(join(ROOT, 'node_modules/.bin/node'), [file], {
      env: {
        ...process.env,
        REDIS_URL: world.redis.urlOf('portal.portal'),
        EVENTS_KEY: join(world.dir, 'events-key.pem'),
      },
      stdio: ['ignore', 'pipe', 'pipe'],
    });
    createInterface({ input: child.stdout! }).on('line', (line) => {
      const seq = /^(\d+) /u.exec(line)?.[1];
      if (seq !== undefined) life.push(Number(seq));
    });
    createInterface({ input: child.stderr! }).on('line', (line) => void errors.push(line));
  };
  again();
  const portal = {
    lives,
    errors,
    again,
    async end(signal: NodeJS.Signals) {
      if (child === undefined || child.exitCode !== null || child.signalCode !== null) return;
      const exit = once(child, 'exit');
      child.kill(signal);
      await exit;
    },
  };
  portals.push(portal);
  return portal;
}

let told = 0;
/** Sends the portal this many more events, in some transactions. */
async function tell(count: number): Promise<void> {
  for (let left = count; left > 0; left -= 10) {
    await query(
      world,
      `INSERT INTO events (portal, event, data) SELECT 'portal', 'tool.ready', '{"n": 1}'
       FROM generate_series(1, $1)`,
      [Math.min(10, left)],
    );
  }
  told += count;
}

/** Waits until the portal has everything that was sent, and checks that each life had its events in order. */
async function expectAll({ lives, errors }: SamplePortal, timeoutMs = 60_000): Promise<void> {
  await eventually(
    'the last event',
    () => {
      const last = lives.at(-1)?.at(-1);
      if (last === told) return true;
      throw new Error(
        `it has ${last} of ${told}: ${[...errors.slice(-3), ...log.slice(-3)].join('\n')}`,
      );
    },
    timeoutMs,
  );
  for (const life of lives) {
    const [first = 1] = life;
    expect(life).toEqual(life.map((_, n) => first + n));
  }
  expect(Math.min(...lives.map(([first = 1]) => first))).toBe(1);
  await eventually('the delivery to be known', async () => {
    const [row] = await query<{ completed: string; job: string | null }>(
      world,
      `SELECT completed, job FROM event_deliveries WHERE portal = 'portal'`,
    );
    return Number(row?.completed) === told && row?.job === null;
  });
}

test('the sample is in docs/portals.md', () => {
  expect(SAMPLE).toContain("'events.portal'");
});

describe.each(['bullmq', 'bullmq5'])('with %s', (version) => {
  test('events come in order, as they are told', async () => {
    const portal = startPortal(version);
    await tell(25);
    await expectAll(portal);
    await tell(700);
    await expectAll(portal);
  });

  test('a handler that sometimes throws, and a job that fails, get each event nevertheless', async () => {
    const portal = startPortal(
      version,
      // by count, not by chance, so that each certainly happens: the events do not fit into one job
      `  if ((globalThis.handled = (globalThis.handled ?? 0) + 1) % 50 === 7) throw new Error('not now');`,
      `    if ((globalThis.jobs = (globalThis.jobs ?? 0) + 1) % 5 === 2) throw new Error('not this');`,
    );
    for (let n = 0; n < 10; n += 1) await tell(30);
    await expectAll(portal);
    expect(portal.errors).toEqual(expect.arrayContaining(['not now', 'not this']));
  });

  test('a portal that is killed in its handler gets everything when it is back', async () => {
    const portal = startPortal(
      version,
      `  if (last === ${told + 20}) process.kill(process.pid, 'SIGKILL');`,
    );
    await tell(60);
    await eventually('its death', () => portal.lives[0]?.at(-1) === told - 40);
    await portal.end('SIGKILL');
    writeFileSync(join(world.dir, version, 'portal.mjs'), SAMPLE);
    portal.again();
    await expectAll(portal);
  });

  test('a paused queue loses nothing, even if Redis loses everything meanwhile', async () => {
    const connection = { connection: { url: world.redis.urlOf('portal.portal') } };
    const queue =
      version === 'bullmq5'
        ? new Queue5('events.portal', connection)
        : new Queue('events.portal', connection);
    const portal = startPortal(version);
    await tell(20);
    await expectAll(portal);
    await queue.pause();
    await tell(40);
    await eventually('a job', openJob);
    await queue.resume();
    await expectAll(portal);
    await queue.pause();
    await tell(40);
    await eventually('a job', openJob);
    await redis.flushall();
    await expectAll(portal);
    await queue.close();
  });

  test('a Redis that loses everything, again and again, loses no event', async () => {
    const portal = startPortal(version);
    for (let n = 0; n < 10; n += 1) {
      await tell(40);
      await redis.flushall();
    }
    await expectAll(portal);
  });
});

const openJob = async (): Promise<string | undefined> =>
  (
    await query<{ job: string | null }>(
      world,
      `SELECT job FROM event_deliveries WHERE portal = 'portal'`,
    )
  )[0]?.job ?? undefined;

describe('somebody with the portal’s password of Redis', () => {
  const queue = () => new Queue('events.portal', { connection: redis });

  test('cannot send an event: a forged one changes nothing', async () => {
    const portal = startPortal('bullmq');
    await tell(1);
    await expectAll(portal);
    const stranger = generateKeyPairSync('ed25519').privateKey;
    const events = [{ seq: 999_999, event: 'tool.ready', data: {} }];
    const claims = { iss: 'tools', aud: 'portal', iat: 1, after: told, events };
    await queue().add('events', { token: signClaims(stranger, { alg: 'EdDSA' }, claims) });
    await queue().add('events', { after: 0, events });
    // what the relay has sent to another portal
    const own = createPrivateKey(readFileSync(join(world.config.secrets, 'events-key')));
    const toOther = signClaims(own, { alg: 'EdDSA' }, { ...claims, aud: 'wiki' });
    await queue().add('events', { token: toOther });
    await eventually('three failures', () => portal.errors.length >= 3);
    await tell(20);
    await expectAll(portal);
  });

  test.each([
    ['of what is to come', () => told],
    ['of what will never come', () => 10_000_000],
    ['of nothing', () => undefined],
  ])(
    'cannot lose one: a forged confirmation %s is corrected',
    async (_what, have) => {
      const portal = startPortal('bullmq');
      await tell(1);
      await expectAll(portal);
      await portal.end('SIGKILL');
      await tell(300);
      const id = await eventually('a job', openJob);
      const value = have();
      await redis
        .multi()
        .lrem('bull:events.portal:wait', 0, id)
        .zadd('bull:events.portal:completed', Date.now(), id)
        .hset(`bull:events.portal:${id}`, {
          returnvalue: value === undefined ? 'null' : JSON.stringify({ have: value }),
          finishedOn: Date.now(),
        })
        .exec();
      await eventually('another job', async () => (await openJob()) !== id);
      portal.again();
      // what was confirmed but never came shows as a gap before the next event
      await tell(1);
      await expectAll(portal);
    },
    90_000,
  );

  test.each([
    ['lists that are texts', ['set', 'bull:events.portal:wait', 'x']],
    ['ended jobs that are texts', ['set', 'bull:events.portal:completed', 'x']],
    ['settings that are a list', ['lpush', 'bull:events.portal:meta', 'x']],
    ['a limit to no job at all', ['hset', 'bull:events.portal:meta', 'concurrency', '0']],
  ] as const)(
    'can stop events only while they keep trying: %s',
    async (_what, [command, ...words]) => {
      await redis.del(words[0]);
      await redis.call(command, ...words);
      await tell(5);
      await redis.hdel('bull:events.portal:meta', 'concurrency').catch(() => {});
      const portal = startPortal('bullmq');
      await tell(5);
      await expectAll(portal);
    },
    60_000,
  );

  test.each([
    ['by a lock that never expires', (key: string) => redis.set(`${key}:lock`, 'x')],
    [
      'by a job of another type',
      async (key: string) => {
        await redis.del(key);
        await redis.set(key, 'x');
      },
    ],
  ])(
    'cannot hold a job back forever, %s',
    async (_what, harm) => {
      const portal = startPortal('bullmq');
      await tell(1);
      await expectAll(portal);
      await portal.end('SIGKILL');
      await tell(5);
      const id = await eventually('a job', openJob);
      await redis.lmove('bull:events.portal:wait', 'bull:events.portal:active', 'RIGHT', 'LEFT');
      await harm(`bull:events.portal:${id}`);
      await eventually('another job', async () => (await openJob()) !== id);
      portal.again();
      await tell(1);
      await expectAll(portal);
    },
    60_000,
  );

  test('cannot have the jobs of others removed by linking them to their own', async () => {
    const portal = startPortal('bullmq');
    await tell(1);
    await expectAll(portal);
    await portal.end('SIGKILL');
    await redis.hset('bull:events.other:theirs', 'name', 'x');
    await tell(5);
    const id = await eventually('a job', openJob);
    await redis.sadd(`bull:events.portal:${id}:dependencies`, 'bull:events.other:theirs');
    await redis.hset(`bull:events.portal:${id}`, 'parentKey', 'bull:events.other:theirs');
    portal.again();
    await tell(1);
    await eventually('the other events', () => portal.lives.at(-1)?.at(-1) === told);
    expect(await redis.hgetall('bull:events.other:theirs')).toEqual({ name: 'x' });
  });

  test('cannot stop the relay by an answer that is too long to be read', async () => {
    const portal = startPortal('bullmq');
    await tell(1);
    await expectAll(portal);
    await portal.end('SIGKILL');
    await tell(3);
    const id = await eventually('a job', openJob);
    await redis.eval(
      `redis.call('LREM', KEYS[1], 0, ARGV[1]) redis.call('ZADD', KEYS[2], 1, ARGV[1])
       redis.call('HSET', KEYS[3], 'returnvalue', string.rep('9', 100 * 1048576))`,
      ...[3, 'bull:events.portal:wait', 'bull:events.portal:completed'],
      ...[`bull:events.portal:${id}`, id],
    );
    portal.again();
    await expectAll(portal);
  });
});

test('erased data is in no job any more, not even in one that was added and never recorded', async () => {
  await query(world, `UPDATE events SET data = '{"text": "to be erased"}' WHERE portal = 'portal'`);
  await tell(3);
  const first = await eventually('a job', openJob);
  await query(world, `UPDATE event_deliveries SET job = NULL WHERE portal = 'portal'`);
  await eventually('another job', async () => {
    const job = await openJob();
    return job !== undefined && job !== first;
  });
  expect(await redis.exists(`bull:events.portal:${first}`)).toBe(1);
  await query(
    world,
    `WITH erased AS (UPDATE events SET data = '{}' WHERE portal = 'portal' RETURNING portal, seq)
     INSERT INTO event_erasures SELECT e.portal, e.seq FROM erased e JOIN event_deliveries d USING (portal)
     WHERE e.seq > d.completed`,
  );
  await eventually('the erasure to be forgotten', async () => {
    const [row] = await query<{ left: number }>(
      world,
      'SELECT count(*)::int AS left FROM event_erasures',
    );
    return row?.left === 0;
  });
  const jobs = (await redis.keys('bull:events.portal:*')).filter((key) => /:\d+-\d+-/u.test(key));
  expect(jobs).not.toContain(`bull:events.portal:${first}`);
  for (const key of jobs) {
    const { token } = JSON.parse((await redis.hget(key, 'data')) ?? '{}') as { token: string };
    const claims = Buffer.from(token.split('.')[1] ?? '', 'base64url').toString();
    expect(claims).not.toContain('to be erased');
  }
});

test('nothing in Redis grows without new events, however long a portal takes none', async () => {
  await tell(600);
  await eventually('a job', openJob);
  const size = async () => {
    const entries = await redis.xlen('bull:events.portal:events');
    const keys = await redis.keys('bull:events.portal:*');
    // a worker's own, which expires by itself
    return { entries, keys: keys.filter((key) => !key.endsWith(':stalled-check')).sort() };
  };
  const before = await size();
  // one job, whatever waits
  expect(before.keys.filter((key) => /:\d+-\d+-/u.test(key))).toHaveLength(1);
  await sleep(5000); // time for five looks, in which nothing may happen
  const after = await size();
  expect(after.entries).toBeLessThanOrEqual(before.entries);
  expect(after.keys.filter((key) => !before.keys.includes(key))).toEqual([]);
});

test('a portal that asks for removed events is told which, and goes on after them', async () => {
  const portal = startPortal('bullmq');
  await tell(400);
  await expectAll(portal);
  await portal.end('SIGKILL');
  const intake = openPool(world.config, 'intake', { max: 1, durable: false });
  const remove = async (upTo: number) => {
    await query(
      world,
      `UPDATE events SET at = now() - interval '31 days' WHERE portal = 'portal' AND seq <= $1`,
      [upTo],
    );
    for (let after: string | null = '0'; after !== null;) {
      const { rows }: { rows: { next: string | null }[] } = await intake.query(
        `SELECT next FROM remove_expired('events', 30, $1)`,
        [after],
      );
      after = rows[0]?.next ?? null;
    }
  };
  try {
    // it was restored from a backup of its own that is older than everything: it has no event
    await remove(told - 100);
    const kept = told - 99;
    portal.again();
    await tell(1);
    await eventually('the last event', () => portal.lives.at(-1)?.at(-1) === told);
    expect(portal.lives.at(-1)).toEqual(Array.from({ length: 101 }, (_, n) => kept + n));
    expect(portal.errors).toContain(`events 1 to ${kept - 1} are not kept any more`);
    await eventually('its answer', async () => (await openJob()) === undefined);
    await portal.end('SIGKILL');
    // none is left at all
    await remove(told);
    expect(await query(world, `SELECT FROM events WHERE portal = 'portal'`)).toEqual([]);
    await query(world, `UPDATE event_deliveries SET completed = 0 WHERE portal = 'portal'`);
    portal.again();
    await eventually('the gap', () =>
      portal.errors.includes(`events 1 to ${told} are not kept any more`),
    );
    await eventually('its answer', async () => {
      const [row] = await query<{ completed: string; since: Date | null }>(
        world,
        `SELECT completed, since FROM event_deliveries WHERE portal = 'portal'`,
      );
      return Number(row?.completed) === told && row?.since === null;
    });
    // and no number is used again
    await tell(3);
    await eventually('the next', () => portal.lives.at(-1)?.length === 3);
    expect(portal.lives.at(-1)).toEqual([told - 2, told - 1, told]);
  } finally {
    await intake.end();
  }
});
