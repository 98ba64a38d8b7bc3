/**
 * What others do while `take` is at work: at one instant between two of its system calls, and as fast
 * as they can. What counts: nothing that lies elsewhere changes its owner, nothing hangs, and one more
 * run after that takes all.
 */
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { readdirSync, rmSync, writeFileSync } from 'node:fs';
import { afterAll, beforeAll, beforeEach, expect, test } from '@jest/globals';
import {
  ALICE,
  BOB,
  REALM_GID,
  X,
  makeDirectory,
  makeFile,
  meddleAt,
  ownerOf,
  ownership,
  startTakeHost,
} from './take-host.ts';
import type { TakeHost } from './take-host.ts';

const RACE_MS = 5000;
/** For what must come to happen in a race, where the machine is busy. */
const LONGEST_RACE_MS = 60_000;

const DONE = { code: 0, stdout: '', stderr: '' };
const HARD_LINK = 'it has another name as well (a hard link): copy it instead';
const REPLACED = 'it was moved or replaced while it was being taken';

let host: TakeHost;
let home: string;
let tree: string;
let victim: string;

beforeAll(async () => {
  host = await startTakeHost();
});
afterAll(async () => await host.stop());
beforeEach(() => {
  for (const name of ['x', 'victim']) rmSync(host.path(name), { recursive: true, force: true });
  home = makeDirectory(host.path('x'), X, X);
  tree = makeDirectory(`${home}/tree`, ALICE, X);
  makeFile(`${tree}/f`, ALICE, X);
  victim = makeDirectory(host.path('victim'), BOB, X, 0o2755);
  makeFile(`${victim}/f`, BOB, X);
});

const refusal = (...lines: string[]) => ({
  code: 1,
  stdout: '',
  stderr: lines.map((line) => `take: ${line}\n`).join(''),
});

function expectVictimUntouched(): void {
  expect(ownership(victim)).toBe(`${BOB}:${X} 2755`);
  expect(ownership(`${victim}/f`)).toBe(`${BOB}:${X} 664`);
}

const move = () => `fs.renameSync('${tree}/f', '${victim}/moved');`;

test('a file that is replaced once it was opened is left, wherever it has gone', () => {
  const act = `${move()} fs.writeFileSync('${tree}/f', '');`;
  const meddling = meddleAt({ after: 'openSync' }, '/f', act);
  expect(host.take(X, home, ['tree'], meddling)).toEqual(refusal(`tree/f: ${REPLACED}`));
  expect(ownerOf(`${victim}/moved`)).toBe(ALICE);
});

test('a file that is moved out once it was opened is left', () => {
  const meddling = meddleAt({ after: 'openSync' }, '/f', move());
  expect(host.take(X, home, ['tree'], meddling)).toEqual(refusal(`tree/f: ${REPLACED}`));
  expect(ownerOf(`${victim}/moved`)).toBe(ALICE);
});

test('a second name is seen by the very last look', () => {
  const act = `fs.linkSync('${tree}/f', '${victim}/second');`;
  const meddling = meddleAt({ after: 'lstatSync' }, '/f', act);
  expect(host.take(X, home, ['tree'], meddling)).toEqual(refusal(`tree/f: ${HARD_LINK}`));
  expect(ownerOf(`${victim}/second`)).toBe(ALICE);
});

test('a link that takes the place of what was looked at is not followed', () => {
  const act = `${move()} fs.symlinkSync('${victim}/f', '${tree}/f');`;
  const meddling = meddleAt({ before: 'chownSync' }, '', act);
  makeDirectory(tree, X, X);
  expect(host.take(X, home, ['tree'], meddling)).toEqual(DONE);
  expectVictimUntouched();
  expect(ownerOf(`${victim}/moved`)).toBe(X);
});

test('a link that takes the place of a file or directory that was listed is not followed', () => {
  makeDirectory(`${tree}/sub`, ALICE, X);
  const swap = (name: string) => {
    const act = `fs.renameSync('${tree}/${name}', '${home}/${name}'); fs.symlinkSync('${victim}', '${tree}/${name}');`;
    return meddleAt({ before: 'openSync' }, `/${name}`, act);
  };
  expect(host.take(X, home, ['tree'], swap('sub'))).toEqual(DONE);
  expect(host.take(X, home, ['tree'], swap('f'))).toEqual(DONE);
  expectVictimUntouched();
});

test('a directory on the way that becomes a link is not followed', () => {
  makeDirectory(victim, X, X, 0o2755);
  makeDirectory(tree, X, X);
  makeDirectory(`${tree}/sub`, X, X);
  const act = `fs.rmdirSync('${tree}/sub'); fs.symlinkSync('${victim}', '${tree}/sub');`;
  const meddling = meddleAt({ before: 'openSync' }, '/sub', act);
  expect(host.take(X, home, ['tree/sub/f'], meddling)).toEqual(
    refusal('tree/sub/f: part of the path is a symbolic link, or not a directory'),
  );
  expect(ownerOf(`${victim}/f`)).toBe(BOB);
});

test('a FIFO that takes the place of a file is not waited for', () => {
  const act = `fs.unlinkSync('${tree}/f'); process.getBuiltinModule('child_process').execFileSync('mkfifo', ['${tree}/f']);`;
  const meddling = meddleAt({ before: 'openSync' }, '/f', act);
  expect(host.take(X, home, ['tree'], meddling)).toEqual(
    refusal('tree/f: it is a FIFO, a socket or a device'),
  );
});

test('what has gone since it was listed needs no taking', () => {
  const meddling = meddleAt({ before: 'openSync' }, '/f', `fs.unlinkSync('${tree}/f');`);
  expect(host.take(X, home, ['tree'], meddling)).toEqual(DONE);
});

test('a directory that is given away meanwhile is the caller’s no more', () => {
  const act = `fs.chownSync('${tree}', ${ALICE}, ${X});`;
  const meddling = meddleAt({ after: 'openSync' }, '/f', act);
  expect(host.take(X, home, ['tree'], meddling)).toEqual(
    refusal('tree/f: its parent directory is not yours'),
  );
  expect(ownerOf(`${tree}/f`)).toBe(ALICE);
});

test('from a directory that is moved meanwhile no way leads into where it went', () => {
  const names = Array.from({ length: 30 }, (_, index) => `g${index}`);
  const elsewhere = makeDirectory(`${home}/elsewhere`, X, X);
  makeDirectory(`${tree}/sub`, ALICE, X);
  makeFile(`${tree}/sub/deep`, ALICE, X);
  for (const name of names) {
    makeFile(`${tree}/${name}`, ALICE, X);
    makeFile(`${elsewhere}/${name}`, BOB, X);
  }
  const act = `fs.renameSync('${tree}/sub', '${elsewhere}/sub');`;
  const meddling = meddleAt({ before: 'openSync' }, '/deep', act);
  expect(host.take(X, home, ['tree'], meddling)).toEqual(
    refusal('tree: something in it was moved meanwhile: take it again'),
  );
  expect(names.filter((name) => ownerOf(`${elsewhere}/${name}`) !== BOB)).toEqual([]);
  expect(host.take(X, home, ['tree'])).toEqual(DONE);
});

test('setuid bits and capabilities that a file is given after the last look fall by the chown', () => {
  for (const act of [
    `fs.chmodSync('${tree}/f', 0o6775);`,
    `process.getBuiltinModule('child_process').execFileSync('setcap', ['cap_chown=ep', '${tree}/f']);`,
  ]) {
    makeDirectory(tree, X, X);
    makeFile(`${tree}/f`, ALICE, X, 0o775);
    expect(host.take(X, home, ['tree'], meddleAt({ before: 'chownSync' }, '', act))).toEqual(DONE);
    expect(ownership(`${tree}/f`)).toBe(`${X}:${X} 775`);
    expect(host.asRoot(`getcap ${tree}/f`).stdout).toBe('');
  }
});

/** As a member of the group, makes and swaps things in the tree, until it is ended. */
const HOSTILE = `
  import fs from 'node:fs';
  const [tree, victim] = process.argv.slice(2);
  process.chdir(tree);
  process.umask(0o002);
  const quietly = (act) => { try { act(); } catch {} };
  const away = (name) => {
    quietly(() => fs.unlinkSync(name));
    quietly(() => fs.unlinkSync(name + '/f'));
    quietly(() => fs.rmdirSync(name));
  };
  const kinds = [
    (name) => { fs.mkdirSync(name); fs.writeFileSync(name + '/f', ''); },
    (name) => fs.symlinkSync(victim, name),
    (name) => fs.writeFileSync(name, ''),
    (name) => fs.linkSync(victim + '/f', name),
    (name) => fs.symlinkSync(victim + '/f', name),
    (name) => fs.linkSync('fifo', name),
  ];
  process.stdout.write('ready\\n');
  for (let turn = 0; ; turn++) {
    const name = 'n' + (turn % 50);
    quietly(() => fs.renameSync(name, 'aside'));
    quietly(() => kinds[Math.floor(Math.random() * kinds.length)](name));
    away('aside');
    if (turn % 7 === 0) quietly(() => fs.renameSync(name, victim + '/../elsewhere/' + name));
  }`;

test('others of the group who make, swap and move things as fast as they can gain nothing', async () => {
  const script = host.path('hostile.mjs');
  writeFileSync(script, HOSTILE);
  makeDirectory(host.path('elsewhere'), ALICE, REALM_GID, 0o700);
  makeFile(`${host.path('elsewhere')}/kept`, BOB, X);
  host.as(ALICE, tree, 'mkfifo fifo');
  const words = [`--reuid=${ALICE}`, `--regid=${REALM_GID}`, `--groups=${X}`, process.execPath];
  const hostiles = [1, 2].map(() =>
    spawn('setpriv', [...words, script, tree, victim], { stdio: ['ignore', 'pipe', 'inherit'] }),
  );
  const reasons = new Set<string>();
  try {
    await Promise.all(hostiles.map(async (each) => await once(each.stdout, 'data')));
    const begin = performance.now();
    while (performance.now() - begin < (reasons.size > 2 ? RACE_MS : LONGEST_RACE_MS)) {
      const { code, stderr } = host.take(X, home, ['tree']);
      expect([0, 1]).toContain(code);
      for (const line of stderr.split('\n')) reasons.add(line.replace(/^take: [^:]*: /u, ''));
    }
  } finally {
    for (const each of hostiles) each.kill('SIGKILL');
    await Promise.all(hostiles.map(async (each) => each.exitCode ?? (await once(each, 'exit'))));
  }
  expectVictimUntouched();
  expect(ownerOf(host.path('elsewhere/kept'))).toBe(BOB);
  const known = ['', HARD_LINK, REPLACED, 'it is a FIFO, a socket or a device'];
  known.push('something in it was moved meanwhile: take it again');
  expect([...reasons].filter((reason) => !known.includes(reason))).toEqual([]);
  expect(reasons.size).toBeGreaterThan(2);

  host.asRoot(`find ${tree} -type p -delete; find ${tree} -type f -links +1 -delete`);
  expect(host.take(X, home, ['tree'])).toEqual(DONE);
  expect(readdirSync(tree).filter((name) => ownerOf(`${tree}/${name}`) !== X)).toEqual([]);
});
