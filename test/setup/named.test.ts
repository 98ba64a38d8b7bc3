/** Servers that `chamberlain setup` does not make: what their administrators run there makes them ready. Real servers. */
import { randomInt } from 'node:crypto';
import { rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, expect, test } from '@jest/globals';
import { makeCertificate } from '../../dev/servers/certificate.ts';
import { type Server, startServer, stopServer } from '../../dev/servers/daemon.ts';
import { administer, mariadbServer, networked } from '../../dev/servers/mariadb.ts';
import { makePlace } from '../../dev/servers/place.ts';
import {
  asSuperuser,
  listeningAt,
  type PostgresServer,
  postgresServer,
} from '../../dev/servers/postgres.ts';
import { run } from '../../dev/servers/processes.ts';
import { ensurePassword } from '../../dev/servers/secret.ts';
import { migrate } from '../../src/cli/commands/migrate.ts';
import { POSTGRES_ROLES } from '../../src/database/connection.ts';
import { lookAsReader, lookAsWriter } from '../../src/doctor/databases.ts';
import { linesOnLogins, lookAtLogins } from '../../src/doctor/postgres/postgres.ts';
import type { Administrator } from '../../src/setup/answers.ts';
import { accountStatements } from '../../src/setup/mariadb.ts';
import { runOnMariadb, runOnPostgres } from '../../src/setup/named.ts';
import {
  administratorStatements,
  countOpenFunctionsAsOwner,
  setPasswordsAsOwner,
} from '../../src/setup/postgres-queries.ts';
import { type Config, readSecret } from '../../src/shared/config.ts';
import { ROOT } from '../../src/shared/root.ts';
import { makeTemporaryFolder } from '../shared-servers.ts';

/** Of the loopback network, but no name of it. */
const HOST = `127.${randomInt(1, 255)}.${randomInt(1, 255)}.${randomInt(1, 255)}`;
const dir = makeTemporaryFolder();
const { secrets, servers } = makePlace(dir);
const started: Server[] = [];

async function start<T extends Server>(server: T): Promise<T> {
  started.push(server);
  await startServer(server);
  return server;
}

function administratorWith(password: string): Administrator {
  const passwordFile = join(dir, 'password');
  writeFileSync(passwordFile, `${password}\n`, { mode: 0o600 });
  return { user: 'boss', passwordFile };
}

let config: Config;
let postgres: PostgresServer;
let socket: string;
beforeAll(async () => {
  const passwords = [
    ...['owner', ...POSTGRES_ROLES].map((role) => `postgres-${role}`),
    ...['mariadb-databases', 'mariadb-databases-reader'],
  ];
  for (const name of passwords) ensurePassword(secrets, name);
  const certificateFor = (user: string) => makeCertificate(join(dir, user), { host: HOST, user });
  const [ofPostgres, ofMariadb] = [await certificateFor('postgres'), await certificateFor('mysql')];
  postgres = await start(listeningAt(postgresServer(join(servers, 'postgres')), HOST, ofPostgres));
  const mariadb = mariadbServer(join(servers, 'tools'), 'toolsdb');
  ({ socket } = await start(networked(mariadb, HOST, ofMariadb)));
  config = {
    secrets,
    postgres: { host: HOST, port: postgres.port, database: 'realm-1', caFile: ofPostgres.ca },
    databases: {
      servers: [{ name: 'tools', kind: 'toolsdb', host: HOST, caFile: ofMariadb.ca }],
    },
  } as unknown as Config;
});
afterAll(async () => {
  for (const server of started.reverse()) await stopServer(server);
  rmSync(dir, { recursive: true, force: true });
});

test('PostgreSQL: its superuser makes the owner and the database, and the owner all else', async () => {
  await expect(countOpenFunctionsAsOwner(config)).rejects.toThrow();
  const input = administratorStatements(config);
  for (const role of POSTGRES_ROLES)
    expect(input).not.toContain(readSecret(config, 'postgres', role));
  const { host, port } = postgres;
  const psql = () =>
    run('/usr/bin/psql', ['-X', '-q', '-h', host, '-p', `${port}`, '-d', 'postgres'], {
      ...{ input, user: 'postgres' },
    });
  await psql();
  expect(await countOpenFunctionsAsOwner(config)).toBe(0);
  await migrate(config);
  await setPasswordsAsOwner(config);
  const lines = await linesOnLogins(lookAtLogins(config));
  expect(lines.map(({ state }) => state)).toEqual(['ok']);
  // again, with the login of an administrator, after a new secret
  const login = administratorWith('a password of PostgreSQL');
  await asSuperuser(postgres, 'postgres', (client) =>
    client.query(`CREATE ROLE boss SUPERUSER LOGIN PASSWORD 'a password of PostgreSQL'`),
  );
  writeFileSync(join(secrets, 'postgres-owner'), 'another-password-of-the-owner');
  await expect(countOpenFunctionsAsOwner(config)).rejects.toThrow();
  await runOnPostgres(config.postgres, login, administratorStatements(config));
  expect(await linesOnLogins(lookAtLogins(config))).toEqual(lines);
}, 60_000);

test('MariaDB: its administrator makes the accounts of the role', async () => {
  const [server] = config.databases.servers;
  if (server === undefined) throw new Error('there is no server');
  const look = async () => [
    ...(await lookAsWriter(config, server, ROOT)),
    ...(await lookAsReader(config, server, ROOT)),
  ];
  const wrong = async () => (await look()).filter(({ state }) => state !== 'ok');
  await expect(look()).rejects.toThrow('is not allowed to connect');
  const sql = accountStatements(config, 'toolsdb');
  expect(sql).not.toContain(readSecret(config, 'mariadb', 'databases'));
  const login = administratorWith('a password of MariaDB');
  await expect(runOnMariadb(server, login, sql)).rejects.toThrow('is not allowed to connect');
  await administer(
    socket,
    `CREATE USER boss@'%' IDENTIFIED BY 'a password of MariaDB';
     GRANT ALL ON *.* TO boss@'%' WITH GRANT OPTION`,
  );
  await runOnMariadb(server, login, sql);
  expect(await wrong()).toEqual([]);
});
