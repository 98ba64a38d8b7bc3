/** The journal of seals: what is read from it, whatever has happened to the file. */
import { afterEach, beforeEach, expect, test } from '@jest/globals';
import {
  closeSync,
  mkdirSync,
  mkdtempSync,
  readFileSync,
  rmSync,
  statSync,
  truncateSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import {
  appendLines,
  openSealJournal,
  type SealJournal,
  tidyJournal,
} from '../../../src/login-host/helper/seal-journal.ts';
import { newSigner, PEOPLE, person, sign } from '../seals.ts';
import { onSmallDisk } from '../small-disk.ts';

let folder: string;
let path: string;
let opened: SealJournal[];
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'chamberlain-journal-'));
  path = join(folder, 'seals');
  opened = [];
});
afterEach(() => {
  for (const { fd } of opened) closeSync(fd);
  rmSync(folder, { recursive: true, force: true });
});

const signer = newSigner();
const line = (n: number, number = 5) =>
  sign(person(`p${n}`, n, { number, keys: ['x'.repeat(200)] }), signer);

function open(accepts: (line: string) => boolean = () => true): {
  journal: SealJournal;
  lines: string[];
  unread: number;
} {
  const lines: string[] = [];
  const journal = openSealJournal(path, (each) => {
    lines.push(each);
    return accepts(each);
  });
  opened.push(journal);
  return { journal, lines, unread: journal.unread };
}

test('added lines are read again, and nobody else may read them', () => {
  const { journal, lines } = open();
  expect(lines).toEqual([]);
  appendLines(journal, [line(1), line(2)], true);
  appendLines(journal, [`gone ${PEOPLE + 1} p1 5`], false);
  expect(open()).toMatchObject({
    lines: [line(1), line(2), `gone ${PEOPLE + 1} p1 5`],
    unread: 0,
  });
  expect(statSync(path).mode & 0o7777).toBe(0o600);
});

test('many lines are read again, whatever their length', () => {
  const { journal } = open();
  const all = Array.from({ length: 2000 }, (_, n) => line(n));
  const long = sign(person('long', 1, { keys: ['x'.repeat(2 ** 20)] }), signer);
  appendLines(journal, [...all.slice(0, 1000), long, ...all.slice(1000)], false);
  expect(open().lines).toEqual([...all.slice(0, 1000), long, ...all.slice(1000)]);
});

test('a last line that was cut affects only itself, and lines added afterwards are complete', () => {
  appendLines(open().journal, [line(1), line(2)], true);
  const whole = readFileSync(path).indexOf(0);
  truncateSync(path, whole - 20);
  const { journal, lines, unread } = open();
  expect([lines, unread]).toEqual([[line(1)], 0]);
  appendLines(journal, [line(3)], true);
  expect(open().lines).toEqual([line(1), line(3)]);
});

test('a last line that was only partly written into the room affects only itself', () => {
  appendLines(open().journal, [line(1), `gone ${PEOPLE + 1} p1 12345`], true);
  const bytes = readFileSync(path);
  bytes.fill(0, bytes.indexOf(0) - 3);
  writeFileSync(path, bytes);
  const { journal, lines, unread } = open();
  expect([lines, unread]).toEqual([[line(1)], 0]);
  appendLines(journal, ['x'], true);
  expect(open().lines).toEqual([line(1), 'x']);
});

test('a line that cannot be read affects only itself, and is counted', () => {
  writeFileSync(path, `${line(1)}\nx\u0000\n\n${line(2)}\n`);
  const { lines, unread } = open((each) => each.endsWith('}'));
  expect([lines, unread]).toEqual([[line(1), 'x\u0000', '', line(2)], 2]);
});

test('unreadable lines are gone when the file is rewritten', () => {
  writeFileSync(path, `${line(1)}\nx\n${line(2)}\n`);
  tidyJournal(open((each) => each !== 'x').journal);
  expect(open()).toMatchObject({ lines: [line(1), line(2)], unread: 0 });
});

test('on a full disk nothing of a failed addition is in the file', async () => {
  const small = join(folder, 'small');
  await onSmallDisk(small, '64k', () => {
    path = join(small, 'seals');
    const { journal } = open();
    appendLines(journal, [line(1)], true);
    const many = Array.from({ length: 1000 }, (_, n) => line(n));
    expect(() => appendLines(journal, many, false)).toThrow('ENOSPC');
    appendLines(journal, [line(2)], true);
    expect(open().lines).toEqual([line(1), line(2)]);
    for (const { fd } of opened.splice(0)) closeSync(fd);
  });
});

test('when the disk becomes full, there is room for thousands of losses, and half of it is reserved for them', async () => {
  const small = join(folder, 'small');
  await onSmallDisk(small, '4m', () => {
    path = join(small, 'seals');
    const { journal } = open();
    appendLines(journal, [line(0)], true);
    expect(() => writeFileSync(join(small, 'full'), Buffer.alloc(2 ** 23))).toThrow('ENOSPC');
    const renewed: string[] = [];
    const renew = () => {
      for (let n = 0; n < 5000; n += 1) {
        appendLines(journal, [line(n, 6)], false);
        renewed.push(line(n, 6));
      }
    };
    expect(renew).toThrow('ENOSPC');
    expect(renewed.length).toBeGreaterThan(1000);
    const lost = Array.from({ length: 1500 }, (_, n) => line(n, 7));
    for (const each of lost) appendLines(journal, [each], true);
    tidyJournal(journal);
    const all = [line(0), ...renewed, ...lost];
    expect(open().lines).toEqual(all);
    expect(() => appendLines(journal, [...lost, ...lost, ...lost], true)).toThrow('ENOSPC');
    expect(open()).toMatchObject({ lines: all, unread: 0 });
    appendLines(journal, [line(1, 8)], true);
    rmSync(join(small, 'full'));
    tidyJournal(journal);
    appendLines(journal, [line(2, 8)], false);
    expect(open().lines).toEqual([...all, line(1, 8), line(2, 8)]);
    for (const { fd } of opened.splice(0)) closeSync(fd);
  });
});

test('lines of a page that was not written are missing, and reported as such', () => {
  const all = Array.from({ length: 3000 }, (_, n) => line(n));
  const begins = `${all.slice(0, 1000).join('\n')}\n`.length;
  appendLines(open().journal, all, true);
  const whole = readFileSync(path);
  const isLine = (each: string) => each.endsWith('}') && !each.includes('\0');
  for (const [from, to] of [
    [begins, begins + 300], // at the beginning of a line
    [begins + 10, begins + 4096],
    [begins, begins + 600_000], // more than is read at once: what follows is taken for room
  ]) {
    const bytes = Buffer.from(whole);
    bytes.fill(0, from, to);
    writeFileSync(path, bytes);
    const { lines, unread, journal } = open(isLine);
    expect(lines.slice(0, 1000)).toEqual(all.slice(0, 1000));
    expect(unread).toBeGreaterThan(0);
    appendLines(journal, [line(1, 9)], true);
    tidyJournal(journal);
    expect(open().lines.at(-1)).toBe(line(1, 9));
  }
});

test('it is rewritten, with the last line of each uid, once more than half of it is not needed', () => {
  const { journal } = open();
  const rounds = Array.from({ length: 40 }, (_, number) =>
    Array.from({ length: 300 }, (__, n) => line(n, number + 1)),
  );
  for (const lines of rounds) appendLines(journal, lines, false);
  appendLines(journal, [`gone ${PEOPLE + 7} p7 40`, `!${line(8, 41)}`], false);
  const bytes = () => readFileSync(path).indexOf(0);
  const before = bytes();
  tidyJournal(journal);
  expect(bytes()).toBeLessThan(before / 30);
  appendLines(journal, [line(9, 41)], false);
  const { lines } = open();
  expect(lines).toHaveLength(301);
  const last = new Set(lines);
  for (const each of [`gone ${PEOPLE + 7} p7 40`, `!${line(8, 41)}`, line(9, 41), line(10, 40)]) {
    expect(last.has(each)).toBe(true);
  }
  expect(last.has(line(7, 40)) || last.has(line(8, 40))).toBe(false);
  expect(statSync(path).mode & 0o7777).toBe(0o600);
});

test('a line that needs the one before it keeps that line, and is replaced together with it', () => {
  const { journal } = open();
  for (let number = 1; number <= 40; number += 1) {
    appendLines(
      journal,
      Array.from({ length: 300 }, (_, n) => line(n, number)),
      false,
    );
  }
  const held = [`?${line(1, 41)}`, `?${line(1, 42)}`, `?${line(2, 41)}`];
  appendLines(journal, [...held, line(2, 42)], false);
  tidyJournal(journal);
  const { lines } = open();
  const of = (n: number) => lines.filter((each) => each.includes(`"name":"p${n}"`));
  expect(of(1)).toEqual([line(1, 40), held[1]]);
  expect(of(2)).toEqual([line(2, 42)]);
});

test('it is left as it is if it cannot be rewritten', () => {
  const { journal } = open();
  for (let number = 1; number <= 40; number += 1) {
    appendLines(
      journal,
      Array.from({ length: 300 }, (_, n) => line(n, number)),
      false,
    );
  }
  mkdirSync(`${path}.new`);
  const before = readFileSync(path).subarray(0, readFileSync(path).indexOf(0));
  expect(() => tidyJournal(journal)).toThrow();
  appendLines(journal, [line(1, 99)], false);
  expect(readFileSync(path).subarray(0, before.length).equals(before)).toBe(true);
  expect(open().lines.at(-1)).toBe(line(1, 99));
});
