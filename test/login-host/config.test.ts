/** The configuration of a login host: whose seals it accepts, and what cannot be configured. */
import { afterEach, beforeEach, expect, test } from '@jest/globals';
import { generateKeyPairSync, type KeyObject } from 'node:crypto';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { stringify } from 'yaml';
import { loadLoginHostConfig, sealKeysOf } from '../../src/login-host/config.ts';
import { newSigner } from './seals.ts';

let folder: string;
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'chamberlain-config-'));
});
afterEach(() => rmSync(folder, { recursive: true, force: true }));

const [one, two] = [newSigner(), newSigner()];

function load(more: object) {
  const file = join(folder, 'login-host.yaml');
  const config = {
    realm: 'tools',
    ids: { people: [{ first: 1000, last: 2000 }], tools: [{ first: 3000, last: 4000 }] },
    ldap: { uris: ['ldaps://one.example.org'], base: 'dc=example,dc=org' },
    sealKeys: [one.pem],
    ...more,
  };
  writeFileSync(file, stringify(config));
  return loadLoginHostConfig(file);
}

test('one key or two are known by their ids', () => {
  expect([...sealKeysOf(load({})).keys()]).toEqual([one.id]);
  expect([...sealKeysOf(load({ sealKeys: [one.pem, two.pem] })).keys()]).toEqual([one.id, two.id]);
});

const pem = (key: KeyObject, type: 'spki' | 'pkcs8') =>
  key.export({ type, format: 'pem' } as never);
const ed448 = generateKeyPairSync('ed448');

test.each<[string, object]>([
  ['no key', { sealKeys: [] }],
  ['three keys', { sealKeys: [one.pem, two.pem, newSigner().pem] }],
  ['a private key', { sealKeys: [pem(one.privateKey, 'pkcs8')] }],
  ['a key of another kind', { sealKeys: [pem(ed448.publicKey, 'spki')] }],
  ['two keys in one', { sealKeys: [one.pem + two.pem] }],
  ['a cut key', { sealKeys: [one.pem.replace(/\n-----END.*/, '')] }],
  ['nothing of them', { sealKeys: undefined }],
])('%s is refused', (_, more) => {
  expect(() => load(more)).toThrow('sealKeys');
});

test.each(['keysFolder', 'stateFolder', 'helperSocket', 'passwdFile', 'passwdDb'])(
  '%s is not a setting: other programs name these places, too',
  (name) => {
    expect(() => load({ [name]: '/tmp/x' })).toThrow(name);
  },
);
