/** The units of both packages: how much each may do, as systemd-analyze counts it. */
import { execFileSync } from 'node:child_process';
import { cpSync, globSync, mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { basename, join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from '@jest/globals';
import { WORK_ROLES } from '../../workers/main.ts';

const DEPLOY = join(import.meta.dirname, '../../deploy');
const ROLE_UNITS = join(DEPLOY, 'systemd');
const LOGIN_UNITS = join(DEPLOY, 'login-host/templates');

/** The units as systemd would start them: an instance for each role. */
const UNITS = [
  ...WORK_ROLES.map((role) => `chamberlain@${role}.service`),
  ...globSync('*.service', { cwd: LOGIN_UNITS }),
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

  test('homes may do more, and says why', () => {
    const folder = join(ROLE_UNITS, 'chamberlain@homes.service.d');
    const [text = ''] = globSync(join(folder, '*.conf')).map((path) => readFileSync(path, 'utf8'));
    expect(text).toMatch(/^# .*root.*\n# .*2\.5/u);
    expect(exposureOf('chamberlain@homes.service')).toBeLessThanOrEqual(3.5);
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
