/** A word is classified by its form alone; hostile words mean nothing. */
import { describe, expect, test } from '@jest/globals';
import { type Areas, classifyWord, MAX_WORD_LENGTH } from '../../src/explain/word.ts';

const AREAS: Areas = { root: '/srv/nfs', toolHomes: '/data/project', personHomes: '/home' };
const FINGERPRINT = 'SHA256:CdJhaw8trPQaPlbHaEFi7I0Ko7eRHJ7Oq1wFrpA7QJA';
const of = (text: string) => classifyWord(text, AREAS);

describe('names and numbers', () => {
  test.each([
    ['alice', { kind: 'name', name: 'alice' }],
    [' alice\n', { kind: 'name', name: 'alice' }],
    ['tools.bridgebot', { kind: 'name', name: 'tools.bridgebot' }],
    ['Alice Ångström', { kind: 'name', name: 'Alice Ångström' }],
    ['-rf', { kind: 'name', name: '-rf' }],
    ["x'; DROP TABLE people; --", { kind: 'name', name: "x'; DROP TABLE people; --" }],
    // a person may have such a name too
    ['s50001', { kind: 'name', name: 's50001', databaseUser: { kind: 'tool', uid: 50001 } }],
    ['u1000', { kind: 'name', name: 'u1000', databaseUser: { kind: 'person', uid: 1000 } }],
    ['s9999999999', { kind: 'name', name: 's9999999999' }],
    ['s050001', { kind: 'name', name: 's050001' }],
    [
      's50001__my_db',
      { kind: 'database', database: 's50001__my_db', owner: { kind: 'tool', uid: 50001 } },
    ],
    ['a@example.org', { kind: 'name', name: 'a@example.org' }],
    ['50001', { kind: 'uid', uid: 50001 }],
    ['0', { kind: 'uid', uid: 0 }],
    ['00050001', { kind: 'uid', uid: 50001 }],
  ])('%j', (text, word) => expect(of(text)).toEqual(word));
});

describe('paths', () => {
  const path = (text: string, home: string, inside: string, area = 'toolHomes') =>
    [text, { kind: 'path', area, home, inside, path: expect.any(String) }] as const;
  test.each([
    path('/data/project/bridgebot', 'bridgebot', ''),
    path('/data/project/bridgebot/', 'bridgebot', ''),
    path('/data//project/./bridgebot/logs/a b', 'bridgebot', 'logs/a b'),
    path('/data/project/x/../bridgebot', 'bridgebot', ''),
    path('/srv/nfs/data/project/bridgebot/logs', 'bridgebot', 'logs'),
    path('/home/alice/.ssh', 'alice', '.ssh', 'personHomes'),
  ])('%s', (text, word) => expect(of(text)).toEqual(word));

  test.each([
    '/data/project',
    '/data/projects/x',
    '/data/project/..',
    '/etc/passwd',
    '/',
    '/home/',
  ])('%s is no home', (text) => expect(of(text).kind).toBe('nothing'));

  test('a path is shown as accounts see it', () => {
    expect(of('/srv/nfs/data/project/x')).toMatchObject({ path: '/data/project/x' });
  });
});

describe('keys', () => {
  test.each([
    [FINGERPRINT, { kind: 'fingerprint', fingerprint: FINGERPRINT }],
    ['ssh-ed25519 AAAAC3Nz alice@laptop', { kind: 'key' }],
    ['from="10.0.0.0/8" ssh-ed25519 AAAAC3Nz', { kind: 'key' }],
    ['sk-ssh-ed25519@openssh.com AAAAGnNr', { kind: 'key' }],
    ['ecdsa-sha2-nistp256 AAAAE2Vj\nssh-ed25519 AAAAC3Nz', { kind: 'key' }],
    [`${FINGERPRINT}=`, { kind: 'nothing' }],
    ['SHA256:short', { kind: 'nothing' }],
    ['MD5:16:27:ac:a5:76:28:2d:36:63:1b:56:4d:eb:df:a6:48', { kind: 'nothing' }],
  ])('%j', (text, word) => expect(of(text)).toMatchObject(word));
});

describe('hostile words mean nothing', () => {
  test.each([
    ['nothing at all', ''],
    ['blanks', ' \t '],
    ['a control character', 'ali\u001b[2Jce'],
    ['a newline', 'alice\nbob'],
    ['NUL', 'alice\0'],
    ['a right-to-left override', 'alice\u202e'],
    ['half a surrogate pair', 'alice\ud800'],
    ['a number beyond all systems', '4294967296'],
    ['digits without end', '9'.repeat(400)],
    ['a name without end', 'a'.repeat(256)],
  ])('%s', (_what, text) => expect(of(text).kind).toBe('nothing'));

  test('a word of a megabyte, at once', () => {
    const begin = process.cpuUsage();
    for (const text of ['a', ' ', 'ssh-', '/data/project/', 's1__', '9'].map((each) =>
      each.repeat(2 ** 20 / each.length),
    )) {
      expect(of(text).kind).toBe('nothing');
    }
    for (const text of ['ssh-', '/x', ' ', 'AAAA '].map((each) =>
      each.repeat(MAX_WORD_LENGTH / each.length).slice(0, MAX_WORD_LENGTH),
    )) {
      of(text);
    }
    // a fifth of a second; a pattern that backtracks would take minutes
    expect(process.cpuUsage(begin).user / 1000).toBeLessThan(5000);
  });
});

test('the id of a request is distinguished from a name, with where to look', () => {
  expect(of('0B0E7D0A-1c5b-4c5e-9f43-2f7d7d0c1a11')).toEqual({
    kind: 'nothing',
    because: expect.stringContaining('`chamberlain requests 0B0E7D0A-1c5b-4c5e-9f43-2f7d7d0c1a11`'),
  });
});
