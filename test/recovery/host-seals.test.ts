/** A login host's memory counts if it is signed and newer. The last line of a subject counts. */
import { generateKeyPairSync } from 'node:crypto';
import { expect, test } from '@jest/globals';
import { formatSeal, sealKeyId, signPayload, verifying, type Seal } from '../../src/seals/seal.ts';
import { readHostSeals } from '../../src/recovery/host-seals.ts';

const keyOf = () => {
  const { privateKey } = generateKeyPairSync('ed25519');
  return { id: sealKeyId(privateKey), privateKey };
};
const ours = keyOf();
const sealOf = (uid: number, number: number, key = ours): string => {
  const seal: Seal = {
    ...{ kind: 'tool', realm: 'tools', name: `tools.t${uid}`, uid, home: '/', shell: '/bin/bash' },
    ...{ state: 'active', gecos: '', members: ['söphie'], number, until: '2026-12-06T00:00:00Z' },
  };
  return signPayload(formatSeal(seal), key);
};
const known = new Map([1, 2, 3, 4, 5].map((uid) => [uid, 10]));
const read = (...lines: string[]) => {
  const bytes = Buffer.from(`${lines.join('\n')}\n\0\0\0`);
  const { shown, refused } = readHostSeals(bytes.toString(), 'host', verifying(ours), known);
  return [...shown.map(({ subject, by }) => `${subject}: ${by}`), refused];
};

test('newer seals count, with any mark; older ones and those of unknown subjects do not', () => {
  expect(read(sealOf(1, 11), `!${sealOf(2, 12)}`, sealOf(3, 10), sealOf(9, 12))).toEqual([
    '1: its seal 11 on host',
    '2: its seal 12 on host',
    0,
  ]);
});

test('the last line of a subject counts, even if it says that the subject is gone', () => {
  expect(read(sealOf(1, 11), sealOf(1, 13), sealOf(2, 12), 'gone 2 tools.t2 12')).toEqual([
    '1: its seal 13 on host',
    '2: host, where it is gone',
    0,
  ]);
  expect(read('gone 3 tools.t3 9', 'missing 4 tools.t4 11')).toEqual([0]);
  // a restored subject has a later line
  expect(read('gone 3 tools.t3 10', sealOf(3, 10))).toEqual([0]);
});

test('lines that our key did not sign are counted', () => {
  expect(read(sealOf(1, 11, keyOf()), 'no line', sealOf(2, 12).slice(0, -5))).toEqual([3]);
});

test('accounts that our database does not know are returned with number and name', () => {
  const text = [sealOf(7, 3), sealOf(1, 11), 'gone 8 tools.t8 4', sealOf(9, 1, keyOf())].join('\n');
  expect(readHostSeals(text, 'host', verifying(ours), known).unknown).toEqual([
    { uid: 7, account: 'tools.t7' },
    { uid: 8, account: 'tools.t8' },
  ]);
});
