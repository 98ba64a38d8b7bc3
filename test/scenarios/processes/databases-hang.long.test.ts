/** A server hangs while databases are archived: a statement of hours must not keep the step forever. */
import { afterAll, beforeAll, expect, test } from '@jest/globals';
import { chmodSync, mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { readSecret } from '../../../src/shared/config.ts';
import { openArchiveWriter } from '../../../src/archives/databases/mariadb-archive.ts';
import { withTenant } from '../../../src/backends/mariadb/mariadb-tenant.ts';
import { administer, openWorld, runningPid, type World } from '../../stack.ts';

let world: World;
const PATH = process.env['PATH'];
beforeAll(async () => {
  world = await openWorld('databases hang', { needs: ['mariadb'], own: true });
});
afterAll(async () => {
  process.env['PATH'] = PATH;
  await world.close();
});

test('the step ends, the server is reported as away, and the step is done when the server goes on', async () => {
  const folder = join(world.dir, 'archived here');
  const doubles = join(world.dir, 'doubles');
  for (const path of [folder, doubles]) mkdirSync(path, { mode: 0o700 });
  const server = runningPid(world.tools) as number;
  const double = `#!/bin/sh\nkill -STOP ${server}\nexec sleep 1000\n`;
  writeFileSync(join(doubles, 'mariadb-dump'), double);
  chmodSync(join(doubles, 'mariadb-dump'), 0o755);
  await administer(
    world.tools.socket,
    'CREATE DATABASE s51234__a; CREATE TABLE s51234__a.t AS SELECT 1 AS a;',
  );
  const recorded: unknown[] = [];
  const writer = openArchiveWriter(
    {
      folder,
      places: world.config.databases.servers,
      login: {
        user: 'chamberlain_databases',
        password: readSecret(world.config, 'mariadb', 'databases'),
      },
    },
    {
      now: () => new Date(),
      readFingerprints: async () => [],
      newPassword: () => 'unused',
      readVerifiers: () => Promise.resolve([]),
      stillWanted: () => Promise.resolve(true),
      record: (archive) => Promise.resolve(void recorded.push(archive)),
      report: () => Promise.resolve(),
      clear: () => Promise.resolve(),
    },
  );
  const action = {
    verb: 'databases.archive' as const,
    user: 's51234',
    account: 'tools.bridgebot',
    uid: 51_234,
    archival: 1,
    servers: ['toolsdb'],
  };
  process.env['PATH'] = `${doubles}:${PATH}`;
  try {
    await expect(writer.do(action)).rejects.toMatchObject({ code: 'BACKEND_UNAVAILABLE' });
  } finally {
    process.env['PATH'] = PATH;
    process.kill(server, 'SIGCONT');
  }
  expect(recorded).toEqual([]);
  await writer.do(action);
  expect(recorded).toHaveLength(1);
  await writer.close();
});

test('a lent account is given up if the server hangs while it is locked again', async () => {
  const server = runningPid(world.tools) as number;
  const [place] = world.config.databases.servers.filter(({ name }) => name === 'toolsdb');
  const login = {
    user: 'chamberlain_databases',
    password: readSecret(world.config, 'mariadb', 'databases'),
  };
  await administer(world.tools.socket, 'CREATE USER s51235');
  const terms = {
    newPassword: () => 'unused',
    // asked for when the account is locked, and before its password is set
    async readVerifiers() {
      process.kill(server, 'SIGSTOP');
      return Promise.resolve([`*${'A'.repeat(40)}`]);
    },
  };
  const begin = performance.now();
  const lent = withTenant(
    { place: place!, login, user: 's51235' },
    terms,
    () => Promise.resolve(),
    new AbortController().signal,
  );
  try {
    await expect(lent).rejects.toMatchObject({
      code: 'BACKEND_UNAVAILABLE',
      message: expect.stringContaining('locking s51235 on toolsdb'),
    });
  } finally {
    process.kill(server, 'SIGCONT');
  }
  expect(performance.now() - begin).toBeLessThan(40_000);
  // as the first action
  const locked = `SELECT JSON_VALUE(Priv, '$.account_locked') FROM mysql.global_priv WHERE User = 's51235'`;
  expect((await administer(world.tools.socket, locked)).trim()).toBe('1');
}, 60_000);
