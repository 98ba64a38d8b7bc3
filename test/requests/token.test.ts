/** Tokens: a token signed by a portal is accepted, and each fault has its own code. */
import { createPublicKey, generateKeyPairSync, type KeyObject } from 'node:crypto';
import { describe, expect, test } from '@jest/globals';
import { CompactSign, jwtVerify, UnsecuredJWT } from 'jose';
import type { Config } from '../../src/shared/config.ts';
import {
  findSigner,
  signEvents,
  signToken,
  verifyCall,
  verifyToken,
} from '../../src/requests/token.ts';

const NOW = new Date('2026-03-01T12:00:00Z');
const SECOND = NOW.getTime() / 1000;
const JTI = '5f0c4c1e-0b6d-4f0e-9a57-0c3f6a1f2b11';
const [portalKey, secondKey, adminKey, strangeKey] = Array.from(
  { length: 4 },
  () => generateKeyPairSync('ed25519').privateKey,
) as [KeyObject, KeyObject, KeyObject, KeyObject];

const config = {
  realm: 'tools',
  portals: [
    {
      name: 'portal',
      kinds: 'all',
      subjectEvents: true,
      speaksForAdmins: false,
      keys: [
        { kid: 'portal-1', publicKey: publicPem(portalKey) },
        { kid: 'portal-2', publicKey: publicPem(secondKey) },
      ],
    },
    {
      name: 'admin.steward',
      kinds: 'all',
      subjectEvents: false,
      speaksForAdmins: false,
      keys: [{ kid: 'steward-1', publicKey: publicPem(adminKey) }],
    },
  ],
} as unknown as Config;

const CLAIMS = {
  iss: 'portal',
  aud: 'tools',
  jti: JTI,
  iat: SECOND,
  exp: SECOND + 60,
  sub: 'alice',
  request: { kind: 'tool.create', requestedBy: 'alice' },
};

function publicPem(key: KeyObject): string {
  return createPublicKey(key).export({ type: 'spki', format: 'pem' }).toString();
}

/** Signs claims as they are, even wrong ones. */
function signClaims(
  claims: Record<string, unknown>,
  key: KeyObject = portalKey,
  header: Record<string, unknown> = { kid: 'portal-1' },
): Promise<string> {
  return new CompactSign(Buffer.from(JSON.stringify(claims)))
    .setProtectedHeader({ alg: 'EdDSA', ...header })
    .sign(key);
}

async function codeFor(token: string): Promise<string> {
  const verdict = verifyToken(token, 'portal', config, NOW);
  return verdict.ok ? 'ok' : verdict.code;
}

describe('a token', () => {
  test('that was signed here is accepted, with its claims and its portal', async () => {
    const token = await signToken(portalKey, {
      portal: 'portal',
      realm: 'tools',
      kid: 'portal-1',
      jti: JTI,
      sub: 'bob',
      request: CLAIMS.request,
      now: NOW,
    });
    const verdict = verifyToken(token, 'portal', config, NOW);
    expect(verdict).toMatchObject({
      ok: true,
      claims: { iss: 'portal', aud: 'tools', jti: JTI, sub: 'bob', request: CLAIMS.request },
    });
    if (verdict.ok) expect(verdict.claims.exp - verdict.claims.iat).toBe(24 * 3600);
  });

  test('is accepted if any key of its portal signed it, with a kid or without', async () => {
    expect(await codeFor(await signClaims(CLAIMS, secondKey, { kid: 'portal-2' }))).toBe('ok');
    expect(await codeFor(await signClaims(CLAIMS, secondKey, {}))).toBe('ok');
  });

  test('has its id in lower case', async () => {
    const token = await signClaims({ ...CLAIMS, jti: JTI.toUpperCase() });
    expect(verifyToken(token, 'portal', config, NOW)).toMatchObject({
      ok: true,
      claims: { jti: JTI },
    });
  });
});

test.each([
  ['not a JWS at all', 'hello'],
  ['of two parts', 'e30.e30'],
  ['with an empty signature', 'e30.e30.'],
  ['of five parts, as an encrypted one', 'e30.e30.e30.e30.e30'],
  ['with blanks around it', ' e30.e30.e30'],
  ['whose header is not JSON', 'aGVsbG8.e30.e30'],
  ['whose claims are a list', 'e30.W10.e30'],
  ['that names no portal', `e30.e30.e30`],
])('a token %s is malformed', async (_, token) => {
  expect(verifyToken(token, 'portal', config, NOW)).toMatchObject({
    ok: false,
    code: 'REQUEST_MALFORMED',
  });
});

test('a token of a portal that is not configured is refused, and its name is made printable', async () => {
  const verdict = verifyToken(
    await signClaims({ ...CLAIMS, iss: 'x\u001b[2J\u2028' }),
    'portal',
    config,
    NOW,
  );
  expect(verdict).toMatchObject({ code: 'REQUEST_PORTAL_UNKNOWN' });
  expect(verdict).toHaveProperty('sentence', 'This realm has no portal named "x?[2J?".');
});

test('a token in the queue of another portal is refused, even if it is signed correctly', async () => {
  const verdict = verifyToken(await signClaims(CLAIMS), 'admin.steward', config, NOW);
  expect(verdict).toMatchObject({ ok: false, code: 'REQUEST_PORTAL_UNKNOWN' });
  expect(verdict).not.toHaveProperty('claims');
});

describe('a signature is refused', () => {
  test.each<[string, () => Promise<string> | string]>([
    ['by an unknown key', () => signClaims(CLAIMS, strangeKey)],
    ['by another portal', () => signClaims(CLAIMS, adminKey, { kid: 'steward-1' })],
    ["by another portal's key under our kid", () => signClaims(CLAIMS, adminKey)],
    ["by the portal's other key than the kid says", () => signClaims(CLAIMS, secondKey)],
    ['with a kid that is not text', () => signClaims(CLAIMS, portalKey, { kid: 1 })],
    ['with alg none', () => `${new UnsecuredJWT(CLAIMS).encode()}e30`],
    [
      'that asks for an extension',
      () => signClaims(CLAIMS, portalKey, { kid: 'portal-1', crit: ['b64'], b64: true }),
    ],
    [
      'over other claims',
      async () => {
        const [header, , signature] = (await signClaims(CLAIMS)).split('.');
        const claims = Buffer.from(JSON.stringify({ ...CLAIMS, sub: 'root' })).toString(
          'base64url',
        );
        return `${header}.${claims}.${signature}`;
      },
    ],
    [
      'that is HMAC with the public key',
      () =>
        new CompactSign(Buffer.from(JSON.stringify(CLAIMS)))
          .setProtectedHeader({ alg: 'HS256', kid: 'portal-1' })
          .sign(Buffer.from(publicPem(portalKey))),
    ],
  ])('%s', async (_, make) => {
    const verdict = verifyToken(await make(), 'portal', config, NOW);
    expect(verdict).toMatchObject({ ok: false, code: 'REQUEST_SIGNATURE' });
    expect(verdict).not.toHaveProperty('claims');
  });
});

describe('a token with a good signature', () => {
  test.each([
    ['no id', { jti: undefined }],
    ['an id that is not a UUID', { jti: 'x' }],
    ['a list as audience', { aud: ['tools'] }],
    ['a time with a fraction', { iat: SECOND + 0.5 }],
    ['a request that is text', { request: 'tool.create' }],
    ['no approver', { sub: '' }],
  ])('and %s is malformed', async (_, claims) => {
    expect(verifyToken(await signClaims({ ...CLAIMS, ...claims }), 'portal', config, NOW)).toEqual({
      ok: false,
      code: 'REQUEST_MALFORMED',
      sentence: expect.stringMatching(/^These claims of the token are missing or wrong: /),
    });
  });

  test('for another realm is refused, with its claims', async () => {
    expect(
      verifyToken(await signClaims({ ...CLAIMS, aud: 'paws' }), 'portal', config, NOW),
    ).toMatchObject({ code: 'REQUEST_AUDIENCE', claims: { jti: JTI } });
  });

  test.each([
    ['expired 59 s ago', { iat: SECOND - 120, exp: SECOND - 59 }, 'ok'],
    ['expired 60 s ago', { iat: SECOND - 120, exp: SECOND - 60 }, 'REQUEST_EXPIRED'],
    ['from 60 s ahead', { iat: SECOND + 60, exp: SECOND + 90 }, 'ok'],
    ['from 61 s ahead', { iat: SECOND + 61, exp: SECOND + 90 }, 'REQUEST_EXPIRED'],
    ['that is valid for 7 days', { exp: SECOND + 7 * 86_400 }, 'ok'],
    ['that is valid for a second longer', { exp: SECOND + 7 * 86_400 + 1 }, 'REQUEST_EXPIRED'],
    ['that is valid for ever', { exp: 2 ** 52 }, 'REQUEST_EXPIRED'],
  ])('%s: %j is %s', async (_, claims, code) => {
    expect(await codeFor(await signClaims({ ...CLAIMS, ...claims }))).toBe(code);
  });

  test('that has expired still has its claims', async () => {
    const token = await signClaims({ ...CLAIMS, iat: SECOND - 7200, exp: SECOND - 3600 });
    expect(verifyToken(token, 'portal', config, NOW)).toMatchObject({
      code: 'REQUEST_EXPIRED',
      sentence:
        'The token has expired: its `exp` is 2026-03-01T11:00:00.000Z, but the time here is 2026-03-01T12:00:00.000Z.',
      claims: { jti: JTI },
    });
  });
});

test('the portal of a signing key is found by the public half of the key', () => {
  expect(findSigner(config.portals, adminKey)).toMatchObject({
    portal: { name: 'admin.steward' },
    kid: 'steward-1',
  });
  expect(findSigner(config.portals, secondKey)).toMatchObject({ kid: 'portal-2' });
  expect(findSigner(config.portals, strangeKey)).toBeUndefined();
});

describe('the token of a call', () => {
  const CALL = { method: 'GET', target: '/v1/kinds?a=b' };
  const signCall = (key?: KeyObject, iss = 'portal') =>
    signClaims(
      {
        ...{ iss, aud: 'tools/api', jti: JTI, iat: SECOND, exp: SECOND + 300 },
        ...{ htm: CALL.method, htu: CALL.target },
      },
      key,
    );
  const later = (by: number) => new Date(NOW.getTime() + by * 1000);

  test('is accepted for that call, for five minutes and what the clocks may differ', async () => {
    const token = await signCall();
    const named = { portal: { name: 'portal' } };
    expect(verifyCall(token, CALL, config, NOW)).toMatchObject(named);
    expect(verifyCall(token, CALL, config, later(359))).toMatchObject(named);
    expect(verifyCall(token, CALL, config, later(360))).toHaveProperty('sentence');
    expect(verifyCall(token, CALL, config, later(-61))).toHaveProperty('sentence');
  });

  test.each([
    ['another path', { ...CALL, target: '/v1/kinds?a=c' }],
    ['another method', { ...CALL, method: 'POST' }],
  ])('is not accepted for %s', async (_, call) => {
    const token = await signCall();
    expect(verifyCall(token, call, config, NOW)).toHaveProperty('sentence');
  });

  test('is no request, and a request is no token of a call', async () => {
    const token = await signCall();
    expect(verifyToken(token, 'portal', config, NOW)).toMatchObject({ ok: false });
    const request = await signClaims({ ...CLAIMS, htm: CALL.method, htu: CALL.target });
    expect(verifyCall(request, CALL, config, NOW)).toHaveProperty('sentence');
  });

  test('says the same of an unknown portal and of a wrong key', async () => {
    const unknown = await signCall(portalKey, 'unknown');
    const wrong = await signCall(strangeKey);
    expect(verifyCall(unknown, CALL, config, NOW)).toEqual(verifyCall(wrong, CALL, config, NOW));
  });
});

test('events are signed as `jose` reads them, and their token does not expire', async () => {
  const of = { realm: 'tools', portal: 'portal', after: 7, events: [{ number: 8 }], now: NOW };
  for (const contents of [of, { ...of, removed: 9 }]) {
    const { realm: issuer, portal: audience, now: _, ...claims } = contents;
    const token = await signEvents(portalKey, contents);
    const read = await jwtVerify(token, createPublicKey(portalKey), { issuer, audience });
    expect(read.protectedHeader).toEqual({ alg: 'EdDSA' });
    expect(read.payload).toEqual({ iss: issuer, aud: audience, iat: SECOND, ...claims });
  }
});
