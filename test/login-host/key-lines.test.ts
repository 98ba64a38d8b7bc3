import { expect, test } from '@jest/globals';
import { parseSshKey } from '../../src/model/ssh-key.ts';
import {
  grantOf,
  keepLines,
  renderKeyFile,
  renderKeys,
  toKeyLine,
} from '../../src/login-host/key-lines.ts';
import { newKey } from './agent-world.ts';

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

test('an end without a zone is in the time of this host, as sshd has it', () => {
  const { end } = keyLine(`expiry-time="202611242000" ${newKey()}`);
  expect(end).toBe(new Date(2026, 10, 24, 20).getTime());
});

test('the grant of a file is the latest end in it', () => {
  const keys = [keyLine(newKey()), keyLine(`expiry-time="20200101Z" ${newKey()}`)];
  expect(grantOf(renderKeyFile(keys, UNTIL))).toBe(UNTIL);
  expect(grantOf('ssh-ed25519 AAAA\n')).toBeUndefined();
});

test('keys are the same by key, options and own end, not by the grant', () => {
  const key = newKey();
  const texts = ['', 'restrict ', 'expiry-time="20301231Z" ', 'expiry-time="20301230Z" '].map(
    (options) => renderKeys([keyLine(`${options}${key}`)]),
  );
  expect(new Set(texts).size).toBe(4);
});

test('a file is cut down to the keys that are still there, each with the end that it has', () => {
  const [a, b, c] = [newKey(), newKey(), newKey()];
  const file = renderKeyFile([keyLine(a), keyLine(`restrict ${b}`), keyLine(c)], UNTIL);
  const [first = '', second = ''] = file.split(/(?<=\n)/);
  expect(keepLines(file, [keyLine(a), keyLine(`restrict ${b}`), keyLine(newKey())])).toBe(
    first + second,
  );
  // the same key without its option, or with another, is another line
  expect(keepLines(file, [keyLine(b)])).toBe('');
  expect(keepLines(file, [])).toBe('');
});
