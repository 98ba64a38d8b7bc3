/** Roles receive calls on a connection that may be lost without notice. */
import { once } from 'node:events';
import { type AddressInfo, connect, createServer, type Socket } from 'node:net';
import { afterAll, beforeAll, expect, test } from '@jest/globals';
import { openPool, type Pool } from '../../src/database/connection.ts';
import { hearCalls, SURVEY_CALLS } from '../../src/drift/survey-calls.ts';
import { eventually } from '../scenarios/eventually.ts';
import { openWorld, type World } from '../stack.ts';

let world: World;
let owner: Pool;

beforeAll(async () => {
  world = await openWorld('survey-calls', { needs: ['postgres'] });
  owner = openPool(world.config, 'owner', { max: 1, durable: false });
});
afterAll(async () => {
  await owner.end();
  await world.close();
});

test('a connection whose other end vanished without notice is replaced, and the next call is received', async () => {
  const { host, port } = world.config.postgres;
  const sockets: Socket[] = [];
  const relay = createServer((socket) => {
    const onwards = host.startsWith('/')
      ? connect(`${host}/.s.PGSQL.${port}`)
      : connect(port, host);
    sockets.push(socket, onwards);
    for (const each of [socket, onwards]) each.on('error', () => {});
    socket.pipe(onwards).pipe(socket);
  }).listen(0, '127.0.0.1');
  await once(relay, 'listening');
  const through = {
    ...world.config,
    postgres: {
      ...world.config.postgres,
      host: '127.0.0.1',
      port: (relay.address() as AddressInfo).port,
    },
  };
  const pool = openPool(through, 'homes_reader', { max: 1, durable: false });
  const heard = new Set<string>();
  const calls = hearCalls(pool, (survey) => heard.add(survey));
  const hears = (call: string, withinMs: number) =>
    eventually(
      call,
      async () => {
        await owner.query('SELECT pg_notify($1, $2)', [SURVEY_CALLS, call]);
        return heard.has(call);
      },
      withinMs,
    );
  try {
    await hears('before', 10_000);
    // as if a cable were unplugged: nothing arrives any more, and neither end notices
    for (const socket of sockets) socket.unpipe().pause();
    await hears('after', 15_000);
    expect([...heard]).toEqual(['before', 'after']);
  } finally {
    for (const socket of sockets) socket.destroy();
    relay.close();
    await calls.close();
    await pool.end();
  }
});
