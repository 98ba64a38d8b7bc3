/** Agent and login helper of a login host, killed in the middle of changes; login-crash.long.test.ts kills them more often. */
import { afterAll, beforeAll, expect, test } from '@jest/globals';
import { openCrashing, surviveKills, surviveLossOfFiles } from './login-crash.ts';
import type { Login } from './login.ts';

let login: Login;

beforeAll(async () => {
  login = await openCrashing('login-crash');
});

afterAll(async () => {
  await login?.close();
});

test('killed every 10 of 30 changes, all files match the seals in the end', async () => {
  await surviveKills(login, 30, 11);
});

test('files that are lost while the directory is away are written again from what the helper has kept', async () => {
  await surviveLossOfFiles(login);
});

test('folders and files are writable by root alone, but what the agent has compiled', async () => {
  const found = await login.host.machine.must([
    ...['/usr/bin/find', '/var/lib/chamberlain', '/var/lib/extrausers'],
    ...['/etc/sudoers.d/chamberlain-tools', '-printf', '%m %u %g %y %h\n'],
  ]);
  const kinds = new Set(
    found
      .trimEnd()
      .split('\n')
      .map((line) => line.replace(/\/compiled(\/.*)?$/, '/compiled')),
  );
  const agents = /chamberlain-keys/;
  expect([...kinds].filter((kind) => agents.test(kind)).sort()).toEqual([
    '600 chamberlain-keys chamberlain-keys f /var/lib/chamberlain/agent/compiled',
    '700 chamberlain-keys chamberlain-keys d /var/lib/chamberlain',
    '755 chamberlain-keys chamberlain-keys d /var/lib/chamberlain/agent',
    '755 chamberlain-keys chamberlain-keys d /var/lib/chamberlain/agent/compiled',
  ]);
  expect([...kinds].filter((kind) => !agents.test(kind)).sort()).toEqual([
    '2750 root chamberlain-lookup d /var/lib/chamberlain',
    '440 root root f /etc/sudoers.d',
    '600 root root f /var/lib/chamberlain/login',
    '600 root root f /var/lib/chamberlain/login/compiled',
    '640 root chamberlain-lookup f /var/lib/chamberlain/keys',
    '640 root shadow f /var/lib/extrausers',
    '644 root root f /var/lib/chamberlain/login',
    '644 root root f /var/lib/extrausers',
    '755 root root d /var/lib',
    '755 root root d /var/lib/chamberlain',
    '755 root root d /var/lib/chamberlain/login',
    '755 root root d /var/lib/chamberlain/login/compiled',
  ]);
});
