/** A realm to be measured: servers of its own in a temporary folder, and the workers. */
import { spawn } from 'node:child_process';
import { chmodSync, closeSync, mkdirSync, mkdtempSync, openSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import pg from 'pg';
import { type Config, loadConfig } from '../src/shared/config.ts';
import {
  composeConfig,
  portalWith,
  REALM,
  type StackConfig,
  writeConfig,
} from '../dev/servers/config.ts';
import { makePlace, purgePlace } from '../dev/servers/place.ts';
import { setRolePasswords } from '../dev/servers/postgres.ts';
import { ensureSigningKey } from '../dev/servers/secret.ts';
import { slapdServer } from '../dev/servers/slapd.ts';
import {
  describeStack,
  makeDataRoot,
  runCli,
  type Stack,
  startServers,
  stopServers,
} from '../dev/servers/stack.ts';

import { admitMaker, STEWARD } from './idle.ts';
import { openPortal, type Portal } from './portal.ts';

const PROJECT = join(import.meta.dirname, '..');
const START_TIMEOUT_MS = 20_000;
const STOP_LIMIT_MS = 15_000;
const CLIENT_LIMIT_MS = 10_000;
const CLOSED = new Error('the realm is closed');

/** Ranges with room for 50,000 tools and more. The last numbers are for floors: nobody allocates them. */
const IDS = {
  people: [{ first: 70_000, last: 299_999 }],
  tools: [{ first: 300_000, last: 499_999 }],
  realmGid: 500,
} as const;
export const FLOOR_IDS = { first: 490_000, last: 499_999 } as const;

export interface MeasuredRealm {
  stack: Stack;
  config: Config;
  /** the file (PKCS8 PEM) of the key that a portal signs with */
  keyOf(portal: string): string;
  /** as the owner of the database: for looking from outside, and for filling */
  connect(): Promise<pg.Client>;
  /** Fills it; closing waits for that, because a filling may stop and start servers. */
  fill(act: (realm: MeasuredRealm) => Promise<void>): Promise<void>;
  /** Starts `chamberlain work` with all roles, and returns when it is running. */
  startWork(options?: WorkOptions): Promise<Work>;
  /** Stops the servers and deletes their data; workers must have ended. */
  close(): Promise<void>;
}

export interface WorkOptions {
  profileDir?: string;
  /** the realm's by default */
  configFile?: string;
  /** words before the command, such as those that run it on another machine */
  prefix?: readonly string[];
  /** all by default */
  roles?: readonly string[];
}

/** What a realm has besides the ordinary one. */
export interface RealmOptions {
  /** portals besides `portal` and the other ones */
  portals?: readonly Omit<StackConfig['portals'][number], 'keys'>[];
  api?: StackConfig['api'];
}

export interface Work {
  pid: number;
  stop(): Promise<void>;
}

/** Portals besides the one that sends requests; they receive only the events of their own requests. */
export const OTHER_PORTALS = Array.from({ length: 8 }, (_, n) => `portal-${n + 1}`);

/** What must be closed, last first, whatever happens. */
export type Closers = (() => Promise<void>)[];

/**
 * Closes everything, last first. If one fails, the others are closed nevertheless: the servers were opened
 * first, and nothing else would stop them.
 */
export async function closeAll(closers: Closers): Promise<void> {
  for (const close of closers.toReversed()) {
    await close().catch((error: unknown) => console.error('bench: closing:', error));
  }
}

/**
 * Waits for a client to be closed, but only for a limited time: it may take forever if its server does not
 * answer.
 */
export async function closeSoon(closing: Promise<void>): Promise<void> {
  await Promise.race([closing, sleep(CLIENT_LIMIT_MS, undefined, { ref: false })]);
}

/** A realm whose workers are running, and a portal of it. */
export interface WorkingRealm {
  realm: MeasuredRealm;
  portal: Portal;
  work: Work;
  close(): Promise<void>;
}

/** Opens a realm, fills it, starts its workers, and admits the person who requests tools. */
export async function openWorking(
  { parent }: { parent: string },
  closers: Closers,
  fill: (realm: MeasuredRealm) => Promise<void> = async () => {},
): Promise<WorkingRealm> {
  const realm = await openRealm(parent, closers);
  await realm.fill(fill);
  const work = await realm.startWork();
  const portal = await openPortal(realm);
  closers.push(() => closeSoon(portal.close()));
  await admitMaker(portal);
  const close = async () => {
    await closeSoon(portal.close());
    await realm.close();
  };
  return { realm, portal, work, close };
}

/** Starts the servers of a new realm, empty except for its first admin. */
export async function openRealm(
  parent: string,
  closers: Closers,
  more: RealmOptions = {},
): Promise<MeasuredRealm> {
  const dir = mkdtempSync(join(parent, 'chamberlain-bench-'));
  chmodSync(dir, 0o755);
  const place = makePlace(dir);
  const described = describeStack(place);
  const stack: Stack = {
    ...described,
    slapd: slapdServer(join(place.servers, 'slapd'), {
      base: described.slapd.base,
      realm: REALM.realm,
      ids: IDS,
      secrets: place.secrets,
    }),
  };
  const works: Promise<Work>[] = [];
  let filling = Promise.resolve();
  let closed = false;
  const opening = fillStack(stack, more);
  const close = async () => {
    closed = true;
    // a server that is just starting cannot be stopped
    await Promise.allSettled([opening, filling]);
    for (const work of await Promise.allSettled(works)) {
      if (work.status === 'fulfilled') await work.value.stop();
    }
    await stopServers(stack);
    purgePlace(place);
  };
  closers.push(close);
  await opening;
  const password = readFileSync(join(place.secrets, 'postgres-owner'), 'utf8');
  const realm: MeasuredRealm = {
    stack,
    config: loadConfig(place.configFile),
    keyOf: (portal) => join(place.keys, `${portal}.pem`),
    async connect() {
      const { host, port } = stack.postgres;
      const user = 'chamberlain';
      const client = new pg.Client({ host, port, database: 'chamberlain', user, password });
      client.on('error', () => {}); // the next statement reports it
      await client.connect();
      return client;
    },
    fill(act) {
      if (closed) return Promise.reject(CLOSED);
      return (filling = act(realm));
    },
    startWork(options = {}) {
      if (closed) return Promise.reject(CLOSED);
      const work = startWork(stack, options);
      works.push(work);
      return work;
    },
    close,
  };
  return realm;
}

async function fillStack(stack: Stack, options: RealmOptions): Promise<void> {
  const { place } = stack;
  makeDataRoot(place.dataRoot);
  await startServers(stack);
  const config = configOf(stack, options);
  await stack.redis.admitPortals(config.portals.map(({ name }) => name));
  writeConfig(place.configFile, config);
  await runCli(place.configFile, 'migrate');
  await setRolePasswords(stack.postgres, place.secrets);
  await runCli(place.configFile, 'bootstrap', STEWARD);
  await runCli(place.configFile, 'prepare');
}

let started = 0;

/** By dev/chamberlain, which passes the Node options of the program, and is replaced by it. */
async function startWork(
  stack: Stack,
  { profileDir, configFile = stack.place.configFile, prefix = [], roles = [] }: WorkOptions,
): Promise<Work> {
  const logFile = join(stack.place.dir, `work-${started++}.log`);
  const log = openSync(logFile, 'w', 0o600);
  const env: NodeJS.ProcessEnv = {
    ...process.env,
    CHAMBERLAIN_CONFIG: configFile,
    CHAMBERLAIN_LOG_LEVEL: 'info',
  };
  if (profileDir !== undefined) {
    mkdirSync(profileDir, { recursive: true });
    env['NODE_OPTIONS'] = `--cpu-prof --cpu-prof-dir=${profileDir}`;
  }
  const [program, ...words] = [...prefix, join(PROJECT, 'dev/chamberlain'), 'work'];
  const child = spawn(program, [...words, ...roles], {
    cwd: PROJECT,
    env,
    stdio: ['ignore', log, log],
  });
  closeSync(log);
  const ended = new Promise<void>((resolve) => {
    child.once('exit', () => resolve());
    child.once('error', () => resolve());
  });
  const deadline = performance.now() + START_TIMEOUT_MS;
  while (!readFileSync(logFile, 'utf8').includes('"working"')) {
    if (child.exitCode !== null || performance.now() > deadline) {
      child.kill('SIGKILL');
      throw new Error(`chamberlain work did not start:\n${readFileSync(logFile, 'utf8')}`);
    }
    await sleep(20);
  }
  return {
    pid: child.pid as number,
    async stop() {
      child.kill('SIGTERM');
      await Promise.race([ended, sleep(STOP_LIMIT_MS, undefined, { ref: false })]);
      child.kill('SIGKILL');
      await ended;
    },
  };
}

/** The sweep comes only on demand: with its timer it would come in the middle of something. */
const SWEEP = { everyMinutes: 40_000 };
/** No suspension waits for a release. */
const LEAVING = { mostSuspensionsPerHour: 100_000 };

function configOf(
  { place, postgres, redis, slapd, replica, tools }: Stack,
  { portals = [], api }: RealmOptions,
): StackConfig {
  const keyOf = (name: string) => join(place.keys, `${name}.pem`);
  const composed = composeConfig({
    secrets: place.secrets,
    adminKey: keyOf('portal'),
    postgres: { host: postgres.host, port: postgres.port, database: 'chamberlain' },
    redisUrl: redis.urlOf('owner'),
    ldap: { uri: slapd.uri, base: slapd.base },
    ids: IDS,
    dataRoot: place.dataRoot,
    sockets: { replica: replica.socket, tools: tools.socket },
    portals: [
      portalWith('portal', ensureSigningKey(keyOf('portal'))),
      ...OTHER_PORTALS.map((name) => ({
        ...portalWith(name, ensureSigningKey(keyOf(name))),
        subjectEvents: false,
      })),
      ...portals.map((more) => ({
        ...portalWith(more.name, ensureSigningKey(keyOf(more.name))),
        ...more,
      })),
    ],
  });
  return { ...composed, sweep: SWEEP, leaving: LEAVING, ...(api === undefined ? {} : { api }) };
}
