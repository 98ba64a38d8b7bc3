/** The queues of requests on a real Redis: whose turn it is, and what happens to jobs that are not requests. */
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test } from '@jest/globals';
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { Queue } from 'bullmq';
import { Redis } from 'ioredis';
import { removeSurplus } from '../../../src/backends/redis/queued-jobs.ts';
import {
  endRequests,
  putBackRequests,
  refuseRequests,
  takeRequests,
  untilSomething,
} from '../../../src/backends/redis/request-inbox.ts';
import {
  closeInbox,
  type Inbox,
  openInbox,
  type RequestQueue,
  shutOutPortals,
  takeJunk,
  type Taken,
  tidyInbox,
} from '../../../src/backends/redis/request-queues.ts';
import { eventually } from '../../scenarios/eventually.ts';
import { openWorld, type World } from '../../stack.ts';
import { openReadyInbox } from './ready-inbox.ts';

const PORTALS = ['one', 'two', 'three'];

/** Ids that Redis takes, and that no answer or key may hold: a key made of the longest is longer than Redis takes. */
const STRANGE_IDS: [what: string, id: string | Buffer][] = [
  ['an id of almost 1 MiB', 'x'.repeat(2 ** 20 - 16)],
  ['an id that is not UTF-8', Buffer.from([0xff, 0xfe])],
];

let world: World;
let redis: Redis;
let inbox: Inbox;
const queues = new Map<string, Queue>();

beforeAll(async () => {
  world = await openWorld('inbox', { needs: ['redis'] });
  redis = new Redis(world.config.redis.url, { maxRetriesPerRequest: null });
});
beforeEach(async () => {
  await redis.flushall();
  inbox = await openReadyInbox(world.config, PORTALS);
});
afterEach(() => closeInbox(inbox));
afterAll(async () => {
  await Promise.all([...queues.values()].map((each) => each.close()));
  redis.disconnect();
  await world.close();
});

function queue(name: string): Queue {
  let found = queues.get(name);
  if (found === undefined) {
    found = new Queue(name, { connection: redis });
    queues.set(name, found);
  }
  return found;
}
const add = (name: string, ...tokens: string[]) =>
  queue(name).addBulk(tokens.map((token) => ({ name: 'request', data: { token } })));
const tokens = (taken: readonly Taken[]) =>
  taken.map(({ queue: from, data }) => `${from.portal} ${(data as { token: string }).token}`);
const many = (count: number, of: string) => Array.from({ length: count }, (_, n) => `${of}${n}`);

/** Whether intake, which found nothing in its last look, looks again without a wait for a notice. */
async function looksAgain(): Promise<boolean> {
  const begin = performance.now();
  await untilSomething(inbox, new AbortController().signal);
  return performance.now() - begin < 800;
}

test('a job that comes after a look, while the wait before it is not over, is not waited for', async () => {
  // a wait that ended early: its command goes on
  await untilSomething(inbox, AbortSignal.timeout(50));
  expect(await takeRequests(inbox, 16)).toEqual([]);
  await add('requests.one', 'a');
  await inbox.came;
  expect(await looksAgain()).toBe(true);
  expect(tokens(await takeRequests(inbox, 16))).toEqual(['one a']);
});

test('a job that comes after a look is not waited for, although the queues are tidied before the wait', async () => {
  expect(await takeRequests(inbox, 16)).toEqual([]);
  await add('requests.one', 'a');
  await tidyInbox(inbox);
  expect(await looksAgain()).toBe(true);
});

test('portals are served in turn, each in the order of its requests, urgent ones first', async () => {
  await add('requests.one', ...many(100, 'a'));
  await add('requests.two', 'b0', 'b1');
  await add('requests.urgent.three', 'c0');
  await add('requests.three', 'c1');
  expect(tokens(await takeRequests(inbox, 8))).toEqual([
    ...['one a0', 'one a1', 'one a2', 'one a3', 'two b0', 'two b1', 'three c0', 'three c1'],
  ]);
});

test('a portal that has paused its queue takes no turn from the others, even where one request is taken at a time', async () => {
  await queue('requests.one').pause();
  await queue('requests.urgent.two').pause();
  await add('requests.one', 'a0');
  await add('requests.urgent.two', 'b0');
  await add('requests.two', 'b1', 'b2');
  for (const next of ['two b1', 'two b2']) {
    const taken = await takeRequests(inbox, 1);
    expect(tokens(taken)).toEqual([next]);
    await endRequests(inbox, [{ taken: taken[0] as Taken, verdict: {} }]);
  }
  expect(await takeRequests(inbox, 1)).toEqual([]);
  await queue('requests.one').resume();
  expect(tokens(await takeRequests(inbox, 1))).toEqual(['one a0']);
});

test('a verdict is the return value of the job, for clients that wait for it', async () => {
  const [job] = await add('requests.one', 'a');
  const [taken] = (await takeRequests(inbox, 16)) as [Taken];
  await endRequests(inbox, [{ taken, verdict: { verdict: 'accepted' } }]);
  expect(await queue('requests.one').getJob(job!.id!)).toMatchObject({
    returnvalue: { verdict: 'accepted' },
  });
  expect(await job!.getState()).toBe('completed');
  expect(await takeRequests(inbox, 16)).toEqual([]);
});

test.each([1, 2, 3])(
  'a job about which Redis says nothing is not removed: part %i of the look',
  async (part) => {
    const lost = new Redis(world.config.redis.url, { lazyConnect: true });
    lost.disconnect();
    await takeRequests(inbox, 16); // the first look mends the queues, too
    await add('requests.one', 'a');
    const open = inbox.redis.pipeline.bind(inbox.redis);
    let opened = 0;
    inbox.redis.pipeline = () => ((opened += 1) === part ? lost.pipeline() : open());
    await expect(takeRequests(inbox, 16)).rejects.toMatchObject({ code: 'BACKEND_UNAVAILABLE' });
    expect(takeJunk(inbox)).toEqual([]);
    expect(tokens(await takeRequests(inbox, 16))).toEqual(['one a']);
  },
);

test('a job that is not a request fails with a reason, and does not stay for long', async () => {
  const jobs = await add('requests.one', ...many(150, 'x'));
  for (
    let taken = await takeRequests(inbox, 16);
    taken.length > 0;
    taken = await takeRequests(inbox, 16)
  ) {
    await refuseRequests(
      inbox,
      taken.map((each) => ({ taken: each, code: 'REQUEST_SIGNATURE', sentence: 'By no key.' })),
    );
  }
  expect(await queue('requests.one').getJob(jobs.at(-1)!.id!)).toMatchObject({
    failedReason: 'REQUEST_SIGNATURE: By no key.',
    stacktrace: [],
  });
  expect(await redis.zcard('bull:requests.one:failed')).toBe(100);
  expect(takeJunk(inbox)).toEqual([{ portal: 'one', code: 'REQUEST_SIGNATURE', count: 150 }]);
  expect(takeJunk(inbox)).toEqual([]);
});

test('jobs that a dead intake held come first, in order', async () => {
  await add('requests.one', ...many(5, 'a'));
  expect(await takeRequests(inbox, 3)).toHaveLength(3);
  await closeInbox(inbox);
  inbox = await openReadyInbox(world.config, PORTALS);
  expect(tokens(await takeRequests(inbox, 16))).toEqual(many(5, 'one a'));
});

test('what is put back comes first, or behind all others, in its order', async () => {
  await add('requests.one', ...many(5, 'a'));
  expect(await takeRequests(inbox, 3)).toHaveLength(3);
  await putBackRequests(inbox, 'first');
  expect(tokens(await takeRequests(inbox, 16))).toEqual(many(5, 'one a'));
  await add('requests.one', 'b');
  await putBackRequests(inbox, 'last');
  expect(tokens(await takeRequests(inbox, 16))).toEqual(['one b', ...many(5, 'one a')]);
});

test('a waiting intake is woken by a request of any portal', async () => {
  const signal = new AbortController().signal;
  while ((await redis.exists('bull:requests.two:marker')) > 0) await untilSomething(inbox, signal);
  const waits = untilSomething(inbox, signal);
  await add('requests.two', 'a');
  const begin = performance.now();
  await waits;
  // without being woken it would wait for a second
  expect(performance.now() - begin).toBeLessThan(950);
  expect(tokens(await takeRequests(inbox, 16))).toEqual(['two a']);
});

test('a portal whose account cannot log in delays no other', async () => {
  await closeInbox(inbox);
  writeFileSync(join(world.config.secrets, 'redis-portal.locked'), 'not its password');
  inbox = openInbox(world.config, ['locked', ...PORTALS]);
  await add('requests.locked', 'a');
  await add('requests.two', 'b');
  const begin = performance.now();
  await eventually('the other portal', async () =>
    tokens(await takeRequests(inbox, 16)).includes('two b'),
  );
  // waiting for it would take 4 s
  expect(performance.now() - begin).toBeLessThan(3900);
  expect([...shutOutPortals(inbox).keys()]).toEqual(['locked']);
});

describe('whatever a portal does to its own queues', () => {
  const prefix = 'bull:requests.one';
  const hash = {
    name: 'request',
    data: '{}',
    opts: '{}',
    timestamp: '1',
    delay: '0',
    priority: '0',
  };

  test.each<[string, () => Promise<unknown>]>([
    [
      'a job of 64 MiB, made by a script',
      () =>
        redis.eval(
          `redis.call('HSET', KEYS[1], 'data', string.rep('x', 64 * 1048576), 'opts', '{}')
           redis.call('LPUSH', KEYS[2], 'big')`,
          2,
          `${prefix}:big`,
          `${prefix}:wait`,
        ),
    ],
    [
      'a job that is a text',
      () => redis.multi().set(`${prefix}:t`, 'x').lpush(`${prefix}:wait`, 't').exec(),
    ],
    ['a job that does not exist', () => redis.lpush(`${prefix}:wait`, 'gone')],
    [
      'a job with a parent in the queue of another',
      () =>
        redis
          .multi()
          .hset(`${prefix}:p`, { ...hash, parentKey: 'bull:requests.two:7' })
          .lpush(`${prefix}:wait`, 'p')
          .exec(),
    ],
    [
      'a job that waits for children',
      () =>
        redis
          .multi()
          .hset(`${prefix}:c`, hash)
          .sadd(`${prefix}:c:dependencies`, 'x')
          .lpush(`${prefix}:wait`, 'c')
          .exec(),
    ],
    [
      'a job of a thousand fields, of which some are large',
      () =>
        redis.eval(
          `for n = 1, 1000 do redis.call('HSET', KEYS[1], 'f' .. n, 'x') end
           for n = 1, 4 do redis.call('HSET', KEYS[1], 'large' .. n, string.rep('x', 16 * 1048576)) end
           redis.call('LPUSH', KEYS[2], 'fat')`,
          2,
          `${prefix}:fat`,
          `${prefix}:wait`,
        ),
    ],
    ...(['atm', 'ats', 'priority', 'progress'] as const).map(
      (field): [string, () => Promise<unknown>] => [
        `jobs whose ${field} makes no sense`,
        async () => {
          for (let n = 0; n < 40; n += 1) {
            await redis
              .multi()
              .hset(`${prefix}:${field}${n}`, { ...hash, [field]: '{' })
              .lpush(`${prefix}:wait`, `${field}${n}`)
              .exec();
          }
        },
      ],
    ),
    ...['wait', 'active'].flatMap((part) =>
      STRANGE_IDS.map(([what, id]): [string, () => Promise<unknown>] => [
        `${what} in ${part}`,
        () => redis.multi().rpush(`${prefix}:${part}`, id).lpush(`${prefix}:${part}`, id).exec(),
      ]),
    ),
    ...['prioritized', 'delayed'].flatMap((part) =>
      STRANGE_IDS.map(([what, id]): [string, () => Promise<unknown>] => [
        `${what} in ${part}`,
        () => redis.zadd(`${prefix}:${part}`, 1, id),
      ]),
    ),
    ['ended jobs that are a text', () => redis.set(`${prefix}:completed`, 'x')],
    ['paused jobs that are a text', () => redis.set(`${prefix}:paused`, 'x')],
    [
      'a great many markers',
      () => redis.zadd(`${prefix}:marker`, ...many(2000, 'm').flatMap((m) => [1, m])),
    ],
    ['a list of jobs that is a text', () => redis.set(`${prefix}:wait`, 'x')],
    ['a marker that is a list', () => redis.lpush(`${prefix}:marker`, 'x')],
    ['settings that are a text', () => redis.set(`${prefix}:meta`, 'x')],
    ['a stream that is a text', () => redis.set(`${prefix}:events`, 'x')],
    ['a thousand strange active jobs', () => redis.lpush(`${prefix}:active`, ...many(1000, 'x'))],
    ['a pause', () => redis.hset(`${prefix}:meta`, 'paused', '1')],
    ['a limit', () => redis.hset(`${prefix}:meta`, 'concurrency', '0')],
  ])('%s: the other portals are served, and later this one again', async (_what, harm) => {
    await harm();
    await add('requests.two', 'b');
    const served: string[] = [];
    const serve = async () => {
      const taken = await takeRequests(inbox, 16);
      served.push(...tokens(taken.filter(({ queue: from }) => from.portal === 'two')));
      await endRequests(
        inbox,
        taken.map((each) => ({ taken: each, verdict: { verdict: 'accepted' } })),
      );
      return served.length > 0;
    };
    await eventually('the other portal', serve);
    expect(served).toEqual(['two b']);
    await redis.hdel(`${prefix}:meta`, 'paused', 'concurrency').catch(() => {});
    await add('requests.one', 'a');
    await eventually('the portal itself', async () => {
      const taken = await takeRequests(inbox, 16);
      await endRequests(
        inbox,
        taken.map((each) => ({ taken: each, verdict: {} })),
      );
      return tokens(taken).includes('one a');
    });
  });

  test('strange ids are removed, with their jobs, counted, and not sent to intake', async () => {
    const before = await sent();
    for (const part of ['wait', 'delayed', 'completed']) {
      for (const [, id] of STRANGE_IDS) {
        const own = Buffer.concat([Buffer.from(part), Buffer.from(id)]);
        if (part === 'wait') await redis.rpush(`${prefix}:${part}`, own);
        else await redis.zadd(`${prefix}:${part}`, 1, own);
        if (own.length < 1000)
          await redis.set(Buffer.concat([Buffer.from(`${prefix}:`), own]), 'x');
      }
    }
    await add('requests.one', 'a');
    await eventually('the request behind them', async () =>
      tokens(await takeRequests(inbox, 16)).includes('one a'),
    );
    await tidyInbox(inbox);
    expect(takeJunk(inbox)).toEqual([
      { portal: 'one', code: 'REQUEST_MALFORMED', count: 3 * STRANGE_IDS.length },
    ]);
    const left = (await redis.keys(`${prefix}:*`)).map((key) => key.slice(prefix.length + 1));
    expect(left.filter((part) => /^(?:wait|delayed|completed)/u.test(part))).toEqual([]);
    expect((await sent()) - before).toBeLessThan(256 * 1024);
  });

  test('a key of another type makes no other portal wait, not even once', async () => {
    await redis.set(`${prefix}:wait`, 'x');
    await add('requests.two', 'b');
    await add('requests.urgent.three', 'c');
    expect(tokens(await takeRequests(inbox, 16))).toEqual(['two b', 'three c']);
    expect(takeJunk(inbox)).toEqual([{ portal: 'one', code: 'REQUEST_MALFORMED', count: 1 }]);
  });

  const sent = async () =>
    Number(/^total_net_output_bytes:(\d+)/mu.exec(await redis.info('stats'))?.[1]);

  test('a job that is too large is removed unread', async () => {
    await redis.eval(
      `redis.call('HSET', KEYS[1], 'name', 'x', 'opts', '{}', 'data', string.rep('x', 16 * 1048576))
       redis.call('LPUSH', KEYS[2], 'big')`,
      2,
      `${prefix}:big`,
      `${prefix}:wait`,
    );
    const before = await sent();
    expect(await takeRequests(inbox, 16)).toEqual([]);
    expect(await redis.exists(`${prefix}:big`)).toBe(0);
    expect((await sent()) - before).toBeLessThan(1024 * 1024);
    expect(takeJunk(inbox)).toEqual([{ portal: 'one', code: 'REQUEST_TOO_LARGE', count: 1 }]);
  });

  test('so is one that is due behind others, and is to come before them', async () => {
    for (let n = 0; n < 3; n += 1) {
      await redis.hset(`${prefix}:d${n}`, { ...hash, priority: '9' });
      await redis.zadd(`${prefix}:delayed`, n - 1, `d${n}`);
    }
    await redis.eval(
      `redis.call('HSET', KEYS[1], 'name', 'x', 'opts', '{}', 'priority', '1', 'data', string.rep('x', 16 * 1048576))
       redis.call('ZADD', KEYS[2], 9, 'big')`,
      2,
      `${prefix}:big`,
      `${prefix}:delayed`,
    );
    const before = await sent();
    const [taken] = await takeRequests(inbox, 1);
    expect(taken?.job.id).toBe('d1');
    expect(await redis.exists(`${prefix}:big`)).toBe(0);
    expect((await sent()) - before).toBeLessThan(1024 * 1024);
  });

  test('a job with a parent elsewhere changes nothing there', async () => {
    await redis.hset('bull:requests.two:7', hash);
    await redis.sadd('bull:requests.two:7:dependencies', `${prefix}:p`);
    await redis
      .multi()
      .hset(`${prefix}:p`, {
        ...hash,
        parentKey: 'bull:requests.two:7',
        parent: '{"id":"7","queueKey":"bull:requests.two"}',
      })
      .lpush(`${prefix}:wait`, 'p')
      .exec();
    expect(await takeRequests(inbox, 16)).toEqual([]);
    expect(await redis.smembers('bull:requests.two:7:dependencies')).toEqual([`${prefix}:p`]);
    expect(await redis.exists(`${prefix}:p`)).toBe(0);
  });

  /** Adds jobs as BullMQ would, in a hundredth of its time: each is that one with another token. */
  const fill = (count: number, of: { token: string; opts?: object; list: string }) =>
    redis.eval(
      `local score = redis.call('TYPE', KEYS[1]).ok == 'zset'
         and redis.call('ZRANGE', KEYS[1], 0, 0, 'WITHSCORES')[2]
       for n = 0, ARGV[1] - 1 do
         local id = ARGV[2]:sub(1, 8) .. '-' .. n
         redis.call('HSET', KEYS[2] .. ':' .. id, 'name', 'request', 'opts', ARGV[3], 'timestamp', '1',
           'delay', '0', 'priority', '0', 'data', '{"token":"' .. ARGV[2] .. '-' .. n .. '"}')
         if score then redis.call('ZADD', KEYS[1], score + n, id) else redis.call('LPUSH', KEYS[1], id) end
       end`,
      ...[2, `${prefix}:${of.list}`, prefix, count, of.token, JSON.stringify(of.opts ?? {})],
    );

  test('if more jobs wait than may, the newest are removed, and counted', async () => {
    await add('requests.one', 'a', 'b');
    await fill(11_998, { token: 'more', list: 'wait' });
    expect(tokens(await takeRequests(inbox, 2))).toEqual(['one a', 'one b']);
    await eventually('the surplus to be removed', async () => {
      await takeRequests(inbox, 1);
      return (await redis.llen(`${prefix}:wait`)) <= 10_000;
    });
    const [newest] = await redis.lrange(`${prefix}:wait`, 0, 0);
    expect(await redis.hget(`${prefix}:${newest}`, 'data')).toMatch(/"more-9\d{3}"/u);
    const [full] = takeJunk(inbox);
    expect(full).toMatchObject({ portal: 'one', code: 'QUEUE_FULL' });
    expect(full?.count).toBeGreaterThanOrEqual(2000 - 16);
  });

  test('a removal that is done twice, because its answer was lost, removes no job that may wait', async () => {
    await fill(10_300, { token: 'more', list: 'wait' });
    const own = inbox.queues.find((each) => each.portal === 'one' && !each.urgent) as RequestQueue;
    const remove = () => removeSurplus(inbox.redis, own.asIntake, 10_300, 1);
    expect([await remove(), await remove()]).toEqual([300, 0]);
    expect(await redis.llen(`${prefix}:wait`)).toBe(10_000);
    expect((await redis.keys(`${prefix}:*`)).length).toBeLessThanOrEqual(10_005); // no job is left in no list
  });

  test('paused, delayed and prioritized jobs count, too', async () => {
    const later = { delay: 3_600_000 };
    for (const [opts, list] of [
      [later, 'delayed'],
      [{ priority: 5 }, 'prioritized'],
    ] as const) {
      await queue('requests.one').add('request', { token: list }, opts);
      await fill(5999, { token: list, opts, list });
      expect(await redis.zcard(`${prefix}:${list}`)).toBe(6000);
    }
    await eventually('the surplus to be removed', async () => {
      await takeRequests(inbox, 1);
      const [delayed, prioritized] = await Promise.all(
        ['delayed', 'prioritized'].map((part) => redis.zcard(`${prefix}:${part}`)),
      );
      return (delayed ?? 0) + (prioritized ?? 0) <= 10_000;
    });
  });

  test('fewer large jobs may wait, because all portals share the memory', async () => {
    await fill(1500, { token: 'x'.repeat(60 * 1024), list: 'wait' });
    await eventually('the surplus to be removed', async () => {
      await takeRequests(inbox, 1);
      return (await redis.llen(`${prefix}:wait`)) < 1050;
    });
  });
});

test('a limit that a portal has set on its queue ends when it is taken away, however long it was to last', async () => {
  await add('requests.one', 'a');
  await redis.hset('bull:requests.one:meta', 'max', '1', 'duration', '3600000');
  await redis.set('bull:requests.one:limiter', '1', 'PX', 3_600_000);
  expect(await takeRequests(inbox, 16)).toEqual([]);
  await redis.hdel('bull:requests.one:meta', 'max', 'duration');
  await redis.del('bull:requests.one:limiter');
  expect(tokens(await takeRequests(inbox, 16))).toEqual(['one a']);
});

test('a job that ends while its account is refused stays, and has the same verdict again', async () => {
  await closeInbox(inbox);
  const secret = join(world.config.secrets, 'redis-portal.barred');
  writeFileSync(secret, 'its password');
  const setUser = (...rights: string[]) => redis.acl('SETUSER', 'portal.barred', ...rights);
  await setUser('on', '>its password', '~bull:requests*.barred:*', '+@all');
  inbox = openInbox(world.config, ['barred']);
  await add('requests.barred', 'a');
  const take = async () => (await takeRequests(inbox, 16)) as [Taken];
  const again = () => eventually('the job', async () => (await take())[0]);
  for (const rights of [
    ['-evalsha', '-eval'],
    ['resetpass', '>another'],
  ]) {
    const taken = await again();
    await setUser(...rights);
    await redis.call('CLIENT', 'KILL', 'USER', 'portal.barred');
    await expect(endRequests(inbox, [{ taken, verdict: {} }])).rejects.toMatchObject({
      code: 'BACKEND_UNAVAILABLE',
    });
    expect(await redis.hexists('bull:requests.barred:1', 'data')).toBe(1);
    await setUser('resetpass', '>its password', '+@all');
  }
  await endRequests(inbox, [{ taken: await again(), verdict: { verdict: 'accepted' } }]);
  expect(await queue('requests.barred').getJob('1')).toMatchObject({
    returnvalue: { verdict: 'accepted' },
  });
  await redis.acl('DELUSER', 'portal.barred');
});

test('a job that was taken while BullMQ could not read another one is put back', async () => {
  await takeRequests(inbox, 16); // opens the connections
  await add('requests.one', 'a');
  const { asPortal } = inbox.queues.find(
    (each) => each.portal === 'one' && !each.urgent,
  ) as RequestQueue;
  const backend = asPortal.getBackend();
  const fetch = backend.moveToActive.bind(backend);
  backend.moveToActive = async (...of) => {
    backend.moveToActive = fetch;
    await fetch(...of);
    throw new SyntaxError('not JSON');
  };
  expect(await takeRequests(inbox, 16)).toEqual([]);
  expect(takeJunk(inbox)).toEqual([]);
  expect(tokens(await takeRequests(inbox, 16))).toEqual(['one a']);
});

test('a verdict of an hour ago is forgotten, and a younger one is not', async () => {
  await add('requests.one', 'a', 'b');
  const taken = await takeRequests(inbox, 16);
  await endRequests(
    inbox,
    taken.map((each) => ({ taken: each, verdict: {} })),
  );
  const [old = '', young = ''] = await redis.zrange('bull:requests.one:completed', '0', '-1');
  await redis.zadd('bull:requests.one:completed', Date.now() - 3_601_000, old);
  const length = await redis.xlen('bull:requests.one:events');
  await tidyInbox(inbox);
  expect(await redis.exists(`bull:requests.one:${old}`)).toBe(0);
  expect(await redis.exists(`bull:requests.one:${young}`)).toBe(1);
  expect(await redis.zrange('bull:requests.one:completed', '0', '-1')).toEqual([young]);
  // looking does not make anything grow
  for (let n = 0; n < 10; n += 1) await tidyInbox(inbox);
  expect(await redis.xlen('bull:requests.one:events')).toBe(length);
});
