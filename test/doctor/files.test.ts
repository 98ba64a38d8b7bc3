/** Checks that only read files: the secrets, the keys, the program, the agent of a login host. */
import { generateKeyPairSync } from 'node:crypto';
import { chmodSync, mkdirSync, mkdtempSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, test } from '@jest/globals';
import { stringify } from 'yaml';
import type { Config } from '../../src/shared/config.ts';
import { lookAtKeys, lookAtSecrets, plausibleOwners, secretsOf } from '../../src/doctor/files.ts';
import { readLocalNames } from '../../src/doctor/host.ts';
import type { Line } from '../../src/doctor/line.ts';
import { loginHostConfig, lookAtAgent } from '../../src/doctor/login-host.ts';
import { lookAtProgram } from '../../src/doctor/program.ts';
import { writeStatus, type LoginStatus } from '../../src/login-host/status.ts';

let dir: string;
beforeEach(() => {
  dir = mkdtempSync(join(tmpdir(), 'doctor-'));
});
afterEach(() => rmSync(dir, { recursive: true, force: true }));

const statesOf = (lines: readonly Line[]) => lines.map(({ state, what }) => [state, what]);
const everybody = (_uid: number) => true;

describe('secrets', () => {
  const look = (isPlausible = everybody) => lookAtSecrets(configOf(), isPlausible);
  const configOf = () =>
    ({ secrets: dir, portals: [{ name: 'bridge' }, { name: 'admin.alice' }] }) as Config;
  const put = (name: string, text = 'a password', mode = 0o600) => {
    writeFileSync(join(dir, name), text);
    chmodSync(join(dir, name), mode);
  };

  test('that all exist and are closed to others are one line', () => {
    const names = secretsOf(configOf());
    expect(names).toContain('redis-portal.bridge');
    expect(names).not.toContain('redis-portal.admin.alice');
    for (const name of names) put(name);
    expect(statesOf(look())).toEqual([
      ['ok', `${names.length} secrets exist, and others cannot read them`],
    ]);
  });

  test('that are empty, open, a folder, or somebody else’s are reported, each with what to do; the rest is elsewhere', () => {
    put('postgres-admin', '');
    put('ldap-sssd', 'x', 0o640);
    mkdirSync(join(dir, 'mariadb-databases'));
    symlinkSync('/nowhere', join(dir, 'ldap-admin'));
    put('postgres-intake');
    chmodSync(dir, 0o777);
    const lines = look((uid) => uid !== process.getuid?.());
    expect(statesOf(lines)).toEqual([
      ['fix', `${dir} has mode 0777: others can put secrets there`],
      ['fix', `${join(dir, 'postgres-intake')} belongs to uid ${process.getuid?.()}`],
      ['fix', `${join(dir, 'postgres-admin')} is empty`],
      ['fix', `${join(dir, 'postgres-admin')} belongs to uid ${process.getuid?.()}`],
      ['fix', `${join(dir, 'ldap-sssd')} has mode 0640: others can read it`],
      ['fix', `${join(dir, 'ldap-sssd')} belongs to uid ${process.getuid?.()}`],
      ['fix', `${join(dir, 'mariadb-databases')} is not a file`],
      ['elsewhere', expect.stringMatching(/^secrets that are not on this machine: .*ldap-admin/u)],
    ]);
    for (const { todo } of lines) expect(todo).toMatch(/\.$/u);
  });

  test('that others can read are closed as far as each may be, and replaced', () => {
    for (const name of ['redis-portal.bridge', 'events-key']) put(name, 'x', 0o644);
    put('redis-intake', 'x', 0o640);
    expect(look().flatMap(({ state, todo }) => (state === 'fix' ? [todo] : []))).toEqual([
      `Run \`chmod 600 ${dir}/redis-intake\`, then replace the secret: \`chamberlain secret rotate redis-intake\`.`,
      `Run \`chmod 600 ${dir}/events-key\`, then replace the secret: \`chamberlain secret rotate events-key\`.`,
      `Run \`chmod 640 ${dir}/redis-portal.bridge\`, then replace the secret: \`chamberlain secret rotate redis-portal.bridge\`.`,
    ]);
  });

  test('that are being replaced are reported, each with how to continue', () => {
    for (const name of ['redis-intake', 'postgres-homes', 'events-key']) put(name);
    for (const name of ['redis-intake.old', 'postgres-homes.next', 'events-key.next']) put(name);
    expect(look().filter(({ state }) => state === 'fix')).toEqual([
      {
        state: 'fix',
        what: 'the rotation of postgres-homes was interrupted',
        todo: 'Run `chamberlain secret rotate postgres-homes` again.',
      },
      {
        state: 'fix',
        what: 'redis-intake was replaced, but its old password is still valid',
        todo: 'Run `chamberlain secret rotate redis-intake --finish` when each machine has the new password.',
      },
      {
        state: 'fix',
        what: 'events-key is being replaced: the new key exists, but is not in use',
        todo: 'Run `chamberlain secret rotate events-key --finish` when everybody who needs it knows the new key.',
      },
    ]);
  });

  test('in a folder that does not exist', () => {
    rmSync(dir, { recursive: true });
    expect(statesOf(look())).toEqual([['fix', `${dir} does not exist`]]);
  });

  test('may belong to root, to this user, and to the users of the roles', () => {
    writeFileSync(
      join(dir, 'passwd'),
      'root:x:0:0::/:/bin/sh\nchamberlain-intake:x:901:901::/:/bin/false\nchamberlainy:x:902:902::/:/bin/false\n',
    );
    const isPlausible = plausibleOwners(join(dir, 'passwd'));
    expect([0, process.getuid?.() ?? 0, 901, 902].map(isPlausible)).toEqual([
      true,
      true,
      true,
      false,
    ]);
  });
});

describe('keys', () => {
  const pem = (type: 'ed25519' | 'ed448') =>
    generateKeyPairSync(type as 'ed25519')
      .publicKey.export({ type: 'spki', format: 'pem' })
      .toString();
  const portal = (name: string, ...publicKeys: string[]) => ({
    name,
    keys: publicKeys.map((publicKey) => ({ kid: 'one', publicKey })),
    kinds: 'all' as const,
    subjectEvents: false,
    speaksForAdmins: false,
  });
  const look = (...portals: ReturnType<typeof portal>[]) =>
    statesOf(lookAtKeys({ portals } as unknown as Config));

  test('of portals are counted: the configuration is refused if one is not a key', () => {
    expect(look(portal('a', pem('ed25519')), portal('b', pem('ed25519')))).toEqual([
      ['ok', '2 public keys of 2 portals are Ed25519'],
    ]);
  });

  test('the admin’s: of no portal, not a key, or not on this machine', () => {
    const { privateKey } = generateKeyPairSync('ed25519');
    const file = join(dir, 'admin.pem');
    const config = { portals: [portal('a', pem('ed25519'))], adminKey: file } as unknown as Config;
    expect(statesOf(lookAtKeys(config))[1]).toEqual([
      'elsewhere',
      `adminKey ${file} is not on this machine`,
    ]);
    writeFileSync(file, privateKey.export({ type: 'pkcs8', format: 'pem' }), { mode: 0o600 });
    expect(statesOf(lookAtKeys(config))[1]).toEqual([
      'fix',
      `no portal has the public half of adminKey ${file}`,
    ]);
    writeFileSync(file, 'SECRET-WORDS');
    const [, bad] = lookAtKeys(config);
    expect(bad).toMatchObject({ state: 'fix', what: expect.stringContaining(file) });
    expect(JSON.stringify(bad)).not.toContain('SECRET-WORDS');
  });

  test('only its owner may read the admin’s, whatever its folder is called', () => {
    const folder = join(dir, 'redis-portal.web');
    mkdirSync(folder);
    const file = join(folder, 'admin.pem');
    const { privateKey } = generateKeyPairSync('ed25519');
    writeFileSync(file, privateKey.export({ type: 'pkcs8', format: 'pem' }), { mode: 0o640 });
    const config = { portals: [], adminKey: file } as unknown as Config;
    expect(statesOf(lookAtKeys(config))[1]).toEqual([
      'fix',
      `adminKey ${file} has mode 0640: others can sign with it`,
    ]);
  });
});

test('local names are those of passwd and group, without lines of NIS and comments', () => {
  writeFileSync(
    join(dir, 'passwd'),
    'root:x:0:0::/root:/bin/sh\n+::::::\n-bad::::::\n#x:1:1\n\nweb:x:33:33::/:/bin/false\n',
  );
  writeFileSync(join(dir, 'group'), 'adm:x:4:web\n');
  expect(readLocalNames(dir)).toEqual([
    { name: 'root', id: 0, is: 'account' },
    { name: 'web', id: 33, is: 'account' },
    { name: 'adm', id: 4, is: 'group' },
  ]);
});

test('the program: a Node.js that is too old, packages of another version or missing', () => {
  const put = (file: string, value: unknown) => {
    mkdirSync(join(dir, file, '..'), { recursive: true });
    writeFileSync(join(dir, file), JSON.stringify(value));
  };
  put('package.json', { engines: { node: '>=24' } });
  put('package-lock.json', {
    packages: {
      '': {},
      'node_modules/a': { version: '1.0.0' },
      'node_modules/b': { version: '1.0.0' },
      'node_modules/a/node_modules/c': { version: '2.0.0' },
      'node_modules/d': { version: '1.0.0', dev: true },
      'node_modules/e': { version: '1.0.0', optional: true },
    },
  });
  put('node_modules/a/package.json', { version: '1.0.0' });
  put('node_modules/a/node_modules/c/package.json', { version: '2.0.1' });
  expect(statesOf(lookAtProgram(dir, '22.1.0'))).toEqual([
    ['fix', 'Node 22.1.0 is too old'],
    ['fix', 'npm packages: b is missing; c is 2.0.1, not 2.0.0'],
  ]);
  put('node_modules/b/package.json', { version: '1.0.0' });
  put('node_modules/a/node_modules/c/package.json', { version: '2.0.0' });
  expect(statesOf(lookAtProgram(dir, '24.2.0'))).toEqual([
    ['ok', 'Node 24.2.0'],
    ['ok', '3 npm packages are those of package-lock.json'],
  ]);
});

describe('a login host', () => {
  const now = new Date('2026-11-25T10:00:00Z');
  const status: LoginStatus = {
    pid: 1,
    startedAt: 0,
    at: now.getTime() - 5000,
    trusted: true,
    server: 'ldapi://x',
    agentAt: now.getTime() - 5000,
    offlineLimitSeconds: 86_400,
    people: 3,
    tools: 0,
    files: 3,
    refused: [],
    refusedInAll: 0,
    unwritten: [],
  };
  const login = () => join(dir, 'login');
  const look = async () => await lookAtAgent(loginHostConfig(dir) ?? '', now, login());
  beforeEach(() => {
    mkdirSync(join(dir, 'chamberlain'));
    mkdirSync(login());
    const { publicKey } = generateKeyPairSync('ed25519');
    const config = {
      realm: 'tools',
      ids: { people: [{ first: 1000, last: 2000 }], tools: [{ first: 3000, last: 4000 }] },
      ldap: { uris: ['ldaps://one.example.org'], base: 'dc=example,dc=org' },
      sealKeys: [publicKey.export({ type: 'spki', format: 'pem' })],
    };
    writeFileSync(join(dir, 'chamberlain/login-host.yaml'), stringify(config));
  });

  test('that runs and trusts the directory is fine', async () => {
    writeStatus(login(), status);
    expect(statesOf(await look())).toEqual([['ok', 'this login host trusts the directory']]);
  });

  test.each<[string, Partial<LoginStatus> | undefined, string[]]>([
    ['whose helper never ran', undefined, ['the login helper has never run']],
    [
      'whose helper is silent',
      { at: now.getTime() - 31_000 },
      ['the login helper has not written its status since 2026-11-25T09:59:29.000Z'],
    ],
    [
      'whose agent is silent',
      { agentAt: now.getTime() - 31_000 },
      ['the keys agent has not reported to the login helper since 2026-11-25T09:59:29.000Z'],
    ],
    [
      'that does not trust',
      { trusted: false, why: 'the heartbeat is old' },
      ['this login host does not trust the directory: the heartbeat is old'],
    ],
    [
      'that refuses, and cannot write a file',
      { refusedInAll: 2, unwritten: [{ path: '/etc/x', why: 'EROFS', since: 0 }] },
      ['entries that this login host refuses: 2', '/etc/x: EROFS'],
    ],
  ])('%s is told, with what to do', async (_what, differs, whats) => {
    if (differs !== undefined) writeStatus(login(), { ...status, ...differs });
    const lines = (await look()).filter(({ state }) => state !== 'ok');
    expect(statesOf(lines)).toEqual(whats.map((what) => ['fix', what]));
    for (const { todo } of lines) expect(todo).toMatch(/chamberlain-|keys-agent/u);
  });

  test('whose configuration is wrong is reported with the line', async () => {
    writeFileSync(join(dir, 'chamberlain/login-host.yaml'), 'realm: tools\nfoo: 1\n');
    expect(statesOf(await look())).toEqual([['fix', expect.stringContaining('foo')]]);
  });

  test('is checked only if this machine is one', () => {
    rmSync(join(dir, 'chamberlain'), { recursive: true });
    expect(loginHostConfig(dir)).toBeUndefined();
  });
});
