import { describe, expect, test } from '@jest/globals';
import type { DirectoryEntry } from '../../src/targets/directory-eyes.ts';
import { sshKeys } from '../../src/targets/ssh-keys.ts';
import { entry, KEY, linesOf, OTHER_KEY, person, REALM } from './directory-cases.ts';

const ALICE = 'uid=alice,ou=people';
const have = (keys: string[], uidNumber = '1003') =>
  entry('people/uid=alice', { uid: ['alice'], uidNumber: [uidNumber], sshPublicKey: keys });
const planned = (changes: Parameters<typeof person>[0], found: DirectoryEntry | undefined) => {
  const wanted = person(changes);
  return sshKeys.plan(sshKeys.want(wanted, REALM), found, wanted);
};
const both = [
  { line: KEY, fingerprint: 'SHA256:a' },
  { line: OTHER_KEY, fingerprint: 'SHA256:b' },
];

describe('ssh-keys', () => {
  test.each<[string, Parameters<typeof person>[0], DirectoryEntry | undefined, string[]]>([
    ['leaves keys that are as they should be', {}, have([KEY]), []],
    [
      'adds keys after the account where there is none yet',
      {},
      undefined,
      [`change ${ALICE}: sshPublicKey +${KEY}`],
    ],
    ['has nothing to do without keys and account', { keys: [] }, undefined, []],
    ['adds a key', {}, have([]), [`change ${ALICE}: sshPublicKey +${KEY}`]],
    ['removes a key', { keys: [] }, have([KEY]), [`revoke ${ALICE}: sshPublicKey −${KEY}`]],
    [
      'removes before it adds',
      { keys: both.slice(1) },
      have([KEY]),
      [`revoke ${ALICE}: sshPublicKey −${KEY}`, `change ${ALICE}: sshPublicKey +${OTHER_KEY}`],
    ],
    [
      'replaces the same key with another set of options as another key',
      {},
      have([`cert-authority ${KEY}`]),
      [
        `revoke ${ALICE}: sshPublicKey −cert-authority ${KEY}`,
        `change ${ALICE}: sshPublicKey +${KEY}`,
      ],
    ],
    [
      'replaces a line that only has a comment more in one modify, so that the key is never away',
      {},
      have([`${KEY} me`]),
      [`change ${ALICE}: sshPublicKey ${KEY} me → ${KEY}`],
    ],
    [
      'removes a line that smuggles a second key behind a line end, first',
      {},
      have([`${KEY} x\nssh-ed25519 B`]),
      [
        `revoke ${ALICE}: sshPublicKey −${KEY} x\\nssh-ed25519 B`,
        `change ${ALICE}: sshPublicKey +${KEY}`,
      ],
    ],
    [
      'takes the keys of a suspended person',
      { state: 'suspended' },
      have([KEY]),
      [`revoke ${ALICE}: sshPublicKey −${KEY}`],
    ],
    [
      'takes the keys of a deleted person',
      { state: 'deleted' },
      have([KEY]),
      [`revoke ${ALICE}: sshPublicKey −${KEY}`],
    ],
    [
      'has nothing to do for a deleted person without an account',
      { state: 'deleted' },
      undefined,
      [],
    ],
    ['touches no account that is not ours', {}, have([OTHER_KEY], '7'), []],
    ['keeps the keys of a person who is no realm member', { realmMember: false }, have([KEY]), []],
  ])('%s', (_, changes, found, lines) => {
    expect(linesOf(planned(changes, found))).toEqual(lines);
  });

  test('takes a key that differs in case alone for another, which it is', () => {
    const swapped = KEY.replace(/.$/u, (last) =>
      last === last.toLowerCase() ? last.toUpperCase() : last.toLowerCase(),
    );
    expect(swapped).not.toBe(KEY);
    expect(linesOf(planned({}, have([swapped])))).toEqual([
      `revoke ${ALICE}: sshPublicKey −${swapped}`,
      `change ${ALICE}: sshPublicKey +${KEY}`,
    ]);
  });

  test('refuses to plan for a person who was read without keys: absent is not none', () => {
    const { keys: _, ...without } = person();
    expect(() => sshKeys.want(without, REALM)).toThrow(TypeError);
  });
});
