/** Checks through the API and the real intake: the verdict that a request would get, and nothing else. */
import { afterAll, beforeAll, expect, test } from '@jest/globals';
import { query } from '../scenarios/outside.ts';
import { type ApiWorld, openApiWorld } from './api-world.ts';

const SENT = `SELECT FROM requests WHERE portal = 'portal'`;

let api: ApiWorld;
beforeAll(async () => {
  api = await openApiWorld('api checks', { roles: ['intake'], needs: ['postgres', 'redis'] });
});
afterAll(() => api.close());

const wish = (name: string) => ({
  ...{ kind: 'person.create', requestedBy: name, shellName: name },
  ...{ displayName: 'X', email: `${name}@example.org` },
});
const post = (path: string, token: string) =>
  api.call('POST', path, { as: 'portal', type: 'application/jwt', body: token });
const check = (name: string, claims: Record<string, unknown> = { check: true }) =>
  post('/v1/checks', api.requestToken('portal', wish(name), claims));

test('the verdict, and nothing is done', async () => {
  expect(await check('alice')).toMatchObject({
    status: 200,
    body: { verdict: 'accepted', check: true },
  });
  expect(await check('root')).toMatchObject({
    status: 200,
    body: { verdict: 'refused', code: 'NAME_RESERVED', check: true },
  });
  expect(await query(api.world, SENT)).toEqual([]);
  expect(await query(api.world, `SELECT FROM names WHERE name = 'alice'`)).toEqual([]);
});

test('a request is no check, and a check no request', async () => {
  expect(await check('bob', {})).toMatchObject({ status: 400, body: { code: 'REQUEST_INVALID' } });
  const token = api.requestToken('portal', wish('bob'), { check: true });
  expect(await post('/v1/requests?wait=verdict', token)).toMatchObject({
    status: 400,
    body: { code: 'REQUEST_INVALID' },
  });
  const both = JSON.stringify([api.requestToken('portal', wish('bob')), token]);
  expect(
    await api.call('POST', '/v1/requests', { as: 'portal', type: 'application/json', body: both }),
  ).toMatchObject({ status: 400, body: { code: 'REQUEST_INVALID', index: 1 } });
  expect(await query(api.world, SENT)).toEqual([]);
});

test('what intake would not count as a request is refused with the same code', async () => {
  const foreign = api.requestToken('other', wish('carol'), { check: true });
  expect(await post('/v1/checks', foreign)).toMatchObject({
    status: 400,
    body: { code: 'REQUEST_PORTAL_UNKNOWN' },
  });
  expect(await check('carol', { check: 'yes' })).toMatchObject({
    status: 400,
    body: { code: 'REQUEST_MALFORMED' },
  });
});
