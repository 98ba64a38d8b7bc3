/** The Python client, by its own tests and its example, against a real realm. It uses Debian's packages alone. */
import { execFile } from 'node:child_process';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { afterAll, beforeAll, expect, test } from '@jest/globals';
import { type ClientWorld, openClientWorld } from './client-world.ts';

const CLIENT = join(import.meta.dirname, '../../clients/python');
const run = promisify(execFile);

let world: ClientWorld;
let env: NodeJS.ProcessEnv;
beforeAll(async () => {
  world = await openClientWorld('python client');
  env = { ...world.env, PYTHONPATH: CLIENT, PYTHONDONTWRITEBYTECODE: '1', PERSON: 'alice' };
}, 120_000);
afterAll(() => world.api.close());

test('its tests', async () => {
  const words = ['-m', 'pytest', '-q', '-W', 'error', '--no-header'];
  const { stdout } = await run('/usr/bin/python3', words, { cwd: CLIENT, env }).catch(
    (error: { stdout: string }) => error,
  );
  expect(stdout).toMatch(/^\d+ passed in/mu);
}, 120_000);

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
