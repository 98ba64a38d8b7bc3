/** What is signed for login hosts, and what a signature does not make valid. */
import { generateKeyPairSync } from 'node:crypto';
import { expect, test } from '@jest/globals';
import {
  formatSeal,
  parseSeal,
  payloadOf,
  sealKeyId,
  signPayload,
  verifying,
  verifyPayload,
  type PersonSeal,
  type SealKeys,
  type ToolSeal,
} from '../../src/seals/seal.ts';

const newKey = () => {
  const { privateKey, publicKey } = generateKeyPairSync('ed25519');
  return { id: sealKeyId(publicKey), privateKey };
};
const [key, next, other] = [newKey(), newKey(), newKey()];
const keys: SealKeys = new Map([...verifying(key), ...verifying(next)]);

const ALICE: PersonSeal = {
  ...{ kind: 'person', realm: 'tools', name: 'alice', uid: 1003, home: '/home/alice' },
  ...{ shell: '/bin/bash', state: 'active', member: true, keys: ['ssh-ed25519 AAAA'] },
  ...{ number: 7, until: '2026-12-06T00:00:00Z' },
};
const BOT: ToolSeal = {
  ...{ kind: 'tool', realm: 'tools', name: 'tools.bot', uid: 50001, home: '/data/project/bot' },
  ...{ shell: '/bin/bash', state: 'active', gecos: '', members: ['alice', 'tools.other'] },
  ...{ number: 1, until: '2026-12-06T00:00:00Z' },
};

test('a seal has a key, a signature and the whole record, and is read as it was written', () => {
  const text = signPayload(formatSeal(ALICE), key);
  expect(text).toMatch(/^[0-9a-f]{16} [A-Za-z0-9+/]{86}== \{"kind":"person",/);
  expect(payloadOf(text)).toBe(
    '{"kind":"person","realm":"tools","name":"alice","uid":1003,"home":"/home/alice","shell":"/bin/bash",' +
      '"state":"active","member":true,"keys":["ssh-ed25519 AAAA"],"number":7,"until":"2026-12-06T00:00:00Z"}',
  );
  for (const seal of [ALICE, BOT]) {
    const verdict = verifyPayload(signPayload(formatSeal(seal), key), keys);
    expect(verdict.ok && parseSeal(verdict.payload)).toEqual(seal);
  }
});

test('the same seal with the same key is the same text', () => {
  const reordered = Object.fromEntries(Object.entries(ALICE).toReversed()) as unknown as PersonSeal;
  expect(signPayload(formatSeal(reordered), key)).toBe(signPayload(formatSeal(ALICE), key));
});

test('while a key is being replaced, both keys count', () => {
  for (const each of [key, next]) {
    expect(verifyPayload(signPayload(formatSeal(BOT), each), keys).ok).toBe(true);
  }
});

const SIGNED = signPayload(formatSeal(ALICE), key);
test.each<[string, string]>([
  ['nothing', ''],
  ['a payload alone', formatSeal(ALICE)],
  ['an unknown key', signPayload(formatSeal(ALICE), other)],
  [
    'an unknown key with the id of ours',
    `${key.id}${signPayload(formatSeal(ALICE), other).slice(16)}`,
  ],
  ['a letter changed', SIGNED.replace('"alice"', '"alicf"')],
  ['an additional blank', SIGNED.replace('{"kind"', '{ "kind"')],
  ['something after it', `${SIGNED}\n`],
  ['something before it', ` ${SIGNED}`],
  ['a second line', `${SIGNED}\n${SIGNED}`],
  ['a shortened signature', SIGNED.replace(/ [A-Za-z0-9+/]{4}/, ' ')],
  [
    'the signature of another seal',
    `${signPayload(formatSeal(BOT), key).slice(0, 105)} ${formatSeal(ALICE)}`,
  ],
])('%s does not verify', (_, text) => {
  expect(verifyPayload(text, keys).ok).toBe(false);
});

test.each<[string, unknown]>([
  ['no number', { ...ALICE, number: undefined }],
  ['a number 0', { ...ALICE, number: 0 }],
  ['a number as text', { ...ALICE, number: '7' }],
  ['an end without a zone', { ...ALICE, until: '2026-12-06T00:00:00' }],
  ['an additional field', { ...ALICE, admin: true }],
  ['an unknown state', { ...ALICE, state: 'deleted' }],
  ['invalid keys', { ...ALICE, keys: [1] }],
  ['the fields of the other kind', { ...BOT, kind: 'person' }],
  ['a heartbeat', { kind: 'heartbeat', realm: 'tools' }],
  ['a list', [ALICE]],
])('a payload with %s is not valid', (_, payload) => {
  expect(parseSeal(JSON.stringify(payload))).toBeUndefined();
});
