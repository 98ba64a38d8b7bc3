import { randomBytes } from 'node:crypto';
import { describe, expect, test } from '@jest/globals';
import {
  makePassword,
  parseCredentialsFile,
  renderCredentialsFile,
  verifierOf,
} from '../../src/credentials/credentials.ts';

const PASSWORD = 'abcDEF123abcDEF123abcDEF123abcDE';

describe('credentials file', () => {
  test('is written as clients of MariaDB read it', () => {
    expect(renderCredentialsFile('s51234', PASSWORD)).toBe(
      `[client]\nuser = s51234\npassword = ${PASSWORD}\n`,
    );
  });

  test.each([
    ['what was written', renderCredentialsFile('s51234', PASSWORD)],
    ['a blank line at the end', `[client]\nuser = s51234\npassword = ${PASSWORD}\n\n`],
    ['no blanks, no last line end', `[client]\nuser=s51234\npassword=${PASSWORD}`],
    ['line ends of Windows', `[client]\r\nuser = s51234\r\npassword = ${PASSWORD}\r\n`],
    ['comments', `# mine\n[client]\n;x\nuser\t=\ts51234\npassword = ${PASSWORD}\n`],
    [
      'further options and groups added by maintainers',
      `[client]\nuser = s51234\npassword = ${PASSWORD}\ncompress\nconstructor = 1\n[mysql]\nuser = x\n`,
    ],
  ])('is understood with %s', (_what, text) => {
    expect(parseCredentialsFile(text)).toEqual({ user: 's51234', password: PASSWORD });
  });

  test.each([
    ['emptiness', ''],
    ['no password', '[client]\nuser = s51234\n'],
    ['an empty password', '[client]\nuser = s51234\npassword =\n'],
    ['two passwords', `[client]\nuser = s51234\npassword = ${PASSWORD}\npassword = x\n`],
    ['two users', `[client]\nuser = s51234\nuser = s51235\npassword = ${PASSWORD}\n`],
    ['another group', `[mysql]\nuser = s51234\npassword = ${PASSWORD}\n`],
    ['no group', `user = s51234\npassword = ${PASSWORD}\n`],
    ['quotes', `[client]\nuser = s51234\npassword = "${PASSWORD}"\n`],
    ['an include', `!include /etc/x\n[client]\nuser = s51234\npassword = ${PASSWORD}\n`],
    ['a NUL', `[client]\nuser = s51234\npassword = ${PASSWORD}\n\0\n`],
    ['a lone carriage return', `[client]\nuser = s51234\rx\npassword = ${PASSWORD}\n`],
    ['something else', 'hello world = 1\n'],
  ])('is not understood with %s', (_what, text) => {
    expect(parseCredentialsFile(text)).toBeUndefined();
  });
});

describe('verifier', () => {
  test('is what PASSWORD() of MariaDB makes of a password', () => {
    // SELECT PASSWORD('password')
    expect(verifierOf('password')).toBe('*2470C0C06DEE42FD1618BB99005ADCA2EC9D1E19');
  });
});

/** Makes a password from a source whose first byte is the given one and whose other bytes are 0. */
function begunWith(first: number): string {
  const bytes = [first, ...Array.from({ length: 255 }, () => 0)];
  return makePassword((sizeBytes) => Uint8Array.from(bytes.splice(0, sizeBytes)));
}

describe('password', () => {
  test('has 32 letters and digits, and is different each time', () => {
    const made = Array.from({ length: 100 }, () => makePassword(randomBytes));
    for (const password of made) expect(password).toMatch(/^[A-Za-z0-9]{32}$/);
    expect(new Set(made).size).toBe(100);
  });

  test('favours no character: bytes beyond the last whole alphabet are discarded', () => {
    for (let byte = 248; byte < 256; byte += 1) expect(begunWith(byte)).toBe('A'.repeat(32));
    const letters = Array.from({ length: 248 }, (_, byte) => begunWith(byte).charAt(0));
    const each = letters.map((letter) => letters.filter((other) => other === letter).length);
    expect(new Set(letters).size).toBe(62);
    expect(new Set(each)).toEqual(new Set([4]));
  });

  test('is not made from a source without any usable byte', () => {
    expect(() => makePassword((sizeBytes) => new Uint8Array(sizeBytes).fill(255))).toThrow(
      RangeError,
    );
  });
});
