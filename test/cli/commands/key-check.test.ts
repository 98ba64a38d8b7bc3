/** `chamberlain key check`: one key in, a verdict out, without a configuration or a server. */
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { expect, test } from '@jest/globals';
import { runCli } from '../run-cli.ts';

const LINE = 'ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIHwwFAceayxlC7ibzWxB5JcHwtZy4AOS8Q2k+Cc4B2Tw';

test('a good key is described in JSON with these fields, and standard error is empty', async () => {
  const { exit, out, err } = await runCli(['key', 'check', '--json'], {
    input: `from="192.0.2.0/24" ${LINE} alice@laptop\r\n`,
  });
  expect({ exit, err }).toEqual({ exit: 0, err: '' });
  const answer = JSON.parse(out) as Record<string, unknown>;
  expect(Object.keys(answer)).toEqual(['type', 'bits', 'fingerprint', 'line', 'options']);
  expect(answer).toMatchObject({
    type: 'ssh-ed25519',
    bits: 256,
    line: LINE,
    options: ['from="192.0.2.0/24"'],
  });
  expect(answer['fingerprint']).toMatch(/^SHA256:[A-Za-z0-9+/]{43}$/u);
});

test('a good key is described for people, with its label', async () => {
  const { exit, out } = await runCli(['key', 'check'], { input: `${LINE} alice@laptop\n` });
  expect(exit).toBe(0);
  expect(out).toMatch(
    /^type {9}ssh-ed25519, 256 bits\nfingerprint {2}SHA256:.*\nlabel {8}alice@laptop\nline/u,
  );
});

test('a key is read from the named file, or from standard input for `-`', async () => {
  const folder = mkdtempSync(join(tmpdir(), 'chamberlain-key-'));
  const file = join(folder, 'key.pub');
  try {
    writeFileSync(file, `${LINE} alice@laptop\n`);
    const named = await runCli(['key', 'check', file]);
    expect(named).toMatchObject({ exit: 0, err: '', out: expect.stringContaining(LINE) });
    expect(await runCli(['key', 'check', '-'], { input: readFileSync(file) })).toEqual(named);
    const { exit, out, err } = await runCli(['key', 'check', `${file}x`]);
    expect({ exit, out }).toEqual({ exit: 2, out: '' });
    expect(err).toMatch(
      /^USAGE: reading the file \S+key\.pubx: there is no such file \(ENOENT\)\. Name .*\n$/u,
    );
  } finally {
    rmSync(folder, { recursive: true });
  }
});

test.each<[string, string | Buffer]>([
  ['nothing', ''],
  ['two keys', `${LINE}\n${LINE}\n`],
  ['a private key', '-----BEGIN OPENSSH PRIVATE KEY-----\nb3BlbnNzaC1rZXktdjEAAAAA\n'],
  ['bytes that are not UTF-8', Buffer.concat([Buffer.from(`${LINE} `), Buffer.from([0xff, 0xfe])])],
  ['a byte order mark', `\ufeff${LINE}\n`],
  ['a megabyte', 'A'.repeat(1_000_000)],
])('%s ends with 2, nothing on standard output, and one line', async (_, input) => {
  const { exit, out, err } = await runCli(['key', 'check', '--json'], { input });
  expect({ exit, out }).toEqual({ exit: 2, out: '' });
  expect(err).toMatch(/^KEY_[A-Z_]+: [^\n]+\n$/u);
});
