/** The lock of `chamberlain setup`: one setup at a time, and no other user can take it; and what systemd says. No servers. */
import { spawnSync } from 'node:child_process';
import { chmodSync, mkdtempSync, rmSync, statSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, expect, test } from '@jest/globals';
import { systemdRuns } from '../../deploy/login-host/services.ts';
import { holdAlone, unneeded } from '../../src/setup/programs.ts';

const NOBODY = { uid: 65_534, gid: 65_534 };
const folder = mkdtempSync(join(tmpdir(), 'chamberlain-locks-'));
chmodSync(folder, 0o755);
afterAll(() => rmSync(folder, { recursive: true }));

test('only one setup holds it, and only root can open it', async () => {
  const locks = join(folder, 'locks');
  const lock = (options = {}) =>
    spawnSync('/usr/bin/flock', ['--nonblock', join(locks, 'setup'), 'true'], {
      ...{ encoding: 'utf8', ...options },
    });
  expect(await holdAlone(locks)).toBe(true);
  expect(await holdAlone(locks)).toBe(false);
  expect(lock().status).toBe(1);
  expect(statSync(locks)).toMatchObject({ uid: 0, mode: 0o40700 });
  expect(statSync(join(locks, 'setup'))).toMatchObject({ uid: 0, mode: 0o100600 });
  expect(lock(NOBODY).stderr).toMatch(/cannot open lock file .*Permission denied/u);
});

(systemdRuns() ? test.skip : test)(
  'a unit about which systemd says nothing is not one that does not run',
  async () => {
    const check = async (unit: string) => unneeded(unit, []).check();
    expect(await check('chamberlain-of-no-package.service')).toBeUndefined();
    // of the package systemd, and disabled: only systemd knows whether it runs
    await expect(check('debug-shell.service')).rejects.toThrow('systemctl is-active');
  },
);
