/** Who may call what, and how a call is refused. */
import { afterAll, beforeAll, describe, expect, test } from '@jest/globals';
import { generateKeyPairSync } from 'node:crypto';
import { ROUTES } from '../../src/api/routes/index.ts';
import { mayCall } from '../../src/api/rights.ts';
import {
  type ApiWorld,
  type CallOptions,
  openApiWorld,
  PORTALS,
  type PortalName,
} from './api-world.ts';

let api: ApiWorld;
beforeAll(async () => {
  api = await openApiWorld('api_calls', { needs: ['postgres', 'redis'] });
});
afterAll(() => api.close());

const seconds = () => Math.floor(Date.now() / 1000);
const otherKey = generateKeyPairSync('ed25519').privateKey;

/** Callers without a valid token. */
const UNKNOWN: Record<string, CallOptions> = {
  nobody: {},
  'a wrong key': { as: 'may-all', key: otherKey },
  'a wrong kid': { as: 'may-all', header: { kid: 'portal-1' } },
  'no kid': { as: 'may-all', header: { kid: undefined } },
  'an expired token': { as: 'may-all', claims: { iat: seconds() - 3000, exp: seconds() - 2900 } },
  'a token from the future': {
    as: 'may-all',
    claims: { iat: seconds() + 3000, exp: seconds() + 3100 },
  },
  'a token for a day': { as: 'may-all', claims: { exp: seconds() + 86_400 } },
  'a token for another realm': { as: 'may-all', claims: { aud: 'other/api' } },
  'the audience of requests': { as: 'may-all', claims: { aud: 'tools' } },
  'another path': { as: 'may-all', claims: { htu: '/v1/other' } },
  'another method': { as: 'may-all', claims: { htm: 'PUT' } },
  'no jti': { as: 'may-all', claims: { jti: undefined } },
  'an unknown portal': { as: 'may-all', claims: { iss: 'unknown' } },
  "another portal's name": { as: 'may-public', claims: { iss: 'may-all' } },
  'the key of somebody who is no admin': { as: 'admin.leaver' },
  'another scheme': { headers: { authorization: 'Bearer x' } },
  'an empty token': { headers: { authorization: 'Chamberlain ' } },
};
const KNOWN: PortalName[] = [...(Object.keys(PORTALS) as PortalName[]), 'admin.steward'];

/** A call that reaches the handler, or at least its schema. */
const targetOf = (path: string) =>
  path
    .replace(':id', '00000000-0000-4000-8000-000000000000')
    .replace(':kind', 'tool.create')
    .replace('/explain/:word', '/explain/admin')
    .replace('/people/:name', '/people/steward')
    .replace('/tools/:name', '/tools/admin')
    .replace(/:\w+/gu, 'somebody');

describe.each(ROUTES.map((route) => ({ ...route, name: `${route.method} ${route.path}` })))(
  '$name',
  ({ method, path, right }) => {
    const target = targetOf(path);

    test.each(Object.entries(UNKNOWN))('with %s', async (of, options) => {
      const { status, headers, body } = await api.call(method, target, options);
      if (right === 'none' && of === 'nobody') {
        expect(status).toBe(200);
        return;
      }
      expect({ status, code: body.code }).toEqual({ status: 401, code: 'CALL_UNSIGNED' });
      expect(headers['www-authenticate']).toBe('Chamberlain');
      expect(headers['content-type']).toBe('application/problem+json');
    });

    test.each(KNOWN)('as %s', async (as) => {
      const reads = as === 'admin.steward' ? ['all' as const] : PORTALS[as as keyof typeof PORTALS];
      const may = mayCall({ name: as, admin: undefined, reads }, right);
      const { status, body } = await api.call(method, target, { as });
      if (!may) expect({ status, code: body.code }).toEqual({ status: 404, code: 'NOT_FOUND' });
      else if (method === 'POST') expect(body.code).not.toBe('NOT_FOUND');
      // who gets events, and from where: events.test.ts
      else if (path.startsWith('/v1/events')) expect([400, 404, 409]).toContain(status);
      else if (!/:(?:id|uid)/u.test(path)) expect(status).toBe(200);
    });
  },
);

test('what is missing and what is forbidden has the same answer, byte for byte', async () => {
  const request = '/v1/requests/00000000-0000-4000-8000-000000000000';
  const answers = await Promise.all([
    api.get(request, { as: 'may-own' }),
    api.get(request, { as: 'may-all' }),
    api.get(request, { as: 'may-public' }),
    api.get(`${request}?portal=other`, { as: 'may-own' }),
    api.get('/v1/kinds/nothing/schema'),
    api.get(`/v1/people/${'a'.repeat(300)}`, { as: 'may-all' }),
  ]);
  const seen = answers.map(({ status, headers, text }) => ({
    ...{ status, headers: { ...headers, date: '' }, text },
  }));
  for (const each of seen) expect(each).toEqual(seen[0]);
  expect(seen[0]?.status).toBe(404);
  expect(seen[0]?.text).toContain('"NOT_FOUND"');
});

test('a path that leads to no route is not the absence of what it names', async () => {
  for (const path of ['/v1/nowhere', '/prefix/v1/people/alice', '/%zz']) {
    const { status, body } = await api.get(path, { as: 'may-all' });
    expect([path, status, body.code]).toEqual([path, 404, 'ROUTE_UNKNOWN']);
  }
});
