import { chmodSync, existsSync, mkdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, test } from '@jest/globals';
import {
  runningPid,
  serverState,
  signalTree,
  startServer,
  stopServer,
} from '../../dev/servers/daemon.ts';
import { lock } from '../../dev/servers/lock.ts';
import { findPlace, makePlace, purgePlace } from '../../dev/servers/place.ts';
import { redisServer, type RedisServer } from '../../dev/servers/redis.ts';
import { makeTemporaryFolder } from '../shared-servers.ts';

let dir: string;
beforeEach(() => {
  dir = makeTemporaryFolder();
});
afterEach(() => rmSync(dir, { recursive: true, force: true }));

describe("a stack's place", () => {
  test('is in its folder if the servers can live there', () => {
    expect(makePlace(dir).servers).toBe(join(dir, 'servers'));
  });

  test.each([
    ['closed to other users', 'closed/stack', 0o700],
    ['too long for a socket', `${'long'.repeat(20)}/stack`, 0o755],
    ['of odd characters', "a b'c/stack", 0o755],
  ])('is under /var/tmp if its folder is %s', (_, below, mode) => {
    const stack = join(dir, below);
    mkdirSync(join(stack, '..'), { mode });
    const place = makePlace(stack);
    try {
      expect(place.servers).toMatch(/^\/var\/tmp\/chamberlain-[0-9a-f]{12}$/);
      expect(findPlace(stack)?.servers).toBe(place.servers);
    } finally {
      purgePlace(place);
    }
    expect(existsSync(place.servers)).toBe(false);
    expect(findPlace(stack)).toBeUndefined();
  });

  test('stays where the data is when its folder is closed later', () => {
    const inside = makePlace(dir).servers;
    chmodSync(dir, 0o700);
    expect(makePlace(dir).servers).toBe(inside);
  });

  test('is held by one at a time', async () => {
    const place = makePlace(dir);
    const unlock = await lock(place);
    let second = false;
    const waiting = lock(place).then((release) => {
      second = true;
      release();
    });
    await new Promise((done) => setTimeout(done, 150));
    expect(second).toBe(false);
    unlock();
    await waiting;
  });
});

describe('a server', () => {
  let redis: RedisServer;
  beforeEach(async () => {
    const { servers, secrets } = makePlace(dir);
    redis = redisServer(join(servers, 'redis'), secrets);
    await startServer(redis);
  });
  afterEach(async () => stopServer(redis));

  test('that was started is not started again', async () => {
    const pid = runningPid(redis);
    await startServer(redis);
    expect(runningPid(redis)).toBe(pid);
  });

  test('that was killed comes back at the same address', async () => {
    const [pid, url] = [runningPid(redis), redis.url()];
    process.kill(pid as number, 'SIGKILL');
    while (runningPid(redis) !== undefined) await new Promise((done) => setTimeout(done, 5));
    await startServer(redis);
    expect(await serverState(redis)).toBe('answers');
    expect([runningPid(redis) === pid, redis.url()]).toEqual([false, url]);
  });

  test('whose starter died before noting its pid is found, not doubled', async () => {
    const pid = runningPid(redis);
    rmSync(join(redis.folder, 'pid'));
    expect(runningPid(redis)).toBeUndefined();
    await startServer(redis);
    expect(runningPid(redis)).toBe(pid);
  });

  test('is not mistaken for another process that has its pid now', async () => {
    const file = join(redis.folder, 'pid');
    const noted = readFileSync(file, 'utf8');
    writeFileSync(file, noted.replace(/^\d+/, String(process.pid)));
    expect(runningPid(redis)).toBeUndefined();
    writeFileSync(file, noted);
  });

  test('that is frozen is silent, is not waited for, and can be stopped', async () => {
    signalTree(runningPid(redis) ?? 0, 'SIGSTOP');
    expect(await serverState(redis)).toBe('silent');
    await expect(startServer(redis)).rejects.toThrow('redis is stopped: `kill -CONT');
    await stopServer(redis);
    expect(await serverState(redis)).toBe('down');
  });
});
