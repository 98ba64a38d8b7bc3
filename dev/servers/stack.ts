import { existsSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { adminDn } from '../../deploy/ldap/render.ts';
import { composeConfig, IDS, keepConfig, portalWith, REALM, type StackConfig } from './config.ts';
import {
  ANSWER_TIMEOUT_MS,
  runningPid,
  serverState,
  startServer,
  stopServer,
  type Server,
  type ServerState,
} from './daemon.ts';
import { run } from './processes.ts';
import { lock } from './lock.ts';
import { createMariadbAccounts, mariadbServer, type MariadbServer } from './mariadb.ts';
import { findPlace, makePlace, purgePlace, type Place } from './place.ts';
import {
  asSuperuser,
  createOwnedDatabase,
  postgresServer,
  setRolePasswords,
  type PostgresServer,
} from './postgres.ts';
import { keepOrChoosePort, redisServer, type RedisServer } from './redis.ts';
import { ensurePassword, ensureSigningKey } from './secret.ts';
import { slapdServer, type SlapdServer } from './slapd.ts';

export type ServerName = 'postgres' | 'redis' | 'slapd' | 'mariadb-replica' | 'mariadb-tools';

/** The servers of one place. Creating this object starts none of them. */
export interface Stack {
  readonly place: Place;
  readonly postgres: PostgresServer;
  readonly redis: RedisServer;
  readonly slapd: SlapdServer;
  readonly replica: MariadbServer;
  readonly tools: MariadbServer;
}

export interface Status {
  readonly name: string;
  readonly state: ServerState;
  readonly pid: number | undefined;
}

const PROJECT = join(import.meta.dirname, '../..');
const CLI = join(PROJECT, 'deploy/chamberlain');
const BASE = 'dc=example,dc=org';
const DATABASE = 'chamberlain';

export function describeStack(place: Place): Stack {
  const folder = (name: ServerName): string => join(place.servers, name);
  return {
    place,
    postgres: postgresServer(folder('postgres')),
    redis: redisServer(folder('redis'), place.secrets),
    slapd: slapdServer(folder('slapd'), {
      base: BASE,
      realm: REALM.realm,
      ids: IDS,
      secrets: place.secrets,
    }),
    replica: mariadbServer(folder('mariadb-replica'), 'replica'),
    tools: mariadbServer(folder('mariadb-tools'), 'toolsdb'),
  };
}

/**
 * Starts the servers (all, or `only` some), with Chamberlain's accounts in them, and returns when they answer.
 */
export async function startServers(stack: Stack, only?: readonly ServerName[]): Promise<void> {
  const { secrets } = stack.place;
  ensureSigningKey(join(secrets, 'seal-key'));
  writeFileSync(keyFiles(stack.place).events, ensureSigningKey(join(secrets, 'events-key')));
  const wanted = (server: Server): boolean => only?.includes(server.name as ServerName) ?? true;
  const starts = [
    [stack.postgres, () => createOwnedDatabase(stack.postgres, DATABASE, secrets)],
    [stack.redis, () => Promise.resolve()],
    [stack.slapd, () => Promise.resolve()],
    [stack.replica, () => createMariadbAccounts(stack.replica, secrets)],
    [stack.tools, () => createMariadbAccounts(stack.tools, secrets)],
  ] as const;
  // if one fails, wait for the others that are still starting
  const ends = await Promise.allSettled(
    starts
      .filter(([server]) => wanted(server))
      .map(async ([server, thenDo]) => {
        await startServer(server);
        await thenDo();
      }),
  );
  const failed = ends.filter((end) => end.status === 'rejected').map((end) => end.reason as Error);
  if (failed.length > 0) throw new AggregateError(failed, failed.map(String).join('\n'));
}

/**
 * Starts a whole stack: servers, config, keys, migrations, the bootstrapping admin. Whatever exists is left as
 * it is, so it may be called again at any time.
 */
export async function startStack(dir: string): Promise<Stack> {
  const stack = describeStack(makePlace(dir));
  const unlock = await lock(stack.place);
  try {
    makeDataRoot(stack.place.dataRoot);
    await startServers(stack);
    await stack.redis.admitPortals(['portal'], 'kept');
    const port = await keepOrChoosePort(apiPortFile(stack.place), answersAsApi);
    writeFileSync(apiPortFile(stack.place), String(port));
    keepConfig(stack.place.configFile, stackConfig(stack));
    writePasswordFile(stack);
    await found(stack);
    return stack;
  } finally {
    unlock();
  }
}

/** Stops what was started in `dir`, by pid; with `purge` also deletes its data. */
export async function stopStack(dir: string, purge: boolean): Promise<void> {
  const place = findPlace(dir);
  if (place === undefined) return;
  const stack = describeStack(place);
  const unlock = await lock(place);
  try {
    await stopServers(stack);
    if (purge) purgePlace(place);
  } finally {
    unlock();
  }
}

export async function stopServers(stack: Stack): Promise<void> {
  await Promise.all(serversOf(stack).map(stopServer));
}

export async function stackStatus(dir: string): Promise<Status[]> {
  const servers = serversOf(describeStack(knownPlace(dir)));
  return Promise.all(
    servers.map(async (server) => ({
      name: server.name,
      state: await serverState(server),
      pid: runningPid(server),
    })),
  );
}

/** What a shell needs to examine a stack from outside, by variable. */
export function stackEnvironment(dir: string): Record<string, string> {
  const stack = describeStack(knownPlace(dir));
  const { place, postgres, redis, slapd, replica, tools } = stack;
  const pids = serversOf(stack).map((server) => [
    `${server.name.toUpperCase().replaceAll('-', '_')}_PID`,
    String(runningPid(server) ?? ''),
  ]);
  return {
    CHAMBERLAIN_CONFIG: place.configFile,
    PGHOST: postgres.host,
    PGPORT: String(postgres.port),
    PGDATABASE: DATABASE,
    PGUSER: 'chamberlain',
    PGPASSFILE: join(place.secrets, 'pgpass'),
    REDIS_URL: redis.urlOf('portal.portal'),
    REDIS_ADMIN_URL: redis.urlOf('owner'),
    LDAP_URI: slapd.uri,
    LDAP_TCP_URI: slapd.tcpUri(),
    LDAP_BASE: slapd.base,
    LDAP_ADMIN_DN: adminDn(slapd.base),
    LDAP_ADMIN_PASSWORD_FILE: join(place.secrets, 'ldap-admin'),
    MARIADB_REPLICA_SOCKET: replica.socket,
    MARIADB_TOOLS_SOCKET: tools.socket,
    API_URL: `http://${apiAddress(place)}`,
    REALM: 'tools',
    PORTAL: 'portal',
    PORTAL_KID: 'portal-1',
    DATA_ROOT: place.dataRoot,
    SECRETS: place.secrets,
    PORTAL_KEY: keyFiles(place).portal,
    EVENTS_KEY: keyFiles(place).events,
    ADMIN_KEY: keyFiles(place).admin,
    ...Object.fromEntries(pids),
  };
}

/** The folder that stands for the file server's `/`. */
export function makeDataRoot(dataRoot: string): void {
  for (const folder of ['', 'data', 'data/project', 'home']) {
    mkdirSync(join(dataRoot, folder), { recursive: true, mode: 0o755 });
  }
  // `prepare` creates the one of homes
  mkdirSync(join(dataRoot, 'archives/databases'), { recursive: true, mode: 0o700 });
}

/** Runs Chamberlain's CLI. */
export async function runCli(configFile: string, ...args: string[]): Promise<string> {
  const env = { ...process.env, CHAMBERLAIN_CONFIG: configFile };
  return run(CLI, args, { env, cwd: PROJECT });
}

function knownPlace(dir: string): Place {
  const place = findPlace(dir);
  if (place === undefined || !existsSync(place.configFile)) {
    throw new Error(`there is no stack in ${dir}: run dev/stack up --dir ${dir}`);
  }
  return place;
}

function serversOf(stack: Stack): Server[] {
  return [stack.postgres, stack.redis, stack.slapd, stack.replica, stack.tools];
}

function stackConfig(stack: Stack): StackConfig {
  const { place, postgres, redis, slapd, replica, tools } = stack;
  const { portal, admin } = keyFiles(place);
  const config = composeConfig({
    secrets: place.secrets,
    adminKey: admin,
    postgres: { host: postgres.host, port: postgres.port, database: DATABASE },
    redisUrl: redis.url(),
    ldap: { uri: slapd.uri, base: slapd.base },
    ids: IDS,
    dataRoot: place.dataRoot,
    sockets: { replica: replica.socket, tools: tools.socket },
    portals: [
      portalWith('portal', ensureSigningKey(portal)),
      portalWith('admin.steward', ensureSigningKey(admin)),
    ],
  });
  const portals = config.portals.map((each) =>
    each.name === 'portal' ? { ...each, reads: ['public', 'own', 'mail'] as const } : each,
  );
  return { ...config, portals, api: { listen: apiAddress(place) } };
}

/** Whether an API answers at a port of this machine: of this stack, because each chooses a port that is free. */
export async function answersAsApi(port: number): Promise<boolean> {
  const signal = AbortSignal.timeout(ANSWER_TIMEOUT_MS);
  return await fetch(`http://127.0.0.1:${port}/healthz`, { signal }).then(
    ({ ok }) => ok,
    () => false,
  );
}

const apiPortFile = ({ dir }: Place): string => join(dir, 'api-port');

/** Where `chamberlain work api` listens. */
const apiAddress = (place: Place): string =>
  `127.0.0.1:${readFileSync(apiPortFile(place), 'utf8')}`;

/** The signing keys of the one portal and the one admin, and the public half of the one that signs events. */
function keyFiles(place: Place): { portal: string; admin: string; events: string } {
  const file = (name: string): string => join(place.keys, name);
  return {
    portal: file('portal.pem'),
    admin: file('admin.steward.pem'),
    events: file('events-key.pem'),
  };
}

/** For psql (libpq, "The Password File"): any database of this cluster, as its owner. */
function writePasswordFile(stack: Stack): void {
  const password = ensurePassword(stack.place.secrets, 'postgres-owner');
  writeFileSync(join(stack.place.secrets, 'pgpass'), `*:*:*:chamberlain:${password}\n`, {
    mode: 0o600,
  });
}

async function found(stack: Stack): Promise<void> {
  const { place, postgres } = stack;
  await runCli(place.configFile, 'migrate');
  await setRolePasswords(postgres, place.secrets);
  const people = await asSuperuser(postgres, DATABASE, (client) =>
    client.query('SELECT FROM people LIMIT 1'),
  );
  if (people.rowCount === 0) await runCli(place.configFile, 'bootstrap', 'steward');
  await runCli(place.configFile, 'prepare');
}
