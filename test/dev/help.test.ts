/** Help comes at once: nothing is installed for it. */
import { execFileSync, spawnSync } from 'node:child_process';
import { cpSync, existsSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, test } from '@jest/globals';
import { makeTemporaryFolder } from '../shared-servers.ts';

const DEV = join(import.meta.dirname, '../../dev');

/** a clone in which no package is installed yet */
let clone: string;
beforeEach(() => {
  clone = makeTemporaryFolder();
  cpSync(DEV, join(clone, 'dev'), { recursive: true });
});
afterEach(() => rmSync(clone, { recursive: true }));

test.each(['--help', '-h', 'help', 'up --help', 'status -h'])('dev/stack %s', (words) => {
  writeFileSync(join(clone, 'dev/bootstrap'), '#!/bin/sh\n>"$0.was-run"\nexit 1\n');
  const said = execFileSync(join(clone, 'dev/stack'), words.split(' '), { encoding: 'utf8' });
  expect(said).toMatch(/^usage: dev\/stack up \| down .*\n\n {2}up {6}start /u);
  expect(existsSync(join(clone, 'dev/bootstrap.was-run'))).toBe(false);
});

test('dev/stack says which option is unknown', () => {
  const { status, stderr } = spawnSync(join(DEV, 'stack'), ['down', '--prge'], {
    encoding: 'utf8',
  });
  expect(status).toBe(2);
  expect(stderr).toMatch(/^dev\/stack: Unknown option '--prge'\nusage: dev\/stack up /u);
});

test.each(['--help', '-h'])('dev/bootstrap %s', (word) => {
  const said = execFileSync(join(clone, 'dev/bootstrap'), [word], { encoding: 'utf8' });
  expect(said).toMatch(
    /^Prepares this machine .*\n {2}dev\/bootstrap --check {3}only report what/su,
  );
  expect(existsSync(join(clone, 'node_modules'))).toBe(false);
});
