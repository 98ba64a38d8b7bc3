/** What the API refuses or survives: too many calls, hostile bodies and connections, and servers that are away. */
import { afterAll, beforeAll, expect, test } from '@jest/globals';
import { connect, type Socket } from 'node:net';
import { Redis } from 'ioredis';
import { runningPid, signalTree, startServer, stopServer } from '../stack.ts';
import { openOwner } from '../../src/database/connection.ts';
import { type ApiWorld, openApiWorld } from './api-world.ts';
import { eventually } from '../scenarios/eventually.ts';

let api: ApiWorld;
beforeAll(async () => {
  api = await openApiWorld('api_limits', {
    needs: ['postgres', 'redis'],
    api: { trustedProxies: ['127.0.0.1'], mostCallsPerMinute: { portal: 120, address: 60 } },
  });
});
afterAll(() => api.close());

/** Sends bytes, and returns all that comes back until the connection ends. */
function speak(bytes: string | Buffer): Promise<string> {
  return new Promise((resolve) => {
    const socket: Socket = connect(api.port, '127.0.0.1', () => socket.write(bytes));
    let text = '';
    socket.on('data', (data) => (text += data.toString()));
    socket.on('error', () => resolve(text));
    socket.on('close', () => resolve(text));
  });
}

test('monitoring may ask with HEAD what needs no token', async () => {
  for (const path of ['/healthz', '/readyz', '/v1/kinds']) {
    expect(await api.call('HEAD', path)).toMatchObject({ status: 200, text: '' });
  }
  expect((await api.call('HEAD', '/v1/events/stream')).status).toBe(405);
});

test('a method that a path does not have is refused with those that it has, to everybody', async () => {
  for (const [method, path, allow] of [
    ['DELETE', '/v1/tools/admin', 'GET, HEAD'],
    ['PUT', '/v1/requests', 'POST, GET'],
    ['POST', '/v1/people/nobody-of-that-name?x=1', 'GET'],
  ] as const) {
    const { status, headers, body } = await api.call(method, path);
    expect([status, headers['allow'], body.code]).toEqual([405, allow, 'CALL_INVALID']);
  }
  expect((await api.call('DELETE', '/v1/nothing')).status).toBe(404);
});

test('what is wrong with a call is said in words', async () => {
  const detail = async (path: string) => (await api.get(path, { as: 'may-all' })).body.detail;
  expect(await detail('/v1/tools?limit=101')).toBe('`limit` of the query must be at most 100.');
  expect(await detail('/v1/tools?limit=x&state=none&y=1')).toBe(
    '`limit` of the query is missing, or is not of the type number; ' +
      '`state` of the query must be active or disabled or archived or deleted; ' +
      'the query has a field that the route does not have: y.',
  );
  const { body } = await api.call('POST', '/v1/checks', { as: 'may-all', type: 'text/plain' });
  expect(body.detail).toBe('The route reads a body only if its `content-type` is application/jwt.');
});

test('too many calls are refused until the time that the answer says', async () => {
  const calls = (count: number, headers: Record<string, string>) =>
    Promise.all(Array.from({ length: count }, () => api.get('/v1/kinds', { headers })));
  const many = await calls(30, { 'x-forwarded-for': '192.0.2.1' });
  const refused = many.filter(({ status }) => status === 429);
  expect(refused.length).toBeGreaterThan(5);
  expect(refused[0]?.body.code).toBe('CALL_TOO_OFTEN');
  const seconds = Number(refused[0]?.headers['retry-after']);
  expect(seconds).toBeGreaterThan(0);
  expect(seconds).toBeLessThanOrEqual(10);
  const [other] = await calls(1, { 'x-forwarded-for': '192.0.2.2' });
  expect(other?.status).toBe(200);
  const guesses = await Promise.all(
    Array.from({ length: 30 }, () =>
      api.get('/v1/names/x', {
        headers: { 'x-forwarded-for': '192.0.2.3', authorization: 'Chamberlain x.y.z' },
      }),
    ),
  );
  expect(new Set(guesses.map(({ status }) => status))).toEqual(new Set([401, 429]));
  // who listens at :: sees addresses of IPv4 so, and each is a caller of its own
  const mapped = await Promise.all(
    Array.from({ length: 30 }, (_, n) =>
      api.get('/v1/kinds', { headers: { 'x-forwarded-for': `::ffff:203.0.113.${n}` } }),
    ),
  );
  expect(mapped.every(({ status }) => status === 200)).toBe(true);
  // one network of IPv6 is one caller
  const six = await Promise.all(
    Array.from({ length: 30 }, (_, n) =>
      api.get('/v1/kinds', { headers: { 'x-forwarded-for': `2001:db8::${n}` } }),
    ),
  );
  expect(six.some(({ status }) => status === 429)).toBe(true);
});

test('whoever invents keys of admins is counted before PostgreSQL is asked for them', async () => {
  const part = (value: object) => Buffer.from(JSON.stringify(value)).toString('base64url');
  const token = `${part({ alg: 'EdDSA', kid: `SHA256:${'x'.repeat(43)}` })}.${part({ iss: 'admin.x' })}.x`;
  const headers = { 'x-forwarded-for': '192.0.2.4' };
  const guess = () =>
    api.get('/v1/names/x', { headers: { ...headers, authorization: `Chamberlain ${token}` } });
  expect((await guess()).status).toBe(401);
  const locker = await openOwner(api.world.config);
  try {
    await locker.query('BEGIN; LOCK TABLE admin_keys IN ACCESS EXCLUSIVE MODE');
    // a look would wait for the lock, and never end with 429; a window of 10 s may end just before the guess
    await eventually('a guess that is counted before the look', async () => {
      await Promise.all(Array.from({ length: 30 }, () => api.get('/v1/kinds', { headers })));
      return (await guess()).status === 429;
    });
  } finally {
    await locker.end();
  }
});

test('a portal is counted by its name, wherever it calls from, and what says that the API is there is not counted', async () => {
  const all = await Promise.all(
    Array.from({ length: 60 }, (_, n) =>
      api.get('/v1/kinds', { as: 'may-mail', headers: { 'x-forwarded-for': `192.0.2.${n + 10}` } }),
    ),
  );
  expect(all.some(({ status }) => status === 429)).toBe(true);
  const health = await Promise.all(Array.from({ length: 100 }, () => api.get('/healthz')));
  expect(health.every(({ status }) => status === 200)).toBe(true);
});

/** From an address of its own, so that no other test's calls count. */
const from = (n: number) => ({ 'x-forwarded-for': `198.51.100.${n}` });
const check = (body: string | Buffer, type = 'application/json') =>
  api.call('POST', '/v1/keys/check', { as: 'other', type, body });

test('bodies: bad UTF-8, no JSON, deep JSON, repeated keys, another type, too large', async () => {
  expect((await check(Buffer.from([0x7b, 0xff, 0x7d]))).body.code).toBe('CALL_INVALID');
  expect((await check('{')).body.code).toBe('CALL_INVALID');
  expect((await check('['.repeat(60_000))).body.code).toBe('CALL_INVALID');
  expect((await check(`${'['.repeat(30_000)}${']'.repeat(30_000)}`)).body.code).toBe(
    'CALL_INVALID',
  );
  expect((await check('{"key":"x","__proto__":{"a":1}}')).body.code).toBe('CALL_INVALID');
  expect((await check('{"key":1,"key":"x"}')).status).toBe(200);
  expect(await check('x', 'image/png')).toMatchObject({
    status: 415,
    body: { code: 'CALL_INVALID' },
  });
  // nor of a type that another route reads, nor of none
  for (const type of ['application/jwt', undefined]) {
    const body = 'null';
    const given = { as: 'other' as const, body, ...(type === undefined ? {} : { type }) };
    expect((await api.call('POST', '/v1/keys/check', given)).status).toBe(415);
  }
  const asJson = { as: 'other' as const, type: 'application/json', body: 'null' };
  expect((await api.call('POST', '/v1/checks', asJson)).status).toBe(415);
  expect(await check('x'.repeat(70_000))).toMatchObject({
    status: 413,
    body: { code: 'CALL_TOO_LARGE' },
  });
});

test('100 MB from nobody are refused before they are read', async () => {
  const head =
    'POST /v1/requests HTTP/1.1\r\nhost: x\r\ncontent-type: application/jwt\r\ncontent-length: 100000000\r\nconnection: close\r\n\r\n';
  expect(await speak(head)).toMatch(/^HTTP\/1\.1 401 /u);
});

test('what is not HTTP, is ambiguous, or has too large a header, gets a problem document', async () => {
  const problem = /\r\n\r\n\{"type":"\/docs#/u;
  for (const bytes of [
    'x\r\n\r\n',
    'GET /healthz HTTP/1.1\r\n\r\n',
    'POST /v1/requests HTTP/1.1\r\nhost: x\r\ncontent-length: 5\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n',
    'POST /v1/requests HTTP/1.1\r\nhost: x\r\ncontent-length: 5\r\ncontent-length: 6\r\n\r\n',
    `GET /healthz HTTP/1.1\r\nhost: x\r\nx: ${'x'.repeat(20_000)}\r\n\r\n`,
  ]) {
    const answer = await speak(bytes);
    expect(answer).toMatch(/^HTTP\/1\.1 4\d\d /u);
    if (!bytes.startsWith('GET /healthz HTTP/1.1\r\n\r\n')) expect(answer).toMatch(problem);
  }
});

test('a second Authorization, and a token of another route, are refused', async () => {
  const target = '/v1/names/somebody';
  const token = api.tokenFor('other', 'GET', target);
  const twice = await api.get(target, {
    headers: { authorization: [token, token] as never, ...from(1) },
  });
  expect(twice.status).toBe(401);
  const replayed = await api.get('/v1/names/else', {
    headers: { authorization: token, ...from(1) },
  });
  expect(replayed.status).toBe(401);
});

test('paths with tricks lead nowhere', async () => {
  for (const path of [
    '/v1/../docs',
    '//docs',
    '/docs/',
    '/%2e%2e/docs',
    '/docs%00',
    '/DOCS',
    '/v1/kinds/../../x/schema',
  ]) {
    expect([path, (await api.get(path, { headers: from(2) })).status]).toEqual([path, 404]);
  }
});

test('a client that sends slowly is cut off, and delays nobody', async () => {
  const slow = Array.from({ length: 50 }, () => speak('GET /healthz HTTP/1.1\r\nhost: x\r\n'));
  const start = performance.now();
  expect((await api.get('/healthz')).status).toBe(200);
  expect(performance.now() - start).toBeLessThan(2000);
  for (const answer of await Promise.all(slow)) expect(answer).toMatch(/^HTTP\/1\.1 408 /u);
});

test('without Redis, reads go on, and a request gets 503; /readyz names what is away', async () => {
  await stopServer(api.world.redis);
  const ready = await api.get('/readyz');
  expect(ready.status).toBe(503);
  expect(ready.body).toEqual({
    ready: false,
    dependsOn: [
      { name: 'PostgreSQL', answers: true },
      { name: 'Redis', answers: false },
    ],
  });
  expect((await api.get('/v1/names/somebody', { as: 'other' })).body.state).toBe('free');
  const sent = await api.done('other', { kind: 'tool.create', requestedBy: 'alice' });
  expect(sent).toMatchObject({ status: 503, body: { code: 'BACKEND_UNAVAILABLE' } });
  expect(Number(sent.headers['retry-after'])).toBeGreaterThan(0);
  expect(sent.text).not.toMatch(/redis|127\.0\.0\.1/iu);
  await startServer(api.world.redis);
  await eventually('Redis again', async () => (await api.get('/readyz')).status === 200);
});

test('many who ask /readyz at once get one answer of the servers', async () => {
  const redis = new Redis(api.world.redis.urlOf('owner'));
  const countPings = async () =>
    Number(/cmdstat_ping:calls=(\d+)/u.exec(await redis.info('commandstats'))?.[1] ?? 0);
  const before = await countPings();
  await redis.call('CLIENT', 'PAUSE', '500', 'ALL');
  const asked = await Promise.all(Array.from({ length: 50 }, () => api.get('/readyz')));
  expect(asked.map(({ status }) => status)).toEqual(asked.map(() => 200));
  const pings = (await countPings()) - before;
  redis.disconnect();
  expect(pings).toBeGreaterThan(0);
  expect(pings).toBeLessThan(50);
});

test('a Redis that hangs delays no read for long', async () => {
  const pid = runningPid(api.world.redis) as number;
  signalTree(pid, 'SIGSTOP');
  try {
    const start = performance.now();
    expect((await api.get('/v1/names/somebody', { as: 'other' })).status).toBe(200);
    expect(performance.now() - start).toBeLessThan(2000);
  } finally {
    signalTree(pid, 'SIGCONT');
  }
});

test('nothing in the log is a token, and nothing failed', () => {
  const text = api.log.join('\n');
  expect(text).not.toContain('eyJ');
  expect(text).not.toContain('a call failed');
});
