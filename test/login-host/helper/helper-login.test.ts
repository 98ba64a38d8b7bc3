/**
 * A person whom a login host knows only by a seal: they log in by real ssh, work as a tool, and are put out.
 */
import { afterAll, beforeAll, expect, test } from '@jest/globals';
import { once } from 'node:events';
import { readFileSync, writeFileSync } from 'node:fs';
import { connect } from 'node:net';
import { PLACES } from '../../../src/login-host/places.ts';
import { eventually } from '../../scenarios/eventually.ts';
import { freePort } from '../../../dev/servers/redis.ts';
import { openHelperHost, type HelperHost } from '../helper-host.ts';
import * as seals from '../seals.ts';

const ALICE = 10_001;
const BOB = 10_002;
const BOT = 50_001;

let host: HelperHost;
let machine: HelperHost['machine'];
afterAll(async () => machine.close());

const SSHD = `ListenAddress 127.0.0.1:PORT
HostKey /root/host-key
AuthorizedKeysFile none
AuthorizedKeysCommand /usr/bin/cat ${PLACES.keys}/%u
AuthorizedKeysCommandUser root
StrictModes no
UsePAM yes
PerSourcePenalties no
`;
const NSSWITCH =
  'passwd: files extrausers\ngroup: files extrausers\nshadow: files extrausers\nsudoers: files\n';
let port: number;
const key = (name: string) => {
  const line = readFileSync(machine.inside(`/root/${name}.pub`), 'utf8');
  return line.split(' ').slice(0, 2).join(' ');
};
const person = (name: string, uid: number, more = {}) =>
  seals.person(name, 0, { uid, keys: [key(name)], ...more });

beforeAll(async () => {
  host = await openHelperHost();
  ({ machine } = host);
  port = await freePort();
  const etc = {
    'ssh/test.conf': SSHD.replace('PORT', String(port)),
    'nsswitch.conf': NSSWITCH,
  };
  for (const [name, text] of Object.entries(etc)) {
    writeFileSync(machine.inside(`/etc/${name}`), text, { mode: 0o644 });
  }
  await machine.must(['mkdir', '-p', '/run/sshd', '/home/alice', '/home/bob', '/data/project/bot']);
  for (const name of ['host-key', 'alice', 'bob']) {
    await machine.must(['ssh-keygen', '-q', '-t', 'ed25519', '-N', '', '-f', `/root/${name}`]);
  }
  const sshd = machine.daemon({
    name: 'sshd',
    command: () => ['/usr/sbin/sshd', '-D', '-e', '-f', '/etc/ssh/test.conf'],
    answers: async () => {
      const socket = connect(port, '127.0.0.1');
      await once(socket, 'connect');
      socket.destroy();
      return true;
    },
  });
  await sshd.start();
  await host.daemon.start();
  await host.all(
    person('alice', ALICE),
    person('bob', BOB),
    seals.tool('bot', 0, { uid: BOT, members: ['alice', 'bob'] }),
  );
});

const ssh = (name: string, command: string) =>
  machine.run([
    ...['ssh', '-F', 'none', '-i', `/root/${name}`, '-p', String(port), '-o', 'BatchMode=yes'],
    ...['-o', 'StrictHostKeyChecking=no', '-o', 'UserKnownHostsFile=/dev/null'],
    ...[`${name}@127.0.0.1`, command],
  ]);

test('gets in', async () => {
  expect(await ssh('alice', 'id -un; pwd; cat /proc/self/loginuid')).toMatchObject({
    code: 0,
    stdout: `alice\n/home/alice\n${ALICE}`,
  });
});

test('is put out, with everything that was started as a tool; another maintainer of that tool stays', async () => {
  const asTool = (what: string) => `sudo -niu tools.bot /usr/local/bin/stay ${what}`;
  const sessions = [
    ssh('alice', asTool('alices stubborn')),
    ssh('alice', `${asTool('left stubborn')} </dev/null >/dev/null 2>&1 & exit`),
    ssh('bob', asTool('bobs')),
  ];
  const names = ['alices', 'left', 'bobs'];
  const [hers, left, bobs] = await Promise.all(names.map((name) => machine.started(name)));
  expect((await sessions[1])?.code).toBe(0);
  await host.tell(...host.seal(person('alice', ALICE, { state: 'suspended', number: 6 })));
  await eventually('hers have ended', () => hers?.lives() === false && left?.lives() === false);
  expect(bobs?.lives()).toBe(true);
  expect((await sessions[0])?.code).not.toBe(0);
  expect((await ssh('alice', 'true')).code).not.toBe(0);
  await host.tell(['gone', 'bob'], host.beat({ floors: [[BOB, 6]] }));
  await eventually('his have ended', () => bobs?.lives() === false);
  expect((await sessions[2])?.code).not.toBe(0);
});
