/** A person whom only the list of accounts knows: gets in by real ssh, and is put out. */
import { afterAll, beforeAll, expect, test } from '@jest/globals';
import { once } from 'node:events';
import { writeFileSync } from 'node:fs';
import { connect } from 'node:net';
import { freePort, openHelperHost, person, type HelperHost } from './helper-host.ts';

const ALICE = 10_001;

let host: HelperHost;
let machine: HelperHost['machine'];
let helper: HelperHost['helper'];
afterAll(async () => machine.close());

const SSHD = `ListenAddress 127.0.0.1:PORT
HostKey /root/host-key
AuthorizedKeysFile /etc/ssh/%u.pub
StrictModes no
UsePAM yes
PerSourcePenalties no
`;
let port: number;

beforeAll(async () => {
  host = await openHelperHost();
  ({ machine, helper } = host);
  port = await freePort();
  const etc = {
    'ssh/test.conf': SSHD.replace('PORT', String(port)),
    'nsswitch.conf': 'passwd: files db\ngroup: files\nshadow: files\nsudoers: files\n',
    'sudoers.d/tools': 'alice,bob ALL = (tools.bot) NOPASSWD: ALL\n',
  };
  for (const [name, text] of Object.entries(etc)) {
    writeFileSync(machine.inside(`/etc/${name}`), text, { mode: 0o644 });
  }
  await machine.must(['mkdir', '-p', '/run/sshd', '/home/alice', '/home/bob', '/data/project/bot']);
  for (const name of ['host-key', 'alice', 'bob']) {
    await machine.must(['ssh-keygen', '-q', '-t', 'ed25519', '-N', '', '-f', `/root/${name}`]);
    await machine.must(['cp', `/root/${name}.pub`, '/etc/ssh/']);
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
  await host.begin();
  await helper.passwd([
    person('alice', ALICE),
    person('bob', 10_002),
    'tools.bot:x:50001:50001::/data/project/bot:/bin/bash',
  ]);
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

test('and is put out, with all that was started as a tool; another who is that tool stays', async () => {
  const asTool = (what: string) => `sudo -niu tools.bot /usr/local/bin/stay ${what}`;
  const sessions = [
    ssh('alice', asTool('alices stubborn')),
    ssh('alice', `${asTool('left stubborn')} </dev/null >/dev/null 2>&1 & exit`),
    ssh('bob', asTool('bobs')),
  ];
  const names = ['alices', 'left', 'bobs'];
  const [hers, left, bobs] = await Promise.all(names.map((name) => machine.started(name)));
  expect((await sessions[1])?.code).toBe(0);
  await helper.end(ALICE);
  expect([hers?.lives(), left?.lives(), bobs?.lives()]).toEqual([false, false, true]);
  expect((await sessions[0])?.code).not.toBe(0);
  await helper.end(10_002);
  expect((await sessions[2])?.code).not.toBe(0);
});

test('a helper that does not answer is not waited for longer than 15 s', async () => {
  const { pid, ended } = await host.startBelowShell();
  await machine.must(['kill', '-STOP', pid]);
  const begin = performance.now();
  await expect(helper.end(ALICE)).rejects.toMatchObject({
    code: 'BACKEND_UNAVAILABLE',
    cause: { message: expect.stringContaining('has not answered in 15 s') },
  });
  expect(performance.now() - begin).toBeLessThan(20_000);
  await machine.must(['kill', '-CONT', pid]);
  await helper.end(ALICE);
  await machine.must(['kill', pid]);
  await ended;
});
