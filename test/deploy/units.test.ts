/** The units of both packages: how much each may do, as systemd-analyze counts it; and the page of one that fails. */
import { execFileSync } from 'node:child_process';
import {
  cpSync,
  existsSync,
  globSync,
  mkdtempSync,
  readFileSync,
  rmSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { basename, join } from 'node:path';
import { afterAll, beforeAll, beforeEach, describe, expect, test } from '@jest/globals';
import { WORK_ROLES } from '../../workers/main.ts';

const DEPLOY = join(import.meta.dirname, '../../deploy');
const ROLE_UNITS = join(DEPLOY, 'systemd');
const LOGIN_UNITS = join(DEPLOY, 'login-host/templates');

/** The units as systemd would start them: an instance for each role. */
const UNITS = [
  ...WORK_ROLES.map((role) => `chamberlain@${role}.service`),
  ...globSync('*.service', { cwd: LOGIN_UNITS }),
  'chamberlain-certificates.service',
];

let root: string;
beforeAll(() => {
  root = mkdtempSync(join(tmpdir(), 'chamberlain-units-'));
  const units = join(root, 'etc/systemd/system');
  cpSync(ROLE_UNITS, units, { recursive: true });
  for (const path of globSync(join(LOGIN_UNITS, '*.service'))) {
    cpSync(path, join(units, basename(path)));
  }
});
afterAll(() => rmSync(root, { recursive: true }));

/** From 0 to 10, with the drop-ins. */
function exposureOf(unit: string): number {
  const args = ['security', '--offline=true', `--root=${root}`, '--no-pager', unit];
  const text = execFileSync('systemd-analyze', args, {
    encoding: 'utf8',
    env: { LANG: 'C.UTF-8' },
  });
  const [, level] = /Overall exposure level for \S+: (\S+)/u.exec(text) ?? [];
  return Number(level);
}

describe('what a unit may do', () => {
  test.each(UNITS.filter((unit) => unit !== 'chamberlain@homes.service'))('%s', (unit) => {
    expect(exposureOf(unit)).toBeLessThanOrEqual(2.5);
  });

  test.each([
    ['chamberlain@homes.service', 'chamberlain@homes.service.d/root.conf'],
    ['chamberlain-page@x.service', 'chamberlain-page@.service'],
  ])('%s may do more, and says why', (unit, file) => {
    const text = readFileSync(join(ROLE_UNITS, file), 'utf8');
    expect(text.replaceAll('\n# ', ' ')).toMatch(
      /^# .*systemd-analyze finds more than 2\.5 for it/u,
    );
    expect(exposureOf(unit)).toBeLessThanOrEqual(3.2);
  });

  test('with a drop-in that lifts a restriction, the number is higher', () => {
    expect(exposureOf('chamberlain@homes.service')).toBeGreaterThan(
      exposureOf('chamberlain@databases.service'),
    );
    expect(exposureOf('chamberlain@databases.service')).toBeGreaterThan(
      exposureOf('chamberlain@sweep.service'),
    );
  });
});

test('the renewal of certificates is not skipped if a certificate is missing: it fails, and an operator is paged', () => {
  const text = readFileSync(join(ROLE_UNITS, 'chamberlain-certificates.service'), 'utf8');
  expect(text.match(/^Condition.*$/gmu)).toEqual([
    'ConditionPathExists=/etc/chamberlain/config.yaml',
  ]);
  expect(text).toMatch(/^OnFailure=chamberlain-page@/mu);
});

describe('the page of a unit that has failed', () => {
  const path = (name: string): string => join(root, name);
  const program = (name: string, script: string): void =>
    writeFileSync(path(name), `#!/bin/sh\n${script}\n`, { mode: 0o755 });
  /** What systemd writes into the journal. */
  const page = (): string =>
    execFileSync(
      join(DEPLOY, 'page'),
      ['chamberlain@relay.service', path('own'), path('sendmail')],
      { encoding: 'utf8' },
    );
  const ALERT = '<1>chamberlain@relay.service has failed too often, and is not started again\n';
  beforeEach(() => {
    for (const name of ['own', 'sendmail', 'told', 'mail']) rmSync(path(name), { force: true });
  });

  test('is a line of priority alert', () => {
    expect(page()).toBe(ALERT);
  });

  test('is also a mail to root, where there is sendmail', () => {
    program('sendmail', `printf '%s\\n' "$*" >${path('mail')}; cat >>${path('mail')}`);
    expect(page()).toBe(ALERT);
    const mail = readFileSync(path('mail'), 'utf8');
    expect(mail).toMatch(
      /^-t\nTo: root\nSubject: .*: chamberlain@relay\.service has failed .*\n\n/u,
    );
    expect(mail).toContain('systemctl reset-failed chamberlain@relay.service');
  });

  test("is the operator's own program, with the name of the unit", () => {
    program('own', `echo "$*" >${path('told')}`);
    program('sendmail', `touch ${path('mail')}`);
    expect(page()).toBe('');
    expect(readFileSync(path('told'), 'utf8')).toBe('chamberlain@relay.service\n');
    expect(existsSync(path('mail'))).toBe(false);
  });

  test('is not lost if that program fails', () => {
    program('own', 'exit 7');
    expect(page()).toBe(`<3>${path('own')} failed with exit code 7\n${ALERT}`);
  });
});
