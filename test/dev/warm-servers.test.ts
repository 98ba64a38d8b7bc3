/** What a run of the tests leaves to the next one: servers, and nothing of what it did in them. */
import { existsSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, expect, test } from '@jest/globals';
import { administer } from '../../dev/servers/mariadb.ts';
import { asSuperuser } from '../../dev/servers/postgres.ts';
import { run } from '../../dev/servers/processes.ts';
import { makeTemporaryFolder, TEMPLATE } from '../shared-servers.ts';
import { takeServers, type TestServers } from '../warm-servers.ts';

const before = { TMPDIR: process.env['TMPDIR'], CI: process.env['CI'] };
let dir: string;
let servers: TestServers;

beforeAll(async () => {
  dir = makeTemporaryFolder();
  process.env['TMPDIR'] = dir; // not those of the run that this test is in
  delete process.env['CI'];
  servers = await takeServers();
  await servers.start();
});
afterAll(async () => {
  await servers?.end(false);
  for (const [name, value] of Object.entries(before)) {
    if (value === undefined) delete process.env[name];
    else process.env[name] = value;
  }
  rmSync(dir, { recursive: true, force: true });
});

async function databases(): Promise<string[]> {
  const { postgres, replica } = servers.stack;
  const { rows } = await asSuperuser(postgres, 'postgres', (client) =>
    client.query<{ datname: string }>('SELECT datname FROM pg_database'),
  );
  const theirs = await administer(replica.socket, 'SHOW DATABASES; SELECT user FROM mysql.user;');
  return [...rows.map(({ datname }) => datname), ...theirs.split('\n')].sort();
}

test('the next run has the same servers, without what the last one made in them', async () => {
  const [pids, clean] = [servers.pids(), await databases()];
  expect(pids).toHaveLength(3);
  expect(clean).toContain(TEMPLATE);
  const { postgres, replica } = servers.stack;
  await asSuperuser(postgres, 'postgres', (client) => client.query('CREATE DATABASE "left"'));
  await administer(replica.socket, "CREATE DATABASE `le``ft`; CREATE USER 'le''ft'@'10.%'");
  expect(await databases()).toHaveLength(clean.length + 3);

  await servers.end(true);
  servers = await takeServers();
  expect(servers.pids()).toEqual(pids);
  expect(await databases()).toEqual(clean);
});

test('while one run has them, another has its own', async () => {
  const other = await takeServers();
  expect(other.stack.place.dir).not.toBe(servers.stack.place.dir);
  await other.end(true);
  expect(existsSync(other.stack.place.dir)).toBe(false);
});

test('those that nobody uses are ended', async () => {
  await servers.start();
  await servers.end(true);
  const { place } = servers.stack;
  const program = join(import.meta.dirname, '../warm-servers.ts');
  await run(process.execPath, [program, place.dir, '0']);
  expect(servers.pids()).toEqual([]);
  expect(existsSync(place.dir)).toBe(false);
  servers = await takeServers(); // for the end of this file
});
