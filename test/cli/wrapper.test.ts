/** How an installed program is started: deploy/chamberlain, in a clone whose Node.js prints its arguments. */
import { execFile, execFileSync, spawnSync } from 'node:child_process';
import { chmodSync, chownSync, copyFileSync, existsSync, mkdirSync, mkdtempSync } from 'node:fs';
import { readFileSync, realpathSync } from 'node:fs';
import { rmSync, statSync, symlinkSync, utimesSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { afterAll, beforeAll, describe, expect, test } from '@jest/globals';

const PROJECT = join(import.meta.dirname, '../..');
const SOMEBODY = 65_534;
const HEAP = '--max-semi-space-size=8 --heap-growing-percent=70';

const SOURCES = [
  ...['src/a.ts', 'src/b.ts', 'workers/c.ts', 'deploy/ldap/d.ts', 'dev/build.ts'],
  'package-lock.json',
];
/** Prints its arguments; as the build, it takes half a second, counts builds, and stores what deploy/chamberlain told it. */
const NODE = `#!/bin/sh
case $1 in
  */dev/build.ts)
    clone=\${1%/dev/*}
    echo built >>"$clone/../builds"
    sleep 0.5
    exec cat >"$clone/dist/built" ;;
esac
echo "$NODE_COMPILE_CACHE|$*"
`;

const folder = mkdtempSync(join(tmpdir(), 'chamberlain-wrapper-'));
const program = join(folder, 'chamberlain');
beforeAll(() => {
  chmodSync(folder, 0o755);
  const inClone = ['deploy/ldap', 'dev', 'node_modules/.bin', 'src', 'workers', 'dist'];
  for (const each of ['home', 'cache', ...inClone.map((place) => `clone/${place}`)]) {
    mkdirSync(join(folder, each), { recursive: true, mode: 0o755 });
  }
  for (const each of [...SOURCES, 'dist/chamberlain.js']) {
    writeFileSync(join(folder, 'clone', each), '');
  }
  chownSync(join(folder, 'home'), SOMEBODY, SOMEBODY);
  copyFileSync(join(PROJECT, 'deploy/chamberlain'), join(folder, 'clone/deploy/chamberlain'));
  symlinkSync(join(folder, 'clone/deploy/chamberlain'), program);
  writeFileSync(join(folder, 'clone/node_modules/.bin/node'), NODE, { mode: 0o755 });
  execFileSync(program, { stdio: 'ignore' }); // builds
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

test('in a Debian package, nothing is built, and its own Node runs it', () => {
  const inPackage = join(folder, 'package');
  for (const each of ['deploy', 'bin']) mkdirSync(join(inPackage, each), { recursive: true });
  copyFileSync(join(PROJECT, 'deploy/chamberlain'), join(inPackage, 'deploy/chamberlain'));
  writeFileSync(join(inPackage, 'bin/node'), '#!/bin/sh\necho "$*"\n', { mode: 0o755 });
  symlinkSync('../deploy/chamberlain', join(inPackage, 'bin/chamberlain'));
  const text = execFileSync(join(inPackage, 'bin/chamberlain'), ['status'], { encoding: 'utf8' });
  expect(text).toBe(`--disable-sigusr1 ${realpathSync(inPackage)}/dist/chamberlain.js status\n`);
});

describe('a program whose sources have changed since it was built', () => {
  const inClone = (file: string) => join(folder, 'clone', file);
  const builds = () =>
    existsSync(join(folder, 'builds')) ? readFileSync(join(folder, 'builds'), 'utf8').length : 0;
  const starts = (uid: number, command = program) =>
    spawnSync('setpriv', [`--reuid=${uid}`, '--clear-groups', command, 'status'], {
      encoding: 'utf8',
    });
  const at = (hours: number) => new Date(Date.now() + hours * 3600_000);

  test.each([
    ['a file was changed', () => utimesSync(inClone('src/a.ts'), at(0), at(0))],
    ['a file has an older time', () => utimesSync(inClone('src/a.ts'), at(-9), at(-9))],
    ['a file has a time in the future', () => utimesSync(inClone('src/a.ts'), at(9), at(9))],
    ['a file was removed', () => rmSync(inClone('src/b.ts'))],
    ['a file was added', () => writeFileSync(inClone('workers/d.ts'), '')],
    [
      'a template’s program was changed',
      () => utimesSync(inClone('deploy/ldap/d.ts'), at(0), at(0)),
    ],
    ['a package was changed', () => utimesSync(inClone('package-lock.json'), at(0), at(0))],
    ['the build was changed', () => utimesSync(inClone('dev/build.ts'), at(0), at(0))],
    ['it was not built yet', () => rmSync(inClone('dist/built'))],
  ])('%s: is built again, once, by who may; others are told', (_, change) => {
    const before = builds();
    change();
    const refused = starts(SOMEBODY);
    expect([refused.status, refused.stdout, refused.stderr]).toEqual([
      2,
      '',
      `chamberlain: the program in ${realpathSync(inClone(''))} has changed since it was built. As its owner, run there: npm run build\n`,
    ]);
    expect(starts(0).stdout).toMatch(/dist\/chamberlain\.js status\n$/u);
    expect([starts(SOMEBODY).status, starts(0).status]).toEqual([0, 0]);
    expect(builds() - before).toBe('built\n'.length);
  });

  test('commands that start together wait for one build', async () => {
    const before = builds();
    utimesSync(inClone('src/a.ts'), at(-1), at(-1));
    const run = promisify(execFile);
    const ended = await Promise.all(Array.from({ length: 8 }, () => run(program, ['status'])));
    expect(ended.every(({ stdout }) => stdout.endsWith('status\n'))).toBe(true);
    expect(builds() - before).toBe('built\n'.length);
  });

  test('it is found through a link to its folder, and from its own folder', () => {
    const link = join(folder, 'bin');
    symlinkSync(inClone('deploy'), link);
    expect(starts(0, join(link, 'chamberlain')).status).toBe(0);
    const { status } = spawnSync('sh', ['chamberlain', 'status'], { cwd: inClone('deploy') });
    expect(status).toBe(0);
  });

  test('does not run if it cannot be built', () => {
    const fails = NODE.replace('exec cat', 'exit 1; exec cat');
    writeFileSync(inClone('node_modules/.bin/node'), fails);
    rmSync(inClone('dist/built'));
    const { status, stdout } = starts(0);
    expect([status, stdout]).toEqual([2, '']);
  });
});
