/** The Node client, from its sources and as the package that `tsc` makes of it, against a real realm. */
import { execFile } from 'node:child_process';
import { generateKeyPairSync, randomUUID } from 'node:crypto';
import { cpSync, mkdirSync, readFileSync } from 'node:fs';
import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { afterAll, beforeAll, describe, expect, test } from '@jest/globals';
import {
  Client,
  type ClientOptions,
  type Event,
  Problem,
  type Request,
  Unreachable,
} from '../../clients/node/src/client.ts';
import { type ClientWorld, openClientWorld } from './client-world.ts';
import { openCuttingProxy } from './cutting-proxy.ts';

const CLIENT = join(import.meta.dirname, '../../clients/node');
const run = promisify(execFile);

let world: ClientWorld;
let client: Client;
beforeAll(async () => {
  world = await openClientWorld('node client');
  client = open();
});
afterAll(() => world.api.close());

function open(options: Partial<ClientOptions> = {}): Client {
  const { API_URL: url, REALM: realm, PORTAL: portal, PORTAL_KID: kid } = world.env;
  const [key, eventsKey] = [world.env.PORTAL_KEY, world.env.EVENTS_KEY].map((file) =>
    readFileSync(file),
  ) as [Buffer, Buffer];
  return new Client({ url, realm, portal, kid, key, eventsKey, warn: () => {}, ...options });
}

const newName = (): string => `bot${randomUUID().slice(0, 8)}`;
const create = (name: string): Request =>
  client.sign('tool.create', { requestedBy: 'alice', name, title: 'A bot' });
const newKey = () => generateKeyPairSync('ed25519');

/** Has a request refused, which makes one event. */
async function refuse(): Promise<string> {
  const request = create('root');
  expect(await client.send(request, { wait: 'verdict' })).toMatchObject({ verdict: 'refused' });
  return request.id;
}

describe('a request', () => {
  test('is done, and counts once', async () => {
    const request = create(newName());
    expect(await client.send(request)).toMatchObject({ id: request.id, verdict: null });
    for (const _ of [1, 2]) {
      const outcome = await client.wait(request);
      expect(outcome).toMatchObject({ verdict: 'accepted', done: true, waiting: false });
      expect(outcome.code).toBeUndefined();
    }
  });

  test('may be refused, which is an outcome', async () => {
    const refused = { verdict: 'refused', done: false, code: 'NAME_RESERVED' };
    const sentence = expect.stringContaining('root');
    expect(await client.wait(create('root'))).toMatchObject({ ...refused, sentence });
  });

  test('may have an id in capital letters, which the API names in small ones', async () => {
    const id = '0B6F0E2E-1C5D-4E5B-9D5B-1F0C7A7E2A11';
    const asked = { requestedBy: 'alice', name: newName(), title: 'T' };
    const request = client.sign('tool.create', asked, { id });
    expect(await client.send({ ...request, id })).toMatchObject({ id: request.id });
    expect(request.id).toBe(id.toLowerCase());
  });

  test('is only checked: nothing is done', async () => {
    const asked = { requestedBy: 'alice', name: newName(), title: 'T' };
    for (const _ of [1, 2]) {
      expect(await client.check('tool.create', asked)).toMatchObject({ verdict: 'accepted' });
    }
    expect(await client.name(asked.name, { of: 'tool' })).toMatchObject({ state: 'free' });
    const refused = await client.check('tool.create', { ...asked, name: 'root' });
    expect(refused).toMatchObject({ verdict: 'refused', code: 'NAME_RESERVED' });
  });

  test('that is none throws a problem which no repetition mends', async () => {
    const read = client.read('/v1/names/x', { no: 'such' });
    await expect(read).rejects.toMatchObject({
      ...{ name: 'Problem', status: 400, code: 'CALL_INVALID', retryAfter: null },
    });
    const wait = client.wait({ id: 'x', token: 'no token' });
    await expect(wait).rejects.toMatchObject({ code: 'REQUEST_MALFORMED' });
  });

  test('is sent again while the API is away, or its answer is cut off anywhere', async () => {
    const request = create(newName());
    const away = open({ url: 'http://127.0.0.1:2' });
    const error = await away.send(request).catch((each: unknown) => each);
    expect(error).toBeInstanceOf(Unreachable);
    expect(String(error)).toMatch(/^Unreachable: POST \S+\/v1\/requests: ECONNREFUSED$/u); // no query, no token
    for (const first of [0, 1, 9, 17, 60, 200]) {
      await using proxy = await openCuttingProxy(world.api.port, () => first);
      await expect(open({ url: proxy.url }).send(request)).rejects.toThrow(Unreachable);
    }
    const lines: string[] = [];
    await using proxy = await openCuttingProxy(world.api.port, (n) => (n < 2 ? 20 : Infinity));
    const cut = open({ url: proxy.url, warn: (line) => lines.push(line) });
    expect(await cut.wait(request, { seconds: 30 })).toMatchObject({ done: true });
    expect(lines).toEqual([1, 2].map(() => expect.stringContaining('no outcome for now')));
  });

  test('is not waited for longer than asked, nor after an abort', async () => {
    const away = open({ url: 'http://127.0.0.1:2' });
    const nothing = { id: 'x', verdict: null, done: false };
    expect(await away.wait({ id: 'x', token: '' }, { seconds: 0.2 })).toMatchObject(nothing);
    const [stop, signal] = aborted();
    const waits = away.wait({ id: 'x', token: '' }, { signal });
    stop();
    await expect(waits).rejects.toThrow('enough');
    await expect(client.name('x', { signal })).rejects.toThrow('enough');
  });
});

function aborted(): [() => void, AbortSignal] {
  const controller = new AbortController();
  return [() => controller.abort(new Error('enough')), controller.signal];
}

describe('what can be read', () => {
  test('names', async () => {
    const states = async (...names: string[]) =>
      (await Promise.all(names.map((name) => client.name(name)))).map(({ state }) => state);
    expect(await states('alice', 'root')).toEqual(['taken', 'reserved']);
    expect(await states("No such/name?é '%", '..', '')).toEqual(Array(3).fill('invalid'));
  });

  test('what the portal may see', async () => {
    const name = newName();
    const request = create(name);
    expect(await client.tool(name)).toBeNull();
    expect(await client.tool('..')).toBeNull();
    await client.wait(request);
    expect(await client.tool(name)).toMatchObject({ maintainers: ['alice'] });
    expect(await client.person('alice')).toBeNull(); // the portal has no right to people
    const ids: unknown[] = [];
    for await (const item of client.pages('/v1/requests', { limit: 2 })) ids.push(item['id']);
    expect(ids[0]).toBe(request.id);
    expect(new Set(ids).size).toBe(ids.length);
    expect(ids.length).toBeGreaterThan(2);
  });

  test('a pasted key', async () => {
    const refused = await client.checkKey('ssh-ed25519 no');
    expect(refused).toMatchObject({ accepted: false, code: expect.stringMatching(/^KEY_/u) });
  });
});

type Foreign = [status: number, type: string | undefined, body: string];

describe('an answer that is not of the API', () => {
  const PROBLEM = 'application/problem+json';
  const ANSWERS: Foreign[] = [
    ...[200, 302, 401, 404, 502].map((status): Foreign => [status, 'text/html', '<h1>no</h1>']),
    [404, undefined, ''],
    [404, 'application/json', '{"code":"NOT_FOUND"}'],
    [404, PROBLEM, '{"code":"NOT_FOU'],
    [404, PROBLEM, '{"status":404}'],
    [200, 'application/json', ''],
    [200, 'application/json', '{"id":"x","verd'],
  ];

  test.each(ANSWERS)('(%s %s %s) is no answer at all', async (...given) => {
    await using proxy = await openForeign(() => given);
    const there = open({ url: proxy.url });
    for (const call of [
      () => there.person('alice'),
      () => there.tool('x'),
      () => there.name('x'),
      () => there.checkKey('x'),
      () => there.pages('/v1/requests').next(),
      () => there.send(create('anybot'), { wait: 'done' }),
      () => there.check('tool.create', { requestedBy: 'alice' }),
    ]) {
      await expect(call()).rejects.toThrow(Unreachable);
    }
    const nothing = { verdict: null, done: false };
    expect(await there.wait(create('anybot'), { seconds: 0.05 })).toMatchObject(nothing);
  });

  test('is none of the request if it does not name it', async () => {
    await using proxy = await openForeign(() => [200, 'application/json', '{"status":"ok"}']);
    const there = open({ url: proxy.url });
    await expect(there.send(create('anybot'))).rejects.toThrow(Unreachable);
    await expect(there.check('tool.create', { requestedBy: 'alice' })).rejects.toThrow(Unreachable);
  });

  test('does not end the events', async () => {
    const id = await refuse();
    await using proxy = await openForeign((n) => (n < 2 ? ANSWERS[n * 3] : undefined));
    for await (const event of open({ url: proxy.url }).events(0)) if (event.request === id) break;
  });

  test('of the API under a wrong address is not the absence of what was asked', async () => {
    const lost = open({ url: `${world.env.API_URL}/elsewhere` });
    await expect(lost.person('alice')).rejects.toMatchObject({ code: 'ROUTE_UNKNOWN' });
    await expect(lost.wait(create('anybot'))).rejects.toMatchObject({ code: 'ROUTE_UNKNOWN' });
  });
});

/** A proxy that answers itself, or if it has no answer asks the API. It counts the calls from 0. */
async function openForeign(answer: (call: number) => Foreign | undefined) {
  let calls = 0;
  const server = createServer(({ url, headers: { authorization = '' } }, response) => {
    const ask = async (): Promise<Foreign> => {
      const real = await fetch(`${world.env.API_URL}${url}`, { headers: { authorization } });
      return [real.status, real.headers.get('content-type') ?? '', await real.text()];
    };
    void (async () => {
      const [status, type, body] = answer(calls++) ?? (await ask());
      response.writeHead(status, type === undefined ? {} : { 'content-type': type }).end(body);
    })();
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  return {
    url: `http://127.0.0.1:${(server.address() as AddressInfo).port}`,
    [Symbol.asyncDispose]: async () => {
      server.closeAllConnections();
      await new Promise((closed) => server.close(closed));
    },
  };
}

describe('events', () => {
  test('go on where they were interrupted, and end with the signal', async () => {
    const first = await refuse();
    const stored: Event[] = [];
    for await (const event of client.events(0)) {
      stored.push(event);
      if (event.request === first) break;
    }
    const ids: string[] = [];
    while (ids.length < 5) ids.push(await refuse());
    const cuts = (n: number) => (n < 3 ? 30 + 300 * n : Infinity);
    await using proxy = await openCuttingProxy(world.api.port, cuts);
    const [stop, signal] = aborted();
    for await (const event of open({ url: proxy.url }).events(stored.at(-1)!.seq, { signal })) {
      stored.push(event);
      if (event.request === ids.at(-1)) stop();
    }
    expect(proxy.connections()).toBeGreaterThan(3);
    expect(stored.map(({ seq }) => seq)).toEqual(stored.map((_, index) => index + 1));
    const told = stored.filter(({ event }) => event === 'request.refused');
    expect(told.slice(-6).map(({ request }) => request)).toEqual([first, ...ids]);
    expect(stored.at(-1)).toMatchObject({ code: 'NAME_RESERVED', data: { kind: 'tool.create' } });
  });

  test('of another key are refused', async () => {
    await refuse();
    const eventsKey = newKey().publicKey.export({ type: 'spki', format: 'pem' }).toString();
    await expect(open({ eventsKey }).events(0).next()).rejects.toThrow('not signed');
  });
});

test('a fault of the program is none of the network', async () => {
  expect(() => open({ url: '127.0.0.1:1' })).toThrow('not the address of an API');
  const barred = open({ url: 'http://127.0.0.1:6667' }); // of the ports that fetch refuses
  await expect(barred.wait(create('anybot'))).rejects.toThrow('fetch failed');
  const { privateKey } = generateKeyPairSync('x25519');
  const key = privateKey.export({ type: 'pkcs8', format: 'pem' }).toString();
  expect(() => open({ key })).toThrow('must be an Ed25519 key');
  const unknown = newKey().privateKey.export({ type: 'pkcs8', format: 'pem' }).toString();
  await expect(open({ key: unknown }).read('/v1/requests')).rejects.toThrow(Problem);
});

test('the example runs with the package, and says why it cannot run again', async () => {
  const place = join(world.api.world.dir, 'program');
  const installed = join(place, 'node_modules/chamberlain-client');
  mkdirSync(installed, { recursive: true });
  const tsc = join(CLIENT, '../../node_modules/typescript/bin/tsc');
  await run(process.execPath, [tsc, '-p', CLIENT, '--outDir', join(installed, 'dist')]);
  cpSync(join(CLIENT, 'package.json'), join(installed, 'package.json'));
  const example = join(place, 'new-tool.ts');
  cpSync(join(CLIENT, 'examples/new-tool.ts'), example);
  const call = () =>
    run(process.execPath, [example, 'alice', 'examplebot', 'An example'], { env: world.env });
  expect((await call()).stdout).toMatch(/^sending [0-9a-f-]{36}\nexamplebot can be used\n$/u);
  const stderr = expect.stringMatching(/^NAME_TAKEN: /mu);
  await expect(call()).rejects.toMatchObject({ code: 1, stderr });
});
