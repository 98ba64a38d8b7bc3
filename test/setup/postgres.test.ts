/** Which process `chamberlain setup` signals as the server: its pid file belongs to another user. No servers. */
import { type ChildProcess, execFileSync, spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, expect, test } from '@jest/globals';
import { pidIn } from '../../src/setup/postgres.ts';

const NOBODY = 65_534;
const folder = mkdtempSync(join(tmpdir(), 'chamberlain-pid-'));
const path = join(folder, 'pid');
let theirs: ChildProcess;
beforeAll(async () => {
  theirs = spawn('/usr/bin/sleep', ['600'], { uid: NOBODY, gid: NOBODY, cwd: '/' });
  await once(theirs, 'spawn');
});
afterAll(async () => {
  theirs.kill();
  await once(theirs, 'exit');
  rmSync(folder, { recursive: true });
});

test('a process of that user is signalled', () => {
  writeFileSync(path, `${theirs.pid}\n`);
  expect(pidIn(path, NOBODY)).toBe(theirs.pid);
  expect(() => pidIn(path, NOBODY - 1)).toThrow('names no process of its user');
});

test.each(['', '0\n', '1\n', '-1\n', `-${process.pid}\n`, `${process.pid}\n`, '4194304\n', 'x\n'])(
  'nothing is signalled if the file says %j',
  (text) => {
    writeFileSync(path, text);
    expect(() => pidIn(path, NOBODY)).toThrow('names no process of its user');
  },
);

test('a link is not followed, and a pipe not waited for', () => {
  rmSync(path);
  execFileSync('mkfifo', [path]);
  expect(() => pidIn(path, NOBODY)).toThrow('names no process of its user');
  symlinkSync(path, `${path}.link`);
  expect(() => pidIn(`${path}.link`, NOBODY)).toThrow('ELOOP');
});
