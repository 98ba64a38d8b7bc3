/** dev/build.ts, in a clone of its own that has the sources of this one. */
import { execFileSync, spawnSync } from 'node:child_process';
import { copyFileSync, existsSync, mkdirSync, mkdtempSync, readdirSync } from 'node:fs';
import { readFileSync, rmSync } from 'node:fs';
import { chmodSync, chownSync, statSync, symlinkSync, utimesSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, expect, test } from '@jest/globals';

const PROJECT = join(import.meta.dirname, '../..');
const OWNER = 65_534;
const DAY_MS = 86_400_000;

const clone = mkdtempSync(join(tmpdir(), 'chamberlain-build-'));
const dist = join(clone, 'dist');
beforeAll(() => {
  chmodSync(clone, 0o755);
  chownSync(clone, OWNER, OWNER);
  mkdirSync(join(clone, 'dev'));
  copyFileSync(join(PROJECT, 'dev/build.ts'), join(clone, 'dev/build.ts'));
  for (const each of ['src', 'workers', 'migrations', 'node_modules', 'package.json']) {
    symlinkSync(join(PROJECT, each), join(clone, each));
  }
});
afterAll(() => rmSync(clone, { recursive: true }));

const run = (program: string, args: string[] = [], input = '') =>
  execFileSync(process.execPath, [join(clone, program), ...args], {
    encoding: 'utf8',
    stdio: 'pipe',
    input,
  });
const build = (sources = '') => run('dev/build.ts', [], sources);
const built = () => readFileSync(join(dist, 'built'), 'utf8');

test('a build makes a program that runs, and can be loaded by everybody', () => {
  build('the sources\n');
  expect(run('dist/chamberlain.js', ['--version'])).toMatch(/^chamberlain \d/u);
  expect(built()).toBe('the sources\n');
  expect(statSync(dist).uid).toBe(OWNER); // root has built it
  const modes = readdirSync(dist).map((name) => statSync(join(dist, name)).mode & 0o777);
  expect(new Set(modes)).toEqual(new Set([0o644]));
});

test('the files import only each other: an import of a module of Node.js loads too much', () => {
  const files = readdirSync(dist).filter((name) => name.endsWith('.js'));
  const code = files.map((name) => readFileSync(join(dist, name), 'utf8'));
  const imports = code.flatMap((text) => text.match(/^import\b[^;]* from "[^"]*"/gm) ?? []);
  expect(imports.length).toBeGreaterThan(100);
  expect(imports.filter((each) => !each.includes('from "./'))).toEqual([]);
});

test('a file of an earlier build stays for a day, for programs that still run', () => {
  const [recent, old] = ['chunk-RECENT.js', 'chunk-OLD.js'].map((name) => join(dist, name)) as [
    string,
    string,
  ];
  for (const file of [recent, old]) writeFileSync(file, '');
  const time = new Date(Date.now() - DAY_MS - 1000);
  utimesSync(old, time, time);
  build();
  expect([existsSync(recent), existsSync(old)]).toEqual([true, false]);
  expect(run('dist/chamberlain.js', ['--help'])).toContain('Commands:');
});

test('a build that fails leaves the program as it was, and says where the fault is', () => {
  const file = join(clone, 'src');
  build('before\n');
  rmSync(file);
  mkdirSync(join(file, 'cli'), { recursive: true });
  writeFileSync(join(file, 'cli/chamberlain.ts'), 'const = 1;\n');
  expect(() => build('after\n')).toThrow(/src\/cli\/chamberlain\.ts:1:6:\n/u);
  expect(built()).toBe('before\n');
  rmSync(file, { recursive: true });
  symlinkSync(join(PROJECT, 'src'), file);
  expect(run('dist/chamberlain.js', ['--help'])).toContain('Commands:');
});

test('a folder that cannot be written is named in one line', () => {
  const inside = 'mount --bind "$1" "$1" && mount -o remount,ro,bind "$1" && shift && exec "$@"';
  const program = [process.execPath, join(clone, 'dev/build.ts')];
  const { status, stderr } = spawnSync(
    'unshare',
    ['--mount', 'sh', '-c', inside, 'sh', dist, ...program],
    { encoding: 'utf8', input: '' },
  );
  expect([status, stderr]).toEqual([
    1,
    expect.stringMatching(
      /^chamberlain: the program was built, but cannot be written: EROFS.*\n$/u,
    ),
  ]);
});
