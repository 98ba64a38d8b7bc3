/** Requests through the API: the real intake, the relay and the directory role, and what callers see of them. */
import { afterAll, beforeAll, describe, expect, test } from '@jest/globals';
import { randomUUID } from 'node:crypto';
import { execFile } from 'node:child_process';
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { blockOf } from '../page-blocks.ts';
import { asSuperuser } from '../stack.ts';
import { type ApiWorld, openApiWorld } from './api-world.ts';

const run = promisify(execFile);
let api: ApiWorld;
beforeAll(async () => {
  api = await openApiWorld('api_requests', {
    roles: ['intake', 'relay', 'directory', 'homes', 'databases'],
  });
});
afterAll(() => api.close());

const person = (shellName: string) => ({
  ...{ kind: 'person.create', requestedBy: shellName, shellName },
  ...{ displayName: `The ${shellName}`, email: `${shellName}@example.org` },
});
const post = (token: string | readonly string[], query = '', as: 'portal' | 'other' = 'portal') =>
  api.call('POST', `/v1/requests${query}`, {
    as,
    ...(typeof token === 'string'
      ? { type: 'application/jwt', body: token }
      : { type: 'application/json', body: JSON.stringify(token) }),
  });

test('a request is sent, gets its verdict, and is done; the same again has the same answer', async () => {
  const id = randomUUID();
  const token = api.requestToken('portal', person('alice'), { jti: id });
  const sent = await post(token);
  expect(sent).toMatchObject({ status: 202, body: { id, verdict: null, done: false } });
  const verdict = await post(token, '?wait=verdict');
  expect(verdict).toMatchObject({ status: 200, body: { id, verdict: 'accepted' } });
  for (let times = 0; times < 2; times += 1) {
    const done = await post(token, '?wait=done');
    expect(done.body).toEqual({ id, verdict: 'accepted', done: true });
  }
});

test('a refusal is an answer, and the same id with other contents is refused', async () => {
  const id = randomUUID();
  const refused = await post(api.requestToken('portal', person('root'), { jti: id }), '?wait=done');
  expect(refused).toMatchObject({
    status: 200,
    body: { id, verdict: 'refused', done: false, code: 'NAME_RESERVED' },
  });
  const other = await post(api.requestToken('portal', person('roots'), { jti: id }), '?wait=done');
  expect(other.body).toMatchObject({ id, verdict: 'refused', code: 'REQUEST_REPLAYED' });
});

describe('a token that is no request is refused as intake would refuse it, and is not sent', () => {
  const waiting = async () =>
    (await post(api.requestToken('portal', person('late')), '?wait=verdict')).status;
  test.each<[string, number, string, () => string]>([
    ['no token', 400, 'REQUEST_MALFORMED', () => 'x'],
    ['nothing', 400, 'REQUEST_MALFORMED', () => ''],
    [
      'a token of another portal',
      400,
      'REQUEST_PORTAL_UNKNOWN',
      () => api.requestToken('other', person('x')),
    ],
    [
      'a wrong signature',
      400,
      'REQUEST_SIGNATURE',
      () => `${api.requestToken('portal', person('x')).slice(0, -9)}AAAAAAAAA`,
    ],
    [
      'another realm',
      400,
      'REQUEST_AUDIENCE',
      () => api.requestToken('portal', person('x'), { aud: 'paws' }),
    ],
    [
      'a token that has expired',
      400,
      'REQUEST_EXPIRED',
      () => api.requestToken('portal', person('x'), { iat: 1, exp: 2 }),
    ],
    [
      'the token of a call',
      400,
      'REQUEST_MALFORMED',
      () => api.tokenFor('portal', 'POST', '/v1/requests').slice(12),
    ],
    [
      'a large token',
      413,
      'REQUEST_TOO_LARGE',
      () => api.requestToken('portal', { ...person('x'), key: 'x'.repeat(70_000) }),
    ],
  ])('%s', async (_, status, code, make) => {
    await waiting(); // what was sent before is decided
    const { rows: before } = await count();
    expect(await post(make())).toMatchObject({ status, body: { status, code } });
    expect(await waiting()).toBe(200);
    const { rows: after } = await count();
    expect(Number(after[0].count)).toBe(Number(before[0].count) + 1);
  });
  const count = () =>
    asSuperuser(api.world.postgres, api.world.config.postgres.database, (client) =>
      client.query(
        'SELECT (SELECT count(*) FROM requests) + (SELECT coalesce(sum(count), 0) FROM junk) AS count',
      ),
    );
});

test('several tokens are answered in their order; one that is wrong is named, and none is sent', async () => {
  const tokens = ['bob', 'root', 'carol'].map((name) => api.requestToken('portal', person(name)));
  const { status, body } = await post(tokens, '?wait=done');
  expect(status).toBe(200);
  expect(body.map((each: any) => each.verdict)).toEqual(['accepted', 'refused', 'accepted']);
  const wrong = await post([api.requestToken('portal', person('dora')), 'x'], '?wait=done');
  expect(wrong).toMatchObject({ status: 400, body: { code: 'REQUEST_MALFORMED', index: 1 } });
  expect((await api.get('/v1/names/dora', { as: 'portal' })).body.state).toBe('free');
  expect((await post(Array.from({ length: 101 }, () => 'x'))).body.code).toBe('CALL_INVALID');
  expect((await post([])).body.code).toBe('CALL_INVALID');
});

test('an expired token whose request has a verdict gets that verdict again', async () => {
  const id = randomUUID();
  await post(api.requestToken('portal', person('erin'), { jti: id }), '?wait=verdict');
  const late = api.requestToken('portal', person('erin'), { jti: id, iat: 1, exp: 2 });
  expect((await post(late, '?wait=verdict')).body).toMatchObject({ id, verdict: 'accepted' });
});

test('what takes access away goes into the urgent queue, and an admin signs with their own key', async () => {
  const suspended = await api.done('admin.steward', {
    ...{ kind: 'person.suspend', requestedBy: 'steward', person: 'carol', reason: 'Spam.' },
  });
  expect(suspended.body).toMatchObject({ verdict: 'accepted', done: true });
});

test('a request that waits for an admin ends the wait', async () => {
  const deleted = await api.done('admin.steward', {
    ...{ kind: 'person.delete', requestedBy: 'steward', person: 'bob', reason: 'Left.' },
  });
  expect(deleted).toMatchObject({
    status: 200,
    body: { verdict: 'accepted', done: false, waiting: true },
  });
});

test('a portal sees its own requests role by role, and nobody else does but who may see all', async () => {
  const sent = await api.done('other', person('frank'));
  const { id } = sent.body;
  const seen = await api.get(`/v1/requests/${id}`, { as: 'other' });
  expect(seen.body).toMatchObject({
    ...{ id, portal: 'other', kind: 'person.create', account: 'frank', verdict: 'accepted' },
    roles: expect.arrayContaining([
      expect.objectContaining({ role: 'directory', state: 'applied' }),
    ]),
  });
  const tag = seen.headers['etag'] as string;
  const again = await api.get(`/v1/requests/${id}`, {
    as: 'other',
    headers: { 'if-none-match': tag },
  });
  expect([again.status, again.text]).toEqual([304, '']);
  for (const as of ['may-all', 'admin.steward'] as const) {
    expect((await api.get(`/v1/requests/${id}`, { as })).body.id).toBe(id);
    expect((await api.get(`/v1/requests/${id}?portal=other`, { as })).body.id).toBe(id);
    expect((await api.get(`/v1/requests/${id}?portal=portal`, { as })).status).toBe(404);
  }
  for (const as of ['may-own', 'portal', 'may-public'] as const) {
    expect((await api.get(`/v1/requests/${id}`, { as })).body.code).toBe('NOT_FOUND');
  }
});

test('the requests of a portal, in pages, the newest first', async () => {
  for (const name of ['gina', 'hugo', 'iris']) await api.done('other', person(name));
  const read = async (as: 'other' | 'may-own' | 'may-all', query = '') =>
    (await api.get(`/v1/requests${query}`, { as })).body;
  const all = await read('other');
  expect(all.next).toBeNull();
  expect(all.items.map((each: any) => each.account)).toEqual(['iris', 'hugo', 'gina', 'frank']);
  const seen: string[] = [];
  for (let after = ''; ;) {
    const page = await read('other', `?limit=2${after}`);
    seen.push(...page.items.map((each: any) => each.id));
    if (page.next === null) break;
    after = `&after=${page.next}`;
  }
  expect(seen).toEqual(all.items.map((each: any) => each.id));
  expect((await read('may-own')).items).toEqual([]);
  expect((await read('may-own', '?portal=other')).code).toBe('NOT_FOUND');
  expect((await read('may-all', '?portal=other')).items).toEqual(all.items);
  expect((await read('may-all', '?limit=100')).items.length).toBeGreaterThan(4);
  for (const wrong of [
    '?after=x',
    '?after=eyJ9',
    '?limit=0',
    '?limit=101',
    '?limit=2&limit=3',
    '?other=1',
  ]) {
    expect([wrong, (await read('other', wrong)).code]).toEqual([wrong, 'CALL_INVALID']);
  }
});

test('names and keys', async () => {
  const state = async (path: string) => (await api.get(`/v1/names/${path}`, { as: 'portal' })).body;
  expect(await state('frank')).toMatchObject({ of: 'person', state: 'taken', code: 'NAME_TAKEN' });
  expect(await state('FRANK')).toMatchObject({ state: 'taken' });
  expect(await state('tools.frank')).toEqual({ name: 'frank', of: 'tool', state: 'free' });
  expect(await state('frank?of=tool')).toMatchObject({ of: 'tool', state: 'free' });
  expect(await state('root')).toMatchObject({ state: 'reserved', sentence: expect.any(String) });
  expect(await state('tools.admin')).toMatchObject({ of: 'tool', state: 'taken' });
  expect(await state('-x')).toMatchObject({ state: 'invalid', code: 'NAME_INVALID' });
  expect(await state('%00')).toMatchObject({ state: 'invalid' });
  const check = (body: string, type: string) =>
    api.call('POST', '/v1/keys/check', { as: 'portal', type, body });
  const key = 'ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIGPKSUTyz1HwHReFVvD5obVsALAgJRNarH4TRpNePnAS me';
  expect((await check(key, 'text/plain')).body).toMatchObject({ accepted: true, label: 'me' });
  expect((await check(JSON.stringify({ key }), 'application/json')).body.accepted).toBe(true);
  expect((await check('x', 'text/plain')).body).toMatchObject({
    accepted: false,
    code: 'KEY_MALFORMED',
  });
});

test('a verdict is waited for only for as long as the caller says, and a request is never lost', async () => {
  const token = api.requestToken('portal', { kind: 'nothing', requestedBy: 'alice' });
  expect(await post(token, '?wait=done&seconds=0')).toMatchObject({
    status: 202,
    body: { done: false },
  });
  expect((await post(token, '?wait=done')).body).toMatchObject({ code: 'REQUEST_KIND_UNKNOWN' });
});

test('docs/api.md: the sample sends a request, waits until it is done, and asks for the name', async () => {
  const granted = await api.done('admin.steward', {
    ...{ kind: 'access.grant', requestedBy: 'steward', person: 'alice' },
  });
  expect(granted.body).toMatchObject({ done: true });
  const file = join(api.world.dir, 'call.mjs');
  writeFileSync(file, blockOf('api:call'));
  const { stdout } = await run(process.execPath, [file], {
    env: { API_URL: `http://127.0.0.1:${api.port}`, PORTAL_KEY: api.world.portalKey },
  });
  expect(stdout).toMatch(/verdict: 'accepted',\s+done: true/u);
  expect(stdout).toMatch(/state: 'taken'/u);
});
