/**
 * Servers that are reached over a network: each connection and each client program that we use, on real servers at an
 * address that is not 127.0.0.1. A certificate must be signed by the configured authority, and be valid for the name by
 * which the server is reached.
 */
import { execFile } from 'node:child_process';
import { randomInt } from 'node:crypto';
import { rmSync } from 'node:fs';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { afterAll, beforeAll, describe, expect, test } from '@jest/globals';
import pg from 'pg';
import { adminDn } from '../../deploy/ldap/render.ts';
import { makeCertificate } from '../../dev/servers/certificate.ts';
import { type Server, startServer, stopServer } from '../../dev/servers/daemon.ts';
import {
  createMariadbAccounts,
  type MariadbServer,
  mariadbServer,
  networked,
} from '../../dev/servers/mariadb.ts';
import { makePlace } from '../../dev/servers/place.ts';
import {
  createOwnedDatabase,
  listeningAt,
  type PostgresServer,
  postgresServer,
} from '../../dev/servers/postgres.ts';
import { freePort, listenByTls, redisServer } from '../../dev/servers/redis.ts';
import { ensurePassword } from '../../dev/servers/secret.ts';
import { serveLdaps, slapdServer } from '../../dev/servers/slapd.ts';
import { openLdapPool } from '../../src/backends/ldap/ldap.ts';
import {
  type DatabaseServerPlace,
  onServer,
} from '../../src/backends/mariadb/mariadb-connections.ts';
import {
  LOGIN_ARGUMENT,
  placeArguments,
  withLogin,
} from '../../src/backends/mariadb/mariadb-programs.ts';
import { connectProducer, findRedisFault } from '../../src/backends/redis/redis-connection.ts';
import { postgresProgram, withConnection } from '../../src/backup/postgres-programs.ts';
import { connectionSettings } from '../../src/database/connection.ts';
import { lookAtCertificate, type TlsServer, tlsServers } from '../../src/doctor/certificates.ts';
import type { Config } from '../../src/shared/config.ts';
import { makeTemporaryFolder } from '../shared-servers.ts';

const BASE = 'dc=example,dc=org';
/** Of the loopback network, so it needs no network, and nothing else listens there. */
const newAddress = () => `127.${randomInt(1, 255)}.${randomInt(1, 255)}.${randomInt(1, 255)}`;
const HOST = newAddress();
/** The servers listen here, too, and no certificate is for this address. */
const MISNAMED = newAddress();
const BOTH = [HOST, MISNAMED];

let dir: string;
let secrets: string;
const started: Server[] = [];
/** of an authority that has signed nothing here */
let stranger: string;

async function start<T extends Server>(server: T): Promise<T> {
  started.push(server);
  await startServer(server);
  return server;
}

type Kind = 'postgres' | 'redis' | 'ldap' | 'mariadb';
let caFiles: Record<Kind, string>;
let redisPort: number;
let ldapPort: number;
let postgres: PostgresServer;
let tools: MariadbServer;

beforeAll(async () => {
  dir = makeTemporaryFolder();
  const place = makePlace(dir);
  ({ secrets } = place);
  const at = (name: string) => join(place.servers, name);
  const certificateFor = (user: string) =>
    makeCertificate(join(dir, `certificate-${user}`), { host: HOST, user });
  const ofPostgres = await certificateFor('postgres');
  const ofRedis = await certificateFor('redis');
  const ofSlapd = await certificateFor('openldap');
  const ofMariadb = await certificateFor('mysql');
  stranger = (await certificateFor('root')).ca;
  caFiles = {
    ...{ postgres: ofPostgres.ca, redis: ofRedis.ca },
    ...{ ldap: ofSlapd.ca, mariadb: ofMariadb.ca },
  };
  postgres = await start(listeningAt(postgresServer(at('postgres')), BOTH.join(), ofPostgres));
  await createOwnedDatabase(postgres, 'chamberlain', secrets);
  const redis = await start(redisServer(at('redis'), secrets));
  redisPort = await listenByTls(redis, BOTH, ofRedis);
  const ids = { people: [{ first: 1000, last: 1999 }], tools: [{ first: 5000, last: 5999 }] };
  const options = { base: BASE, realm: 'tools', ids: { ...ids, realmGid: 500 }, secrets };
  ldapPort = await freePort();
  const uris = BOTH.map((host) => `ldaps://${host}:${ldapPort}`);
  await start(serveLdaps(slapdServer(at('slapd'), options), uris, ofSlapd));
  tools = await start(networked(mariadbServer(at('tools'), 'toolsdb'), BOTH.join(), ofMariadb));
  await createMariadbAccounts(tools, secrets);
});

afterAll(async () => {
  for (const server of started.reverse()) await stopServer(server);
  rmSync(dir, { recursive: true, force: true });
});

const reader = () => ({
  user: 'chamberlain_databases_reader',
  password: ensurePassword(secrets, 'mariadb-databases-reader'),
});
const configOf = (host: string, caFile?: string) =>
  ({
    secrets,
    postgres: { host, port: 5432, database: 'chamberlain', caFile },
    redis: { url: `rediss://${host}:${redisPort}`, caFile },
    ldap: { uri: `ldaps://${host}:${ldapPort}`, caFile },
    databases: { servers: [{ name: 'tools', host, caFile }] },
  }) as Config;

/** Runs a client program whose descriptor 3 is that file; resolves to what it prints. */
async function runClient(fd: number, words: readonly string[]): Promise<string> {
  const shell = ['-c', `exec "$0" "$@" 3</proc/${process.pid}/fd/${fd}`, ...words];
  return (await promisify(execFile)('/bin/sh', shell)).stdout;
}

/** Each asks its server something, and resolves to whether the answer came by TLS. */
const WAYS: Record<string, [Kind, (config: Config) => Promise<boolean>]> = {
  'a connection to PostgreSQL': [
    'postgres',
    async (config) => {
      const client = new pg.Client(connectionSettings(config, 'owner'));
      client.on('error', () => {});
      await client.connect();
      const asked = 'SELECT ssl FROM pg_stat_ssl WHERE pid = pg_backend_pid()';
      const { rows } = await client.query<{ ssl: boolean }>(asked);
      await client.end();
      return rows[0]?.ssl === true;
    },
  ],
  pg_dump: [
    'postgres',
    async (config) => {
      const password = ensurePassword(secrets, 'postgres-owner');
      const login = { ...config.postgres, user: 'chamberlain', password };
      return await withConnection(login, async (to, fd) => {
        const dump = await runClient(fd, [postgresProgram('pg_dump'), '-d', to]);
        return dump.includes('PostgreSQL database dump complete'); // others are refused: `hostssl`
      });
    },
  ],
  'a connection to Redis': [
    'redis',
    async (config) => {
      const redis = connectProducer(config, 'owner');
      try {
        return (await redis.ping()) === 'PONG';
      } finally {
        redis.disconnect();
      }
    },
  ],
  'a connection to Redis without an account': [
    'redis',
    async (config) => {
      const fault = await findRedisFault(config, 2000);
      if (fault !== undefined) throw new Error(fault);
      return true;
    },
  ],
  'a connection to the directory': [
    'ldap',
    async ({ ldap: { uri, caFile } }) => {
      const pool = openLdapPool({
        ...{ uri, caFile, bindDn: adminDn(BASE), check: async () => {} },
        password: ensurePassword(secrets, 'ldap-admin'),
      });
      try {
        const found = await pool.run((ldap) =>
          ldap.search({ base: BASE, scope: 'base', attributes: ['dc'] }),
        );
        return found.length === 1;
      } finally {
        await pool.close();
      }
    },
  ],
  'a connection to MariaDB': [
    'mariadb',
    async ({ databases: { servers } }) =>
      await onServer(servers[0] as DatabaseServerPlace, reader(), async (connection) =>
        JSON.stringify(await connection.query(SHOW_CIPHER)).includes('TLS_'),
      ),
  ],
  'a client program of MariaDB': [
    'mariadb',
    async ({ databases: { servers } }) =>
      await withLogin(dir, reader(), async (fd) => {
        const to = [LOGIN_ARGUMENT, ...placeArguments(servers[0] as DatabaseServerPlace)];
        return (await runClient(fd, ['mariadb', ...to, '-e', SHOW_CIPHER])).includes('TLS_');
      }),
  ],
};
const SHOW_CIPHER = `SHOW STATUS LIKE 'Ssl_cipher'`;

describe.each(Object.entries(WAYS))('%s', (_, [kind, ask]) => {
  test('is by TLS if the configured authority has signed the certificate', async () => {
    expect(await ask(configOf(HOST, caFiles[kind]))).toBe(true);
  });

  test('is refused if another has signed it', async () => {
    await expect(ask(configOf(HOST, stranger))).rejects.toThrow();
    await expect(ask(configOf(HOST))).rejects.toThrow();
  });

  test('is refused if the certificate is for another name', async () => {
    await expect(ask(configOf(MISNAMED, caFiles[kind]))).rejects.toThrow();
  });
});

describe('doctor', () => {
  const look = async (host: string, caFileOf: (kind: Kind) => string) => {
    const kinds: Kind[] = ['postgres', 'ldap', 'redis', 'mariadb'];
    const servers = tlsServers(configOf(host)).map((server, at) => ({
      ...server,
      caFile: caFileOf(kinds[at] as Kind),
    }));
    return await Promise.all(servers.map((server) => lookAtCertificate(server, new Date())));
  };

  test('says how long each certificate is valid', async () => {
    const lines = await look(HOST, (kind) => caFiles[kind]);
    expect(lines.flat().map(({ state, what }) => `${state} ${what}`)).toEqual(
      ['PostgreSQL', 'the directory', 'Redis', 'tools'].map((name) =>
        expect.stringMatching(`^fix the certificate of ${name} expires in 2\\d days`),
      ),
    );
  });

  test.each([
    ['another authority', () => look(HOST, () => stranger)],
    ['another name', () => look(MISNAMED, (kind) => caFiles[kind])],
  ])('says that none is trusted: %s', async (_, lookAtAll) => {
    const lines = await lookAtAll();
    expect(lines.flat().map(({ what }) => what)).toEqual(
      Array.from({ length: 4 }, () => expect.stringContaining(' is not trusted: ')),
    );
  });
});

describe('a server that does not speak TLS', () => {
  beforeAll(async () => {
    for (const server of [postgres, tools]) await stopServer(server);
    await startServer({ ...postgres, command: () => [...postgres.command(), '-c', 'ssl=off'] });
    await startServer({ ...tools, command: () => [...tools.command(), '--skip-ssl'] });
  });

  const WITHOUT = Object.entries(WAYS).filter(([, [kind]]) => /postgres|mariadb/.test(kind));
  test.each(WITHOUT)('gets no password: %s', async (_, [kind, ask]) => {
    await expect(ask(configOf(HOST, caFiles[kind]))).rejects.toThrow(/ssl|tls/i);
  });

  test('is named by doctor', async () => {
    const [ofPostgres, , , ofMariadb] = tlsServers(configOf(HOST, caFiles.mariadb));
    for (const server of [ofPostgres, ofMariadb]) {
      const look = lookAtCertificate(server as TlsServer, new Date());
      await expect(look).rejects.toThrow('does not speak TLS');
    }
  });
});
