/** The example of a portal in Django, by its own tests against a real realm. It uses Debian's packages alone. */
import { execFile } from 'node:child_process';
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { countPortalLines } from '../../bench/portal-lines.ts';
import { afterAll, beforeAll, expect, test } from '@jest/globals';
import { type ClientWorld, djangoPortal, openClientWorld } from './client-world.ts';

let world: ClientWorld;
beforeAll(async () => {
  world = await openClientWorld('django portal', 'may-public');
}, 120_000);
afterAll(() => world.api.close());

test('its tests', async () => {
  const { folder, env } = djangoPortal(world.env, world.api.world.dir);
  const words = ['-X', 'faulthandler', 'manage.py', 'test'];
  const stuck = { timeout: 100_000, killSignal: 'SIGABRT' } as const; // shows where
  const { stderr } = await promisify(execFile)('/usr/bin/python3', words, {
    ...{ cwd: folder, env, ...stuck },
  }).catch((error: { stderr: string }) => error);
  expect(stderr).toMatch(/^OK$/mu);
}, 120_000);

test('few of its lines speak to Chamberlain', () => {
  const file = join(world.api.world.dir, 'counted.py');
  writeFileSync(
    file,
    '"""One\ntwo."""\n\n# three\ndef f():\n    """Five."""\n    return """a\nb"""  # x\n',
  );
  expect(countPortalLines(file)).toBe(3);
  expect(countPortalLines()).toBeLessThanOrEqual(50);
});
