/** The Python client, by its own tests and its example, against a real realm. It uses Debian's packages alone. */
import { execFile } from 'node:child_process';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { writeFileSync } from 'node:fs';
import { afterAll, beforeAll, expect, test } from '@jest/globals';
import { type ApiWorld, openApiWorld } from '../api/api-world.ts';

const CLIENT = join(import.meta.dirname, '../../clients/python');
const run = promisify(execFile);

let api: ApiWorld;
let env: NodeJS.ProcessEnv;
beforeAll(async () => {
  api = await openApiWorld('python client', {
    roles: ['intake', 'relay', 'directory', 'homes', 'databases'],
  });
  const person = { kind: 'person.create', requestedBy: 'alice', shellName: 'alice' };
  await api.done('other', { ...person, displayName: 'Alice', email: 'alice@example.org' });
  const grant = { kind: 'access.grant', requestedBy: 'steward', person: 'alice' };
  expect((await api.done('admin.steward', grant)).body).toMatchObject({ done: true });
  const { world, port } = api;
  const eventsKey = join(world.dir, 'events.pem');
  writeFileSync(eventsKey, world.eventsKey);
  env = {
    PATH: '/usr/bin:/bin',
    ...{ PYTHONPATH: CLIENT, PYTHONDONTWRITEBYTECODE: '1', PERSON: 'alice' },
    ...{ API_URL: `http://127.0.0.1:${port}`, REALM: world.config.realm, EVENTS_KEY: eventsKey },
    ...{ PORTAL: 'other', PORTAL_KID: 'other-1', PORTAL_KEY: world.makeKey('other').file },
  };
}, 120_000);
afterAll(() => api.close());

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
