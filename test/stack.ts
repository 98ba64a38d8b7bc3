/**
 * What a test file runs against: real servers, with a database, a directory, a Redis, a data root and id
 * ranges of its own.
 *
 *     const world = await openWorld('relay');   // in beforeAll
 *     await world.close();                      // in afterAll
 *
 * dev/test.ts starts a PostgreSQL and two MariaDB servers once, for all files that want them; without it a file makes its
 * own (some seconds). slapd and Redis are always the world's own: they may be stopped, frozen, flushed.
 */
import { copyFileSync, mkdirSync, readdirSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { adminDn } from '../deploy/ldap/render.ts';
import {
  composeConfig,
  portalWith,
  REALM,
  writeConfig,
  type StackConfig,
} from '../dev/servers/config.ts';
import { startServer, stopServer } from '../dev/servers/daemon.ts';
import type { MariadbServer } from '../dev/servers/mariadb.ts';
import { makePlace } from '../dev/servers/place.ts';
import { copyDatabase, dropDatabase, type PostgresServer } from '../dev/servers/postgres.ts';
import { redisServer, type RedisServer } from '../dev/servers/redis.ts';
import { ensurePassword, ensureSigningKey } from '../dev/servers/secret.ts';
import { slapdServer, type SlapdServer } from '../dev/servers/slapd.ts';
import { describeStack, makeDataRoot } from '../dev/servers/stack.ts';
import { loadConfig, type Config } from '../src/shared/config.ts';
import { runCli } from './cli/run-cli.ts';
import {
  ALL_NEEDS,
  askForShared,
  idsOf,
  makeTemporaryFolder,
  SHARED_SERVERS,
  startOwn,
  stopShared,
  takeSlot,
  TEMPLATE,
  type Need,
} from './shared-servers.ts';

export { runningPid, signalTree, startServer, stopServer } from '../dev/servers/daemon.ts';
export { administer } from '../dev/servers/mariadb.ts';
export { asSuperuser } from '../dev/servers/postgres.ts';

export interface WorldOptions {
  /** What to start; all by default. What is not started is still named in the config. */
  readonly needs?: readonly Need[];
  /** Own PostgreSQL and MariaDB servers too, for a test that stops or freezes them. */
  readonly own?: boolean;
  /** More portals than the two. */
  readonly portals?: (makeKey: World['makeKey']) => StackConfig['portals'];
  /** Last word on the config, before it is written. */
  readonly adjust?: (config: StackConfig) => StackConfig;
}

export interface World {
  readonly dir: string;
  readonly configFile: string;
  readonly config: Config;
  readonly dataRoot: string;
  readonly postgres: PostgresServer;
  readonly redis: RedisServer;
  readonly slapd: SlapdServer;
  readonly replica: MariadbServer;
  readonly tools: MariadbServer;
  /** The signing keys' files (PKCS8 PEM): of the portal `portal`, of the admin `steward`. */
  readonly portalKey: string;
  readonly adminKey: string;
  /** The public half (PEM) of the key that the directory role seals by, for login hosts. */
  readonly sealKey: string;
  /** The public half (PEM) of the key that the relay signs events by, for portals. */
  readonly eventsKey: string;
  /** For looking at the directory from outside. */
  readonly ldapAdmin: { readonly dn: string; readonly password: string };
  /** Runs the CLI from source, with this world's config: what it prints. Throws where it fails. */
  chamberlain(...args: string[]): Promise<string>;
  /** The key file (made now) and public key of a portal beyond the two. */
  makeKey(name: string): { file: string; publicKey: string };
  close(): Promise<void>;
}

/** Opens a world for one test file; `name` goes into its folder's and its database's name. */
export async function openWorld(name: string, options: WorldOptions = {}): Promise<World> {
  const needs = options.needs ?? ALL_NEEDS;
  const all = process.env[SHARED_SERVERS];
  const shared = options.own === true ? undefined : all;
  // in the folder of the others, so that nothing stays behind that was not closed
  const ownDir = shared === undefined ? makeTemporaryFolder(all) : undefined;
  const stack = describeStack(makePlace(shared ?? ownDir ?? ''));
  if (ownDir === undefined) await askForShared(stack.place.dir);
  else await startOwn(stack, needs, all);

  const { slot, dir } = takeSlot(stack, name);
  const secrets = join(dir, 'secrets');
  mkdirSync(secrets, { mode: 0o700 });
  for (const file of readdirSync(stack.place.secrets)) {
    if (/^(postgres|mariadb)-/.test(file)) {
      copyFileSync(join(stack.place.secrets, file), join(secrets, file));
    }
  }
  const database = `world_${slot}_${name.replaceAll(/[^a-z0-9]+/g, '_')}`;
  const dataRoot = join(dir, 'root');
  makeDataRoot(dataRoot);
  const ids = idsOf(slot);
  const redis = redisServer(join(dir, 'redis'), secrets);
  const slapd = slapdServer(join(dir, 'slapd'), {
    base: 'dc=example,dc=org',
    realm: REALM.realm,
    ids,
    secrets,
  });
  const starts: Promise<void>[] = [];
  if (needs.includes('postgres')) starts.push(copyDatabase(stack.postgres, TEMPLATE, database));
  if (needs.includes('redis')) starts.push(startServer(redis));
  if (needs.includes('slapd')) starts.push(startServer(slapd));
  await Promise.all(starts);

  const makeKey = (of: string): { file: string; publicKey: string } => {
    const file = join(dir, `${of}.pem`);
    return { file, publicKey: ensureSigningKey(file) };
  };
  const sealKey = ensureSigningKey(join(secrets, 'seal-key'));
  const eventsKey = ensureSigningKey(join(secrets, 'events-key'));
  const [portal, admin] = [makeKey('portal'), makeKey('admin.steward')];
  const composed = composeConfig({
    secrets,
    adminKey: admin.file,
    postgres: { host: stack.postgres.host, port: stack.postgres.port, database },
    // the owner's, for tests that look from outside: each program has an account of its own
    redisUrl: needs.includes('redis') ? redis.urlOf('owner') : 'redis://127.0.0.1:1/0',
    ldap: { uri: slapd.uri, base: slapd.base },
    ids,
    dataRoot,
    sockets: { replica: stack.replica.socket, tools: stack.tools.socket },
    portals: [
      portalWith('portal', portal.publicKey),
      portalWith('admin.steward', admin.publicKey),
      ...(options.portals?.(makeKey) ?? []),
    ],
  });
  // the first comes somewhere within the interval: never in the middle of a test that does not ask for one
  const written = { ...composed, sweep: { everyMinutes: 43_200 } };
  const configFile = join(dir, 'config.yaml');
  writeConfig(configFile, options.adjust?.(written) ?? written);
  const config = loadConfig(configFile);
  if (needs.includes('redis')) await redis.admitPortals(config.portals.map(({ name: of }) => of));
  return {
    dir,
    configFile,
    config,
    dataRoot,
    postgres: stack.postgres,
    redis,
    slapd,
    replica: stack.replica,
    tools: stack.tools,
    portalKey: portal.file,
    adminKey: admin.file,
    sealKey,
    eventsKey,
    ldapAdmin: { dn: adminDn(slapd.base), password: ensurePassword(secrets, 'ldap-admin') },
    async chamberlain(...args) {
      const { exit, out, err } = await runCli(args, { config: configFile });
      if (exit !== 0)
        throw new Error(`chamberlain ${args.join(' ')} failed: ${err || out || exit}`);
      return out;
    },
    makeKey,
    async close() {
      await Promise.all([stopServer(redis), stopServer(slapd)]);
      if (ownDir !== undefined) {
        await stopShared(stack);
      } else {
        if (needs.includes('postgres')) await dropDatabase(stack.postgres, database);
        rmSync(dir, { recursive: true, force: true });
      }
    },
  };
}
