/** What commands say when a server cannot be reached: what was done, what was not, what to do. */
import type { ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { readFileSync, writeFileSync } from 'node:fs';
import { type AddressInfo, createServer } from 'node:net';
import { join } from 'node:path';
import { afterAll, afterEach, beforeAll, describe, expect, test } from '@jest/globals';
import { Redis } from 'ioredis';
import { EXIT } from '../../../src/cli/exit.ts';
import { requestsQueue } from '../../../src/backends/redis/queue.ts';
import { redisAddress } from '../../../src/backends/redis/redis-connection.ts';
import { openLease, openPool, type Pool } from '../../../src/database/connection.ts';
import { eventually } from '../../scenarios/eventually.ts';
import {
  openWorld,
  runningPid,
  signalTree,
  startServer,
  stopServer,
  type World,
} from '../../stack.ts';
import { endOf, type Ended, runCli, startCli } from '../run-cli.ts';

const PERSON = (shellName: string) => ({
  kind: 'person.create',
  shellName,
  displayName: shellName,
  email: `${shellName}@example.org`,
});
const TWO = `${JSON.stringify(PERSON('ann'))}\n${JSON.stringify(PERSON('ben'))}\n`;
const GRANT = ['submit', 'access.grant', '--person', 'steward'];

let world: World;
let owner: Pool;
/** the configuration, but with a PostgreSQL address where nothing listens */
let withoutPostgres: string;

beforeAll(async () => {
  world = await openWorld('away', { needs: ['postgres', 'redis'] });
  owner = openPool(world.config, 'owner', { max: 1, durable: false });
  await run('bootstrap', 'steward');
  withoutPostgres = join(world.dir, 'without-postgres.yaml');
  const { host, port } = world.config.postgres;
  const text = readFileSync(world.configFile, 'utf8');
  writeFileSync(
    withoutPostgres,
    text.replace(`host: ${host}`, 'host: 127.0.0.1').replace(`port: ${port}`, 'port: 1'),
  );
});
afterEach(async () => {
  const pid = runningPid(world.redis);
  if (pid !== undefined) signalTree(pid, 'SIGCONT');
  await startServer(world.redis);
});
afterAll(async () => {
  await owner.end();
  await world.close();
});

function run(...args: string[]): Promise<Ended> {
  return runCli(args, { config: world.configFile });
}

/**
 * Sends two requests that nobody takes. `act` runs between the first, which was sent, and the second, for which there are
 * so many seconds left.
 */
async function sendTwo(
  seconds: number,
  act: (first: string) => Promise<void>,
): Promise<Ended & { first: string }> {
  const args = ['submit', '--file', '-', '--wait', '--timeout', `${seconds}`];
  const child = startCli(args, { config: world.configFile });
  const ended = endOf(child, TWO);
  const first = await firstLine(child);
  await act(first);
  return { ...(await ended), first };
}

function firstLine(child: ChildProcess): Promise<string> {
  return new Promise((resolve) => {
    child.stdout?.once('data', (text: string) => resolve(text.trim()));
  });
}

/** How many requests of the admin have no verdict yet. */
async function countQueued(): Promise<number> {
  const redis = new Redis(world.redis.urlOf('owner'));
  try {
    const queue = `bull:${requestsQueue('admin.steward', false)}`;
    // in a transaction, so that a job that intake takes is in one of the two
    const lengths = await redis.multi().llen(`${queue}:wait`).llen(`${queue}:active`).exec();
    return (lengths ?? []).reduce((sum, [, length]) => sum + Number(length), 0);
  } finally {
    redis.disconnect();
  }
}

describe('without Redis', () => {
  test('submit says that nothing was sent, and what to do', async () => {
    const before = await countQueued();
    await stopServer(world.redis);
    const lost = `nothing was sent: adding a request to its queue: Redis does not answer at ${redisAddress(world.config)}: nothing listens there (ECONNREFUSED)`;
    expect(await run(...GRANT)).toEqual({
      exit: EXIT.failed,
      out: '',
      err: `BACKEND_UNAVAILABLE: ${lost}. Check that the server runs and can be reached. Then send it again.\n`,
    });
    const many = await runCli(['submit', '--file', '-'], { config: world.configFile, input: TWO });
    expect(many.err).toContain('Then send them again.');
    const restored = await run('restore', 'oldbot');
    expect(restored).toMatchObject({ exit: EXIT.failed, out: '' });
    expect(restored.err).toMatch(/^BACKEND_UNAVAILABLE: nothing was sent: /u);
    await startServer(world.redis);
    expect(await countQueued()).toBe(before);
  });

  test('sweep now says at once that Redis is away, and asks for nothing', async () => {
    await stopServer(world.redis);
    expect(await run('sweep', 'now')).toEqual({
      exit: EXIT.failed,
      out: '',
      err: `BACKEND_UNAVAILABLE: asking for a sweep: Redis does not answer at ${redisAddress(world.config)}: nothing listens there (ECONNREFUSED). Check that the server runs and can be reached. Then run the command again.\n`,
    });
    const { rows } = await owner.query('SELECT FROM sweep_releases');
    expect(rows).toEqual([]);
  });

  test('submit says the same of a Redis that hangs, and it stays true when Redis continues', async () => {
    const before = await countQueued();
    signalTree(runningPid(world.redis) ?? 0, 'SIGSTOP');
    const { err } = await run(...GRANT);
    expect(err).toMatch(/^BACKEND_UNAVAILABLE: nothing was sent: .*: Redis does not answer at /u);
    signalTree(runningPid(world.redis) ?? 0, 'SIGCONT');
    expect(await countQueued()).toBe(before);
  });

  test('submit says how many of several were sent', async () => {
    const before = await countQueued();
    const { exit, err, first } = await sendTwo(10, () => stopServer(world.redis));
    expect(exit).toBe(EXIT.failed);
    expect(err).toMatch(/^BACKEND_UNAVAILABLE: 1 of 2 requests was sent: adding a request/mu);
    expect(err).toMatch(
      / Check that the server runs and can be reached\. Then send the others\.\n$/u,
    );
    await startServer(world.redis);
    expect(await countQueued()).toBe(before + 1);
    expect(first).toMatch(/^[0-9a-f-]{36}$/u);
  });

  test('submit says which request may have been sent, and with its id that request counts once', async () => {
    // nothing more is sent to a Redis that has not answered for 4 s
    const { err } = await sendTwo(2, () =>
      Promise.resolve(signalTree(runningPid(world.redis) ?? 0, 'SIGSTOP')),
    );
    const told =
      /^BACKEND_UNAVAILABLE: 1 of 2 requests was sent, and (\S{36}) may have been sent: /mu;
    expect(err).toMatch(told);
    const [, id = ''] = told.exec(err) ?? [];
    expect(err).toMatch(
      /send that one again with `chamberlain submit .* --id \S{36}`: with the same id it counts once\.\n$/u,
    );
    signalTree(runningPid(world.redis) ?? 0, 'SIGCONT');
    const again = await runCli(['submit', '--file', '-', '--id', id], {
      config: world.configFile,
      input: JSON.stringify(PERSON('ben')),
    });
    expect(again).toEqual({ exit: EXIT.done, out: `${id}\n`, err: '' });
    const intake = startCli(['work', 'intake'], { config: world.configFile });
    const ended = endOf(intake);
    try {
      await eventually(
        'every request to have its verdict',
        async () => (await countQueued()) === 0,
      );
    } finally {
      intake.kill('SIGTERM');
      await ended;
    }
    const { rows } = await owner.query('SELECT verdict FROM requests WHERE jti = $1', [id]);
    expect(rows).toEqual([{ verdict: 'accepted' }]);
  });

  test('status asks a hanging Redis only once', async () => {
    let asked = 0;
    const silent = createServer(() => (asked += 1)).listen(0, '127.0.0.1');
    await once(silent, 'listening');
    const { port } = silent.address() as AddressInfo;
    const config = join(world.dir, 'redis-hangs.yaml');
    const text = readFileSync(world.configFile, 'utf8');
    writeFileSync(config, text.replace(/redis:\/\/[^\s'"]+/u, `redis://127.0.0.1:${port}/0`));
    const { exit, out } = await runCli(['status'], { config });
    silent.close();
    expect(exit).toBe(EXIT.pending);
    expect(out).toMatch(/^Redis cannot be used at 127\.0\.0\.1:\d+: no answer within 1 s\. /u);
    expect(out).toContain('last sweep: ');
    expect(asked).toBe(1);
  });

  test('status blames no leader that makes no progress meanwhile', async () => {
    const intake = await openLease(world.config, 'intake');
    const hangs = /^Hangs: the leader of intake /mu;
    try {
      await owner.query(
        `UPDATE leases SET renewed_at = now() - interval '20 s' WHERE name = 'intake'`,
      );
      expect((await run('status')).out).toMatch(hangs);
      await stopServer(world.redis);
      const { out } = await run('status');
      expect(out).not.toMatch(hangs);
      expect(out).toMatch(/^intake +\d+ s +\d+ s ago /mu);
    } finally {
      await intake?.client.end();
    }
  });

  test('status names it, shows what that stops, and ends with 3', async () => {
    const address = redisAddress(world.config);
    // a busy machine may take longer than it waits
    await eventually('Redis to be there', async () => {
      const { away } = JSON.parse((await run('status', '--json')).out) as { away: unknown[] };
      return away.length === 0;
    });
    signalTree(runningPid(world.redis) ?? 0, 'SIGSTOP');
    const hung = await run('status', '--json');
    expect(hung.exit).toBe(EXIT.pending);
    expect(JSON.parse(hung.out)).toMatchObject({
      away: [{ server: 'Redis', address, why: 'no answer within 1 s' }],
    });
    signalTree(runningPid(world.redis) ?? 0, 'SIGCONT');
    await stopServer(world.redis);
    const { exit, out } = await run('status');
    expect(exit).toBe(EXIT.pending);
    expect(out).toContain(
      `Redis cannot be used at ${address}: nothing listens there (ECONNREFUSED). Until it can,`,
    );
    expect(out).toContain('last sweep: ');
  });
});

describe('without PostgreSQL', () => {
  const away = (...args: string[]) => runCli(args, { config: withoutPostgres });

  test.each(['status', 'status alice'])('`%s` names it, and ends with 3', async (command) => {
    const { exit, out, err } = await away(...command.split(' '));
    expect({ exit, err }).toEqual({ exit: EXIT.pending, err: '' });
    expect(out).toMatch(
      /^PostgreSQL cannot be used at 127\.0\.0\.1:1: nothing listens there \(ECONNREFUSED\)\. Until /u,
    );
    const { out: json } = await away(...command.split(' '), '--json');
    expect(JSON.parse(json)).toEqual({
      away: [
        {
          server: 'PostgreSQL',
          address: '127.0.0.1:1',
          why: 'nothing listens there (ECONNREFUSED)',
          since: null,
        },
      ],
    });
  });

  test('submit says that the request was sent, and how to see its verdict later', async () => {
    const before = await countQueued();
    const { exit, out, err } = await away(...GRANT, '--wait');
    const id = out.trim();
    expect(exit).toBe(EXIT.failed);
    expect(err).toMatch(
      new RegExp(
        `^BACKEND_UNAVAILABLE: ${id} was sent, but cannot be followed: .* \`chamberlain requests ${id}\` shows the verdict\\.\n$`,
        'u',
      ),
    );
    expect(await countQueued()).toBe(before + 1);
  });

  test.each(['freeze --reason upgrade', 'thaw', 'requests', 'sweep now'])(
    '`%s` says that the command must be run again, not that it continues by itself',
    async (command) => {
      const { exit, err } = await away(...command.split(' '));
      expect(exit).toBe(EXIT.failed);
      expect(err).toMatch(
        /^BACKEND_UNAVAILABLE: .* Check that the server runs and can be reached\. Then run the command again\.\n$/u,
      );
    },
  );
});
