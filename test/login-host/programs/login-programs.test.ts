/** What the programs of a login host say of themselves. */
import { spawn } from 'node:child_process';
import { chmodSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, expect, test } from '@jest/globals';
import { programWrapper } from '../../../deploy/login-host/contents.ts';
import { expectGolden } from '../../golden.ts';
import { endOf } from '../../cli/run-cli.ts';

const PROJECT = join(import.meta.dirname, '../../..');
const folder = mkdtempSync(join(tmpdir(), 'chamberlain-programs-'));
afterAll(() => rmSync(folder, { recursive: true }));

test.each([
  ['keys-agent', ['src/login-host/programs/keys-agent.ts']],
  ['keys-agent-run', ['src/login-host/programs/keys-agent.ts', 'run']],
  ['keys-agent-status', ['src/login-host/programs/keys-agent.ts', 'status']],
  ['keys-agent-accept', ['src/login-host/programs/keys-agent.ts', 'accept']],
  ['keys-agent-require-seals', ['src/login-host/programs/keys-agent.ts', 'require-seals']],
  ['login-helper', ['src/login-host/programs/login-helper.ts']],
  ['take', ['src/login-host/programs/take.ts']],
  ['whoami', ['src/login-host/programs/whoami.ts']],
  ['install', ['deploy/login-host/install.ts']],
])('the help of %s is as agreed', async (name, [program = '', ...words]) => {
  const child = spawn(process.execPath, [join(PROJECT, program), ...words, '--help']);
  const { exit, out, err } = await endOf(child);
  expect({ exit, err }).toEqual({ exit: 0, err: '' });
  expectGolden(`help/${name}.txt`, out);
});

test('a mistyped command of keys-agent ends with 2 and one line', async () => {
  const child = spawn(process.execPath, [
    join(PROJECT, 'src/login-host/programs/keys-agent.ts'),
    'statsu',
  ]);
  expect(await endOf(child)).toEqual({
    exit: 2,
    out: '',
    err: "USAGE: unknown command 'statsu' (did you mean status?). See --help.\n",
  });
});

/** Where Node is started: what a shebang or a wrapper says is what counts. */
function programs(): [name: string, script: string][] {
  const entries = readdirSync(join(PROJECT, 'src/login-host/programs')).filter((name) =>
    readFileSync(join(PROJECT, 'src/login-host/programs', name), 'utf8').startsWith('#!'),
  );
  return [
    ...entries.map((name): [string, string] => [name, programWrapper(PROJECT, name)]),
    ...['dev/chamberlain', 'deploy/chamberlain', 'deploy/login-host/install'].map(
      (path): [string, string] => [path, `#!/bin/sh\nexec '${join(PROJECT, path)}' "$@"\n`],
    ),
  ];
}

test('sudo lets nobody run Node as another, but for take', () => {
  const rules = readFileSync(join(PROJECT, 'deploy/login-host/templates/sudoers'), 'utf8');
  const commands = [...rules.matchAll(/^[^#\n]*NOPASSWD: (.*)$/gm)].map(([, command]) => command);
  expect(commands).toEqual([
    '/usr/lib/chamberlain/take',
    // of sh, not of Node
    '/usr/lib/chamberlain/own-keys ""',
  ]);
  const ownKeys = readFileSync(join(PROJECT, 'deploy/login-host/own-keys'), 'utf8');
  expect(ownKeys).toMatch(/^#!\/bin\/dash\n/);
  expect(ownKeys).not.toContain('node');
});

test('the programs are found', () => {
  expect(programs().map(([name]) => name)).toEqual(
    expect.arrayContaining(['keys-agent.ts', 'login-helper.ts', 'whoami.ts']),
  );
});

// sudo passes its caller's signals on, and by SIGUSR1 Node opens its inspector: whoever may send it then runs
// code as the program's user
test.each(programs())('no signal opens the inspector of %s', async (_name, script) => {
  const path = join(folder, 'program');
  writeFileSync(path, script);
  chmodSync(path, 0o755);
  const say =
    "import { readFileSync } from 'node:fs';" +
    "const [, caught] = /SigCgt:\\s*(\\w+)/.exec(readFileSync('/proc/self/status', 'utf8'));" +
    "process.stderr.write('SIGUSR1 ' + ((BigInt('0x' + caught) >> 9n) & 1n) + '\\n');";
  const child = spawn(path, ['--help'], {
    env: {
      PATH: process.env['PATH'],
      NODE_COMPILE_CACHE: process.env['NODE_COMPILE_CACHE'],
      NODE_OPTIONS: `--import=data:text/javascript,${encodeURIComponent(say)}`,
    },
  });
  expect((await endOf(child)).err).toContain('SIGUSR1 0\n');
});
