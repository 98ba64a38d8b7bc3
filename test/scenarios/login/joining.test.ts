/**
 * A login host joins: from its join request to a login by ssh, with real servers, TLS and programs. Then it joins
 * again, and in the end its access ends, also on a connection that is open.
 */
import { execFile } from 'node:child_process';
import { randomInt } from 'node:crypto';
import {
  copyFileSync,
  existsSync,
  mkdirSync,
  readFileSync,
  rmSync,
  statSync,
  truncateSync,
  writeFileSync,
} from 'node:fs';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { afterAll, beforeAll, describe, expect, test } from '@jest/globals';
import { directoryRealm, directoryRules } from '../../../deploy/ldap/render.ts';
import { makeCertificate } from '../../../dev/servers/certificate.ts';
import { INSTALL } from '../../../dev/servers/login-host.ts';
import type { Ended as Ran, Machine } from '../../../dev/servers/private-machine.ts';
import { freePort } from '../../../dev/servers/redis.ts';
import { serveLdaps } from '../../../dev/servers/slapd.ts';
import { openLdapPool, readEntry } from '../../../src/backends/ldap/ldap.ts';
import {
  fingerprintOf,
  formatJoinRequest,
  makeJoinRequest,
  parseJoinRequest,
} from '../../../src/joining/join-request.ts';
import { runCli, type Ended } from '../../cli/run-cli.ts';
import { blockOf } from '../../page-blocks.ts';
import { startServer, stopServer } from '../../stack.ts';
import { eventually } from '../eventually.ts';
import { query, readDirectory } from '../outside.ts';
import { openRunning, type Running } from '../running.ts';
import { addLoginHost, type Login, untilSound } from './login.ts';

const NAME = 'login1.example.org';
const FOLDER = '/etc/chamberlain/join';
const ANSWER = '/root/host.join';
/** An address of the loopback network, which nothing else uses. */
const HOST = `127.${randomInt(1, 255)}.${randomInt(1, 255)}.${randomInt(1, 255)}`;

let running: Running;
let login: Login;
let machine: Machine;
let ldaps: string;
let fingerprint: string;
/** What the programs of joining have printed. */
const said: string[] = [];

beforeAll(async () => {
  ldaps = `ldaps://${HOST}:${await freePort()}`;
  running = await openRunning('joining', {
    adjust: (config) => ({
      ...config,
      ldap: { ...config.ldap, hostsUri: ldaps, caFile: join(config.secrets, '../tls/ca.pem') },
    }),
  });
  const { dir, slapd } = running.world;
  const certificate = await makeCertificate(join(dir, 'tls'), { host: HOST, user: 'openldap' });
  await stopServer(slapd);
  await startServer(serveLdaps(slapd, [ldaps], certificate));
  login = await addLoginHost(running, { setUp });
  await login.create('alice');
  await login.admit('alice');
});
afterAll(async () => {
  await (login ?? running)?.close();
});

/** The two commands on a bare machine, and the one of an admin between them. */
async function setUp(bare: Machine): Promise<void> {
  machine = bare;
  copyFileSync(inside('usr/bin/age'), inside('usr/bin/age.real'));
  spy(inside('usr/bin/age'), '/usr/bin/age.real', '/root/age.ran');
  const asked = await asPrinted('login-hosts:request', `--name ${NAME}`);
  expect(asked).toMatchObject({ code: 0, stdout: '' });
  copyFileSync(inside('/root/HOST.json'), at('request.json'));
  const request = readFileSync(at('request.json'), 'utf8');
  said.push(request);
  ({ fingerprint } = JSON.parse(request) as { fingerprint: string });
  expect(asked.stderr).toContain(`${NAME} has the fingerprint ${fingerprint}\n`);
  const [, ...words] = commandOf('login-hosts:join')
    .replace('HOST.json', at('request.json'))
    .split(' ');
  const code = await answer(fingerprint, words);
  copyFileSync(inside(ANSWER), inside('/root/HOST.join'));
  const done = await asPrinted('login-hosts:answer', `--fingerprint ${code}`);
  expect(done).toMatchObject({ code: 0, stderr: '' });
}

/** The first command of a block of the page, without its comment. */
const commandOf = (block: string): string =>
  (blockOf(block).split('\n')[0] ?? '').replace(/ +#.*/u, '');

/** Runs that command on the machine, with more arguments. */
async function asPrinted(block: string, more: string): Promise<Ran> {
  const script = commandOf(block).replace(/^chamberlain-login-host setup/u, `$& ${more}`);
  const shown = `chamberlain-login-host() { ${INSTALL} "$@"; }\n${script}`;
  const ended = await machine.run(['/bin/bash', '-c', shown], { cwd: '/root' });
  said.push(ended.stdout, ended.stderr);
  return ended;
}

const at = (name: string): string => join(running.world.dir, name);
const inside = (path: string): string => join(machine.root, path);
const passwordOf = (): string =>
  readFileSync(inside('etc/chamberlain/secrets/ldap-keys-agent'), 'utf8');

/** The account that the machine uses. */
const accountOf = (): string =>
  /hostAccount: (\S+)/u.exec(
    readFileSync(inside('etc/chamberlain/login-host.yaml'), 'utf8'),
  )?.[1] ?? '';

/** Writes a script that runs `age`, and notes with which arguments and variables. */
function spy(path: string, age: string, notes: string): void {
  const note = `{ echo "$0 $*"; tr '\\0' '\\n' </proc/$$/environ; } >>${notes}`;
  writeFileSync(path, `#!/bin/sh\n${note}\nexec ${age} "$@"\n`, { mode: 0o755 });
}

async function onMachine(...args: string[]): Promise<Ran> {
  const ended = await machine.run([INSTALL, 'setup', ...args]);
  said.push(ended.stdout, ended.stderr);
  return ended;
}

async function chamberlain(args: string[], config = running.world.configFile): Promise<Ended> {
  const ended = await runCli(args, { config });
  said.push(ended.out, ended.err);
  return ended;
}

/** The fingerprint of the answer to the machine's join request. */
async function answer(code: string, command = ['join', at('request.json')]): Promise<string> {
  const args = [...command, '--out', at('host.join'), '--fingerprint', code];
  const { exit, out } = await chamberlain(args);
  expect(exit).toBe(0);
  expect(statSync(at('host.join')).mode & 0o777).toBe(0o600);
  copyFileSync(at('host.join'), inside(ANSWER));
  rmSync(at('host.join'));
  return /fingerprint of the answer is (\S+)\./u.exec(out)?.[1] ?? '';
}

const takeAnswer = (code: string): Promise<Ran> =>
  onMachine('--join', ANSWER, '--fingerprint', code);

/** Whether the directory accepts a password of the host. */
async function accepts(password: string): Promise<boolean> {
  return openAs(password).then(
    async (connection) => {
      await connection.close();
      return true;
    },
    (error: Error) => {
      expect((error.cause as Error).message).toContain('LDAP result 49');
      return false;
    },
  );
}

/** A connection as the host, which is never opened again. */
async function openAs(password: string) {
  const { base } = running.world.config.ldap;
  const pool = openLdapPool({
    ...{ uri: running.world.config.ldap.uri, password, check: async () => {} },
    bindDn: `cn=${accountOf()},ou=hosts,ou=chamberlain,${base}`,
  });
  const marker = () =>
    pool.run((ldap) => readEntry(ldap, `cn=chamberlain,${base}`, ['description']));
  const people = () =>
    pool.run((ldap) =>
      ldap.search({ base: `ou=people,${base}`, scope: 'one', attributes: ['chamberlainSeal'] }),
    );
  await pool.run((ldap) => readEntry(ldap, '', ['1.1']));
  return { marker, people, close: pool.close };
}

async function auditOf(): Promise<string[]> {
  const rows = await query<{ act: string }>(
    running.world,
    `SELECT kind || ' ' || array_to_string(fields, ' ') AS act FROM audit WHERE kind LIKE 'host.%' ORDER BY id`,
  );
  return rows.map(({ act }) => act);
}

describe('a machine that has joined by two commands on it and one of an admin', () => {
  test('lets people log in', async () => {
    await eventually('her login', async () => (await login.ssh('alice', 'true')).code === 0);
    const ended = await login.ssh('alice', 'id -un');
    expect(ended).toMatchObject({ code: 0, stdout: 'alice\n' });
    await untilSound(login);
    expect(await login.agentStatus()).toMatchObject({ server: ldaps });
  });

  test('keeps its key from everybody but root, and has one join request', async () => {
    expect(statSync(inside(FOLDER)).mode & 0o777).toBe(0o700);
    expect(statSync(inside(`${FOLDER}/key`)).mode & 0o777).toBe(0o600);
    const again = await onMachine('--request');
    expect(again.stdout).toBe(readFileSync(at('request.json'), 'utf8'));
    const other = await onMachine('--request', '--name', 'other');
    expect(other).toMatchObject({ code: 2, stdout: '' });
  });

  test('has nothing to do in a second run', async () => {
    const done = 'nothing to do: this machine is a login host\n';
    expect(await login.host.install()).toEqual({ code: 0, stdout: done, stderr: '' });
    expect(await login.host.install('--check')).toEqual({ code: 0, stdout: '', stderr: '' });
  });

  test('is listed, and in the audit', async () => {
    const { out } = await chamberlain(['host', 'list', '--json']);
    expect(JSON.parse(out)).toEqual({
      hosts: [
        {
          ...{ name: NAME, kind: 'login-host', hasAccess: true, fingerprint },
          ...{ joinedAt: expect.stringMatching(/^2\d{3}-/), by: expect.stringMatching(/^unix:./) },
        },
      ],
    });
    const table = (await chamberlain(['host', 'list'])).out;
    expect(table).toMatch(
      new RegExp(`^${NAME}  login-host  yes +${fingerprint}  2.*Z  unix:`, 'm'),
    );
    expect(await auditOf()).toEqual([`host.join ${NAME} ${fingerprint}`]);
  });

  test('takes no other answer than its own, with the fingerprint that the admin was shown', async () => {
    const code = await answer(fingerprint);
    for (const [args, why] of [
      [['--fingerprint', fingerprint], `the answer has the fingerprint ${code}, and not`],
      [[], 'no terminal to confirm on; give --fingerprint'],
    ] as const) {
      const refused = await onMachine('--join', ANSWER, ...args);
      expect(refused).toMatchObject({ code: 2, stdout: '', stderr: expect.stringContaining(why) });
    }
    const key = readFileSync(inside(`${FOLDER}/key`));
    writeFileSync(inside('/root/damaged.join'), 'age-encryption.org/v1\n');
    const damaged = await onMachine('--join', '/root/damaged.join', '--fingerprint', code);
    expect(damaged).toMatchObject({ code: 2, stderr: expect.stringContaining('decrypted') });
    await machine.must(['/bin/sh', '-ec', `cd ${FOLDER} && rm key && age-keygen -o key`]);
    const strange = await onMachine('--join', ANSWER, '--fingerprint', code);
    expect(strange).toMatchObject({ code: 2, stderr: expect.stringContaining('decrypted') });
    writeFileSync(inside(`${FOLDER}/key`), key);
  });

  test('joins again: the new password counts, and the old one does not', async () => {
    const before = passwordOf();
    const code = await answer(fingerprint);
    expect(await accepts(before)).toBe(false);
    expect(await takeAnswer(code)).toMatchObject({ code: 0, stderr: '' });
    expect(passwordOf()).not.toBe(before);
    expect(await accepts(passwordOf())).toBe(true);
    await login.host.agent.stop();
    await login.host.agent.start();
    await eventually('the agent to read', async () => (await login.agentStatus()).trouble === null);
  });

  test.each([
    ['no', 1],
    ['yes', 0],
  ])('and its admin are asked on a terminal, and %s counts', async (reply, code) => {
    const { configFile: config } = running.world;
    const before = passwordOf();
    const asked = await runCli(['join', at('request.json'), '--out', at('asked.join')], {
      ...{ config, terminal: true, input: `${reply}\n` },
    });
    expect([asked.exit, existsSync(at('asked.join'))]).toEqual([code, code === 0]);
    expect(asked.out).toContain(`fingerprint  ${fingerprint}`);
    expect(await accepts(before)).toBe(code === 1);
    await answer(fingerprint);
    const command = `${INSTALL} setup --join ${ANSWER}`;
    const ended = await machine.run(['/usr/bin/script', '-qec', command, '/dev/null'], {
      input: `${reply}\n`,
    });
    expect(ended.stdout).toContain('is to be a login host of the realm tools');
    expect([ended.code, passwordOf() === before]).toEqual([code, code === 1]);
  });

  test('keeps its name: another key is refused until the host is removed', async () => {
    const key = await machine.must(['/bin/sh', '-ec', 'age-keygen 2>/dev/null | age-keygen -y']);
    const other = makeJoinRequest({ kind: 'login-host', name: NAME, key: key.trim() });
    writeFileSync(at('other.json'), formatJoinRequest(other));
    const acts = await auditOf();
    const args = ['join', at('other.json'), '--out', at('other.join')];
    const { exit, err } = await chamberlain([...args, '--fingerprint', other.fingerprint]);
    expect([exit, err]).toEqual([1, expect.stringMatching(/^HOST_TAKEN: .*host remove/)]);
    expect([existsSync(at('other.join')), await auditOf()]).toEqual([false, acts]);
    expect(await accepts(passwordOf())).toBe(true);
  });

  test('is shown the fingerprint of what was written, whatever lies there afterwards', async () => {
    const bin = at('bin-of-another');
    mkdirSync(bin);
    const [out, kept] = [at('swapped.join'), at('kept.join')];
    const script = `/usr/bin/age "$@" && mv ${out} ${kept} && echo forged >${out}`;
    writeFileSync(join(bin, 'age'), `#!/bin/sh\n${script}\n`, { mode: 0o755 });
    const PATH = `${bin}:${process.env['PATH'] ?? ''}`;
    const args = ['join', at('request.json'), '--out', out, '--fingerprint', fingerprint];
    const ended = await runCli(args, { config: running.world.configFile, env: { PATH } });
    expect(ended).toMatchObject({ exit: 0, out: expect.stringContaining('of the answer is ') });
    expect(readFileSync(out, 'utf8')).toBe('forged\n');
    expect(ended.out).toContain(`of the answer is ${fingerprintOf(readFileSync(kept))}.`);
    expect(await takeAnswer(await answer(fingerprint))).toMatchObject({ code: 0 });
  });

  test('has secrets that are in no argument, variable, output, log or other file', async () => {
    const { world, log } = running;
    const bin = at('bin');
    mkdirSync(bin);
    spy(join(bin, 'age'), '/usr/bin/age', at('age.ran'));
    const PATH = `${bin}:${process.env['PATH'] ?? ''}`;
    const args = ['join', at('request.json'), '--out', at('host.join')];
    const ended = await runCli([...args, '--fingerprint', fingerprint], {
      ...{ config: world.configFile, env: { PATH } },
    });
    expect(ended).toMatchObject({ exit: 0 });
    copyFileSync(at('host.join'), inside(ANSWER));
    rmSync(at('host.join'));
    const [, code = ''] = /fingerprint of the answer is (\S+)\./u.exec(ended.out) ?? [];
    expect(await takeAnswer(code)).toMatchObject({ code: 0 });
    const ran = [at('age.ran'), inside('/root/age.ran')].map((path) => readFileSync(path, 'utf8'));
    expect(ran).toEqual([
      expect.stringMatching(/age -r age1\w+\n/u),
      expect.stringContaining(`age -d -i ${FOLDER}/key\n`),
    ]);
    const bindDn = `cn=${accountOf()},ou=hosts,ou=chamberlain,${world.config.ldap.base}`;
    const stored = (await readDirectory(world)).get(bindDn)?.['userPassword']?.[0] ?? '';
    expect(stored).toMatch(/^\{SSHA\}/);
    const keyFile = readFileSync(inside(`${FOLDER}/key`), 'utf8');
    const secrets = [passwordOf(), /AGE-SECRET-KEY-\S+/u.exec(keyFile)?.[0] ?? ''];
    const audit = JSON.stringify(await query(world, 'SELECT * FROM audit'));
    const texts = [
      ...said,
      ended.out,
      ended.err,
      ...ran,
      ...log,
      stored,
      audit,
      login.host.agent.log(),
    ];
    for (const secret of secrets) {
      expect(secret).toMatch(/^[\w-]{16,}$/);
      for (const text of [...texts, readFileSync(inside(ANSWER), 'latin1')]) {
        expect(text.includes(secret)).toBe(false);
      }
      const found = await machine.must(
        [...['/bin/sh', '-c', `grep -rlF -f - /etc /root /run /tmp /var/lib/chamberlain || :`]],
        { input: `${secret}\n` },
      );
      const kept = ['/etc/chamberlain/secrets/ldap-keys-agent', `${FOLDER}/key`];
      expect(kept).toContain(found.trim());
    }
  });
});

describe('the admin’s command refuses', () => {
  const out = () => ['--out', at('refused.join')];

  test.each<[string, () => Promise<string[]> | string[], number, RegExp]>([
    [
      'another fingerprint than the machine shows',
      () => ['join', at('request.json'), ...out(), '--fingerprint', '0000-0000-0000-0000'],
      1,
      /^JOIN_INVALID: .* has the fingerprint /u,
    ],
    [
      'to be run without a terminal, and without a fingerprint',
      () => ['join', at('request.json'), ...out()],
      2,
      /^USAGE: .*give --fingerprint/u,
    ],
    [
      'to write over a file',
      () => ['join', at('request.json'), '--out', at('request.json'), '--fingerprint', fingerprint],
      2,
      /^USAGE: writing the answer to .*EEXIST[^]*An interrupted `chamberlain join`.*: remove it, and run the command again/u,
    ],
    [
      'an endless file',
      () => ['join', '/dev/zero', ...out(), '--fingerprint', fingerprint],
      2,
      /^USAGE: .*not a regular file/u,
    ],
    [
      'a file that is too long',
      () => {
        writeFileSync(at('long.json'), '');
        truncateSync(at('long.json'), 2 ** 40);
        return ['join', at('long.json'), ...out(), '--fingerprint', fingerprint];
      },
      1,
      /^JOIN_INVALID: .*too long/u,
    ],
    [
      'a machine that runs roles, if it could not reach the servers',
      () => {
        const { key } = parseJoinRequest(readFileSync(at('request.json')));
        const request = makeJoinRequest({ kind: 'role', name: 'x', key, roles: ['homes'] });
        writeFileSync(at('homes.json'), formatJoinRequest(request));
        return ['join', at('homes.json'), ...out(), '--fingerprint', request.fingerprint];
      },
      2,
      /^CONFIG_INVALID: other machines cannot reach PostgreSQL over TLS/u,
    ],
    [
      'to remove a host that is none',
      () => ['host', 'remove', 'x', '--yes'],
      1,
      /^HOST_UNKNOWN: /u,
    ],
    ['to remove a host unasked', () => ['host', 'remove', NAME], 2, /^USAGE: .*give --yes/u],
  ])('%s', async (_, args, code, why) => {
    const acts = await auditOf();
    const { exit, err } = await chamberlain(await args());
    expect([exit, err]).toEqual([code, expect.stringMatching(why)]);
    expect([existsSync(at('refused.join')), await auditOf()]).toEqual([false, acts]);
    expect(await accepts(passwordOf())).toBe(true);
  });

  test('a FIFO, which the machine refuses as well, and neither waits for it', async () => {
    await promisify(execFile)('mkfifo', [at('fifo'), inside('/root/fifo')]);
    const soon = ['timeout', '20'];
    const args = ['join', at('fifo'), ...out(), '--fingerprint', fingerprint];
    const { exit, err } = await runCli(args, { config: running.world.configFile, prefix: soon });
    expect([exit, err]).toEqual([2, expect.stringMatching(/^USAGE: .*not a regular file/u)]);
    const command = [INSTALL, 'setup', '--join', '/root/fifo', '--fingerprint', fingerprint];
    const refused = await machine.run(['/usr/bin/timeout', '20', ...command]);
    expect(refused).toMatchObject({ code: 2, stderr: expect.stringContaining('a regular file') });
  });

  test.each([
    ['', 'ldap'],
    ['ldaps://localhost', 'ldaps://localhost'],
    ['ldaps://LOCALHOST:636/', 'ldaps://LOCALHOST:636/'],
    ['ldaps://x.localhost', 'ldaps://x.localhost'],
    ['ldaps://[::1]', 'ldaps://[::1]'],
  ])('a realm whose directory other machines cannot reach: %j', async (uri, why) => {
    const line = uri === '' ? '' : `  hostsUri: "${uri}"\n`;
    const config = readFileSync(running.world.configFile, 'utf8');
    expect(config).toMatch(/^ {2}hostsUri:/mu);
    writeFileSync(at('near.yaml'), config.replace(/^.*hostsUri.*\n/mu, line));
    const args = ['join', at('request.json'), ...out(), '--fingerprint', fingerprint];
    const { exit, err } = await chamberlain(args, at('near.yaml'));
    expect([exit, err]).toEqual([2, expect.stringMatching(/^CONFIG_INVALID: .*ldap\.hostsUri/su)]);
    expect(err).toContain(`other machines cannot reach the directory by ${why}`);
  });

  test('a directory whose rules do not know login hosts, and leaves no answer', async () => {
    const { world } = running;
    const { access } = directoryRules(directoryRealm(world.config));
    const load = async (rules: readonly string[]): Promise<void> => {
      const lines = rules.map((rule) => `olcAccess: ${rule}\n`).join('');
      writeFileSync(
        at('rules.ldif'),
        `dn: olcDatabase={1}mdb,cn=config\nchangetype: modify\nreplace: olcAccess\n${lines}`,
      );
      const as = ['-Q', '-Y', 'EXTERNAL', '-H', world.slapd.uri];
      await promisify(execFile)('ldapmodify', [...as, '-f', at('rules.ldif')]);
    };
    await load(access.map((rule) => rule.replaceAll(/ by group\.\S+ read/gu, '')));
    try {
      const args = ['join', at('request.json'), ...out(), '--fingerprint', fingerprint];
      const { exit, err } = await chamberlain(args);
      expect([exit, err]).toEqual([1, expect.stringContaining('Load the rules of the directory')]);
      expect(err).toContain(`The old password of ${NAME} has ended, and there is no answer`);
      expect(err).toContain('Then run the command again.');
      expect(existsSync(at('refused.join'))).toBe(false);
    } finally {
      await load(access);
    }
    expect(await takeAnswer(await answer(fingerprint))).toMatchObject({ code: 0 });
  });
});

describe('a host that is removed', () => {
  test('sees nothing from that moment on, also on a connection that is open', async () => {
    const open = await openAs(passwordOf());
    expect((await open.marker())?.values('description')).toHaveLength(1);
    expect((await open.people()).length).toBeGreaterThan(0);

    const removed = await chamberlain(['host', 'remove', NAME, '--yes']);
    expect(removed).toMatchObject({ exit: 0, err: '' });
    expect(await open.marker()).toBeUndefined();
    await expect(open.people()).rejects.toThrow('no such entry');
    await open.close();
    expect(await accepts(passwordOf())).toBe(false);

    await eventually('its agent to say so', async () => {
      const { trouble } = await login.agentStatus();
      return trouble !== null;
    });
    expect((await chamberlain(['host', 'list'])).out).toBe('no host has joined\n');
    expect((await auditOf()).at(-1)).toBe(`host.remove ${NAME} ${fingerprint}`);
    // what it knew before counts until the lines expire
    expect(await login.ssh('alice', 'true')).toMatchObject({ code: 0 });
  });

  test('may join again', async () => {
    expect(await takeAnswer(await answer(fingerprint))).toMatchObject({ code: 0, stderr: '' });
    await eventually('the agent to read', async () => (await login.agentStatus()).trouble === null);
  });

  test.each([
    ['lost', (key: string) => rmSync(key)],
    ['empty', (key: string) => writeFileSync(key, '')],
  ])('makes another key and join request if its key is %s', async (_, harm) => {
    const key = inside(`${FOLDER}/key`);
    const before = readFileSync(key, 'utf8');
    harm(key);
    const asked = await onMachine('--request');
    expect(asked.code).toBe(0);
    const { name, key: to, fingerprint: code } = parseJoinRequest(Buffer.from(asked.stdout));
    expect([name, code === fingerprint]).toEqual([NAME, false]);
    const made = await machine.must(['/usr/bin/age-keygen', '-y', `${FOLDER}/key`]);
    expect(made).toBe(`${to}\n`);
    expect((await onMachine('--request')).stdout).toBe(asked.stdout);
    writeFileSync(key, before);
    writeFileSync(inside(`${FOLDER}/request.json`), readFileSync(at('request.json')));
    expect((await onMachine('--request')).stdout).toBe(readFileSync(at('request.json'), 'utf8'));
  });

  test('sees nothing on an old connection when the machine was installed anew', async () => {
    const open = await openAs(passwordOf());
    expect(await open.marker()).toBeDefined();
    expect(await chamberlain(['host', 'remove', NAME, '--yes'])).toMatchObject({ exit: 0 });
    rmSync(inside(FOLDER), { recursive: true });
    const asked = await onMachine('--request', '--name', NAME);
    writeFileSync(at('request.json'), asked.stdout);
    const before = fingerprint;
    ({ fingerprint } = JSON.parse(asked.stdout) as { fingerprint: string });
    expect(fingerprint).not.toBe(before);
    expect(await takeAnswer(await answer(fingerprint))).toMatchObject({ code: 0, stderr: '' });
    expect(await accepts(passwordOf())).toBe(true);
    expect(await open.marker()).toBeUndefined();
    await expect(open.people()).rejects.toThrow('no such entry');
    await open.close();
    const { out } = await chamberlain(['host', 'list', '--json']);
    expect(JSON.parse(out)).toMatchObject({ hosts: [{ name: NAME, fingerprint }] });
  });
});
