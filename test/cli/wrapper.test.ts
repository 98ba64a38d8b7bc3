/** How an installed program is started: deploy/chamberlain, in a clone whose Node.js prints its arguments. */
import { execFileSync } from 'node:child_process';
import { chmodSync, chownSync, copyFileSync, mkdirSync, mkdtempSync } from 'node:fs';
import { rmSync, statSync, symlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, expect, test } from '@jest/globals';

const PROJECT = join(import.meta.dirname, '../..');
const SOMEBODY = 65_534;
const HEAP = '--max-semi-space-size=8 --heap-growing-percent=100';

const folder = mkdtempSync(join(tmpdir(), 'chamberlain-wrapper-'));
const program = join(folder, 'chamberlain');
beforeAll(() => {
  chmodSync(folder, 0o755);
  for (const each of ['clone/deploy', 'clone/node_modules/.bin', 'home', 'cache']) {
    mkdirSync(join(folder, each), { recursive: true, mode: 0o755 });
  }
  chownSync(join(folder, 'home'), SOMEBODY, SOMEBODY);
  copyFileSync(join(PROJECT, 'deploy/chamberlain'), join(folder, 'clone/deploy/chamberlain'));
  symlinkSync(join(folder, 'clone/deploy/chamberlain'), program);
  const node = join(folder, 'clone/node_modules/.bin/node');
  writeFileSync(node, '#!/bin/sh\necho "$NODE_COMPILE_CACHE|$*"\n', { mode: 0o755 });
});
afterAll(() => rmSync(folder, { recursive: true }));

/** Starts it with another /var/cache. Returns the cache that Node.js was given, and its arguments up to the program. */
function start(uid: number, env: Record<string, string>, ...words: string[]): [string, string] {
  const inside = `mount --bind "$1" /var/cache; shift; exec setpriv --reuid=${uid} --regid=${uid} --clear-groups "$@"`;
  const args = ['--mount', 'sh', '-c', inside, 'sh', join(folder, 'cache'), program, ...words];
  const all = { PATH: process.env['PATH'] ?? '', ...env };
  const text = execFileSync('unshare', args, { env: all, encoding: 'utf8' });
  const [cache = '', rest = ''] = text.split('|');
  return [cache, rest.replace(/ \S*\/src\/cli\/chamberlain\.ts.*\n/, '')];
}

test('the compile cache is kept only where nobody but the caller may write', () => {
  const home = join(folder, 'home');
  expect(start(SOMEBODY, { HOME: home }, 'status')[0]).toBe(`${home}/.cache/chamberlain`);
  const { mode, uid } = statSync(join(home, '.cache/chamberlain'));
  expect([mode & 0o777, uid]).toEqual([0o700, SOMEBODY]);
  // root with its caller's HOME; a home of root into which somebody else has put something
  expect(start(0, { HOME: home }, 'status')[0]).toBe('/var/cache/chamberlain');
  expect(statSync(join(folder, 'cache/chamberlain')).mode & 0o777).toBe(0o700);
  chownSync(join(home, '.cache/chamberlain'), 0, 0);
  expect(start(SOMEBODY, { HOME: home }, 'status')[0]).toBe('');
  expect(start(SOMEBODY, {}, 'status')[0]).toBe('');
  const own = { HOME: home, NODE_COMPILE_CACHE: '/own' };
  expect(start(SOMEBODY, own, 'status')[0]).toBe('/own');
});

test('only the heap of workers is limited', () => {
  expect(start(0, {}, 'work', 'intake')[1]).toBe(`--disable-sigusr1 ${HEAP}`);
  expect(start(0, {}, '--json', 'work')[1]).toBe(`--disable-sigusr1 ${HEAP}`);
  expect(start(0, {}, 'status')[1]).toBe('--disable-sigusr1');
});
