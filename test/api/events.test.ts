/** Events over HTTP: from the real relay, asked for and as a stream. */
import { afterAll, beforeAll, expect, test } from '@jest/globals';
import { eventually } from '../scenarios/eventually.ts';
import { query } from '../scenarios/outside.ts';
import { type ApiWorld, openApiWorld, type PortalName } from './api-world.ts';
import { type Batch, type EventStream, openStream, readBatch } from './event-reader.ts';

let api: ApiWorld;
let made = 0;
beforeAll(async () => {
  api = await openApiWorld('api events', { roles: ['intake', 'relay'] });
});
afterAll(() => api.close());

/** Has a request refused, which makes one event. Returns once the event has its number, a moment after the verdict. */
async function makeEvent(of: PortalName): Promise<void> {
  const name = `nobody${(made += 1)}`;
  const token = api.requestToken(of, { kind: 'access.request', requestedBy: name });
  const { status } = await api.call('POST', '/v1/requests?wait=verdict', {
    ...{ as: of, type: 'application/jwt', body: token },
  });
  expect(status).toBe(200);
  await eventually('its number', async () => {
    const without = 'SELECT FROM events WHERE portal = $1 AND seq IS NULL';
    return (await query(api.world, without, [of])).length === 0;
  });
}

async function ask(of: PortalName, after: number, seconds = 20): Promise<Batch | undefined> {
  const reply = await api.get(`/v1/events?after=${after}&seconds=${seconds}`, { as: of });
  if (reply.status === 204) return undefined;
  expect(reply).toMatchObject({ status: 200, headers: { 'content-type': 'application/jwt' } });
  return readBatch(api, of, reply.text);
}
const numbers = (batch: Batch | undefined) => batch?.events.map(({ seq }) => seq);

test('events come in order until they are confirmed, and again to whoever has lost them', async () => {
  expect(await ask('other', 0, 0)).toBeUndefined();
  const waiting = ask('other', 0);
  await makeEvent('other');
  expect(numbers(await waiting)).toEqual([1]);
  expect(numbers(await ask('other', 0))).toEqual([1]);
  await makeEvent('other');
  await makeEvent('other');
  const rest = await ask('other', 1);
  expect(rest?.after).toBe(1);
  expect(numbers(rest)?.[0]).toBe(2);
  expect(await ask('other', 3, 0.2)).toBeUndefined();
  await makeEvent('other');
  // the portal was restored from a backup
  expect(numbers(await ask('other', 1))).toEqual([2, 3, 4]);
  expect(await ask('other', 4, 0.2)).toBeUndefined();
});

test('a portal that has lost its events gets them again, although nothing new happens', async () => {
  await makeEvent('may-mail');
  expect(numbers(await ask('may-mail', 0))).toEqual([1]);
  expect(await ask('may-mail', 1, 0.2)).toBeUndefined();
  for (let times = 0; times < 2; times += 1) {
    expect(numbers(await ask('may-mail', 0))).toEqual([1]);
    expect(await ask('may-mail', 1, 0.2)).toBeUndefined();
  }
});

test('a stream carries the same tokens, and goes on where the reader says', async () => {
  const stream = await openStream(api, 'may-own', 0);
  expect(stream.response.headers).toMatchObject({
    'content-type': 'text/event-stream',
    'cache-control': 'no-store',
  });
  const messages = stream.messages();
  await makeEvent('may-own');
  const { value: first } = await messages.next();
  expect(first?.id).toBe('1');
  expect(numbers(readBatch(api, 'may-own', first!.data))).toEqual([1]);
  await makeEvent('may-own');
  const { value: second } = await messages.next();
  expect(second?.id).toBe('2');
  stream.cut();
  // the second was lost on the way
  await makeEvent('may-own');
  const again = await openStream(api, 'may-own', 1);
  const { value } = await again.messages().next();
  again.cut();
  expect(numbers(readBatch(api, 'may-own', value!.data))?.[0]).toBe(2);
});

test('who gets no events there', async () => {
  for (const target of ['/v1/events?after=0', '/v1/events/stream?after=0']) {
    expect(await api.get(target)).toMatchObject({ status: 401 });
    expect(await api.get(target, { as: 'admin.steward' })).toMatchObject({ status: 404 });
    expect(await api.get(target, { as: 'portal' })).toMatchObject({
      status: 409,
      body: { code: 'EVENTS_BY_QUEUE' },
    });
  }
  for (const after of ['', '-1', 'x', '1e99', '1.5']) {
    for (const path of ['/v1/events', '/v1/events/stream']) {
      expect(await api.get(`${path}?after=${after}`, { as: 'other' })).toMatchObject({
        status: 400,
        body: { code: 'CALL_INVALID' },
      });
    }
  }
});

test('a number that no event has is refused', async () => {
  for (const path of ['/v1/events', '/v1/events/stream']) {
    expect(await api.get(`${path}?after=99999`, { as: 'other' })).toMatchObject({
      status: 409,
      body: { code: 'EVENT_UNKNOWN' },
    });
  }
});

test('a portal has at most sixteen streams; one that ends makes room', async () => {
  const streams: EventStream[] = [];
  try {
    for (let n = 0; n < 16; n += 1) streams.push(await openStream(api, 'may-all', 0));
    const last = await api.get('/v1/events/stream?after=0', { as: 'may-all' });
    expect(last).toMatchObject({ status: 429, body: { code: 'CALL_TOO_OFTEN' } });
    streams.pop()?.cut();
    let next: EventStream;
    do {
      next = await openStream(api, 'may-all', 0);
      streams.push(next);
    } while (next.status === 429);
    expect(next.status).toBe(200);
  } finally {
    for (const each of streams) each.cut();
  }
});
