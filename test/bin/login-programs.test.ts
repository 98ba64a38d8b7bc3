/** What the programs of a login host say of themselves. */
import { spawn } from 'node:child_process';
import { join } from 'node:path';
import { expect, test } from '@jest/globals';
import { expectGolden } from '../golden.ts';
import { endOf } from './run-cli.ts';

const PROJECT = join(import.meta.dirname, '../..');

test.each([
  ['keys-agent', ['src/bin/keys-agent.ts']],
  ['keys-agent-run', ['src/bin/keys-agent.ts', 'run']],
  ['keys-agent-status', ['src/bin/keys-agent.ts', 'status']],
  ['login-helper', ['src/bin/login-helper.ts']],
  ['take', ['src/bin/take.ts']],
  ['whoami', ['src/bin/whoami.ts']],
  ['install', ['deploy/login-host/install.ts']],
])('the help of %s is as agreed', async (name, [program = '', ...words]) => {
  const child = spawn(process.execPath, [join(PROJECT, program), ...words, '--help']);
  const { exit, out, err } = await endOf(child);
  expect({ exit, err }).toEqual({ exit: 0, err: '' });
  expectGolden(`help/${name}.txt`, out);
});

test('a mistyped command of keys-agent ends with 2 and one line', async () => {
  const child = spawn(process.execPath, [join(PROJECT, 'src/bin/keys-agent.ts'), 'statsu']);
  expect(await endOf(child)).toEqual({
    exit: 2,
    out: '',
    err: "USAGE: unknown command 'statsu' (did you mean status?). See --help.\n",
  });
});
