/** The folder of key files: what is written, compared by content, and left if it cannot be written. */
import { afterEach, beforeEach, describe, expect, test } from '@jest/globals';
import {
  appendFileSync,
  chmodSync,
  chownSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmSync,
  statSync,
  symlinkSync,
  utimesSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { openLog } from '../../../src/shared/log.ts';
import {
  openKeyFolder,
  checkKeyFiles,
  closeKeyFolder,
  lastingOf,
  renewKeyFiles,
  settleKeyFile,
  settlePresent,
  watchKeyFolder,
  type KeyFolder,
  type KeyWish,
} from '../../../src/login-host/helper/key-folder.ts';
import { readKeyLines, renderKeyFile } from '../../../src/login-host/helper/key-lines.ts';
import { openTroubles, type Troubles } from '../../../src/login-host/helper/troubles.ts';
import { eventually } from '../../scenarios/eventually.ts';
import { newKey } from '../seals.ts';
import { onSmallDisk } from '../small-disk.ts';

const NOW = Date.parse('2026-11-25T10:00:00Z');
const HOUR_MS = 3_600_000;
const LIMIT_MS = 24 * HOUR_MS;
const GID = 19_901;
const KEY = newKey();
const OTHER_KEY = newKey();
const FAR = NOW + 1000 * HOUR_MS;

let root: string;
let path: string;
let wishes: Map<string, KeyWish>;
let isWhole: boolean;
let troubles: Troubles;
let folder: KeyFolder;
beforeEach(() => {
  root = mkdtempSync(join(tmpdir(), 'chamberlain-keys-'));
  path = join(root, 'keys');
  wishes = new Map();
  isWhole = true;
  open();
});
afterEach(() => {
  closeKeyFolder(folder);
  rmSync(root, { recursive: true, force: true });
});

function open(): void {
  troubles = openTroubles(openLog('error'), () => NOW);
  const nothing: KeyWish = { list: '', until: 0, untrustedUntil: 0, mayRenew: false };
  const wishOf = (name: string) => wishes.get(name) ?? (isWhole ? nothing : undefined);
  folder = openKeyFolder(path, GID, LIMIT_MS, wishOf, troubles);
}

const wish = (name: string, list: string, more: Partial<KeyWish> = {}) =>
  wishes.set(name, { list, until: FAR, untrustedUntil: FAR, mayRenew: true, ...more });
const read = (name: string) => readFileSync(join(path, name), 'utf8');
const file = (list: string, until: number) => renderKeyFile(readKeyLines(list), until);
const check = async () => checkKeyFiles(folder, () => NOW);

describe('a file', () => {
  test('is written for the whole limit, and only for its readers', () => {
    wish('alice', KEY);
    settleKeyFile(folder, 'alice', NOW);
    expect(read('alice')).toBe(file(KEY, NOW + LIMIT_MS));
    const { mode, uid, gid } = statSync(join(path, 'alice'));
    expect([mode & 0o7777, uid, gid]).toEqual([0o640, 0, GID]);
    const there = statSync(path);
    expect([there.mode & 0o7777, there.uid, there.gid]).toEqual([0o2750, 0, GID]);
    expect(readdirSync(path)).toEqual(['alice']);
  });

  test('lasts no longer than the seal, nor than the key', () => {
    const bound = `expiry-time="20261125110000Z" ${OTHER_KEY}`;
    wish('alice', `${KEY}\n${bound}`, { until: NOW + 2 * HOUR_MS });
    settleKeyFile(folder, 'alice', NOW);
    expect(read('alice')).toBe(
      `expiry-time="20261125120000Z" ${KEY}\nexpiry-time="20261125110000Z" ${OTHER_KEY}\n`,
    );
  });

  test('is removed if there are no keys any more', () => {
    wish('alice', KEY);
    settleKeyFile(folder, 'alice', NOW);
    wish('alice', '');
    settleKeyFile(folder, 'alice', NOW);
    expect([readdirSync(path), folder.marks.size]).toEqual([[], 0]);
  });

  test.each<[string, number, boolean, boolean]>([
    ['is left while it lasts for half of the limit', NOW + LIMIT_MS / 2 - 1000, true, false],
    ['is renewed after that', NOW + LIMIT_MS / 2, true, true],
    ['is not renewed if it must not be', NOW + LIMIT_MS, false, false],
    [
      'is shortened if it lasts too long, because the clock was set back',
      NOW - 61_000,
      false,
      true,
    ],
    ['is left if the clock was set back a little', NOW - 59_000, true, false],
  ])('%s', (_, now, mayRenew, isWritten) => {
    wish('alice', KEY);
    settleKeyFile(folder, 'alice', NOW);
    wish('alice', KEY, { mayRenew });
    renewKeyFiles(folder, now, 10);
    expect(read('alice')).toBe(file(KEY, isWritten ? now + LIMIT_MS : NOW + LIMIT_MS));
  });

  test('is renewed only once if the seal is about to end', () => {
    wish('alice', KEY, { until: NOW + HOUR_MS });
    settleKeyFile(folder, 'alice', NOW);
    const before = statSync(join(path, 'alice')).ino;
    renewKeyFiles(folder, NOW + 1000, 10);
    expect(statSync(join(path, 'alice')).ino).toBe(before);
  });

  test('is renewed in batches if there are many', () => {
    for (let n = 0; n < 10; n += 1) {
      wish(`p${n}`, KEY);
      settleKeyFile(folder, `p${n}`, NOW);
    }
    const now = NOW + LIMIT_MS;
    const renewed = () =>
      readdirSync(path).filter((name) => read(name) === file(KEY, now + LIMIT_MS));
    renewKeyFiles(folder, now, 4);
    expect(renewed()).toHaveLength(4);
    renewKeyFiles(folder, now, 10);
    expect(renewed()).toHaveLength(10);
  });

  test('with other keys lasts no longer than before if it must not be renewed', () => {
    wish('alice', KEY);
    settleKeyFile(folder, 'alice', NOW);
    wish('alice', OTHER_KEY, { mayRenew: false });
    settleKeyFile(folder, 'alice', NOW + HOUR_MS);
    expect(read('alice')).toBe(file(OTHER_KEY, NOW + LIMIT_MS));
    wish('alice', KEY);
    settleKeyFile(folder, 'alice', NOW + HOUR_MS);
    expect(read('alice')).toBe(file(KEY, NOW + HOUR_MS + LIMIT_MS));
  });

  test('the first and the last end say how long all files last', () => {
    expect(lastingOf(folder)).toBeUndefined();
    wish('alice', KEY);
    wish('bob', KEY, { until: NOW + HOUR_MS });
    settleKeyFile(folder, 'alice', NOW);
    settleKeyFile(folder, 'bob', NOW);
    expect(lastingOf(folder)).toEqual({ first: NOW + HOUR_MS, last: NOW + LIMIT_MS });
  });
});

describe('after a restart a file', () => {
  const again = (name: string, now: number) => {
    closeKeyFolder(folder);
    open();
    settleKeyFile(folder, name, now);
  };

  test('that has the right content is left', () => {
    wish('alice', KEY);
    settleKeyFile(folder, 'alice', NOW);
    const { ino } = statSync(join(path, 'alice'));
    again('alice', NOW + HOUR_MS);
    expect(statSync(join(path, 'alice')).ino).toBe(ino);
    expect(lastingOf(folder)).toEqual({ first: NOW + LIMIT_MS, last: NOW + LIMIT_MS });
  });

  test.each([
    ['has a line more', (name: string) => appendFileSync(name, `${OTHER_KEY}\n`)],
    ['has another mode', (name: string) => chmodSync(name, 0o644)],
    ['nobody may read', (name: string) => chmodSync(name, 0)],
    ['is of another group', (name: string) => chownSync(name, 0, 12_345)],
    [
      'is a link',
      (name: string) => {
        renameSync(name, `${root}/elsewhere`);
        symlinkSync(`${root}/elsewhere`, name);
      },
    ],
  ])('that %s is rewritten, and lasts no longer than before', (_, change) => {
    wish('alice', KEY, { until: NOW + 3 * HOUR_MS });
    settleKeyFile(folder, 'alice', NOW);
    change(join(path, 'alice'));
    wish('alice', KEY, { mayRenew: false, until: NOW + 3 * HOUR_MS });
    again('alice', NOW + HOUR_MS);
    expect(read('alice')).toBe(file(KEY, NOW + 3 * HOUR_MS));
    const { mode, uid, gid } = statSync(join(path, 'alice'));
    expect([mode & 0o7777, uid, gid]).toEqual([0o640, 0, GID]);
  });

  test('that belongs to another owner is rewritten, whatever it contains', () => {
    wish('alice', KEY);
    settleKeyFile(folder, 'alice', NOW);
    chownSync(join(path, 'alice'), 12_345, GID);
    wish('alice', KEY, { mayRenew: false });
    again('alice', NOW + HOUR_MS);
    expect(read('alice')).toBe(file(KEY, NOW + HOUR_MS + LIMIT_MS));
    expect(statSync(join(path, 'alice')).uid).toBe(0);
  });

  test('that is missing while nothing is trusted lasts for the rest of the limit since the last heartbeat', () => {
    wish('alice', KEY, { mayRenew: false, untrustedUntil: NOW + HOUR_MS });
    settleKeyFile(folder, 'alice', NOW);
    expect(read('alice')).toBe(file(KEY, NOW + HOUR_MS));
    wish('bob', KEY, { mayRenew: false, untrustedUntil: NOW - 1 });
    settleKeyFile(folder, 'bob', NOW);
    expect(readdirSync(path)).toEqual(['alice']);
  });

  test('of an unknown person is removed, but not before everything was reported', () => {
    wish('alice', KEY);
    settleKeyFile(folder, 'alice', NOW);
    wishes.clear();
    isWhole = false;
    closeKeyFolder(folder);
    open();
    settlePresent(folder, NOW);
    expect(readdirSync(path)).toEqual(['alice']);
    isWhole = true;
    settlePresent(folder, NOW);
    expect(readdirSync(path)).toEqual([]);
  });

  test('that an interrupted run has left unfinished is removed', () => {
    mkdirSync(join(path, '.new'));
    writeFileSync(join(path, '.new/x'), '');
    closeKeyFolder(folder);
    open();
    wish('alice', KEY);
    settleKeyFile(folder, 'alice', NOW);
    expect(readdirSync(path)).toEqual(['alice']);
  });
});

describe('changes by somebody else are corrected', () => {
  beforeEach(() => {
    wish('alice', KEY);
    settleKeyFile(folder, 'alice', NOW);
  });
  const changes: [string, () => void][] = [
    ['an added line', () => appendFileSync(join(path, 'alice'), `${OTHER_KEY}\n`)],
    [
      'another file in its place',
      () => {
        writeFileSync(join(root, 'other'), `${OTHER_KEY}\n`);
        renameSync(join(root, 'other'), join(path, 'alice'));
      },
    ],
    [
      'a letter, with the times restored',
      () => {
        const { atime, mtime } = statSync(join(path, 'alice'));
        const text = read('alice');
        writeFileSync(join(path, 'alice'), text.replace('expiry-time="2026', 'expiry-time="9026'));
        utimesSync(join(path, 'alice'), atime, mtime);
      },
    ],
    ['a file that is gone', () => rmSync(join(path, 'alice'))],
    ['rights', () => chmodSync(join(path, 'alice'), 0o666)],
  ];

  test.each(changes)('%s, at the next look', async (_, change) => {
    change();
    await check();
    expect(read('alice')).toBe(file(KEY, NOW + LIMIT_MS));
    expect(statSync(join(path, 'alice')).mode & 0o7777).toBe(0o640);
  });

  test.each(changes)('%s, as soon as it is done', async (_, change) => {
    watchKeyFolder(
      folder,
      () => NOW,
      (error) => {
        throw error;
      },
    );
    change();
    await eventually('it is corrected', () => {
      const isThere = existsSync(join(path, 'alice'));
      return isThere && read('alice') === file(KEY, NOW + LIMIT_MS);
    });
  });

  test('a file of an unknown person is removed, and of a tool', async () => {
    for (const name of ['eve', 'tools.bot', '.hidden', 'a b']) writeFileSync(join(path, name), KEY);
    await check();
    expect(readdirSync(path)).toEqual(['alice']);
  });

  test('a file of a person without keys is removed', async () => {
    wish('bob', '');
    settleKeyFile(folder, 'bob', NOW);
    writeFileSync(join(path, 'bob'), KEY);
    await check();
    expect(readdirSync(path)).toEqual(['alice']);
  });

  test('many at once', async () => {
    for (let n = 0; n < 1200; n += 1) {
      wish(`p${n}`, KEY);
      settleKeyFile(folder, `p${n}`, NOW);
    }
    for (let n = 0; n < 1200; n += 1) appendFileSync(join(path, `p${n}`), OTHER_KEY);
    await check();
    for (let n = 0; n < 1200; n += 1) expect(read(`p${n}`)).toBe(file(KEY, NOW + LIMIT_MS));
  });
});

describe('a file that cannot be written affects only itself, is named, and is tried again', () => {
  test('a folder in place of a file', async () => {
    mkdirSync(join(path, 'alice'));
    writeFileSync(join(path, 'alice/x'), '');
    for (const name of ['alice', 'bob']) {
      wish(name, KEY);
      settleKeyFile(folder, name, NOW);
    }
    expect(read('bob')).toBe(file(KEY, NOW + LIMIT_MS));
    expect(troubles.list()).toEqual([
      { path: join(path, 'alice'), why: expect.stringContaining('alice'), since: NOW },
    ]);
    rmSync(join(path, 'alice'), { recursive: true });
    await check();
    expect(read('alice')).toBe(file(KEY, NOW + LIMIT_MS));
    expect(troubles.list()).toEqual([]);
  });

  test('a folder of an unknown name; but one of the file system itself is left', async () => {
    mkdirSync(join(path, 'stray'));
    mkdirSync(join(path, 'lost+found'));
    await check();
    expect(troubles.list().map((each) => each.path)).toEqual([join(path, 'stray')]);
    rmSync(join(path, 'stray'), { recursive: true });
    await check();
    expect(troubles.list()).toEqual([]);
  });

  test('a file system that is read-only', async () => {
    const { execFileSync } = await import('node:child_process');
    wish('alice', KEY);
    settleKeyFile(folder, 'alice', NOW);
    execFileSync('mount', ['--bind', path, path]);
    execFileSync('mount', ['-o', 'remount,bind,ro', path]);
    try {
      wish('alice', OTHER_KEY);
      wish('bob', KEY);
      settleKeyFile(folder, 'alice', NOW);
      settleKeyFile(folder, 'bob', NOW);
      expect(troubles.list().map((each) => each.why)).toEqual([
        expect.stringContaining('EROFS'),
        expect.stringContaining('EROFS'),
      ]);
    } finally {
      execFileSync('umount', [path]);
    }
    await check();
    expect(read('alice')).toBe(file(OTHER_KEY, NOW + LIMIT_MS));
    expect(read('bob')).toBe(file(KEY, NOW + LIMIT_MS));
    expect(troubles.list()).toEqual([]);
  });

  test('on a full disk no removed key stays', async () => {
    closeKeyFolder(folder);
    await onSmallDisk(path, '16k', async () => {
      open();
      wish('alice', `${KEY}\n${OTHER_KEY}`);
      settleKeyFile(folder, 'alice', NOW);
      expect(() => writeFileSync(join(path, 'lost+found'), 'x'.repeat(2 ** 20))).toThrow('ENOSPC');
      wish('alice', KEY);
      settleKeyFile(folder, 'alice', NOW);
      expect(existsSync(join(path, 'alice'))).toBe(false);
      expect(troubles.list().map((each) => each.why)).toEqual([expect.stringContaining('ENOSPC')]);
      rmSync(join(path, 'lost+found'));
      await check();
      expect(read('alice')).toBe(file(KEY, NOW + LIMIT_MS));
      closeKeyFolder(folder);
    });
  });
});
