/** The servers that the worlds of test/stack.ts share, and how a world gets numbers of its own in them. */
import {
  chmodSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  writeFileSync,
} from 'node:fs';
import { connect } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { IdRange } from '../deploy/ldap/render.ts';
import { composeConfig, portalWith, writeConfig } from '../dev/servers/config.ts';
import { stopServer } from '../dev/servers/daemon.ts';
import { lock } from '../dev/servers/lock.ts';
import { makePlace } from '../dev/servers/place.ts';
import { createOwnedDatabase, setRolePasswords, widenLimits } from '../dev/servers/postgres.ts';
import { ensureSigningKey } from '../dev/servers/secret.ts';
import { processes, run, signal } from '../dev/servers/processes.ts';
import { describeStack, startServers, stopServers, type Stack } from '../dev/servers/stack.ts';

export type Need = 'postgres' | 'redis' | 'slapd' | 'mariadb';

/** Each other server is a world's own. */
export const SHARED = ['postgres', 'mariadb-replica', 'mariadb-tools'] as const;

export const ALL_NEEDS: readonly Need[] = ['postgres', 'redis', 'slapd', 'mariadb'];

/** The environment variable that names the folder of the shared servers; dev/test.ts sets it. */
export const SHARED_SERVERS = 'CHAMBERLAIN_TEST_SERVERS';

/** The migrated database that each world's is a copy of. */
export const TEMPLATE = 'chamberlain_template';

/**
 * How many times as many connections as one realm may have: four files run at a time, and each may have two
 * `chamberlain work` more than the limits are for. Those of an own server add up to less than it takes, as doctor says.
 */
const TIMES = { shared: 8, own: 4 };

/** The socket at which the shared servers are asked for. */
export function socketOf(dir: string): string {
  return join(dir, 'listener');
}

/** Returns once the shared servers of that folder run: dev/test.ts starts them for the first that asks. */
export async function askForShared(dir: string): Promise<void> {
  let failure = '';
  for await (const text of connect(socketOf(dir)).setEncoding('utf8')) failure += String(text);
  if (failure !== '') throw new Error(`the shared servers did not start: ${failure}`);
}

/** A folder for servers: short, and open to their users. */
export function makeTemporaryFolder(parent = tmpdir()): string {
  const dir = mkdtempSync(join(parent, 'chamberlain-test-'));
  chmodSync(dir, 0o755);
  return dir;
}

/** Starts what all worlds share, and makes the migrated database that theirs are copied from. */
export async function startShared(stack: Stack, times = TIMES.shared): Promise<void> {
  await startServers(stack, SHARED);
  await makeTemplate(stack, times);
}

/**
 * Starts servers for one world alone: copies of servers that were made once and never used.
 *
 * @param all the folder of the shared servers, which keeps the originals; without it the servers are made
 */
export async function startOwn(stack: Stack, needs: readonly Need[], all?: string): Promise<void> {
  const wanted = SHARED.filter((name) => needs.some((need) => name.startsWith(need)));
  if (all === undefined) await startShared(stack, TIMES.own);
  else {
    await askForShared(all); // the originals stay for the next run only if these do
    await copyOriginals(await makeOriginals(all), stack, wanted);
  }
  await startServers(stack, wanted);
}

/** Only one suite makes them, and the others wait. */
async function makeOriginals(all: string): Promise<Stack> {
  const originals = describeStack(makePlace(originalsOf(all)));
  const { dir } = originals.place;
  const unlock = await lock(originals.place);
  try {
    if (!existsSync(join(dir, 'made'))) {
      await startShared(originals, TIMES.own);
      await stopServers(originals);
      writeFileSync(join(dir, 'made'), '');
    }
  } finally {
    unlock();
  }
  return originals;
}

async function copyOriginals(
  { place }: Stack,
  { place: to }: Stack,
  wanted: readonly string[],
): Promise<void> {
  const copy = (from: string, into: string): Promise<string> =>
    run('/usr/bin/cp', ['-a', '--sparse=always', `${from}/.`, into]);
  await Promise.all([
    copy(place.secrets, to.secrets),
    copy(place.keys, to.keys),
    ...wanted.map(async (name) => {
      const data = join(to.servers, name, 'data');
      mkdirSync(data, { recursive: true });
      await copy(join(place.servers, name, 'data'), data);
    }),
  ]);
}

/** The folder of servers that are stopped, and copied for worlds with servers of their own. */
export function originalsOf(all: string): string {
  return join(all, 'originals');
}

/** Ends what startShared started, and what worlds that were not closed have left running. */
export async function stopShared(stack: Stack): Promise<void> {
  await endWorlds(stack);
  await stopServers(stack);
  endLeftBehind(stack.place.dir);
  rmSync(stack.place.servers, { recursive: true, force: true });
  rmSync(stack.place.dir, { recursive: true, force: true });
}

/** Ends the servers of worlds that were not closed, and deletes the folders of worlds. */
export async function endWorlds(stack: Stack): Promise<void> {
  for (const world of worldFolders(stack)) {
    const ends = ['redis', 'slapd'].map((name) =>
      stopServer({ name, folder: join(world, name), stopSignal: 'SIGTERM' }),
    );
    await Promise.all(ends);
    rmSync(world, { recursive: true, force: true });
  }
  rmSync(slotsOf(stack), { recursive: true, force: true });
}

/**
 * Ends what a suite that failed has left running, and says so: its environment names a place in the folder.
 *
 * @param kept the folders of the servers that stay
 */
export function endLeftBehind(dir: string, kept: readonly string[] = []): void {
  for (const pid of processes()) {
    const [environment, command] = ['environ', 'cmdline'].map((file) => {
      try {
        return readFileSync(`/proc/${pid}/${file}`, 'latin1');
      } catch {
        return ''; // ended meanwhile
      }
    }) as [string, string];
    if (pid === process.pid || !environment.includes(`=${dir}`)) continue;
    if (kept.some((folder) => environment.includes(`=${folder}\0`))) continue;
    process.stderr.write(`left running, and ended now: ${command.replaceAll('\0', ' ')}\n`);
    signal(pid, 'SIGKILL');
  }
}

/** @param times how many times as many connections as one realm each role may have; as before by default */
export async function makeTemplate(stack: Stack, times = 1): Promise<void> {
  const { place, postgres } = stack;
  await createOwnedDatabase(postgres, TEMPLATE, place.secrets);
  const file = join(place.dir, 'template.yaml');
  const config = composeConfig({
    secrets: place.secrets,
    adminKey: join(place.keys, 'portal.pem'),
    postgres: { host: postgres.host, port: postgres.port, database: TEMPLATE },
    redisUrl: 'redis://127.0.0.1:1/0',
    ldap: { uri: 'ldapi://%2Fnowhere', base: 'dc=example,dc=org' },
    ids: idsOf(0),
    dataRoot: place.dataRoot,
    sockets: { replica: stack.replica.socket, tools: stack.tools.socket },
    portals: [portalWith('portal', ensureSigningKey(join(place.keys, 'portal.pem')))],
  });
  writeConfig(file, config);
  const { loadConfig, migrate } = await loadProgram();
  await migrate(loadConfig(file));
  await setRolePasswords(postgres, place.secrets);
  await widenLimits(postgres, times);
}

/** Loaded where it is needed: a run whose servers are there already does without. */
async function loadProgram() {
  return {
    ...(await import('../src/shared/config.ts')),
    ...(await import('../src/cli/commands/migrate.ts')),
  };
}

/**
 * 20,000 numbers that no other world has: accounts on the shared MariaDB servers are named by them. People
 * have two ranges with a gap.
 */
export function idsOf(
  slot: number,
): Record<'people' | 'tools' | 'others', IdRange[]> & { realmGid: number } {
  const first = 1_000_000 + slot * 20_000;
  return {
    people: [
      { first, last: first + 999 },
      { first: first + 2_000, last: first + 9_999 },
    ],
    tools: [{ first: first + 10_000, last: first + 19_999 }],
    others: [
      // of tests that have no world, on the same database servers
      { first: 51_000, last: 51_999 },
      { first: 999_999, last: first - 1 },
      { first: first + 20_000, last: 2_000_000_000 },
    ],
    realmGid: 500,
  };
}

/** Takes the next free number among the worlds of these servers, and its folder. mkdir is the lock. */
export function takeSlot(stack: Stack, name: string): { slot: number; dir: string } {
  const slots = slotsOf(stack);
  mkdirSync(slots, { recursive: true });
  for (let slot = 1; ; slot++) {
    try {
      mkdirSync(join(slots, String(slot)));
    } catch (cause) {
      if ((cause as NodeJS.ErrnoException).code === 'EEXIST') continue;
      throw cause;
    }
    const dir = join(stack.place.servers, `world-${slot}`);
    mkdirSync(dir, { mode: 0o755 });
    writeFileSync(join(dir, 'name'), name);
    return { slot, dir };
  }
}

function slotsOf(stack: Stack): string {
  return join(stack.place.servers, 'slots');
}

function worldFolders(stack: Stack): string[] {
  return readdirSync(stack.place.servers)
    .filter((name) => /^world-\d+$/.test(name))
    .map((name) => join(stack.place.servers, name));
}
