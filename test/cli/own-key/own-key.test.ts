/** An admin's own key in the format of OpenSSH, as ssh-keygen writes and reads it. */
import { execFileSync } from 'node:child_process';
import { createPublicKey, randomBytes } from 'node:crypto';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, expect, test } from '@jest/globals';
import { encryptKey, openOwnKey } from '../../../src/cli/own-key/own-key.ts';
import { keyOfSeed, lineOf } from '../../../src/ssh-keys/ed25519-key.ts';
import { publicHalfOf } from '../../../src/ssh-keys/public-half.ts';

let dir: string;
beforeAll(() => void (dir = mkdtempSync(join(tmpdir(), 'own-key-'))));
afterAll(() => rmSync(dir, { recursive: true }));

test.each([
  ['any', randomBytes(32)],
  ['one that begins with a zero byte', Buffer.alloc(32, 7).fill(0, 0, 1)],
  ['one that begins with two', Buffer.alloc(32, 7).fill(0, 0, 2)],
  ['one that ends with a zero byte', Buffer.alloc(32, 7).fill(0, 31)],
  ['one that begins with a high bit', Buffer.alloc(32, 0x80)],
])('is read, whatever its private half: %s', async (_, seed) => {
  const key = keyOfSeed(seed);
  const file = join(dir, `key-${seed.toString('hex')}`);
  const encrypted = encryptKey(key, 'a passphrase', 'hers');
  writeFileSync(file, encrypted, { mode: 0o600 });
  const run = (...args: string[]) => execFileSync('ssh-keygen', args, { encoding: 'utf8' });
  expect(run('-y', '-P', 'a passphrase', '-f', file).split(' ').slice(0, 2).join(' ')).toBe(
    lineOf(key),
  );
  run('-p', '-q', '-P', 'a passphrase', '-N', '', '-f', file);
  const opened = await openOwnKey(file);
  expect(lineOf(opened.publicKey)).toBe(lineOf(key));
  expect(opened.signing).toMatchObject({ type: 'private' });
  expect(publicHalfOf(encrypted)?.equals(createPublicKey(key))).toBe(true);
});
