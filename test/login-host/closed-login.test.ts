/**
 * A login of a person who loses access while the login waits in PAM, by real ssh. Nothing ends processes here:
 * whatever starts is what the login helper would have missed.
 */
import { afterAll, afterEach, beforeAll, expect, test } from '@jest/globals';
import { spawn } from 'node:child_process';
import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { connect } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { openLoginHost, type LoginHost } from '../../dev/servers/login-host.ts';
import { PLACES } from '../../src/login-host/places.ts';
import { eventually } from '../scenarios/eventually.ts';
import { freePort } from '../../dev/servers/redis.ts';
import { newSealKey } from './seal-key.ts';

const folder = mkdtempSync(join(tmpdir(), 'chamberlain-closed-'));
let host: LoginHost;
let key: string;

beforeAll(async () => {
  for (const each of ['home/alice', 'data/project', 'secrets']) {
    mkdirSync(join(folder, each), { recursive: true });
  }
  writeFileSync(join(folder, 'secrets/ldap-keys-agent'), 'none');
  host = await openLoginHost({
    folder: join(folder, 'host'),
    // never asked: the agent and the helper are not started
    ldapUri: 'ldap://127.0.0.1:1',
    base: 'dc=example,dc=org',
    realm: 'tools',
    ids: {
      realmGid: 500,
      people: [{ first: 20_000, last: 29_999 }],
      tools: [{ first: 50_000, last: 50_999 }],
    },
    secrets: join(folder, 'secrets'),
    sealKeys: [newSealKey().publicPem],
    dataRoot: folder,
  });
  const pair = await host.newKey('alice');
  key = pair.file;
  put(join(PLACES.extrausers, 'passwd'), 'alice:*:20001:500::/home/alice:/bin/bash\n');
  put(join(PLACES.extrausers, 'shadow'), 'alice:*:::::::\n');
  put(join(PLACES.extrausers, 'group'), 'project-tools:*:500:\n');
  for (const name of ['alice', 'local']) put(join(PLACES.keys, name), `${pair.line}\n`);
  await host.machine.must([
    ...['/bin/sh', '-ec'],
    `chgrp chamberlain-lookup ${PLACES.keys}/*; chmod 644 ${PLACES.keys}/* ${PLACES.extrausers}/*
    chown 20001 /home/alice
    useradd --system --shell /bin/bash local; cp ${PLACES.keys}/local /etc/ssh/authorized_keys.d/local
    chmod 755 /root`,
  ]);
  // a module that delays a login, for as long as the test says so
  put(
    '/usr/local/bin/hold',
    '#!/bin/sh\n[ "$PAM_TYPE" != close_session ] || exit 0\n>/tmp/at-$1\nwhile [ -e /tmp/hold-$1 ]; do sleep 0.02; done\n',
  );
  await host.machine.must(['chmod', '755', '/usr/local/bin/hold']);
  for (const type of ['account', 'session']) {
    const stack = `/etc/pam.d/common-${type}`;
    put(stack, `${get(stack)}${type} optional pam_exec.so /usr/local/bin/hold ${type}\n`);
  }
  await host.sshd.start();
});
afterEach(() => host.machine.must(['/bin/sh', '-c', `rm -f /tmp/at-* /tmp/hold-* ${CLOSED}`]));
afterAll(async () => {
  await host.close();
  rmSync(folder, { recursive: true });
});

const CLOSED = join(PLACES.login, 'closed');
const inside = (path: string): string => join(host.machine.root, path);
const put = (path: string, text: string): void => writeFileSync(inside(path), text);
const get = (path: string): string => readFileSync(inside(path), 'utf8');
const close = (name: string): void => put(CLOSED, `aaron\n${name}\n`);

interface Login {
  done: Promise<{ code: number | null; stdout: string }>;
  end: () => void;
}

function login(name: string, ...args: string[]): Login {
  const child = spawn('ssh', [
    ...host.sshOptions(key),
    ...args.slice(0, -1),
    `${name}@127.0.0.1`,
    ...args.slice(-1),
  ]);
  let stdout = '';
  child.stdout.on('data', (chunk) => (stdout += String(chunk)));
  const done = new Promise<{ code: number | null; stdout: string }>((resolve, reject) => {
    child.once('error', reject).once('close', (code) => resolve({ code, stdout }));
  });
  return { done, end: () => child.kill() };
}

/** Begins a login, revokes alice's access when it has come to a point, and lets it go on. */
async function closeWhileAt(point: 'account' | 'session', begin: () => Login): Promise<Login> {
  put(`/tmp/hold-${point}`, '');
  const begun = begin();
  await eventually('the login waits', async () => {
    return (await host.machine.run(['test', '-e', `/tmp/at-${point}`])).code === 0;
  });
  close('alice');
  rmSync(inside(`/tmp/hold-${point}`));
  return begun;
}

test('a person with access gets in, however long it takes', async () => {
  put('/tmp/hold-session', '');
  const { done } = login('alice', 'echo in; id -un');
  await eventually('the login waits', async () => {
    return (await host.machine.run(['test', '-e', '/tmp/at-session'])).code === 0;
  });
  rmSync(inside('/tmp/hold-session'));
  expect(await done).toEqual({ code: 0, stdout: 'in\nalice\n' });
});

test('a person without access does not get as far as a session', async () => {
  close('alice');
  expect(await login('alice', 'echo in').done).toEqual({ code: 255, stdout: '' });
  expect((await host.machine.run(['ls', '/tmp/at-session'])).code).not.toBe(0);
});

test('a person who loses access between account and session gets no session, and starts no unit', async () => {
  const { done } = await closeWhileAt('account', () => login('alice', 'touch /home/alice/was-in'));
  expect(await done).toMatchObject({ code: 254 });
  // no module of the session was called, so pam_systemd was not either
  for (const file of ['/home/alice/was-in', '/tmp/at-session']) {
    expect((await host.machine.run(['ls', file])).code).not.toBe(0);
  }
});

test.each([
  ['a command', ['touch /home/alice/was-in']],
  ['a shell', ['-tt', 'bash -lc "touch /home/alice/was-in"']],
  ['sftp', ['-s', 'sftp']],
])('a person who loses access while the session starts has no session: %s', async (_, args) => {
  const { done } = await closeWhileAt('session', () => login('alice', ...args));
  expect(await done).toMatchObject({ code: 254 });
  expect((await host.machine.run(['ls', '/home/alice/was-in'])).code).not.toBe(0);
});

test('nor can they forward a connection of the host', async () => {
  const port = await freePort();
  const forward = [
    '-N',
    '-o',
    'ExitOnForwardFailure=no',
    '-L',
    `${port}:127.0.0.1:${host.sshPort}`,
  ];
  const { end, done } = await closeWhileAt('session', () => login('alice', ...forward, ''));
  const greeting = (): Promise<string> =>
    new Promise((resolve, reject) => {
      const socket = connect(port, '127.0.0.1');
      let text = '';
      socket.on('data', (chunk) => (text += String(chunk)));
      socket.once('error', reject).once('close', () => resolve(text));
    });
  await eventually(
    'ssh to forward',
    async () => (await greeting().catch(() => undefined)) !== undefined,
  );
  expect(await greeting()).toBe('');
  end();
  await done;
});

test('a local account is not looked up', async () => {
  close('local');
  expect(await login('local', 'id -un').done).toEqual({ code: 0, stdout: 'local\n' });
});
