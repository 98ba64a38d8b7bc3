import { expect, test } from '@jest/globals';
import { parseSshKey } from '../../../src/ssh-keys/ssh-key.ts';
import {
  grantOf,
  readKeyLines,
  renderKeyFile,
  toKeyLine,
} from '../../../src/login-host/helper/key-lines.ts';
import { newKey } from '../seals.ts';

const UNTIL = Date.parse('2026-11-25T06:00:00Z');

function keyLine(text: string) {
  const verdict = parseSshKey(text);
  if (!verdict.ok) throw new Error(verdict.sentence);
  return toKeyLine(verdict.key);
}

test('each line ends with the grant, or with the key if that is sooner', () => {
  const key = newKey();
  const file = (options: string) => renderKeyFile([keyLine(`${options}${key}`)], UNTIL);
  expect(file('')).toBe(`expiry-time="20261125060000Z" ${key}\n`);
  expect(file('restrict,expiry-time="20261124235959Z" ')).toBe(
    `restrict,expiry-time="20261124235959Z" ${key}\n`,
  );
  expect(file('expiry-time="20301231Z",from="192.0.2.1" ')).toBe(
    `from="192.0.2.1",expiry-time="20261125060000Z" ${key}\n`,
  );
});

test('an end without a zone is in the time zone of this host, as in sshd', () => {
  const { end } = keyLine(`expiry-time="202611242000" ${newKey()}`);
  expect(end).toBe(new Date(2026, 10, 24, 20).getTime());
});

test('the grant of a file is the latest end in it', () => {
  const keys = [keyLine(newKey()), keyLine(`expiry-time="20200101Z" ${newKey()}`)];
  expect(grantOf(renderKeyFile(keys, UNTIL))).toBe(UNTIL);
  expect(grantOf('ssh-ed25519 AAAA\n')).toBeUndefined();
});

test('the keys of a seal are read with their options and ends', () => {
  const [plain, bound] = [newKey(), newKey()];
  const list = `${plain}\nrestrict,expiry-time="20301231Z",from="192.0.2.1,192.0.2.2" ${bound}`;
  expect(readKeyLines(list)).toEqual([
    { line: plain, options: [], end: undefined },
    keyLine(`restrict,expiry-time="20301231Z",from="192.0.2.1,192.0.2.2" ${bound}`),
  ]);
});
