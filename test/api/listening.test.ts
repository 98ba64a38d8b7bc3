/** Where the API listens: by TLS, at a unix socket; and how it ends. */
import { fixedConfig } from '../../src/configuration/config-in-use.ts';
import { afterAll, beforeAll, expect, test } from '@jest/globals';
import { spawnSync } from 'node:child_process';
import { readFileSync, statSync, writeFileSync } from 'node:fs';
import { Agent, type IncomingMessage, request, type RequestOptions } from 'node:http';
import { request as tlsRequest } from 'node:https';
import { join } from 'node:path';
import { Redis } from 'ioredis';
import { makeCertificate } from '../../dev/servers/certificate.ts';
import { keepOrChoosePort } from '../../dev/servers/redis.ts';
import { answersAsApi } from '../../dev/servers/stack.ts';
import { openLog } from '../../src/shared/log.ts';
import type { Config } from '../../src/shared/config.ts';
import { startApi } from '../../workers/api.ts';
import { eventually } from '../scenarios/eventually.ts';
import { type ApiWorld, openApiWorld } from './api-world.ts';

let api: ApiWorld;
beforeAll(async () => {
  api = await openApiWorld('api_listening', { needs: ['postgres', 'redis'] });
});
afterAll(() => api.close());

/** How many requests of the portal `other` wait. */
async function queued(): Promise<number> {
  const redis = new Redis(api.world.redis.urlOf('owner'));
  try {
    return await redis.llen('bull:requests.other:wait');
  } finally {
    redis.disconnect();
  }
}

const log = openLog('silent');
const withApi = (settings: Partial<NonNullable<Config['api']>>): Config => ({
  ...api.world.config,
  api: { ...(api.world.config.api as NonNullable<Config['api']>), ...settings },
});

function statusOf(make: typeof request, options: RequestOptions & { ca?: Buffer }) {
  return new Promise<number | undefined>((resolve, reject) => {
    const asking = make({ path: '/healthz', agent: false, ...options }, (response) => {
      response.resume();
      resolve(response.statusCode);
    });
    asking.on('error', reject);
    asking.end();
  });
}

test('by TLS, with the certificate of its files, and never without TLS there', async () => {
  const made = await makeCertificate(join(api.world.dir, 'tls'), {
    host: '127.0.0.1',
    user: 'root',
  });
  const server = await startApi(
    fixedConfig(withApi({ certificateFile: made.certificate, keyFile: made.key })),
    log,
  );
  const ca = readFileSync(made.ca);
  const { port } = server;
  expect(await statusOf(tlsRequest, { host: '127.0.0.1', port, ca })).toBe(200);
  await expect(statusOf(request, { host: '127.0.0.1', port })).rejects.toThrow();
  await server.close();
  await expect(
    startApi(fixedConfig(withApi({ certificateFile: '/nowhere.pem', keyFile: made.key })), log),
  ).rejects.toMatchObject({
    code: 'CONFIG_INVALID',
    message: 'reading the certificate /nowhere.pem',
  });
});

test('at a unix socket, also if one is left of an API that was killed, but not if one answers', async () => {
  const path = join(api.world.dir, 'socket');
  // ended by a signal, so nobody removes its socket
  const script = `require('node:net').createServer().listen(${JSON.stringify(path)}, () => process.kill(process.pid, 'SIGKILL'))`;
  spawnSync(process.execPath, ['-e', script]);
  expect(statSync(path).isSocket()).toBe(true);
  const config = withApi({ listen: `unix:${path}` });
  const server = await startApi(fixedConfig(config), log);
  expect(server.port).toBeUndefined();
  expect(statSync(path).mode & 0o777).toBe(0o666);
  expect(await statusOf(request, { socketPath: path, path: '/v1/kinds' })).toBe(200);
  await expect(startApi(fixedConfig(config), log)).rejects.toMatchObject({
    code: 'CONFIG_INVALID',
  });
  expect(await statusOf(request, { socketPath: path })).toBe(200);
  await server.close();
});

test('a port that is taken, and a configuration without the section, are refused with a sentence', async () => {
  await expect(
    startApi(fixedConfig(withApi({ listen: `127.0.0.1:${api.port}` })), log),
  ).rejects.toMatchObject({
    code: 'CONFIG_INVALID',
    message: `listening for the API at 127.0.0.1:${api.port}`,
  });
  const none: Config = { ...api.world.config, api: undefined };
  await expect(startApi(fixedConfig(none), log)).rejects.toMatchObject({
    code: 'CONFIG_INVALID',
    action: expect.stringContaining('api: {}'),
  });
});

test('`dev/stack up` keeps the port at which the API answers, and no port at which another server does', async () => {
  const file = join(api.world.dir, 'api-port');
  for (const [port, isKept] of [
    [api.port, true],
    [Number(new URL(api.world.redis.url()).port), false],
  ] as const) {
    writeFileSync(file, String(port));
    expect((await keepOrChoosePort(file, answersAsApi)) === port).toBe(isKept);
  }
});

test('until the portals of PostgreSQL are read, a token may be one of theirs', async () => {
  let isComplete = false;
  const inUse = {
    ...fixedConfig(withApi({ listen: '127.0.0.1:0' })),
    isComplete: () => isComplete,
  };
  const server = await startApi(inUse, log);
  const { port } = server;
  const headers = { authorization: 'Chamberlain x.y.z' };
  const status = (path: string) => statusOf(request, { host: '127.0.0.1', port, path, headers });
  expect(await status('/v1/kinds')).toBe(503);
  isComplete = true;
  expect(await status('/v1/kinds')).toBe(401);
  await server.close();
});

test('whoever waits when it ends gets what is known, and nobody holds it up', async () => {
  const second = await startApi(fixedConfig(api.world.config), log);
  const target = '/v1/requests?wait=done';
  const token = api.requestToken('other', { kind: 'tool.create', requestedBy: 'alice' });
  const headers = {
    authorization: api.tokenFor('other', 'POST', target),
    'content-type': 'application/jwt',
  };
  const answer = new Promise<{ status: number | undefined; body: unknown }>((resolve, reject) => {
    const sending = request(
      { host: '127.0.0.1', port: second.port, method: 'POST', path: target, headers },
      (response) => {
        response.on('data', (data) => {
          resolve({ status: response.statusCode, body: JSON.parse(String(data)) });
        });
      },
    );
    sending.on('error', reject);
    sending.end(token);
  });
  await eventually('the request in its queue', async () => (await queued()) === 1);
  const start = performance.now();
  await second.close();
  expect(performance.now() - start).toBeLessThan(3000);
  expect(await answer).toMatchObject({ status: 202, body: { verdict: null, done: false } });
});

test('an open stream of events does not hold it up, although the client would keep the connection', async () => {
  const second = await startApi(fixedConfig(api.world.config), log);
  const target = '/v1/events/stream';
  const agent = new Agent({ keepAlive: true });
  const stream = await new Promise<IncomingMessage>((resolve, reject) => {
    const headers = { authorization: api.tokenFor('other', 'GET', target), 'last-event-id': '0' };
    const { port } = second;
    const asking = request({ host: '127.0.0.1', port, path: target, headers, agent }, resolve);
    asking.on('error', reject);
    asking.end();
  });
  expect(stream.statusCode).toBe(200);
  stream.resume();
  const start = performance.now();
  await second.close();
  expect(performance.now() - start).toBeLessThan(5000);
  agent.destroy();
});
