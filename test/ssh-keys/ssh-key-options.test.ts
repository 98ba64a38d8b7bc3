/** Options before a key, read by the real sshd: it accepts everything that we accept. */
import { afterAll, beforeAll, expect, test } from '@jest/globals';
import { execFile, execFileSync, spawn } from 'node:child_process';
import { mkdtempSync, openSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { createServer, type AddressInfo, type Server } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { parseSshKey } from '../../src/ssh-keys/ssh-key.ts';

/** Each allows a login from 127.0.0.1 today. */
const TAKEN = [
  'restrict',
  'RESTRICT,no-x11-forwarding,NO-PTY',
  'no-agent-forwarding,no-port-forwarding,no-pty,no-user-rc,no-X11-forwarding',
  'verify-required',
  'from="127.0.0.1"',
  'From="192.0.2.7,192.0.2.0/24,!192.0.2.9,2001:db8::/32,::ffff:192.0.2.0/120,127.0.0.1"',
  'from="0.0.0.0/0,::/0,192.0.2.1/32,2001:db8::1/128"',
  'from="*.example.org,10.?.*,!localhost-,127.*.1"',
  'expiry-time="21001231"',
  'EXPIRY-TIME="21001231Z"',
  'expiry-time="210012312359"',
  'restrict,from="127.0.0.0/8",expiry-time="21001231235959Z"',
];

let folder: string;
let server: Server;

beforeAll(async () => {
  folder = mkdtempSync(join(tmpdir(), 'ssh-key-options-'));
  for (const name of ['host', ...TAKEN.map((_, index) => `key-${index}`)]) {
    execFileSync('ssh-keygen', ['-q', '-t', 'ed25519', '-N', '', '-f', join(folder, name)]);
  }
  writeFileSync(join(folder, 'known'), `here ${readFileSync(join(folder, 'host.pub'), 'utf8')}`);
  writeFileSync(
    join(folder, 'config'),
    [
      `HostKey ${folder}/host`,
      `AuthorizedKeysFile ${folder}/authorized`,
      'StrictModes no',
      'PermitRootLogin yes',
      'PidFile none',
      `MaxAuthTries ${TAKEN.length}`,
      // one login uses every key, each once
      `AuthenticationMethods ${TAKEN.map(() => 'publickey').join(',')}`,
    ].join('\n'),
  );
  const log = openSync(join(folder, 'log'), 'a');
  // sshd needs /run/sshd, and nothing of the machine itself is changed
  const start = `for each in /run /var/log; do mount -t tmpfs tmpfs $each; done && mkdir -m 755 /run/sshd &&
    exec /usr/sbin/sshd -i -e -f ${folder}/config`;
  server = createServer({ pauseOnConnect: true }, (socket) => {
    spawn('/usr/bin/unshare', ['--mount', 'sh', '-c', start], { stdio: [socket, socket, log] });
    socket.destroy();
  });
  await new Promise<void>((done) => void server.listen(0, '127.0.0.1', done));
});

afterAll(() => {
  server.close();
  rmSync(folder, { recursive: true });
});

/** Whether sshd accepts logins with all the keys, each after its options. */
function logsIn(options: readonly string[]): Promise<boolean> {
  const lines = options.map(
    (option, index) => `${option} ${readFileSync(join(folder, `key-${index}.pub`), 'utf8')}`,
  );
  writeFileSync(join(folder, 'authorized'), lines.join(''));
  const settings = [
    `UserKnownHostsFile=${folder}/known`,
    'HostKeyAlias=here',
    'BatchMode=yes',
    'IdentitiesOnly=yes',
    `Port=${(server.address() as AddressInfo).port}`,
    ...options.map((_, index) => `IdentityFile=${folder}/key-${index}`),
  ].flatMap((setting) => ['-o', setting]);
  return new Promise((done) => {
    execFile('ssh', ['-F', 'none', ...settings, 'root@127.0.0.1', 'true'], (error) =>
      done(error === null),
    );
  });
}

test('sshd accepts every option that we accept, as we write it', async () => {
  const written = TAKEN.map((options, index) => {
    const verdict = parseSshKey(
      `${options} ${readFileSync(join(folder, `key-${index}.pub`), 'utf8')}`,
    );
    return verdict.ok ? verdict.key.options.join(',') : `${verdict.code}: ${options}`;
  });
  expect(await logsIn(TAKEN)).toBe(true);
  expect(await logsIn(written)).toBe(true);
});

test.each([
  // bits beyond the mask: sshd then ignores the whole list
  'from="127.0.0.1,192.0.2.1/24"',
  'from="127.0.0.1,2001:db8::1/32"',
  'no-such-thing',
])('sshd does not accept %s, which we refuse', async (bad) => {
  const key = readFileSync(join(folder, 'key-0.pub'), 'utf8');
  expect(parseSshKey(`${bad} ${key}`).ok).toBe(false);
  expect(await logsIn([bad, ...TAKEN.slice(1)])).toBe(false);
});
