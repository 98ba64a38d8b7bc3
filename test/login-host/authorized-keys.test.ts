/**
 * sshd's AuthorizedKeysCommand, exactly as it is installed, run by an account without rights in a mount
 * namespace in which /var/lib and /run are folders of the test's own.
 */
import { afterAll, beforeAll, beforeEach, describe, expect, test } from '@jest/globals';
import fc from 'fast-check';
import { execFileSync, spawn } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import {
  chmodSync,
  chownSync,
  copyFileSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  renameSync,
  rmSync,
  symlinkSync,
  unlinkSync,
  writeFileSync,
} from 'node:fs';
import { createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setImmediate as nextTurn } from 'node:timers/promises';

/** nobody's, as uid and gid: it stands for chamberlain-lookup */
const LOOKUP = 65_534;
const SOURCE = join(import.meta.dirname, '../../deploy/login-host/authorized-keys');

const ENTER = `mount --bind "$1/lib" /var/lib && mount --bind "$1/run" /run && cd / && shift &&
  exec setpriv --reuid=${LOOKUP} --regid=${LOOKUP} --clear-groups env -i "$@"`;

let root: string;
let script: string;
let keys: string;

beforeAll(() => {
  root = mkdtempSync(join(tmpdir(), 'chamberlain-keys-'));
  chmodSync(root, 0o755);
  for (const folder of ['lib', 'lib/chamberlain', 'run', 'run/nscd', 'evil', 'evidence']) {
    mkdirSync(join(root, folder), 0o755);
  }
  chmodSync(join(root, 'evidence'), 0o777);
  script = join(root, 'authorized-keys');
  copyFileSync(SOURCE, script);
  chmodSync(script, 0o755);
  keys = join(root, 'lib/chamberlain/keys');
});
beforeEach(() => {
  rmSync(keys, { recursive: true, force: true });
  mkdirSync(keys, 0o750);
  chownSync(keys, 0, LOOKUP);
  chmodSync(keys, 0o2750);
});
afterAll(() => rmSync(root, { recursive: true, force: true }));

/** Runs a program as the lookup's account, with no variable but those given as NAME=VALUE. */
async function run(
  ...command: string[]
): Promise<{ exit: number | null; out: string; err: string }> {
  const args = ['--mount', '--propagation', 'private', 'sh', '-c', ENTER, 'sh', root, ...command];
  const child = spawn('unshare', args, { stdio: ['ignore', 'pipe', 'pipe'], timeout: 10_000 });
  // bytes one to one, so that bytes are compared
  const texts = [child.stdout, child.stderr].map(async (stream) => {
    let text = '';
    for await (const chunk of stream.setEncoding('latin1')) text += chunk as string;
    return text;
  });
  const exit = new Promise<number | null>((done, fail) => {
    child.once('error', fail).once('close', done);
  });
  const [out = '', err = ''] = await Promise.all(texts);
  return { exit: await exit, out, err };
}

function keep(user: string, content: string): void {
  writeFileSync(join(keys, user), content, { encoding: 'latin1', mode: 0o640 });
}

const ed25519 = () => `ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAI${randomBytes(32).toString('base64')}`;
const rsa4096 = () =>
  `ssh-rsa AAAAB3NzaC1yc2EAAAADAQABAAACAQ${randomBytes(513).toString('base64')}`;
const keyLines = (count: number) =>
  Array.from(
    { length: count },
    (_, i) => `expiry-time="20300101000000Z" ${i % 2 === 0 ? ed25519() : rsa4096()}\n`,
  ).join('');
const everyByte = Array.from({ length: 255 }, (_, i) => String.fromCodePoint(i + 1));
const odd = String.raw`-n * $HOME $(id) ~root \n\c\\ %s "' ` + '\t\r\x81\x88 ';

describe('a file is printed byte for byte', () => {
  test.each<[string, string]>([
    ['one key', keyLines(1)],
    ['200 keys', keyLines(200)],
    ['2,000 keys', keyLines(2000)],
    ['no key', ''],
    ['no line but -n', '-n\n'],
    ['empty lines', '\n\n\n'],
    ['3,000 empty lines', '\n'.repeat(3000)],
    ['lines that a shell might read', `${odd}\n  ${odd}\n`.repeat(40)],
    ['every byte but NUL', everyByte.join('')],
    ['every byte but NUL, a line each', everyByte.map((byte) => `${byte}x\n`).join('')],
    ['a last line without its end', `${keyLines(2)}  ${odd}`],
    ['200 keys and a last line without its end', `${keyLines(200)}  ${odd}`],
    ['a line of 300,000 bytes', `${'A'.repeat(300_000)}\nlast\n`],
  ])('%s', async (_, content) => {
    keep('alice', content);
    expect(await run(script, 'alice')).toEqual({ exit: 0, out: content, err: '' });
  });

  test('any bytes, and any length about where `read` ends and tee begins', async () => {
    const line = fc
      .array(fc.integer({ min: 1, max: 255 }), { maxLength: 700 })
      .map((bytes) => String.fromCodePoint(...bytes));
    const files = [
      ...fc.sample(fc.array(line, { maxLength: 6 }), 150).map((lines) => lines.join('\n')),
      ...[1498, 1499, 1500, 1501].flatMap((size) => ['A'.repeat(size), `${'A'.repeat(size)}\n`]),
    ];
    files.forEach((content, i) => keep(`u${i}`, content));
    const differing =
      'for f in /var/lib/chamberlain/keys/*; do "$0" "${f##*/}" | cmp - "$f" || echo "$f"; done';
    expect(await run('sh', '-c', differing, script)).toEqual({ exit: 0, out: '', err: '' });
  });
});

describe('names', () => {
  test('are looked up only if they follow the grammar, byte by byte, at most 64 long', async () => {
    // every byte, as the first and as the second of a name; there is no file, so a looked-up name ends with 0
    const tryAll = `
      for my $byte (1 .. 255) {
        for my $name (chr $byte, 'a' . chr $byte) {
          print unpack('H*', $name), "\n" if system($ARGV[0], $name) == 0;
        }
      }`;
    const { out, err } = await run('LC_ALL=C.UTF-8', 'perl', '-e', tryAll, script);
    const letters = 'abcdefghijklmnopqrstuvwxyz'.split('');
    const others = '0123456789_.-'.split('');
    const hex = (name: string) => Buffer.from(name).toString('hex');
    const taken = [...letters, ...[...letters, ...others].map((character) => `a${character}`)];
    expect(out.trim().split('\n').sort()).toEqual(taken.map(hex).sort());
    expect(err).toBe('');
  });

  test.each([
    ['of 64 characters', 'a'.repeat(64)],
    ['with every kind of character', 'tools.a_b-c.9'],
  ])('%s have a file', async (_, name) => {
    keep(name, 'key\n');
    expect(await run(script, name)).toEqual({ exit: 0, out: 'key\n', err: '' });
  });

  test.each<[string, string[]]>([
    ['none', []],
    ['two', ['alice', 'alice']],
    ['an empty one', ['']],
    ['one of 65 characters', ['a'.repeat(65)]],
    ['one of 100,000 characters', ['a'.repeat(100_000)]],
    ['capitals', ['Alice']],
    ['an option', ['-n']],
    ['a path upwards', ['../keys/alice']],
    ['a path below', ['a/../alice']],
    ['a pattern', ['al*']],
    ['a line end behind it', ['alice\n']],
    ['a line end before it', ['\nalice']],
    ['a command', ['alice;id']],
    ['a letter of another alphabet', ['ålice']],
  ])('%s: exit 1 and silence', async (_, args) => {
    keep('alice', 'key\n');
    mkdirSync(join(keys, 'a'));
    chmodSync(join(keys, 'a'), 0o755);
    // a list of names must not be found by its first or last part
    for (const name of ['a'.repeat(65), 'Alice', '-n', 'al*']) keep(name, 'key\n');
    expect(await run(script, ...args)).toEqual({ exit: 1, out: '', err: '' });
  });
});

describe('what is there', () => {
  test('no file: nothing, exit 0', async () => {
    expect(await run(script, 'alice')).toEqual({ exit: 0, out: '', err: '' });
  });

  test.each<[string, () => void]>([
    ['no folder', () => rmSync(keys, { recursive: true })],
    [
      'a file where the folder should be',
      () => replaceFolder(() => writeFileSync(keys, '', { mode: 0o755 })),
    ],
    ['a folder that we may not search', () => chmodSync(keys, 0o700)],
    ['a FIFO', () => execFileSync('mkfifo', ['-m', '666', join(keys, 'alice')])],
    ['a folder', () => mkdirSync(join(keys, 'alice'))],
    ['a device', () => execFileSync('mknod', ['-m', '666', join(keys, 'alice'), 'c', '1', '5'])],
    ['a link to a file', () => symlinkSync('bob', join(keys, 'alice'))],
    ['a link to nothing', () => symlinkSync('nothing', join(keys, 'alice'))],
    ['a file that we may not read', () => chmodSync(join(keys, 'bob'), 0o600)],
  ])('%s: nothing, exit 1', async (what, make) => {
    keep('bob', 'key\n');
    make();
    const name = what.startsWith('a file that') ? 'bob' : 'alice';
    expect(await run(script, name)).toEqual({ exit: 1, out: '', err: '' });
  });

  function replaceFolder(make: () => void): void {
    rmSync(keys, { recursive: true });
    make();
  }

  test('a file that comes and goes is printed completely or not at all', async () => {
    const content = keyLines(20);
    const lookups = 'i=0; while [ $i -lt 300 ]; do "$0" alice | wc -c; i=$((i + 1)); done';
    const looking = { now: true };
    const looked = run('sh', '-c', lookups, script).finally(() => (looking.now = false));
    while (looking.now) {
      keep('alice.new', content);
      renameSync(join(keys, 'alice.new'), join(keys, 'alice'));
      await nextTurn();
      unlinkSync(join(keys, 'alice'));
      await nextTurn();
    }
    const { out, err } = await looked;
    expect(err).toBe('');
    const sizes = new Set(out.trim().split('\n').map(Number));
    expect([...sizes].sort((a, b) => a - b)).toEqual([0, content.length]);
  });
});

describe('a reader that closes early ends it, with 0', () => {
  // the end that is written to has no reader any more
  const CLOSED = 'exec 3<>"$0" 4>"$0" 3>&-; "$@" >&4';
  const ONE_LINE = '{ "$0" "$@"; echo "exit $?" >&2; } | { read -r _; }';
  const MORE_THAN_READ = '{ "$0" "$@"; echo "exit $?" >&2; } | head -c 5000 >/dev/null';

  test.each([1, 2, 200, 2000])('before the first of %d keys', async (count) => {
    keep('alice', keyLines(count));
    const fifo = join(root, 'fifo');
    rmSync(fifo, { force: true });
    execFileSync('mkfifo', ['-m', '666', fifo]);
    const ended = await run('sh', '-c', CLOSED, fifo, script, 'alice');
    expect(ended).toEqual({ exit: 0, out: '', err: '' });
  });

  test.each([
    ['after the first of 200 keys', 200, ONE_LINE],
    ['after the first of 2,000 keys', 2000, ONE_LINE],
    ['in the middle of 200 keys', 200, MORE_THAN_READ],
  ])('%s', async (_, count, pipeline) => {
    keep('alice', keyLines(count));
    const { err } = await run('sh', '-c', pipeline, script, 'alice');
    expect(err).toBe('exit 0\n');
  });
});

describe('one process, alone', () => {
  test.each([1, 200])('it needs no right to fork, with %d keys', async (count) => {
    const content = keyLines(count);
    keep('alice', content);
    const forkless = ['prlimit', '--nproc=0:0'];
    const forking = await run(...forkless, 'dash', '-c', 'x=$(echo forked); echo "$x"');
    expect(forking).toMatchObject({ exit: 2, out: '' });
    expect(await run(...forkless, script, 'alice')).toEqual({ exit: 0, out: content, err: '' });
  });

  test('it does not ask NSS', async () => {
    keep('alice', keyLines(200));
    const socket = join(root, 'run/nscd/socket');
    let asked = 0;
    // glibc asks nscd before any service of nsswitch.conf
    const nscd = createServer((connection) => {
      asked += 1;
      connection.destroy();
    });
    await new Promise<void>((done) => {
      nscd.listen(socket, done);
    });
    chmodSync(socket, 0o777);
    try {
      // setpriv, which runs each of them, asks as well
      const askedBy = async (...command: string[]): Promise<number> => {
        const before = asked;
        expect((await run(...command)).exit).toBe(0);
        return asked - before;
      };
      const floor = await askedBy('true');
      expect(await askedBy('id', '-un')).toBeGreaterThan(floor);
      expect(await askedBy(script, 'alice')).toBe(floor);
    } finally {
      nscd.close();
    }
  });
});

test.each([1, 200])('no variable changes what it does, with %d keys', async (count) => {
  const content = keyLines(count);
  keep('alice', content);
  const evidence = join(root, 'evidence');
  const evil = join(root, 'evil');
  const builtins = ['[', 'test', 'printf', 'echo', 'read', 'true', 'false', 'tee', 'cat', 'exec'];
  for (const name of builtins) {
    writeFileSync(join(evil, name), `#!/bin/dash\n: >${evidence}/ran\n`, { mode: 0o755 });
  }
  writeFileSync(join(evil, 'env'), `echo env; : >${evidence}/env\n`, { mode: 0o755 });
  const hostile = [
    // dash: the folders before %builtin come before the builtins
    `PATH=${evil}:%builtin`,
    'IFS=/aei.=',
    `ENV=${evil}/env`,
    `BASH_ENV=${evil}/env`,
    'SHELLOPTS=noexec:xtrace:verbose',
    `PS4=$(: >${evidence}/ps4)`,
    'OPTIND=7',
    'LC_ALL=tr_TR.UTF-8',
    'LANG=tr_TR.UTF-8',
    `CDPATH=${evil}`,
    `HOME=${evil}`,
    `PWD=${evil}`,
    `TMPDIR=${evil}`,
    'USER=root',
    'LOGNAME=root',
    'POSIXLY_CORRECT=1',
    `folder=${evil}`,
    `file=${evil}/env`,
    'left=99999',
    'line=ssh-ed25519 AAAA',
    '_=x',
  ];
  expect(await run(...hostile, script, 'alice')).toEqual({ exit: 0, out: content, err: '' });
  expect(readdirSync(evidence)).toEqual([]);
});
