/** Requests through the API: the real intake, the relay and the directory role, and what callers see of them. */
import { afterAll, beforeAll, expect, test } from '@jest/globals';
import { randomUUID } from 'node:crypto';
import { type ApiWorld, openApiWorld } from './api-world.ts';

let api: ApiWorld;
beforeAll(async () => {
  api = await openApiWorld('api_requests', {
    roles: ['intake', 'relay', 'directory', 'homes', 'databases'],
  });
}, 120_000);
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
