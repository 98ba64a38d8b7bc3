/**
 * What the programs that render configurations print for a mistyped command line: one line, and no stack trace.
 * No servers.
 */
import { spawnSync } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { expect, test } from '@jest/globals';

const CLONE = join(import.meta.dirname, '../..');
const NONE = ['--config', '/nowhere.yaml'];
const NO_CONFIG =
  'CONFIG_INVALID: reading the configuration /nowhere.yaml: there is no such file (ENOENT). Name the right file, or create it.\n';

test.each(['redis', 'ldap'])('deploy/%s/render.ts --help names each option', (of) => {
  const program = join(CLONE, 'deploy', of, 'render.ts');
  const { status, stdout, stderr } = spawnSync(process.execPath, [program, '--help'], {
    encoding: 'utf8',
  });
  expect({ status, stderr }).toEqual({ status: 0, stderr: '' });
  const [, options = ''] = /parseArgs\(\{(.*?)\}\);/su.exec(readFileSync(program, 'utf8')) ?? [];
  const named = [...options.matchAll(/'?([a-z-]+)'?: \{ type/gu)].map(([, name]) => `--${name}`);
  expect(named.filter((option) => !stdout.includes(`  ${option} `))).toEqual([]);
  expect(named).toContain('--config');
});

test.each([
  ['redis', ['--foo'], "USAGE: Unknown option '--foo'.\n"],
  ['redis', NONE, NO_CONFIG],
  ['ldap', ['--foo'], "USAGE: Unknown option '--foo'.\n"],
  ['ldap', [], 'USAGE: --out FOLDER and --admin-password-file FILE are required.\n'],
  ['ldap', [...NONE, '--out', 'x', '--admin-password-file', 'x'], NO_CONFIG],
])('deploy/%s/render.ts %j', (of, args, said) => {
  const folder = mkdtempSync(join(tmpdir(), 'chamberlain-render-'));
  try {
    const words = [join(CLONE, 'deploy', of, 'render.ts'), ...args];
    const { status, stdout, stderr } = spawnSync(process.execPath, words, {
      cwd: folder,
      encoding: 'utf8',
    });
    expect({ status, stdout, stderr }).toEqual({ status: 2, stdout: '', stderr: said });
  } finally {
    rmSync(folder, { recursive: true });
  }
});
