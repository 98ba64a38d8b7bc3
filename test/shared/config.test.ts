/** Faults for which a configuration is refused, by name, before anything uses it. */
import { generateKeyPairSync } from 'node:crypto';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from '@jest/globals';
import { stringify } from 'yaml';
import { type Config, loadConfig } from '../../src/shared/config.ts';
import { describeError } from '../../src/shared/errors.ts';
import { isThisMachine } from '../../src/shared/tls.ts';

let folder: string;
beforeAll(() => {
  folder = mkdtempSync(join(tmpdir(), 'chamberlain-config-'));
});
afterAll(() => rmSync(folder, { recursive: true }));

const pem = (type: 'ed25519' | 'x25519') =>
  generateKeyPairSync(type as 'ed25519').publicKey.export({ type: 'spki', format: 'pem' });

/** Loads a configuration with a valid portal, and one that has these keys. */
const load = (...keys: unknown[]): Config => loadWith({ name: 'other', keys });

function loadWith(other: { name: string; keys: unknown[] }, more: object = {}): Config {
  const path = join(folder, 'config.yaml');
  const sound = { name: 'sound', kinds: 'all', keys: [{ kid: 'one', publicKey: pem('ed25519') }] };
  const config = {
    ...{ realm: 'tools', secrets: '/secrets', postgres: { host: '/run', database: 'x' } },
    ...{ redis: { url: 'redis://localhost' }, files: {} },
    ldap: { uri: 'ldapi://%2Frun%2Fldapi', base: 'dc=x' },
    ids: { people: [{ first: 1000, last: 1999 }], tools: [{ first: 5000, last: 5999 }] },
    databases: { servers: [{ name: 'one', kind: 'replica', socket: '/run/one' }] },
    portals: [sound, { ...other, kinds: 'all' }],
    ...more,
  };
  writeFileSync(path, stringify(config));
  return loadConfig(path);
}

test('a portal does not speak for admins by default', () => {
  const { portals } = load({ kid: 'one', publicKey: pem('ed25519') });
  expect(portals.map(({ speaksForAdmins }) => speaksForAdmins)).toEqual([false, false]);
});

test.each([
  ['people', [{ first: 5500, last: 6000 }], '5500-6000 and 5000-5999'],
  ['others', [{ first: 1, last: 1000 }], '1000-1999 and 1-1000'],
])('numbers of %s may not be in a range of ours', (whose, ranges, which) => {
  const ids = { people: [{ first: 1000, last: 1999 }], tools: [{ first: 5000, last: 5999 }] };
  const key = { kid: 'one', publicKey: pem('ed25519') };
  expect(() =>
    loadWith({ name: 'other', keys: [key] }, { ids: { ...ids, [whose]: ranges } }),
  ).toThrow(`ids: the ranges ${which} overlap`);
});

test.each<[string, object, string]>([
  ['is missing', { realm: undefined }, 'config.yaml: realm: is missing.'],
  [
    'of which a part is missing',
    { postgres: { host: '/run' } },
    'postgres.database: is missing (line ',
  ],
  [
    'with a part that is unknown',
    { sweep: { keepDays: 'x' } },
    '"keepDays" is unknown here (line ',
  ],
  ['that is text', { portals: 'none' }, 'portals: must be a list (line '],
  ['that is a number', { realm: 5 }, 'realm: must be a string (line '],
  ['that is unknown', { raelm: 'tools' }, 'the file: "raelm" is unknown here (line '],
  ['too small', { sweep: { everyMinutes: 0 } }, 'sweep.everyMinutes: must be at least 1 (line '],
  ['with nothing in it', { realm: '' }, 'realm: must match /^[a-z]'],
])('a setting %s is named in plain words, with its line', (_what, more, words) => {
  const key = { kid: 'one', publicKey: pem('ed25519') };
  let said = '';
  try {
    loadWith({ name: 'other', keys: [key] }, more);
  } catch (error) {
    said = describeError(error);
  }
  expect(`${said}.`).toContain(words);
  expect(said).not.toMatch(/Invalid|Unrecognized|Too small|expected|undefined/u);
});

describe('the address of a server', () => {
  const key = { kid: 'one', publicKey: pem('ed25519') };
  const loadAt = (more: object) => loadWith({ name: 'other', keys: [key] }, more);

  test.each([
    'unix:///run/redis/redis-server.sock',
    'unix:///run/redis.sock?db=3',
    'rediss://cache.example.org:6380/0',
    'redis://127.0.0.1:6379/0',
    'redis://[::1]',
    'redis://user:password@localhost/1',
  ])('of Redis may be %s', (url) => {
    expect(loadAt({ redis: { url } }).redis.url).toBe(url);
  });

  test.each([
    'redis://cache.example.org',
    'redis://127.0.0.1.example.org',
    'redis://10.0.0.1:6379/0',
    'unix://run/redis.sock',
    'rediss://',
    'http://localhost',
  ])('of Redis may not be %s', (url) => {
    expect(() => loadAt({ redis: { url } })).toThrow(
      'redis.url: must be rediss://HOST:PORT or unix:///PATH/OF/SOCKET (or redis:// to this machine)',
    );
  });

  test.each(['ldap://dir.example.org', 'ldap://127.0.0.1.example.org', 'ldap://10.0.0.1'])(
    'of the directory may not be %s',
    (uri) => {
      expect(() => loadAt({ ldap: { uri, base: 'dc=x' } })).toThrow(
        'ldap.uri: must be ldaps://HOST or ldapi://',
      );
    },
  );

  test('is reached by TLS unless it is a socket or this machine', () => {
    const isThere = ['/run/postgresql', 'localhost', '127.0.0.1', '::1', '[::1]'];
    expect(isThere.filter((host) => !isThisMachine(host))).toEqual([]);
    const isAway = ['127.0.0.2', '127.0.0.1.example.org', 'localhost.example.org', '::2', 'run'];
    expect(isAway.filter((host) => isThisMachine(host))).toEqual([]);
  });
});

describe('the keys of a portal', () => {
  test('are Ed25519 public keys in PEM', () => {
    expect(load({ kid: 'one', publicKey: pem('ed25519') })).toMatchObject({ realm: 'tools' });
  });

  test.each<[string, string, string]>([
    [
      'the placeholder of a manual',
      '-----BEGIN PUBLIC KEY-----\n…\n',
      'is not an Ed25519 public key in PEM',
    ],
    ['another kind', String(pem('x25519')), 'is not an Ed25519 public key in PEM'],
    ['nothing', '', 'is not an Ed25519 public key in PEM'],
    [
      'a private key',
      String(generateKeyPairSync('ed25519').privateKey.export({ type: 'pkcs8', format: 'pem' })),
      'is not an Ed25519 public key in PEM',
    ],
  ])('are refused where one is %s', (_, publicKey, why) => {
    const act = () => load({ kid: 'one', publicKey: pem('ed25519') }, { kid: 'two', publicKey });
    expect(act).toThrow(`portals.1.keys.1.publicKey: ${why}`);
    expect(act).not.toThrow(/BEGIN/);
  });

  test('are refused if two have the same kid', () => {
    const one = { kid: 'one', publicKey: pem('ed25519') };
    expect(() => load(one, one)).toThrow('portals.1.keys: two of them have the same kid');
  });
});

test('a reserved name that no person could have is refused', () => {
  const portal = { name: 'other', keys: [{ kid: 'one', publicKey: pem('ed25519') }] };
  const reserving = (name: string) => () => loadWith(portal, { reservedNames: [name] });
  expect(reserving('keeper')().reservedNames).toEqual(['keeper']);
  expect(reserving('Keeper')).toThrow('reservedNames.0: is not a shell name');
});

test('a portal may not have a name that makes its queue the urgent one of another', () => {
  const keys = [{ kid: 'one', publicKey: pem('ed25519') }];
  const named = (name: string) => () => loadWith({ name, keys });
  expect(named('urgent.sound')).toThrow('portals.1.name: must not begin with `urgent.`');
  expect(named('urgent')).not.toThrow();
});

describe('the section api', () => {
  const key = { kid: 'one', publicKey: pem('ed25519') };
  const loadApi = (api: object) => loadWith({ name: 'other', keys: [key] }, { api }).api;
  const tls = { certificateFile: '/certificate.pem', keyFile: '/key.pem' };

  test('has every default, and without it there is no API', () => {
    expect(loadWith({ name: 'other', keys: [key] }).api).toBeUndefined();
    expect(loadApi({})).toEqual({
      listen: '127.0.0.1:8466',
      trustedProxies: [],
      mostCallsPerMinute: { portal: 6000, address: 3000 },
    });
  });

  test.each([
    ...['127.0.0.1:1', 'localhost:8466', '[::1]:8466', 'unix:/run/chamberlain-api/socket'],
  ])('%s needs no TLS', (listen) => expect(loadApi({ listen })?.listen).toBe(listen));

  test.each(['0.0.0.0:8466', '[::]:8466', '10.1.2.3:8466', 'api.example.org:443'])(
    '%s is refused without TLS, because other machines reach it',
    (listen) => {
      expect(() => loadApi({ listen })).toThrow('api: listens for other machines, so it needs TLS');
      expect(loadApi({ listen, ...tls })?.listen).toBe(listen);
    },
  );

  test.each<[object, string]>([
    [{ listen: '8466' }, 'api.listen: must be HOST:PORT'],
    [{ listen: '127.0.0.1:70000' }, 'api.listen: must be HOST:PORT'],
    [{ listen: 'unix:socket' }, 'api.listen: must be HOST:PORT'],
    [{ keyFile: '/key.pem' }, 'api: needs both certificateFile and keyFile, or neither'],
    [{ trustedProxies: ['10.0.0.0/33'] }, 'api.trustedProxies.0'],
    [{ trustedProxies: ['proxy.example.org'] }, 'api.trustedProxies.0'],
  ])('%j is refused', (api, why) => expect(() => loadApi(api)).toThrow(why));
});
