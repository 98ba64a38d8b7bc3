/** What systemd is told about a process, over a socket that stands for its own. */
import { type ChildProcess, spawn } from 'node:child_process';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, afterEach, beforeAll, expect, test } from '@jest/globals';
import { stringify } from 'yaml';
import { generateKeyPairSync } from 'node:crypto';
import { PROGRAM } from '../cli/run-cli.ts';
import { eventually } from '../scenarios/eventually.ts';

/**
 * Makes a socket at a path and starts a program as systemd does: with the socket as file 3 and its variables, if it asks
 * for them. Prints each datagram on a line. Perl, because Node has no such sockets. Ends with the program, or ends it.
 */
const SYSTEMD = `
use Socket; use POSIX ();
$^F = 9; $| = 1;
my ($path, @program) = @ARGV;
my ($in, $out);
socket($in, AF_UNIX, SOCK_DGRAM, 0) and bind($in, pack_sockaddr_un($path)) or die $!;
socket($out, AF_UNIX, SOCK_DGRAM, 0) and connect($out, pack_sockaddr_un($path)) or die $!;
my $pid = fork;
if ($pid == 0) {
  POSIX::dup2(fileno($out), 9);
  POSIX::close(fileno($in)); POSIX::dup2(9, 3); POSIX::close(9);
  $ENV{LISTEN_PID} = $$;
  exec @program;
}
$SIG{TERM} = sub { kill 9, $pid; exit };
while (defined recv($in, my $datagram, 4096, 0)) { print "$datagram\\n" }
`;

let folder: string;
beforeAll(() => {
  folder = mkdtempSync(join(tmpdir(), 'chamberlain-systemd-'));
});
afterAll(() => rmSync(folder, { recursive: true }));

const running: ChildProcess[] = [];
afterEach(() => running.splice(0).forEach((each) => each.kill('SIGTERM')));

/** Starts a program under it. Returns what it has told so far, and what it has written to standard error. */
function start(program: readonly string[], env: Record<string, string>) {
  const path = join(folder, `notify-${performance.now()}`);
  const asked = env['NOTIFY_SOCKET'] === 'given' ? { ...env, NOTIFY_SOCKET: path } : env;
  const child = spawn('perl', ['-e', SYSTEMD, path, process.execPath, ...program], {
    env: { PATH: process.env['PATH'] ?? '', ...asked },
    stdio: ['ignore', 'pipe', 'pipe'],
  });
  running.push(child);
  const texts = { told: '', log: '' };
  child.stdout?.setEncoding('utf8').on('data', (text: string) => (texts.told += text));
  child.stderr?.setEncoding('utf8').on('data', (text: string) => (texts.log += text));
  return {
    told: (): string[] => texts.told.split('\n').slice(0, -1),
    log: (): string => texts.log,
  };
}

/** Without READY=1, which a thread of its own writes: on a busy machine something else may come before it. */
function toldSinceReady(told: readonly string[]): string[] {
  expect(told).toContain('READY=1');
  return told.filter((each) => each !== 'READY=1');
}

const ASKED = { NOTIFY_SOCKET: 'given', LISTEN_FDS: '1', LISTEN_FDNAMES: 'notify' };
const src = (name: string): string => join(import.meta.dirname, '../../src/shared', name);
/** A program that tells systemd, and writes notes of its own into the same socket. */
const script = (text: string): string[] => [
  '--input-type=module',
  '-e',
  `import { writeSync } from 'node:fs';
   import { tellSystemd } from '${src('systemd.ts')}';
   import { openProgress } from '${src('progress.ts')}';
   import { openLog } from '${src('log.ts')}';
   const note = (text) => void writeSync(3, text);
   const log = openLog('info');
   ${text}`,
];

test('a worker is ready, and well, while it waits for servers that are away', async () => {
  const secrets = join(folder, 'secrets');
  const publicKey = generateKeyPairSync('ed25519').publicKey.export({
    type: 'spki',
    format: 'pem',
  });
  const config = join(folder, 'config.yaml');
  writeFileSync(
    config,
    stringify({
      ...{ realm: 'tools', secrets, postgres: { host: '/nowhere', database: 'x' } },
      ...{ redis: { url: 'redis://127.0.0.1:1' }, files: {} },
      ...{ ldap: { uri: 'ldapi://%2Fnowhere', base: 'dc=x' } },
      ids: { people: [{ first: 1000, last: 1999 }], tools: [{ first: 5000, last: 5999 }] },
      databases: { servers: [{ name: 'one', kind: 'replica', socket: '/nowhere' }] },
      portals: [{ name: 'portal', kinds: 'all', keys: [{ kid: 'one', publicKey }] }],
    }),
  );
  const words = [PROGRAM, '--config', config, 'work', 'sweep'];
  const { told, log } = start(words, { ...ASKED, WATCHDOG_USEC: '400000' });
  await eventually('the watchdog', () => told().length > 4);
  expect(told().slice(0, 4)).toEqual(['READY=1', 'WATCHDOG=1', 'WATCHDOG=1', 'WATCHDOG=1']);
  expect(log()).toContain('waiting for PostgreSQL');
});

test('the watchdog is not told while a loop hangs', async () => {
  const { told, log } = start(
    script(`
      const loops = [openProgress('one'), openProgress('two')];
      loops[1].made(0);
      const heard = openLog('info', { write(line) {
        process.stderr.write(line);
        setImmediate(() => { note('it goes on'); loops[1].made(); });
      } });
      tellSystemd(heard);
      setInterval(() => {}, 1000);`),
    { ...ASKED, WATCHDOG_USEC: '400000' },
  );
  await eventually('the watchdog', () => told().length > 2);
  expect(toldSinceReady(told()).slice(0, 2)).toEqual(['it goes on', 'WATCHDOG=1']);
  expect(log()).toMatch(/"loops":\["two"\],"msg":"a loop hangs: systemd will end this process"/u);
});

test('nor while the event loop hangs, nor for a loop that has ended', async () => {
  const { told } = start(
    script(`
      const loop = openProgress('one');
      loop.made(0);
      loop.close();
      loop.made(0);
      tellSystemd(log);
      setTimeout(() => {
        note('begin');
        Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, 1000);
        note('end');
      }, 10);
      setInterval(() => {}, 1000);`),
    { ...ASKED, WATCHDOG_USEC: '400000' },
  );
  await eventually('the watchdog', () => told().length > 3);
  expect(toldSinceReady(told()).slice(0, 3)).toEqual(['begin', 'end', 'WATCHDOG=1']);
});

test.each([
  ['without a watchdog, it is only told that the process is ready', ASKED, ['READY=1', 'last']],
  ['without its socket, it is told nothing', { ...ASKED, NOTIFY_SOCKET: undefined }, ['last']],
  ['nor if it has opened none', { NOTIFY_SOCKET: 'given' }, ['last']],
  [
    'nor if the socket has another name',
    { ...ASKED, LISTEN_FDS: '1', LISTEN_FDNAMES: 'other', WATCHDOG_USEC: '4000' },
    ['last'],
  ],
  [
    'a watchdog of another process is not told',
    { ...ASKED, WATCHDOG_USEC: '4000', WATCHDOG_PID: '1' },
    ['READY=1', 'last'],
  ],
])('%s', async (_, asked, expected) => {
  const env = Object.fromEntries(
    Object.entries(asked).filter((each): each is [string, string] => each[1] !== undefined),
  );
  const { told } = start(
    script(
      `tellSystemd(log); setTimeout(() => { note('last'); setInterval(() => {}, 1000); }, 100);`,
    ),
    env,
  );
  await eventually('the end', () => told().includes('last') && told().length >= expected.length);
  expect(told().toSorted()).toEqual(expected);
});
