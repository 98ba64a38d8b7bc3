/** The dates and the trust of a certificate that a real Redis shows over TLS. */
import { execFileSync, spawn, type ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, afterEach, beforeAll, describe, expect, test } from '@jest/globals';
import { makeCertificate } from '../../dev/servers/certificate.ts';
import { freePort } from '../../dev/servers/redis.ts';
import type { Config } from '../../src/shared/config.ts';
import { lookAtAuthority, lookAtCertificate, tlsServers } from '../../src/doctor/certificates.ts';
import { examine } from '../../src/doctor/examine.ts';
import { makeAuthority } from '../../src/setup/openssl.ts';
import { eventually } from '../scenarios/eventually.ts';

const DAY_MS = 86_400_000;
let dir: string;
let server: ChildProcess | undefined;
beforeAll(() => void (dir = mkdtempSync(join(tmpdir(), 'certificates-'))));
afterEach(async () => {
  if (server === undefined || server.exitCode !== null) return;
  server.kill('SIGTERM');
  await once(server, 'exit');
});
afterAll(() => rmSync(dir, { recursive: true, force: true }));

/** Starts a Redis whose certificate is valid from one moment until another. @returns its port */
async function serve(from: Date, until: Date): Promise<number> {
  await makeCertificate(dir, { host: 'localhost', user: 'root', from, until });
  const port = await freePort();
  server = spawn(
    'redis-server',
    [
      ...[
        '--port',
        '0',
        '--tls-port',
        `${port}`,
        '--bind',
        '127.0.0.1',
        '--save',
        '',
        '--dir',
        dir,
      ],
      ...['--tls-cert-file', 'certificate.pem', '--tls-key-file', 'key.pem'],
      ...['--tls-ca-cert-file', 'ca.pem', '--tls-auth-clients', 'no'],
    ],
    { cwd: dir, stdio: 'ignore' },
  );
  await eventually('Redis', () => {
    execFileSync('openssl', ['s_client', '-connect', `127.0.0.1:${port}`, '-brief'], {
      stdio: 'pipe',
    });
    return true;
  });
  return port;
}

const later = (days: number) => new Date(Date.now() + days * DAY_MS);
const look = (port: number, caFile = join(dir, 'ca.pem'), host = 'localhost') =>
  lookAtCertificate({ name: 'Redis', host, port, caFile, protocol: 'tls' }, new Date());

describe('a certificate', () => {
  test.each([
    ['that lasts', -1, 40, 'ok', /^the certificate of Redis is valid until 20\d\d-/u],
    ['near its end', -1, 20.5, 'fix', /^the certificate of Redis expires in 20 days, on 20/u],
    ['that ended', -9, -2, 'fix', /^the certificate of Redis expired on 20\d\d-/u],
    ['that has not begun', 2, 99, 'fix', /^the certificate of Redis is not valid before 20\d\d-/u],
  ] as const)('%s', async (_what, from, until, state, what) => {
    const lines = await look(await serve(later(from), later(until)));
    expect(lines).toEqual([
      {
        state,
        what: expect.stringMatching(what),
        ...(state === 'ok' ? {} : { todo: expect.stringMatching(/Renew|clocks/u) }),
      },
    ]);
  });

  test('of an unknown authority, or for another host', async () => {
    const port = await serve(later(-1), later(400));
    const fixed = (why: RegExp) => [
      { state: 'fix', what: expect.stringMatching(why), todo: expect.stringContaining('caFile') },
    ];
    const place = { name: 'Redis', host: 'localhost', port, protocol: 'tls' as const };
    const unknown = await lookAtCertificate(place, new Date());
    expect(unknown).toEqual(fixed(/is not trusted: .*CHAIN/u));
    expect(await look(port, undefined, '127.0.0.1')).toEqual(fixed(/is not trusted: .*ALTNAME/u));
  });

  test('of a server that hangs or cannot be reached is unreadable', async () => {
    const silent = createServer(() => {}).listen(0, '127.0.0.1');
    await once(silent, 'listening');
    const { port } = silent.address() as { port: number };
    const check = (at: number) => ({
      group: 'certificates',
      subject: 'the certificate',
      todo: 'Check that the server runs and can be reached.',
      look: () => look(at),
    });
    const lines = await examine([check(port), check(await freePort())]);
    silent.close();
    expect(lines.map(({ state, what }) => [state, what])).toEqual([
      ['unreadable', expect.stringMatching(/no answer/u)],
      ['unreadable', expect.stringMatching(/ECONNREFUSED/u)],
    ]);
  });
});

test('a certificate that a timer renews is reported only when that must have happened', async () => {
  const port = await serve(later(-1), later(25.5));
  const place = { name: 'Redis', host: 'localhost', port, caFile: join(dir, 'ca.pem') };
  const renewed = { ...place, protocol: 'tls', isRenewed: true } as const;
  const [line] = await lookAtCertificate(renewed, new Date());
  expect(line?.state).toBe('ok');
  const [late] = await lookAtCertificate(renewed, later(6));
  expect(late).toEqual({
    ...{
      state: 'fix',
      what: expect.stringMatching(/^the certificate of Redis expires in 19 days/u),
    },
    todo: expect.stringMatching(/^Run `chamberlain setup --renew`/u),
  });
  // one of the operator's own is not renewed by that command alone
  const [own] = await lookAtCertificate({ ...renewed, isRenewed: false }, new Date());
  expect(own).toMatchObject({ state: 'fix', todo: expect.stringMatching(/^Put another/u) });
});

test.each([
  ['that lasts', 91, 'ok', /^the authority \S+ is valid until 20/u],
  ['near its end', 89.5, 'fix', /^the authority \S+ expires in 89 days, on 20/u],
  ['that ended', -1, 'fix', /^the authority \S+ expired on 20/u],
] as const)('an authority %s', async (_, days, state, what) => {
  const path = join(dir, 'authority.pem');
  const validFor = (until: Date) => makeAuthority('one', { from: later(-99), until });
  // an older one next to it does not count
  writeFileSync(path, `${await validFor(later(-9))}${await validFor(later(days))}`);
  expect(lookAtAuthority(path, new Date())).toEqual([
    expect.objectContaining({ state, what: expect.stringMatching(what) }),
  ]);
});

test('a file without a certificate is no authority', () => {
  const path = join(dir, 'none.pem');
  writeFileSync(path, '');
  expect(lookAtAuthority(path, new Date())).toMatchObject([{ state: 'fix' }]);
});

test.each<[string, string, string, object[], unknown[][]]>([
  ['/run', 'redis://127.0.0.1:1', 'ldapi://%2Frun', [{ socket: '/s' }, { host: '127.0.0.1' }], []],
  ['::1', 'unix:///run/redis.sock', 'ldap://localhost', [{ host: 'localhost', port: 3307 }], []],
  [
    'db.example.org',
    'rediss://u:p@cache',
    'ldaps://[2001:db8::1]:1636',
    [{ host: 'sql.example.org', caFile: '/other' }],
    [
      ['PostgreSQL', 'db.example.org', 5432, '/ca'],
      ['the directory', '2001:db8::1', 1636, '/ca'],
      ['Redis', 'cache', 6379, '/ca'],
      ['a', 'sql.example.org', 3306, '/other'],
    ],
  ],
])('of %s, %s, %s and %j these are reached by TLS', (host, url, uri, databases, servers) => {
  const caFile = '/ca';
  const config = {
    ...{ postgres: { host, port: 5432, caFile }, redis: { url, caFile }, ldap: { uri, caFile } },
    databases: { servers: databases.map((each) => ({ name: 'a', ...each })) },
  } as unknown as Config;
  expect(tlsServers(config).map((each) => [each.name, each.host, each.port, each.caFile])).toEqual(
    servers,
  );
});
