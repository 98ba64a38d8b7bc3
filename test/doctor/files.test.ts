/** Checks that only read files: the secrets, the keys, the program, the agent of a login host. */
import { execFileSync } from 'node:child_process';
import { createPublicKey, generateKeyPairSync } from 'node:crypto';
import {
  chmodSync,
  mkdirSync,
  mkdtempSync,
  readFileSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, test } from '@jest/globals';
import { stringify } from 'yaml';
import type { Config } from '../../src/shared/config.ts';
import type { ListedAdminKey } from '../../src/requests/admin-keys-table.ts';
import { fingerprintOf } from '../../src/ssh-keys/ed25519-key.ts';
import {
  lookAtKeys,
  lookAtSecrets,
  plausibleOwners,
  type ReadAdminKeys,
  secretsOf,
} from '../../src/doctor/files.ts';
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
      ['ok', `secrets that exist, and that others cannot read: ${names.length}`],
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
  const nobodys: ReadAdminKeys = async () => [];
  const look = async (config: object, readKeys = nobodys) =>
    statesOf(await lookAtKeys(config as Config, readKeys, new Date()));

  test('of portals are counted: the configuration is refused if one is not a key', async () => {
    const portals = [portal('a', pem('ed25519')), portal('b', pem('ed25519'))];
    expect(await look({ portals })).toEqual([
      ['ok', '2 public keys of 2 portals: all are Ed25519'],
    ]);
  });

  describe('of the admin', () => {
    const { privateKey } = generateKeyPairSync('ed25519');
    const pkcs8 = privateKey.export({ type: 'pkcs8', format: 'pem' }).toString();
    const own = { portals: [portal('a', pem('ed25519'))], adminKey: '' };
    beforeEach(() => void (own.adminKey = join(dir, 'admin.pem')));
    afterEach(() => rmSync(own.adminKey, { force: true }));
    const theLine = async (text: string, readKeys?: ReadAdminKeys, mode = 0o600) => {
      writeFileSync(own.adminKey, text);
      chmodSync(own.adminKey, mode);
      return (await look(own, readKeys)).slice(1);
    };
    const keyOf = (changes: Partial<ListedAdminKey> = {}) =>
      ({ admin: 'eve', fingerprint: fingerprintOf(privateKey), ...changes }) as ListedAdminKey;

    test('not on this machine, of nobody, or not a key', async () => {
      expect((await look(own))[1]).toEqual([
        'elsewhere',
        `adminKey ${own.adminKey} is not on this machine`,
      ]);
      expect(await theLine(pkcs8)).toEqual([['fix', `no admin has adminKey ${own.adminKey}`]]);
      const bad = await theLine('SECRET-WORDS');
      expect(bad).toEqual([
        ['fix', expect.stringContaining(`adminKey ${own.adminKey} is no Ed25519 key`)],
      ]);
    });

    test('listed, added by a request, or revoked since', async () => {
      const spki = createPublicKey(privateKey).export({ type: 'spki', format: 'pem' }).toString();
      own.portals.push(portal('admin.eve', spki));
      const signs = [['ok', 'adminKey signs as admin.eve']];
      expect(await theLine(pkcs8)).toEqual(signs);
      own.portals.pop();
      expect(await theLine(pkcs8, async () => [keyOf()])).toEqual(signs);
      const revoked = keyOf({ revokedAt: new Date(0), revokedBy: 'alice' });
      expect(await theLine(pkcs8, async () => [revoked])).toEqual([
        ['fix', expect.stringContaining('was revoked by alice')],
      ]);
      expect(await theLine(pkcs8, async () => undefined)).toEqual([
        ['elsewhere', `whether adminKey ${own.adminKey} counts is not known`],
      ]);
    });

    test.each(['', 'a passphrase'])(
      'in the format of OpenSSH, with the passphrase "%s"',
      async (passphrase) => {
        const file = join(dir, `openssh-${passphrase.length}`);
        execFileSync('ssh-keygen', ['-q', '-t', 'ed25519', '-N', passphrase, '-f', file]);
        const line = readFileSync(`${file}.pub`, 'utf8');
        const fingerprint = execFileSync('ssh-keygen', ['-lf', file], { encoding: 'utf8' }).split(
          ' ',
        )[1];
        const keys: ReadAdminKeys = async () => [keyOf({ fingerprint })];
        const signs = ['ok', 'adminKey signs as admin.eve'];
        expect(await theLine(readFileSync(file, 'utf8'), keys)).toEqual([signs]);
        // an agent signs
        expect(await theLine(line, keys, 0o644)).toEqual([signs]);
      },
    );

    test('only its owner may read it, whatever its folder is called', async () => {
      const folder = join(dir, 'redis-portal.web');
      mkdirSync(folder);
      own.adminKey = join(folder, 'admin.pem');
      expect((await theLine(pkcs8, nobodys, 0o640))[0]).toEqual([
        'fix',
        `adminKey ${own.adminKey} has mode 0640: others can sign with it`,
      ]);
    });

    test.each(['', 'openssh-key-v1', 'A'.repeat(90)])(
      'a damaged file is no key: %j',
      async (body) => {
        const text = `-----BEGIN OPENSSH PRIVATE KEY-----\n${btoa(body)}\n-----END OPENSSH PRIVATE KEY-----\n`;
        expect(await theLine(text)).toEqual([
          ['fix', expect.stringContaining(`adminKey ${own.adminKey} is no Ed25519 key`)],
        ]);
      },
    );
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
