/**
 * The API as a process of its own, and clients that mean harm: it refuses or survives each, and an honest caller is
 * answered meanwhile. What it takes is printed: the latency of that caller, and the memory of the process.
 */
import { afterAll, beforeAll, expect, test } from '@jest/globals';
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { generateKeyPairSync } from 'node:crypto';
import { mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { Agent, request as httpRequest } from 'node:http';
import { connect, type Socket } from 'node:net';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { Redis } from 'ioredis';
import { memoryMib as residentMib } from '../../bench/tools/processes.ts';
import { statFields } from '../../dev/servers/processes.ts';
import { freePort } from '../../dev/servers/redis.ts';
import { eventually } from '../scenarios/eventually.ts';
import { endProcess, startWorkers } from '../scenarios/processes/crash.ts';
import { type ApiWorld, openApiWorld, type PortalName } from './api-world.ts';

const LISTENERS = 1000;
/** Of one portal. */
const MOST_LISTENERS = 16;
const PORTALS = Math.ceil(LISTENERS / MOST_LISTENERS);
const MOST_MIB = 150;
/** The API may work for so long between a question and its answer, in ms of processor time: a busy machine adds none. */
const BLOCKED_MS = 2000;
/** Whoever waits for a client that sends slowly waits longer than this. */
const HELD_UP_MS = 5000;
/** Of `utime` and `stime` in /proc/PID/stat: 1 / sysconf(_SC_CLK_TCK). */
const TICK_MS = 10;
const SLOW = 200;
/** Pause between two bytes of a client that sends slowly. */
const DRIP_MS = 500;

let api: ApiWorld;
let port: number;
let child: ChildProcess;
const agent = new Agent({ keepAlive: true });
const listenerKeys = generateKeyPairSync('ed25519');

beforeAll(async () => {
  const publicKey = listenerKeys.publicKey.export({ type: 'spki', format: 'pem' }).toString();
  api = await openApiWorld('api survives', {
    needs: ['postgres', 'redis'],
    api: { trustedProxies: ['127.0.0.1'] },
    adjust: (config) => ({
      ...config,
      portals: [
        ...config.portals,
        ...Array.from({ length: PORTALS }, (_, n) => ({
          ...(config.portals[0] as (typeof config.portals)[number]),
          name: `listener${n}`,
          keys: [{ kid: `listener${n}-1`, publicKey }],
          subjectEvents: false,
          events: 'http' as const,
        })),
      ],
    }),
  });
  port = await freePort();
  const configFile = join(api.world.dir, 'api.yaml');
  const text = readFileSync(api.world.configFile, 'utf8');
  writeFileSync(configFile, text.replace('127.0.0.1:0', `127.0.0.1:${port}`), { mode: 0o600 });
  ({ child } = await startWorkers({ configFile }, ['api']));
});
afterAll(async () => {
  agent.destroy();
  await endProcess(child, 'SIGKILL');
  await api.close();
}, 60_000);

interface Heard {
  status: number;
  text: string;
}

function call(
  method: string,
  target: string,
  {
    as,
    authorization,
    body,
    type = 'application/json',
    at = port,
  }: {
    as?: PortalName;
    authorization?: string;
    body?: string | Buffer;
    type?: string;
    at?: number;
  } = {},
): Promise<Heard> {
  const token = authorization ?? (as === undefined ? undefined : api.tokenFor(as, method, target));
  const headers = {
    ...(token === undefined ? {} : { authorization: token }),
    ...(body === undefined ? {} : { 'content-type': type }),
  };
  return new Promise((resolve, reject) => {
    const given = { host: '127.0.0.1', port: at, method, path: target, headers, agent };
    const asking = httpRequest(given, (response) => {
      let text = '';
      response.setEncoding('utf8').on('data', (chunk: string) => (text += chunk));
      response.on('error', reject);
      response.on('end', () => resolve({ status: response.statusCode ?? 0, text }));
    });
    asking.on('error', reject);
    asking.end(body);
  });
}

/** Sends bytes, and returns all that comes back until the connection ends. */
function speak(bytes: string | Buffer, at = port): Promise<string> {
  return new Promise((resolve) => {
    const socket = connect(at, '127.0.0.1', () => socket.write(bytes));
    let text = '';
    socket.on('data', (data) => (text += data.toString('latin1')));
    socket.on('error', () => resolve(text));
    socket.on('close', () => resolve(text));
  });
}

const memoryMib = (): number => residentMib(child.pid as number);

/** Processor time of the API until now, in ms. */
function workedMs(): number {
  const [utime, stime] = statFields(child.pid as number)?.slice(11) ?? [];
  return (Number(utime) + Number(stime)) * TICK_MS;
}

/** Lets an honest caller ask one thing after another meanwhile, and prints how long that took. */
async function meanwhile<T>(what: string, harm: () => Promise<T>): Promise<T> {
  const took: number[] = [];
  const worked: number[] = [];
  let isOver = false;
  const before = memoryMib();
  const asking = (async () => {
    while (!isOver || took.length < 10) {
      const [start, workedBefore] = [performance.now(), workedMs()];
      const { status } = await call('GET', '/v1/names/somebody', { as: 'other' });
      took.push(performance.now() - start);
      worked.push(workedMs() - workedBefore);
      expect(status).toBe(200);
    }
  })();
  asking.catch(() => {}); // awaited below
  const result = await harm();
  isOver = true;
  await asking;
  const at = (share: number, of = took) =>
    of.toSorted((a, b) => a - b)[Math.floor((of.length - 1) * share)] as number;
  process.stdout.write(
    `${what}: ${took.length} calls, p50 ${at(0.5).toFixed(1)} ms, p99 ${at(0.99).toFixed(1)} ms ` +
      `(${at(0.99, worked)} ms of work); memory ${before.toFixed(0)} → ${memoryMib().toFixed(0)} MiB\n`,
  );
  expect(at(0.99, worked)).toBeLessThan(BLOCKED_MS);
  expect(at(0.99)).toBeLessThan(HELD_UP_MS);
  return result;
}

/** Opens a connection that says something and then sends a byte now and then. Returns what it hears until it is cut. */
function drip(beginning: string): Promise<string> {
  return new Promise((resolve) => {
    let text = '';
    const socket: Socket = connect(port, '127.0.0.1', () => socket.write(beginning));
    const timer = setInterval(() => socket.write('x'), DRIP_MS);
    socket.on('data', (data) => (text += data.toString()));
    socket.on('error', () => {});
    socket.on('close', () => {
      clearInterval(timer);
      resolve(text);
    });
  });
}

test(`${SLOW} connections that send a byte now and then are cut off`, async () => {
  const target = '/v1/keys/check';
  const body = `POST ${target} HTTP/1.1\r\nhost: x\r\ncontent-type: text/plain\r\ncontent-length: 1000\r\nauthorization: `;
  const heard = await meanwhile('Slowloris', () =>
    Promise.all([
      ...Array.from({ length: SLOW / 2 }, () => drip('GET /healthz HTTP/1.1\r\nhost: x\r\nx: ')),
      ...Array.from({ length: SLOW / 2 }, () =>
        drip(`${body}${api.tokenFor('other', 'POST', target)}\r\n\r\n`),
      ),
    ]),
  );
  for (const each of heard) expect(each).toMatch(/^HTTP\/1\.1 408 /u);
});

test('100 MB, deep JSON, repeated headers, bad UTF-8, tricks with paths, and tokens of other calls', async () => {
  const before = memoryMib();
  await meanwhile('hostile bodies', async () => {
    const target = '/v1/keys/check';
    const head = (length: string) =>
      `POST ${target} HTTP/1.1\r\nhost: x\r\ncontent-type: text/plain\r\nconnection: close\r\n` +
      `authorization: ${api.tokenFor('other', 'POST', target)}\r\n${length}\r\n\r\n`;
    const chunk = `186a0\r\n${'x'.repeat(100_000)}\r\n`;
    for (let times = 0; times < 3; times += 1) {
      const [long, chunked] = await Promise.all([
        speak(head('content-length: 100000000') + 'x'.repeat(1e8)),
        speak(head('transfer-encoding: chunked') + chunk.repeat(1000)),
      ]);
      // the connection may be cut before the answer is read
      for (const each of [long, chunked]) expect(each).toMatch(/^(HTTP\/1\.1 413 |$)/u);
    }
    const deep = `{"key":${'['.repeat(32_000)}${']'.repeat(32_000)}}`;
    expect((await call('POST', target, { as: 'other', body: deep })).status).toBe(400);
    const bad = Buffer.from([0x22, 0xff, 0xfe, 0x22]);
    expect((await call('POST', target, { as: 'other', body: bad })).status).toBe(400);
    const twice = 'content-length: 1\r\ncontent-length: 2';
    expect(await speak(`GET /healthz HTTP/1.1\r\nhost: x\r\n${twice}\r\n\r\n`)).toMatch(
      /^HTTP\/1\.1 400 /u,
    );
    for (const path of [
      '//docs',
      '/v1/../docs',
      '/%2e%2e/docs',
      '/docs%00',
      '/docs%2f',
      '/v1/kinds/%2e%2e/schema',
    ]) {
      expect([
        path,
        (await speak(`GET ${path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n`)).slice(0, 12),
      ]).toEqual([path, 'HTTP/1.1 404']);
    }
    const authorization = api.tokenFor('other', 'GET', '/v1/names/a?of=tool');
    for (const [method, replayed] of [
      ['GET', '/v1/names/b?of=tool'],
      ['GET', '/v1/names/a?of=person'],
      ['GET', '/v1/names/a'],
      ['GET', '/v1/names/%61?of=tool'],
      ['GET', '/v1/names/a?of=tool&of=tool'],
      ['POST', '/v1/requests'],
    ] as const) {
      expect([replayed, (await call(method, replayed, { authorization })).status]).toEqual([
        replayed,
        401,
      ]);
    }
    expect((await call('GET', '/v1/names/a?of=tool', { authorization })).status).toBe(200);
  });
  expect(memoryMib() - before).toBeLessThan(MOST_MIB);
});

// --- behind nginx

interface Proxy {
  port: number;
  /** How many requests it has seen. */
  seen(): number;
  close(): Promise<void>;
}

/** An nginx of our own, which keeps one connection to the API. */
async function startNginx(): Promise<Proxy> {
  const at = await freePort();
  const dir = join(api.world.dir, 'nginx');
  mkdirSync(dir);
  const log = join(dir, 'access.log');
  const temporary = ['client_body', 'proxy', 'fastcgi', 'uwsgi', 'scgi'].map(
    (what) => `${what}_temp_path ${dir}/${what};`,
  );
  const text = `daemon off; pid ${dir}/pid; error_log ${dir}/error.log; worker_processes 1; user root;
events {}
http {
  access_log ${log}; client_header_timeout 1s; client_body_timeout 1s; keepalive_timeout 1s; ${temporary.join(' ')}
  upstream api { server 127.0.0.1:${port}; keepalive 1; }
  server {
    listen 127.0.0.1:${at};
    location / {
      proxy_pass http://api; proxy_http_version 1.1; proxy_set_header Connection "";
      proxy_request_buffering off; proxy_read_timeout 5s;
      proxy_set_header X-Forwarded-For 198.51.100.77;
    }
  }
}`;
  writeFileSync(join(dir, 'nginx.conf'), text);
  const nginx = spawn('/usr/sbin/nginx', ['-c', join(dir, 'nginx.conf')], { stdio: 'ignore' });
  await eventually('nginx', async () => (await call('GET', '/healthz', { at })).status === 200);
  return {
    port: at,
    seen: () =>
      readFileSync(log, 'utf8')
        .split('\n')
        .filter((line) => line.includes('/v1/')).length,
    async close() {
      nginx.kill('SIGQUIT');
      agent.destroy();
      if (nginx.exitCode === null) await once(nginx, 'exit');
    },
  };
}

const HIDDEN = 'GET /v1/kinds HTTP/1.1\r\nhost: x\r\n\r\n';
const chunkOf = (text: string) => `${text.length.toString(16)}\r\n${text}\r\n0\r\n\r\n`;
/** Calls whose length a proxy and the API might read differently, each with another call in it. */
const SMUGGLED: Record<string, string> = {
  'CL.TE': `content-length: ${5 + HIDDEN.length}\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n${HIDDEN}`,
  'TE.CL': `content-length: 4\r\ntransfer-encoding: chunked\r\n\r\n${chunkOf(HIDDEN)}`,
  'CL.CL': `content-length: 0\r\ncontent-length: ${HIDDEN.length}\r\n\r\n${HIDDEN}`,
  ...Object.fromEntries(
    [
      'transfer-encoding: xchunked',
      'transfer-encoding : chunked',
      'transfer-encoding: chunked\r\ntransfer-encoding: x',
      'transfer-encoding: x\r\ntransfer-encoding: chunked',
      'transfer-encoding:\x0bchunked',
      'transfer-encoding:\r\n chunked',
      'transfer-encoding: identity, chunked',
      'x: y\ntransfer-encoding: chunked',
      'transfer-encoding: "chunked"',
      'transfer_encoding: chunked',
    ].map((header) => [
      `TE.TE ${JSON.stringify(header)}`,
      `content-length: ${5 + HIDDEN.length}\r\n${header}\r\n\r\n0\r\n\r\n${HIDDEN}`,
    ]),
  ),
  'an extension of a chunk': `transfer-encoding: chunked\r\n\r\n5;\n${HIDDEN}\r\n0\r\n\r\n`,
  'a bare LF in a chunk': `transfer-encoding: chunked\r\n\r\n0\n\n${HIDDEN}`,
  'a huge chunk': `transfer-encoding: chunked\r\n\r\n10000000000000000\r\n${HIDDEN}`,
  '0x of a length': `content-length: 0x0\r\n\r\n${HIDDEN}`,
  '+ of a length': `content-length: +0\r\n\r\n${HIDDEN}`,
};

test('no call is smuggled past nginx, nor answered to another', async () => {
  const redis = new Redis(api.world.redis.urlOf('owner'));
  const counted = async () => {
    const keys = await redis.keys('api:calls:address:198.51.100.77:*');
    const counts = await Promise.all(keys.map((key) => redis.getdel(key)));
    return counts.reduce((sum, count) => sum + Number(count), 0);
  };
  const nginx = await startNginx();
  try {
    const honest = (await call('GET', '/v1/kinds', { at: nginx.port })).text;
    await eventually('its count', async () => (await counted()) >= 1);
    await eventually('its line', () => nginx.seen() >= 1);
    for (const [name, rest] of Object.entries(SMUGGLED)) {
      const before = nginx.seen();
      await speak(
        `POST /v1/keys/check HTTP/1.1\r\nhost: x\r\ncontent-type: text/plain\r\n${rest}`,
        nginx.port,
      );
      for (let times = 0; times < 3; times += 1) {
        expect([name, (await call('GET', '/v1/kinds', { at: nginx.port })).text]).toEqual([
          name,
          honest,
        ]);
      }
      // the API has counted no call that nginx has not seen
      await eventually(name, () => nginx.seen() >= before + 3);
      let calls = 0;
      await eventually('the counts', async () => (calls += await counted()) >= 3);
      await sleep(100); // one that must not be there would be counted within 10 ms
      calls += await counted();
      expect([name, calls <= nginx.seen() - before]).toEqual([name, true]);
    }
    // and straight to the API: one answer, and the connection is closed
    for (const name of ['CL.TE', 'TE.CL', 'CL.CL']) {
      const head = 'POST /v1/keys/check HTTP/1.1\r\nhost: x\r\ncontent-type: text/plain\r\n';
      const answer = await speak(`${head}${SMUGGLED[name]}`);
      expect([name, answer.match(/HTTP\/1\.1 \d+/gu)]).toEqual([name, ['HTTP/1.1 400']]);
    }
  } finally {
    redis.disconnect();
    await nginx.close();
  }
});

// --- listeners

/** Opens a stream. Its socket stays open if the status is 200. */
function listen(portal: string): Promise<{ status: number; cut(): void }> {
  const target = '/v1/events/stream?after=0';
  const claims = { iss: portal };
  const authorization = api.tokenFor('other', 'GET', target, {
    ...{ claims, header: { kid: `${portal}-1` } },
    key: listenerKeys.privateKey,
  });
  return new Promise((resolve, reject) => {
    const given = { host: '127.0.0.1', port, path: target, headers: { authorization } };
    const asking = httpRequest({ ...given, agent: false }, (response) => {
      response.on('error', () => {});
      response.resume();
      resolve({ status: response.statusCode ?? 0, cut: () => asking.destroy() });
    });
    asking.on('error', reject);
    asking.end();
  });
}

test(`${LISTENERS} listeners over ${PORTALS} portals, and at most ${MOST_LISTENERS} of each`, async () => {
  const before = memoryMib();
  const streams = await meanwhile(`opening ${LISTENERS} listeners`, async () => {
    const opened: Awaited<ReturnType<typeof listen>>[] = [];
    for (let portal = 0; portal < PORTALS; portal += 1) {
      const all = Array.from({ length: MOST_LISTENERS }, () => listen(`listener${portal}`));
      opened.push(...(await Promise.all(all)));
    }
    return opened;
  });
  expect(streams.length).toBeGreaterThanOrEqual(LISTENERS);
  expect(streams.every(({ status }) => status === 200)).toBe(true);
  expect((await listen('listener0')).status).toBe(429);
  const grown = memoryMib() - before;
  process.stdout.write(`${streams.length} idle listeners: ${grown.toFixed(0)} MiB more\n`);
  expect(grown).toBeLessThan(MOST_MIB);
  await meanwhile(`beside ${LISTENERS} listeners`, async () => {
    for (let times = 0; times < 200; times += 1) {
      await call('GET', '/v1/names/else', { as: 'may-own' });
    }
  });
  // whoever goes makes room for another, however suddenly
  for (const stream of streams.slice(0, MOST_LISTENERS)) stream.cut();
  await eventually('room for another listener', async () => {
    const one = await listen('listener0');
    one.cut();
    return one.status === 200;
  });
  // and a listener who goes before it is answered holds no place
  for (let times = 0; times < 4 * MOST_LISTENERS; times += 1) {
    const target = '/v1/events/stream?after=0';
    const authorization = api.tokenFor('other', 'GET', target, {
      ...{ claims: { iss: 'listener0' }, header: { kid: 'listener0-1' } },
      key: listenerKeys.privateKey,
    });
    const socket = connect(port, '127.0.0.1', () => {
      socket.write(`GET ${target} HTTP/1.1\r\nhost: x\r\nauthorization: ${authorization}\r\n\r\n`);
      setImmediate(() => socket.resetAndDestroy());
    });
    socket.on('error', () => {});
    await once(socket, 'close');
  }
  await eventually('room for all of them', async () => {
    const again = await Promise.all(
      Array.from({ length: MOST_LISTENERS }, () => listen('listener0')),
    );
    for (const each of again) each.cut();
    return again.every(({ status }) => status === 200);
  });
  // it ends at once, although all the others listen
  const start = performance.now();
  expect(await endProcess(child, 'SIGTERM')).toBe(0);
  process.stdout.write(`ended in ${(performance.now() - start).toFixed(0)} ms\n`);
  expect(performance.now() - start).toBeLessThan(10_000);
}, 180_000);
