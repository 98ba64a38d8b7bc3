/** From a realm and a bare machine to the first ssh: two commands on the machine, and one of an admin. */
import { afterAll, beforeAll, expect, test } from '@jest/globals';
import { AS_ALICE, asAliceOnLogin, bootLogin, bootRealm, joinLogin } from './bare-machine.ts';
import { sharedDaemon } from './daemon.ts';
import { eventually } from './patience.ts';
import { type Machine, machinesOf } from './systemd-machines.ts';

const machines = machinesOf(sharedDaemon(), 'join');

let realm: Machine;
let login: Machine;
beforeAll(async () => {
  realm = await bootRealm(machines);
  login = await bootLogin(machines);
});
afterAll(() => machines.removeAll());

const asAlice = (command: string) => asAliceOnLogin(realm, command);
const account = { status: 0, stdout: 'alice\n' };

test('the first admin logs in to a host that has joined', async () => {
  const begun = performance.now();
  joinLogin({ realm, login });
  await eventually('a login', () => asAlice('id -un').status === 0);
  process.stdout.write(`first_login_seconds ${((performance.now() - begun) / 1000).toFixed(1)}\n`);
  expect(asAlice('id -un')).toMatchObject(account);
  expect(login.run('chamberlain-login-host', '--check')).toBe('');
  expect(realm.run('chamberlain', 'host', 'list')).toContain('login1.example.org');
});

test('she becomes a tool that she creates', async () => {
  const request = `tool.create --name bot --title T ${AS_ALICE} --wait`;
  realm.run('sh', '-c', `chamberlain submit ${request}`);
  await eventually('the tool', () => asAlice('become --list').stdout.includes('bot'));
  login.run('install', '-d', '-o', '50001', '-g', '50001', '/data/project/bot');
  await eventually('a shell of it', () => asAlice('become bot id -un').stdout === 'tools.bot\n');
});

test('both machines start again, and she logs in', async () => {
  for (const machine of [realm, login]) await machine.restart();
  await eventually('the realm', () => realm.start('chamberlain', 'doctor').status === 0);
  await eventually('a login', () => asAlice('id -un').stdout === account.stdout);
  await eventually('the agent', () => login.start('keys-agent', 'status').status === 0);
});

test('a host that is removed learns nothing more', async () => {
  realm.run('chamberlain', 'host', 'remove', 'login1.example.org', '--yes');
  await eventually('the refusal', () => login.start('keys-agent', 'status').status !== 0);
  expect(realm.run('chamberlain', 'host', 'list')).not.toContain('login1');
});
