/** The settings of the servers that `chamberlain setup` makes, as mariadbd reads them, and who may log in. No servers. */
import { execFileSync } from 'node:child_process';
import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { basename, dirname, join } from 'node:path';
import { afterAll, expect, test } from '@jest/globals';
import type { Answers } from '../../src/setup/answers.ts';
import {
  filesOf,
  listeningPiece,
  mariadbListens,
  REDIS_LISTENS,
  SLAPD_LISTENS,
} from '../../src/setup/listening.ts';
import { programOf } from '../../src/setup/own-servers.ts';
import { mariadbUnit } from '../../src/setup/places.ts';
import { confOf, hbaOf } from '../../src/setup/postgres.ts';

const SERVERS = join(import.meta.dirname, '../../deploy/servers');
const folder = mkdtempSync(join(tmpdir(), 'chamberlain-servers-'));
afterAll(() => rmSync(folder, { recursive: true }));

/** The variables of an instance, as its unit starts it, with that file of setup's. */
function variablesOf(name: string, { path, text }: { path: string; text: string }) {
  const [own, settings] = [join(folder, 'own'), join(folder, 'mariadb.cnf')];
  mkdirSync(own, { recursive: true });
  writeFileSync(join(own, basename(path)), text);
  const cnf = readFileSync(join(SERVERS, 'mariadb.cnf'), 'utf8');
  writeFileSync(settings, cnf.replace(/^!includedir .*/mu, `!includedir ${own}`));
  const [program = '', ...args] = programOf(mariadbUnit(name), SERVERS).words;
  const there = args.map((arg) =>
    arg
      .replace(/^(--defaults-file=).*/u, `$1${settings}`)
      .replace(/^(--datadir=).*/u, `$1${folder}`),
  );
  const help = execFileSync(program, [...there, '--user=mysql', '--help', '--verbose'], {
    ...{ encoding: 'utf8', stdio: 'pipe', maxBuffer: 2 ** 24 },
  });
  return new Map(
    help.split('\n').flatMap((line) => {
      const [, key, value] = /^([a-z][a-z-]+) +(.+)$/u.exec(line) ?? [];
      return key === undefined || value === undefined ? [] : [[key, value] as const];
    }),
  );
}

test('MariaDB: one instance listens for other machines, and another with the same settings does not', () => {
  const { settings } = mariadbListens('toolsdb');
  const listening = variablesOf('toolsdb', settings);
  expect(listening.get('skip-networking')).toBe('FALSE');
  expect(listening.get('require-secure-transport')).toBe('TRUE');
  const other = variablesOf('other', settings);
  expect(other.get('skip-networking')).toBe('TRUE');
  for (const each of [listening, other]) {
    expect(Number(each.get('max-connections'))).toBeGreaterThanOrEqual(1000);
    expect(Number(each.get('connect-timeout'))).toBeLessThanOrEqual(5);
  }
});

test('PostgreSQL: from other machines, only workers log in, and soon', () => {
  const answers = { listen: 'realm.example.org' } as Answers;
  const lines = hbaOf(answers).split('\n');
  const users = (type: string) =>
    lines.flatMap(
      (line) => new RegExp(`^${type} +chamberlain +/(\\S+) `, 'u').exec(line)?.[1] ?? [],
    );
  const admits = (type: string, user: string) =>
    users(type).some((pattern) => new RegExp(pattern, 'u').test(user));
  expect(['chamberlain', 'chamberlain_intake'].map((user) => admits('hostssl', user))).toEqual([
    false,
    true,
  ]);
  expect(['chamberlain', 'chamberlain_intake'].map((user) => admits('local', user))).toEqual([
    true,
    true,
  ]);
  expect(confOf(answers)).toMatch(/^authentication_timeout = 10s$/mu);
});

test.each([REDIS_LISTENS, SLAPD_LISTENS, mariadbListens('toolsdb')])(
  'a server is started again when its settings or its drop-in come or go',
  (listening) => {
    const piece = listeningPiece(listening, { listen: undefined } as Answers, []);
    const removed = piece.does.match(/\/\S+/gu) ?? [];
    expect(removed).toContain(`/etc/systemd/system/${listening.unit}.d/chamberlain-setup.conf`);
    const files = filesOf(listening);
    // a folder changes when a file in it does
    expect(
      removed.filter((path) => !files.some((each) => [path, dirname(path)].includes(each))),
    ).toEqual([]);
  },
);
