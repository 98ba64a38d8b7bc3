/**
 * The Python client, by its own tests and its examples, against a real realm. One of these is a portal in Django, which
 * has tests of its own, too. They use Debian's packages alone.
 */
import { execFile } from 'node:child_process';
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { afterAll, beforeAll, describe, expect, test } from '@jest/globals';
import { countPortalLines } from '../../bench/portal-lines.ts';
import { type ClientWorld, djangoPortal, openClientWorld } from './client-world.ts';

const CLIENT = join(import.meta.dirname, '../../clients/python');
const run = promisify(execFile);

let world: ClientWorld;
let env: NodeJS.ProcessEnv;
beforeAll(async () => {
  world = await openClientWorld('python client');
  env = { ...world.env, PYTHONPATH: CLIENT, PYTHONDONTWRITEBYTECODE: '1', PERSON: 'alice' };
});
afterAll(() => world.api.close());

test('its tests', async () => {
  const words = ['-m', 'pytest', '-q', '-W', 'error', '--no-header'];
  const { stdout } = await run('/usr/bin/python3', words, { cwd: CLIENT, env }).catch(
    (error: { stdout: string }) => error,
  );
  expect(stdout).toMatch(/^\d+ passed in/mu);
});

test('its example creates a tool, and says why it cannot create it again', async () => {
  const example = join(CLIENT, 'examples/new_tool.py');
  const words = [example, 'alice', 'examplebot', 'An example'];
  const { stdout } = await run('/usr/bin/python3', words, { env });
  expect(stdout).toMatch(/^sending [0-9a-f-]{36}\nexamplebot can be used\n$/u);
  await expect(run('/usr/bin/python3', words, { env })).rejects.toMatchObject({
    code: 1,
    stderr: expect.stringMatching(/^NAME_TAKEN: /u),
  });
});

describe('the portal in Django', () => {
  test('its tests', async () => {
    const { folder, env: ofDjango } = djangoPortal(world.envOf('may-public'), world.api.world.dir);
    const words = ['-X', 'faulthandler', 'manage.py', 'test'];
    const stuck = { timeout: 100_000, killSignal: 'SIGABRT' } as const; // shows where
    const { stderr } = await run('/usr/bin/python3', words, {
      ...{ cwd: folder, env: ofDjango, ...stuck },
    }).catch((error: { stderr: string }) => error);
    expect(stderr).toMatch(/^OK$/mu);
  });

  test('few of its lines speak to Chamberlain', () => {
    const file = join(world.api.world.dir, 'counted.py');
    writeFileSync(
      file,
      '"""One\ntwo."""\n\n# three\ndef f():\n    """Five."""\n    return """a\nb"""  # x\n',
    );
    expect(countPortalLines(file)).toBe(3);
    expect(countPortalLines()).toBeLessThanOrEqual(50);
  });
});
