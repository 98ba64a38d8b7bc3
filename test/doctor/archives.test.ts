/** The folders of archives, and the programs that make archives. */
import { chmodSync, chownSync, mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, test } from '@jest/globals';
import type { Config } from '../../src/shared/config.ts';
import { lookAtArchives } from '../../src/doctor/archives.ts';
import type { Line } from '../../src/doctor/line.ts';

let dir: string;
let config: Config;
const me = process.getuid?.() ?? 0;

beforeEach(() => {
  dir = mkdtempSync(join(tmpdir(), 'doctor archives '));
  config = {
    secrets: dir,
    archives: { homes: join(dir, 'homes'), databases: join(dir, 'databases') },
    machines: [] as Config['machines'],
  } as Config;
  for (const role of ['homes', 'databases']) writeFileSync(join(dir, `postgres-${role}`), 'x');
});
afterEach(() => rmSync(dir, { recursive: true, force: true }));

const statesOf = (lines: readonly Line[]) => lines.map(({ state }) => state);
const make = (...names: string[]) =>
  names.forEach((name) => mkdirSync(join(dir, name), { recursive: true, mode: 0o700 }));

test('a folder that exists, is closed to others and belongs to the role is right', async () => {
  make('databases');
  const lines = await lookAtArchives(config, 'databases');
  expect(lines.map(({ what }) => what)).toEqual([
    `${config.archives.databases} is ready for archives of databases`,
    'the programs that archive databases are installed',
  ]);
  expect(statesOf(lines)).toEqual(['ok', 'ok']);
});

test('on a machine where the role does not run, nothing is missing', async () => {
  rmSync(join(dir, 'postgres-homes'));
  expect(statesOf(await lookAtArchives(config, 'homes'))).toEqual(['elsewhere']);
});

test('on the machine of the realm, which keeps the secret of a role that runs elsewhere, neither', async () => {
  const machines: Config['machines'] = [{ name: 'sql1.example.org', roles: ['databases'] }];
  const lines = await lookAtArchives({ ...config, machines }, 'databases');
  expect(statesOf(lines)).toEqual(['elsewhere']);
});

test('a folder that is missing, open to others, or not a folder is reported, with what to do', async () => {
  const first = async () => (await lookAtArchives(config, 'databases'))[0];
  expect(await first()).toMatchObject({
    state: 'fix',
    what: expect.stringContaining('does not exist: nothing can be archived'),
    todo: expect.stringContaining('install -d -m 700'),
  });
  make('databases');
  chmodSync(config.archives.databases, 0o750);
  expect(await first()).toMatchObject({
    what: expect.stringContaining('others have rights on it'),
    todo: `Run \`chown ${me} ${config.archives.databases}; chmod 700 ${config.archives.databases}\`.`,
  });
  rmSync(config.archives.databases, { recursive: true });
  writeFileSync(config.archives.databases, '', { mode: 0o600 });
  expect(await first()).toMatchObject({
    what: expect.stringContaining('it is not a folder'),
    todo: expect.stringMatching(/^Move that away\. Mount .+, or create it: /u),
  });
});

test('archives of homes belong to root, and have the folder that shows whether they are mounted', async () => {
  if (me !== 0) return;
  const first = async () => (await lookAtArchives(config, 'homes'))[0];
  make('homes');
  expect(await first()).toMatchObject({ state: 'fix', todo: expect.stringContaining('prepare') });
  make('homes/.chamberlain');
  expect(await first()).toMatchObject({ state: 'ok' });
  chownSync(config.archives.homes, 1234, 0);
  expect(await first()).toMatchObject({
    state: 'fix',
    what: expect.stringContaining('it belongs to uid 1234, not to root'),
  });
  chownSync(config.archives.homes, 0, 0);
  const staging = join(config.archives.homes, '.chamberlain');
  chmodSync(staging, 0o755);
  expect(await first()).toEqual({
    state: 'fix',
    what: `${staging}: others have rights on it`,
    todo: `Run \`chown 0 ${staging}; chmod 700 ${staging}\`.`,
  });
});

test('a missing program is named, with its package', async () => {
  make('databases', 'bin');
  for (const name of ['ionice', 'mariadb', 'nice', 'setpriv']) {
    writeFileSync(join(dir, 'bin', name), '', { mode: 0o755 });
  }
  const [, programs] = await lookAtArchives(config, 'databases', join(dir, 'bin'));
  expect(programs).toEqual({
    state: 'fix',
    what: 'databases cannot be archived: mariadb-dump, zstd are missing',
    todo: 'Run `apt-get install mariadb-client zstd`.',
  });
});
