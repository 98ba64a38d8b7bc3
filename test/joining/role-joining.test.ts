/** What a machine gets that is to run roles, and how the configuration names it. No servers. */
import { generateKeyPairSync } from 'node:crypto';
import { mkdirSync, mkdtempSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from '@jest/globals';
import { secretsOf, secretsOfRole } from '../../src/doctor/files.ts';
import { makeJoinRequest, type RoleRequest } from '../../src/joining/join-request.ts';
import { writeMachine } from '../../src/joining/machines.ts';
import { parseRoleAnswer } from '../../src/joining/role-answer.ts';
import { prepareRole } from '../../src/joining/role-joining.ts';
import { MOVABLE_ROLES, type MovableRole } from '../../src/roles/index.ts';
import { completeAnswers, knownAnswers } from '../../src/setup/answers.ts';
import { renderConfig } from '../../src/setup/config-text.ts';
import { joinedPieces, parseRoles, renderJoinedConfig } from '../../src/setup/joined.ts';
import { makeAuthority } from '../../src/setup/openssl.ts';
import { type Config, loadConfig, machineOf, type RoleMachine } from '../../src/shared/config.ts';

const folder = mkdtempSync(join(tmpdir(), 'chamberlain-role-joining-'));
afterAll(() => rmSync(folder, { recursive: true }));
const at = (name: string): string => join(folder, name);

const HOST = 'realm.example.org';
const NAME = 'files1.example.org';
const requestOf = (roles: MovableRole[], key = 'q') =>
  makeJoinRequest({
    ...{ kind: 'role', name: NAME, roles, key: `age1${key.repeat(58)}` },
  }) as RoleRequest;
const request = requestOf(['homes', 'databases']);

/** A realm as `setup` makes it, with `listen`. */
let config: Config;
let configText: string;
beforeAll(async () => {
  const { publicKey } = generateKeyPairSync('ed25519');
  const answers = completeAnswers(
    knownAnswers(
      {
        ...{ realm: 'tools', base: 'dc=example,dc=org', listen: HOST },
        admin: {
          name: 'alice',
          signingKey: publicKey.export({ type: 'spki', format: 'pem' }).toString(),
        },
      },
      undefined,
    ),
  );
  const day = { from: new Date(), until: new Date(Date.now() + 86_400_000) };
  writeFileSync(at('ca.pem'), await makeAuthority('Realm', day));
  configText = renderConfig(answers)
    .replaceAll('/etc/chamberlain/tls/ca.pem', at('ca.pem'))
    .replace('/etc/chamberlain/secrets', at('secrets'));
  writeFileSync(at('config.yaml'), configText);
  config = loadConfig(at('config.yaml'));
  mkdirSync(at('secrets'));
  for (const name of secretsOf(config)) {
    writeFileSync(join(at('secrets'), name), `the secret text of ${name}\n`);
  }
});

const answerOf = () => prepareRole(config, request).answer;

describe('the answer', () => {
  test('has the secrets of the roles, and no others', () => {
    expect(Object.keys(answerOf().secrets).toSorted()).toEqual([
      ...['mariadb-databases', 'mariadb-databases-reader', 'postgres-databases'],
      ...['postgres-databases_reader', 'postgres-homes', 'postgres-homes_reader'],
      ...['redis-databases', 'redis-homes'],
    ]);
    const text = JSON.stringify(answerOf());
    const others = secretsOf(config).filter((name) => !Object.hasOwn(answerOf().secrets, name));
    expect(others.filter((name) => text.includes(`the secret text of ${name}"`))).toEqual([]);
    expect(text).not.toMatch(/PRIVATE KEY/u);
  });

  test('names the servers as another machine reaches them, by TLS', () => {
    const { postgres, redis, ldap, databases } = answerOf().config;
    const caFile = (server: string) => `/etc/chamberlain/tls/ca-${server}.pem`;
    expect(postgres).toMatchObject({ host: HOST, port: 5470, caFile: caFile('postgres') });
    expect(redis).toEqual({ url: `rediss://${HOST}:6379`, caFile: caFile('redis') });
    expect(ldap).toMatchObject({ uri: `ldaps://${HOST}`, caFile: caFile('ldap') });
    expect(databases.servers).toEqual([
      {
        ...{ name: 'toolsdb', kind: 'toolsdb', host: HOST, port: 3306 },
        caFile: caFile('mariadb-toolsdb'),
      },
    ]);
    expect(answerOf().config).toMatchObject({ realm: 'tools', ids: config.ids, machines: [] });
  });

  test('is read as it was written, and its configuration is one that every command reads', () => {
    const read = parseRoleAnswer(JSON.stringify(answerOf()));
    expect(read).toEqual(answerOf());
    writeFileSync(at('joined.yaml'), renderJoinedConfig(read.config));
    expect(loadConfig(at('joined.yaml'))).toEqual(read.config);
    const names = joinedPieces(read.roles, read).map(({ name }) => name);
    expect(names).toEqual(expect.arrayContaining(['the folders of homes and archives']));
  });

  test.each<[string, (answer: Record<string, unknown>) => Record<string, unknown>]>([
    ['without a secret', (answer) => ({ ...answer, secrets: {} })],
    [
      'with a secret of another role',
      ({ secrets, ...rest }) => ({
        ...rest,
        secrets: { ...(secrets as object), 'postgres-owner': 'the secret text of the owner' },
      }),
    ],
    [
      'with a path as a secret',
      ({ secrets, ...rest }) => ({
        ...rest,
        secrets: { ...(secrets as object), '../config.yaml': 'the secret text of a file' },
      }),
    ],
    ['without an authority', (answer) => ({ ...answer, authorities: {} })],
    ['with an authority that is none', (answer) => ({ ...answer, authorities: { 'ca-x': 'x' } })],
    ['for a role that stays', (answer) => ({ ...answer, roles: ['intake'] })],
    ['with more than it may say', (answer) => ({ ...answer, command: 'reboot' })],
    [
      'that keeps its secrets elsewhere',
      (answer) => ({ ...answer, config: { ...config, secrets: '/tmp' } }),
    ],
  ])('is refused, without its secrets in the message: %s', (_, change) => {
    const text = JSON.stringify(change(JSON.parse(JSON.stringify(answerOf()))));
    let message = 'it was accepted';
    try {
      parseRoleAnswer(text);
    } catch (error) {
      expect(error).toMatchObject({ code: 'JOIN_INVALID' });
      ({ message } = error as Error);
    }
    expect(message).toMatch(/not a join answer/u);
    expect(message).not.toContain('secret text');
  });

  test('with a configuration that is none is refused', () => {
    const text = JSON.stringify({ ...answerOf(), config: { ...answerOf().config, more: 1 } });
    expect(() => parseRoleAnswer(text)).toThrow('reading the configuration in the join answer');
  });
});

describe('a machine cannot join', () => {
  test('if others do not reach the servers', () => {
    const { hostsUri: _, ...ldap } = config.ldap;
    expect(() => prepareRole({ ...config, ldap }, request)).toThrow('other machines cannot reach');
    const redis = { url: 'redis://127.0.0.1:6379' };
    expect(() => prepareRole({ ...config, redis }, request)).toThrow('cannot reach Redis over TLS');
  });

  test('under the name of another, or for a role that another has', () => {
    const joined = { name: NAME, roles: request.roles, fingerprint: request.fingerprint };
    const machines = [joined];
    expect(prepareRole({ ...config, machines }, request).answer.name).toBe(NAME);
    const another = requestOf(request.roles, 'p');
    expect(() => prepareRole({ ...config, machines }, another)).toThrow(
      'another machine has joined',
    );
    const elsewhere = [{ ...joined, name: 'files2.example.org' }];
    expect(() => prepareRole({ ...config, machines: elsewhere }, request)).toThrow(
      'files2.example.org runs the role homes',
    );
  });

  test('while a password is being replaced', () => {
    const next = join(at('secrets'), 'redis-homes.next');
    writeFileSync(next, 'x');
    expect(() => prepareRole(config, request)).toThrow('the rotation of redis-homes');
    rmSync(next);
  });
});

test('each role has secrets of its own', () => {
  const all = MOVABLE_ROLES.flatMap(secretsOfRole);
  expect(new Set(all).size).toBe(all.length);
  expect(secretsOfRole('directory')).toEqual([
    ...['postgres-directory', 'postgres-directory_reader', 'ldap-directory'],
    ...['ldap-directory-reader', 'redis-directory', 'seal-key'],
  ]);
  expect(secretsOfRole('sweep')).toEqual(['postgres-sweep', 'redis-sweep']);
});

test('roles are named with commas, and those that stay are refused in a sentence', () => {
  expect(parseRoles('sweep,homes')).toEqual(['homes', 'sweep']);
  expect(() => parseRoles('relay')).toThrow('it knows the passwords of the portals');
  expect(() => parseRoles('homes,\u001B[2J')).toThrow(/^no role is called [\x20-\x7E]*$/u);
});

describe('the configuration', () => {
  const machine = { name: NAME, roles: request.roles, fingerprint: request.fingerprint };
  const mail: RoleMachine = { name: 'mail.example.org', roles: ['sweep'] };

  test('names a machine until it is removed; its other lines and its time stay', async () => {
    const path = at('changed.yaml');
    const commented = configText.replace('realm: tools', '# ours\nrealm: tools # the prefix');
    writeFileSync(path, commented);
    const { mtimeMs } = statSync(path);
    await writeMachine(path, NAME, machine);
    await writeMachine(path, NAME, { ...machine, by: 'unix:root' });
    await writeMachine(path, mail.name, mail);
    expect(readFileSync(path, 'utf8').startsWith(commented)).toBe(true);
    const { machines, ...others } = loadConfig(path);
    expect(machines).toEqual([{ ...machine, by: 'unix:root' }, mail]);
    expect({ ...others, machines: [] }).toEqual(config);
    expect(machineOf({ machines }, 'sweep')?.name).toBe(mail.name);
    const { elsewhere } = completeAnswers(knownAnswers({}, loadConfig(path)));
    expect(elsewhere).toEqual(['homes', 'databases', 'sweep']);
    await expect(writeMachine(path, 'x', { name: 'x', roles: ['homes'] })).rejects.toMatchObject({
      cause: { message: expect.stringContaining('machines: homes is listed twice') },
    });
    await writeMachine(path, NAME);
    await writeMachine(path, mail.name);
    expect(readFileSync(path, 'utf8')).toBe(commented);
    expect(Math.abs(statSync(path).mtimeMs - mtimeMs)).toBeLessThan(1);
  });

  test.each([
    ['in one line', 'machines: [{ name: a.example.org, roles: [directory] }] # ours\n'],
    ['without an end of the line', 'machines: []'],
    ['in lines', 'machines:\n  # ours\n  - name: a.example.org\n    roles: [directory]\n\n'],
    ['in lines without indentation', 'machines:\n- name: a.example.org\n  roles: [directory]\n'],
  ])('may say it %s, and more after it', async (_, lines) => {
    const path = at('written.yaml');
    const [first = '', ...rest] = configText.split(/^(?=realm:)/mu);
    for (const text of [`${first}${lines}`.trimEnd() + `\n${rest.join('')}`, configText + lines]) {
      writeFileSync(path, text);
      const before = loadConfig(path).machines;
      await writeMachine(path, mail.name, mail);
      const { machines, ...others } = loadConfig(path);
      expect(machines).toEqual([...before, mail]);
      expect({ ...others, machines: [] }).toEqual(config);
    }
  });

  test('may be JSON', async () => {
    const path = at('written.json');
    writeFileSync(path, JSON.stringify(config));
    await writeMachine(path, mail.name, mail);
    expect(loadConfig(path)).toEqual({ ...config, machines: [mail] });
  });
});
