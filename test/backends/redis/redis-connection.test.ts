/** Connections to a real Redis: with which password they log in again. */
import { afterAll, beforeAll, expect, test } from '@jest/globals';
import { once } from 'node:events';
import { mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { Redis } from 'ioredis';
import {
  connectConsumer,
  findRedisFault,
  portalAccount,
  redisAddress,
} from '../../../src/backends/redis/redis-connection.ts';
import { passwordForPortal, redisHash } from '../../../src/secrets/secret.ts';
import { openWorld, type World } from '../../stack.ts';

let world: World;
let owner: Redis;

beforeAll(async () => {
  world = await openWorld('redis-connection', { needs: ['redis'] });
  owner = new Redis(world.config.redis.url);
});
afterAll(async () => {
  owner.disconnect();
  await world.close();
});

test('a unix socket is used, with the number of its database', async () => {
  const url = `unix://${world.redis.socket}?db=7`;
  const config = { ...world.config, redis: { url } };
  const redis = connectConsumer(config, 'homes');
  try {
    await redis.ping();
    expect(await owner.client('LIST')).toMatch(
      new RegExp(`addr=${world.redis.socket}:0 .* db=7 .* user=chamberlain_homes `),
    );
    expect(await findRedisFault(config, 2000)).toBeUndefined();
    expect(redisAddress(config)).toBe(world.redis.socket);
  } finally {
    redis.disconnect();
  }
});

// src/backends/redis/redis-connection.ts depends on how ioredis calls `retryStrategy`, and on how BullMQ copies
test('a connection that is lost logs in with the secret of that time, and so does a copy of it', async () => {
  const secretIs = async (password: string) => {
    writeFileSync(join(world.config.secrets, 'redis-homes'), password);
    const rights = ['on', 'resetpass', `>${password}`, '~bull:homes:*', '+@all'];
    await owner.acl('SETUSER', 'chamberlain_homes', ...rights);
  };
  await secretIs('the first password');
  const first = connectConsumer(world.config, 'homes');
  const copy = first.duplicate({ connectionName: 'blocking' });
  const both = [first, copy];
  try {
    await Promise.all(both.map((redis) => redis.ping()));
    await secretIs('the second password');
    const again = both.map((redis) => once(redis, 'ready'));
    await owner.call('CLIENT', 'KILL', 'USER', 'chamberlain_homes');
    await Promise.all(again);
    expect(await Promise.all(both.map((redis) => redis.ping()))).toEqual(['PONG', 'PONG']);
  } finally {
    for (const redis of both) redis.disconnect();
  }
});

test('by whose rights what a portal has written is handled', () => {
  const [portal] = world.config.portals;
  const redisPasswordSha256 = 'ab'.repeat(32);
  const added = { ...portal!, byRequest: true } as const;
  const portals = [
    ...world.config.portals,
    { ...added, name: 'http' },
    { ...added, name: 'cask', redisPasswordSha256 },
  ];
  const names = ['portal', 'cask', 'http', 'admin.steward', 'admin._', 'removed'];
  expect(names.map((name) => portalAccount(name, { portals }, 'intake'))).toEqual([
    ...['portal.portal', 'added.cask', 'intake', 'intake', 'intake', 'portal.removed'],
  ]);
  expect(portalAccount('removed', { portals }, 'relay')).toBe('relay');
});

test('the secret from which the password for a portal follows may come later', async () => {
  const secrets = join(world.dir, 'later');
  mkdirSync(secrets);
  const hash = redisHash(passwordForPortal('a secret', 'portal.cask'));
  await owner.call(
    'ACL',
    'SETUSER',
    'portal.cask',
    'on',
    `#${hash}`,
    '+ping',
    '+info',
    '+acl|whoami',
  );
  const place = { redis: { url: world.redis.url() }, secrets };
  const redis = connectConsumer(place, 'added.cask');
  await once(redis, 'error');
  writeFileSync(join(secrets, 'redis-portals'), 'a secret');
  expect(await redis.call('ACL', 'WHOAMI')).toBe('portal.cask');
  redis.disconnect();
  await owner.call('ACL', 'DELUSER', 'portal.cask');
});
