/** How an installed program is started: deploy/chamberlain, in a clone whose Node.js prints its arguments. */
import { execFileSync, spawnSync } from 'node:child_process';
import { chmodSync, chownSync, copyFileSync, mkdirSync, mkdtempSync } from 'node:fs';
import { rmSync, statSync, symlinkSync, utimesSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from '@jest/globals';

const PROJECT = join(import.meta.dirname, '../..');
const SOMEBODY = 65_534;
const HEAP = '--max-semi-space-size=8 --heap-growing-percent=100';

const folder = mkdtempSync(join(tmpdir(), 'chamberlain-wrapper-'));
const program = join(folder, 'chamberlain');
beforeAll(() => {
  chmodSync(folder, 0o755);
  const inClone = ['deploy', 'node_modules/.bin', 'src', 'workers', 'dist'];
  for (const each of ['home', 'cache', ...inClone.map((place) => `clone/${place}`)]) {
    mkdirSync(join(folder, each), { recursive: true, mode: 0o755 });
  }
  for (const each of ['package-lock.json', 'src/a.ts', 'dist/built']) {
    writeFileSync(join(folder, 'clone', each), '');
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
  return [cache, rest.replace(/ \S*\/dist\/chamberlain\.js.*\n/, '')];
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

describe('a program whose sources have changed since it was built', () => {
  const built = join(folder, 'clone/dist/built');
  const hourAgo = new Date(Date.now() - 3600_000);
  const later = new Date(Date.now() + 3600_000);
  const source = join(folder, 'clone/src/a.ts');
  const starts = (uid: number) =>
    spawnSync('setpriv', [`--reuid=${uid}`, '--clear-groups', program, 'status'], {
      encoding: 'utf8',
    });
  const REFUSED = expect.stringMatching(
    /^chamberlain: the program in \S+ has changed since it was built: as its owner, run there: npm run build\n$/u,
  );

  test.each([
    ['a file was changed', () => utimesSync(source, later, later)],
    ['a file was removed', () => utimesSync(join(folder, 'clone/src'), later, later)],
    ['a worker was changed', () => utimesSync(join(folder, 'clone/workers'), later, later)],
    ['a package was', () => utimesSync(join(folder, 'clone/package-lock.json'), later, later)],
    ['it was not built yet', () => rmSync(built)],
  ])('%s: is built again by who may, and does not run for others', (_, change) => {
    change();
    const refused = starts(SOMEBODY);
    expect([refused.status, refused.stdout, refused.stderr]).toEqual([2, '', REFUSED]);
    const runs = starts(0).stdout.trim().split('\n');
    expect(runs).toEqual([
      expect.stringMatching(/dev\/build\.ts$/u),
      expect.stringMatching(/dist\/chamberlain\.js status$/u),
    ]);

    for (const each of ['src/a.ts', 'src', 'workers', 'package-lock.json']) {
      utimesSync(join(folder, 'clone', each), hourAgo, hourAgo);
    }
    writeFileSync(built, '');
    expect(starts(SOMEBODY).status).toBe(0);
    expect(starts(0).stdout.trim().split('\n')).toHaveLength(1);
  });

  test('does not run if it cannot be built', () => {
    const node = join(folder, 'clone/node_modules/.bin/node');
    writeFileSync(node, '#!/bin/sh\necho "$1"\ncase $1 in *build.ts) exit 1 ;; esac\n');
    rmSync(built);
    const { status, stdout } = starts(0);
    expect([status, stdout]).toEqual([2, expect.stringMatching(/dev\/build\.ts\n$/u)]);
  });
});
