import { describe, expect, test } from '@jest/globals';
import type { DirectoryEntry, DirectoryReader } from '../../src/targets/directory-reader.ts';
import { sshKeys } from '../../src/targets/ssh-keys.ts';
import { entry, KEY, linesOf, OTHER_KEY, person, REALM } from './directory-cases.ts';

const ALICE = 'uid=alice,ou=people';
const have = (
  keys: string[],
  uidNumber = '1003',
  description: string[] = [],
  objectClass = ['inetOrgPerson', 'ldapPublicKey'],
) =>
  entry('people/uid=alice', {
    objectClass,
    uid: ['alice'],
    uidNumber: [uidNumber],
    sshPublicKey: keys,
    description,
  });
const planned = (changes: Parameters<typeof person>[0], found: DirectoryEntry | undefined) => {
  const wanted = person({ keys: both.slice(0, 1), ...changes });
  return sshKeys.plan(sshKeys.want(wanted, REALM), found, wanted);
};
const [PRINT, OTHER_PRINT] = [`SHA256:${'a'.repeat(43)}`, `SHA256:${'b'.repeat(43)}`];
const [REAL_KEY, REAL_KEY_2] = [
  'ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAICr+UNujfUA5WPslpQtLAkEMHDF6upikUVFUCu/SM8xG',
  'ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIBIss9ppwv42Ty5MZI2p4h+sKaMQAd8J8O4VeLRXeoYx',
];
const both = [
  { line: KEY, fingerprint: PRINT, label: '' },
  { line: OTHER_KEY, fingerprint: OTHER_PRINT, label: '' },
];
const labelled = (label: string) => ({ keys: [{ line: KEY, fingerprint: PRINT, label }] });
/** a label as a plan shows it: by both its ends */
const shown = (label: string) => {
  const text = `${PRINT} ${label}`;
  return text.length <= 60 ? text : `${text.slice(0, 28)}…${text.slice(-16)}`;
};

const labelHave = (label: string) => have([KEY], '1003', [`${PRINT} ${label}`]);

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
      'removes keys from an account of a class that cannot have keys',
      { keys: both.slice(1) },
      have([KEY], '1003', [], ['account', 'ldapPublicKey']),
      [`revoke ${ALICE}: sshPublicKey −${KEY}`],
    ],
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
      'treats a line that only has an additional comment as the same key',
      {},
      have([`${KEY} me`]),
      [],
    ],
    [
      'treats one with options the same way',
      { keys: both.slice(1) },
      have([`${OTHER_KEY} me`]),
      [],
    ],
    [
      'treats a key with other blanks and letters as the same key',
      {
        keys: [
          { line: `restrict,no-pty ${REAL_KEY}`, fingerprint: PRINT, label: 'my laptop' },
          { line: REAL_KEY_2, fingerprint: OTHER_PRINT, label: '' },
        ],
      },
      have([` Restrict,No-PTY ${REAL_KEY} my laptop`, `${REAL_KEY_2}\r\n`]),
      [],
    ],
    [
      'replaces a line whose comment no login host accepts in one modify, so that the key is never absent',
      {},
      have([`${KEY} \u0007me`]),
      [`change ${ALICE}: sshPublicKey ${KEY} \\u0007me → ${KEY}`],
    ],
    [
      'removes all but one of the values with one key: first those that are not the line itself',
      {},
      have([`${KEY} at home`, KEY, `${KEY} at work`]),
      [`revoke ${ALICE}: sshPublicKey −${KEY} at home −${KEY} at work`],
    ],
    [
      'leaves the value of a doubled key whose comment is the label',
      labelled('work'),
      have([`${KEY} home`, `${KEY} work`]),
      [`revoke ${ALICE}: sshPublicKey −${KEY} home`],
    ],
    [
      'writes no label that is already the comment, and leaves one that is present nevertheless',
      {
        keys: [
          { line: KEY, fingerprint: PRINT, label: 'laptop' },
          { line: OTHER_KEY, fingerprint: OTHER_PRINT, label: 'desk' },
        ],
      },
      have([`${KEY} laptop`, `${OTHER_KEY} desk`], '1003', [`${OTHER_PRINT} desk`]),
      [],
    ],
    [
      'writes a label that differs from the comment',
      labelled('laptop'),
      have([`${KEY} me@home`]),
      [`change ${ALICE}: description +${shown('laptop')}`],
    ],
    [
      'first removes a line that smuggles in a second key after a line end',
      {},
      have([`${KEY} x\nssh-ed25519 B`]),
      [
        `revoke ${ALICE}: sshPublicKey −${KEY} x\\nssh-ed25519 B`,
        `change ${ALICE}: sshPublicKey +${KEY}`,
      ],
    ],
    [
      'removes the keys of a suspended person',
      { state: 'suspended' },
      have([KEY]),
      [`revoke ${ALICE}: sshPublicKey −${KEY}`],
    ],
    [
      'removes the keys of a deleted person',
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
    [
      'adds a key and its label in one modify',
      labelled('laptop'),
      undefined,
      [`change ${ALICE}: sshPublicKey +${KEY}; description +${shown('laptop')}`],
    ],
    ['leaves a label that is as it should be', labelled('laptop'), labelHave('laptop'), []],
    ['cuts the blanks around a label', labelled(' my  laptop '), labelHave('my  laptop'), []],
    ['writes no label of blanks', labelled('  '), have([KEY]), []],
    [
      'changes a label that differs only in case',
      labelled('Laptop'),
      labelHave('laptop'),
      [`change ${ALICE}: description ${shown('laptop')} → ${shown('Laptop')}`],
    ],
    [
      'removes a key separately, and then its label: nothing about a label may keep a key',
      { keys: [] },
      labelHave('laptop'),
      [`revoke ${ALICE}: sshPublicKey −${KEY}`, `change ${ALICE}: description −${shown('laptop')}`],
    ],
    [
      'removes the labels of a suspended person',
      { ...labelled('laptop'), state: 'suspended' },
      labelHave('laptop'),
      [`revoke ${ALICE}: sshPublicKey −${KEY}`, `change ${ALICE}: description −${shown('laptop')}`],
    ],
    [
      'leaves the labels of a deleted person to the target that deletes the account',
      { ...labelled('laptop'), state: 'deleted' },
      labelHave('laptop'),
      [`revoke ${ALICE}: sshPublicKey −${KEY}`],
    ],
    [
      'removes the label of a key that is not wanted',
      {},
      have([KEY], '1003', [`${OTHER_PRINT} old`]),
      [`change ${ALICE}: description −${OTHER_PRINT} old`],
    ],
    [
      'leaves descriptions that are no labels',
      {},
      have([KEY], '1003', ['SHA256:short x', PRINT, `x ${PRINT} y`, 'bytes:ff']),
      [],
    ],
  ])('%s', (_, changes, found, lines) => {
    expect(linesOf(planned(changes, found))).toEqual(lines);
  });

  test('treats a key that differs only in case as another, which it is', () => {
    const swapped = KEY.replace(/.$/u, (last) =>
      last === last.toLowerCase() ? last.toUpperCase() : last.toLowerCase(),
    );
    expect(swapped).not.toBe(KEY);
    expect(linesOf(planned({}, have([swapped])))).toEqual([
      `revoke ${ALICE}: sshPublicKey −${swapped}`,
      `change ${ALICE}: sshPublicKey +${KEY}`,
    ]);
  });

  test('gives no keys while the account has another name', async () => {
    const renamed = entry('people/uid=ALICE', { uid: ['ALICE'], uidNumber: ['1003'] });
    const reader = {
      find: ({ place }: { place?: string }) => Promise.resolve(place === 'people' ? [] : [renamed]),
    } as unknown as DirectoryReader;
    const [found] = await sshKeys.observe(reader, [person()], REALM);
    expect(linesOf(planned({}, found))).toEqual([]);
  });

  test('refuses to plan for a person who was read without keys: absent is not none', () => {
    const { keys: _, ...without } = person();
    expect(() => sshKeys.want(without, REALM)).toThrow(TypeError);
  });
});
