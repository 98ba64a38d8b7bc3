/** Join requests and answers that anybody may have written. No servers. */
import { generateKeyPairSync } from 'node:crypto';
import { describe, expect, test } from '@jest/globals';
import fc from 'fast-check';
import { questionOf } from '../../deploy/login-host/joining.ts';
import { certificatesIn, type JoinAnswer, parseJoinAnswer } from '../../src/joining/join-answer.ts';
import {
  fingerprintOf,
  formatJoinRequest,
  makeJoinRequest,
  MAX_JOIN_REQUEST,
  parseJoinRequest,
} from '../../src/joining/join-request.ts';
import { ldapsUri, ldapUri } from '../../src/shared/config-values.ts';

const KEY = `age1${'q'.repeat(58)}`;
const request = makeJoinRequest({ kind: 'login-host', name: 'login1.example.org', key: KEY });
const ofRoles = makeJoinRequest({
  ...{ kind: 'role', name: 'files1.example.org', key: KEY },
  roles: ['sweep', 'homes'],
});
const parse = (value: unknown) =>
  parseJoinRequest(Buffer.from(typeof value === 'string' ? value : JSON.stringify(value)));
/** The message of the refusal, which must be safe to show. */
function refusalOf(act: () => unknown): string {
  try {
    act();
  } catch (error) {
    const { code, message } = error as Error & { code: string };
    expect(code).toBe('JOIN_INVALID');
    expect(message).not.toMatch(/[\p{C}\p{Zl}\p{Zp}]/u);
    expect(message.length).toBeLessThan(500);
    return message;
  }
  throw new Error('it was accepted');
}

describe('the URI of a directory', () => {
  const good = [
    ...['ldaps://ldap.example.org', 'LDAPS://LDAP-1.example.org:1636/', 'ldaps://10.1.2.3'],
    ...['ldaps://[2001:db8::1]:636', 'ldaps://[::ffff:10.1.2.3]'],
  ];
  const here = ['ldapi://%2Frun%2Fslapd%2Fldapi', 'ldap://localhost:3890', 'ldap://[::1]'];
  const bad = [
    '\u001B[2J',
    '\u009B2J',
    '\r',
    '\n',
    ' ',
    '\u202E',
    '%0A',
    '"',
    '@y',
    ':x',
    '..',
    '?',
  ];

  test('names a server and a port', () => {
    const refused = (uris: string[], type: typeof ldapUri) =>
      uris.filter((uri) => !type.safeParse(uri).success);
    expect([refused(good, ldapsUri), refused(good, ldapUri)]).toEqual([[], []]);
    expect([refused(here, ldapsUri), refused(here, ldapUri)]).toEqual([here, []]);
  });

  test.each(bad)('cannot contain %j', (part) => {
    const uris = [...good, ...here].flatMap((uri) => [
      `${uri}${part}`,
      uri.replace('//', `//${part}`),
    ]);
    expect(uris.filter((uri) => ldapsUri.safeParse(uri).success)).toEqual([]);
    const isText = /^[.%]/u.test(part); // it may be in the path of a socket
    const taken = uris.filter((uri) => ldapUri.safeParse(uri).success);
    expect(taken.filter((uri) => !isText || !uri.startsWith('ldapi:'))).toEqual([]);
  });
});

test.each(['1.example.org', 'localhost.example.org', '10-1-2-3', 'x0', 'host.v0'])(
  'a machine may be called %s',
  (name) => {
    const other = makeJoinRequest({ kind: 'login-host', name, key: KEY });
    expect(parse(formatJoinRequest(other))).toEqual(other);
  },
);

test('what a machine writes is read as it was written', () => {
  expect(parse(formatJoinRequest(request))).toEqual(request);
  expect(parse(formatJoinRequest(ofRoles))).toEqual(ofRoles);
  expect(ofRoles).toMatchObject({ kind: 'role', roles: ['homes', 'sweep'] });
});

describe('a fingerprint', () => {
  test('can be read aloud', () => {
    expect(request.fingerprint).toMatch(/^([0-9a-hjkmnp-tv-z]{4}-){3}[0-9a-hjkmnp-tv-z]{4}$/);
    // the first 80 bits of e3b0c44298fc1c149afb…, by another way
    expect(fingerprintOf('')).toBe('werc-8gmr-zge1-96qv');
  });

  test.each([
    ['name', { name: 'login2.example.org' }],
    ['key', { key: `age1${'q'.repeat(57)}p` }],
  ])('names the %s', (_, change) => {
    const other = makeJoinRequest({ kind: 'login-host', name: request.name, key: KEY, ...change });
    expect(other.fingerprint).not.toBe(request.fingerprint);
    expect(refusalOf(() => parse({ ...request, ...change }))).toContain(
      'its fingerprint does not match',
    );
  });
});

describe('a join request is refused', () => {
  test.each<[string, unknown, string]>([
    ['that is no JSON', 'join me', 'it is not JSON'],
    ['that is empty', '', 'it is not JSON'],
    ['that is not an object', '[]', 'must be an object'],
    ['that is null', 'null', 'must be an object'],
    ['that is too long', `${JSON.stringify(request)}${' '.repeat(MAX_JOIN_REQUEST)}`, 'too long'],
    ['of another version', { ...request, version: 2 }, 'version'],
    ['of a kind that cannot join', { ...request, kind: 'homes' }, 'only login hosts and machines'],
    [
      'of a kind with an escape',
      { ...request, kind: '\u001B[2J' },
      'only login hosts and machines',
    ],
    ['of a login host with roles', { ...request, roles: ['homes'] }, 'is unknown here'],
    ['for a role that stays', { ...ofRoles, roles: ['intake'] }, 'roles'],
    ['for no role', { ...ofRoles, roles: [] }, 'roles'],
    ['for a role twice', { ...ofRoles, roles: ['homes', 'homes'] }, 'must be in order'],
    ['for roles in another order', { ...ofRoles, roles: ['sweep', 'homes'] }, 'must be in order'],
    ['for other roles than its fingerprint names', { ...ofRoles, roles: ['sweep'] }, 'fingerprint'],
    ['with more than it may say', { ...request, '\u001B[31mroot': true }, 'is unknown here'],
    ['without a name', { ...request, name: undefined }, 'name'],
    ['with a name of two lines', { ...request, name: 'a\nb' }, 'name'],
    ['with a name that ends in a line', { ...request, name: 'a\n' }, 'name'],
    ['with a name in capitals', { ...request, name: 'Login1' }, 'name'],
    ['with a path as its name', { ...request, name: '../../etc/passwd' }, 'name'],
    ['with a DN as its name', { ...request, name: 'x,ou=people,dc=example' }, 'name'],
    ['with an option as its name', { ...request, name: '-rf' }, 'name'],
    ['with too long a name', { ...request, name: `${'a.'.repeat(60)}a` }, 'name'],
    ['with the name of every machine', { ...request, name: 'localhost' }, 'name'],
    ['with a name of every machine', { ...request, name: 'x.localhost' }, 'no single machine'],
    ['with the address of every machine', { ...request, name: '127.0.0.1' }, 'single machine'],
    ['with an address as its name', { ...request, name: '10.1.2.3' }, 'is an address'],
    ['with a short address as its name', { ...request, name: '1.1' }, 'is an address'],
    ['with a number as its name', { ...request, name: '0' }, 'is an address'],
    ['with a number in hex as its name', { ...request, name: '0x7f' }, 'is an address'],
    ['with an option as its key', { ...request, key: '-i/etc/passwd' }, 'key'],
    ['with two keys', { ...request, key: `${KEY}\n${KEY}` }, 'key'],
    ['with a plugin of age as its key', { ...request, key: `age1evil1${'q'.repeat(53)}` }, 'key'],
    ['with an SSH key', { ...request, key: 'ssh-ed25519 AAAA' }, 'key'],
    ['with a secret key', { ...request, key: `AGE-SECRET-KEY-1${'Q'.repeat(58)}` }, 'key'],
    [
      'with the fingerprint of another',
      { ...request, fingerprint: 'x' },
      'its fingerprint does not match',
    ],
    ['with a list as its fingerprint', { ...request, fingerprint: ['x'] }, 'fingerprint'],
  ])('%s', (_, value, why) => {
    expect(refusalOf(() => parse(value))).toContain(why);
  });

  test('that is not UTF-8', () => {
    const bytes = Buffer.from(JSON.stringify(request).replace('login1', '\u00FFogin1'), 'latin1');
    expect(refusalOf(() => parseJoinRequest(bytes))).toContain('it is not JSON');
  });

  test('whatever else it says: it is refused in words that are safe to show, or is what a machine writes', () => {
    const text = fc.oneof(
      fc.string({ unit: 'binary' }),
      fc.constantFrom('login-host', request.name, KEY, request.fingerprint, '__proto__'),
    );
    const value = fc.oneof(text, fc.json(), fc.integer(), fc.constant(1), fc.constant(null));
    const members = fc.record(
      { version: value, kind: value, name: value, key: value, fingerprint: value, more: value },
      { requiredKeys: [] },
    );
    const anything = fc.oneof(
      fc.uint8Array({ maxLength: 200 }).map((bytes) => Buffer.from(bytes)),
      members.map((each) => Buffer.from(JSON.stringify(each))),
      members.map((each) => Buffer.from(JSON.stringify({ ...request, ...each }))),
    );
    fc.assert(
      fc.property(anything, (bytes) => {
        let read;
        try {
          read = parseJoinRequest(bytes);
        } catch {
          refusalOf(() => parseJoinRequest(bytes));
          return;
        }
        expect(read).toEqual(request);
      }),
      { numRuns: 500 },
    );
  });
});

describe('a join answer', () => {
  const pem = { type: 'spki', format: 'pem' } as const;
  const sealKey = String(generateKeyPairSync('ed25519').publicKey.export(pem));
  const ids = { people: [{ first: 1000, last: 1999 }], tools: [{ first: 5000, last: 5999 }] };
  const answer: JoinAnswer = {
    ...{ version: 1, kind: 'login-host', name: request.name, fingerprint: request.fingerprint },
    ...{ realm: 'tools', realmGid: 500, ids, homes: { people: '/home', tools: '/data' } },
    ...{ knownBadKeys: [], ldap: { uris: ['ldaps://ldap.example.org'], base: 'dc=example' } },
    ...{ account: `${request.name}.${request.fingerprint}`, sealKeys: [sealKey] },
    ...{ password: 'aPasswordOfTheHost0123456789' },
  };

  test('is read as it was written', () => {
    expect(parseJoinAnswer(JSON.stringify(answer))).toEqual(answer);
  });

  test.each<[string, Record<string, unknown>]>([
    ['that sends the password in the clear', { ldap: { ...answer.ldap, uris: ['ldap://x'] } }],
    ['with an escape in a URI', { ldap: { ...answer.ldap, uris: ['ldaps://x\u001B]0;'] } }],
    ['that names no server', { ldap: { ...answer.ldap, uris: [] } }],
    ['with a path of this machine', { ldap: { ...answer.ldap, caFile: '/etc/shadow' } }],
    ['with an authority that is none', { ldap: { ...answer.ldap, ca: 'x' } }],
    ['with a private key', { sealKeys: [sealKey.replaceAll('PUBLIC', 'PRIVATE')] }],
    ['with a DN as its account', { account: 'x,ou=people,dc=example' }],
    ['without a key', { sealKeys: [] }],
    ['with an empty password', { password: '' }],
    ['with a password of two lines', { password: `${answer.password}\nroot` }],
    ['with more than it may say', { command: 'reboot' }],
  ])('is refused, without its secret in the message: %s', (_, change) => {
    const message = refusalOf(() => parseJoinAnswer(JSON.stringify({ ...answer, ...change })));
    expect(message).not.toContain(answer.password);
  });

  test('is shown before it is trusted: nothing in it can look like its fingerprint', () => {
    const uris = [
      'ldaps://x\u001B[2J\r\u009D\nThe answer has the fingerprint\n  0000-0000-0000-0000',
    ];
    const forged = { ...answer, ldap: { ...answer.ldap, uris } };
    const lines = questionOf({ answer: forged, fingerprint: 'k3f9-7ht2-aaaa-bbbb' }).split('\n');
    expect(lines.join('')).not.toMatch(/[\p{C}\p{Zl}\p{Zp}]/u);
    expect(lines.filter((line) => /^ *\S{4}(-\S{4}){3}$/u.test(line))).toEqual([
      '  k3f9-7ht2-aaaa-bbbb',
    ]);
    expect(lines.at(-3)).toBe('  k3f9-7ht2-aaaa-bbbb');
  });

  test('takes only certificates from a file of the realm', () => {
    const key = '-----BEGIN PRIVATE KEY-----\nMA==\n-----END PRIVATE KEY-----\n';
    expect(certificatesIn(key)).toBe('');
    expect(() =>
      certificatesIn('-----BEGIN CERTIFICATE-----\nMA==\n-----END CERTIFICATE-----\n'),
    ).toThrow();
  });
});
