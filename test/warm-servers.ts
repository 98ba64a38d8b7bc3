/**
 * The servers that the tests share, kept warm: a run leaves them to the next one of this clone, as it found them. They
 * end after ten minutes without a run; at once where CI is set, or after a run that was interrupted.
 */
import { createHash } from 'node:crypto';
import { chmodSync, globSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { runningPid, startServer, stopServer, type Server } from '../dev/servers/daemon.ts';
import { tryLock } from '../dev/servers/lock.ts';
import { administer } from '../dev/servers/mariadb.ts';
import { findPlace, makeOwnFolder, makePlace } from '../dev/servers/place.ts';
import { asSuperuser, dropDatabase, setRolePasswords } from '../dev/servers/postgres.ts';
import { describeStack, startServers, type Stack } from '../dev/servers/stack.ts';
import {
  endLeftBehind,
  endWorlds,
  makeTemplate,
  makeTemporaryFolder,
  originalsOf,
  SHARED,
  startShared,
  stopShared,
  TEMPLATE,
} from './shared-servers.ts';

/** The servers of one run. */
export interface TestServers {
  readonly stack: Stack;
  /** of those that run */
  pids(): number[];
  start(): Promise<void>;
  /** @param mayStay whether they may stay for the next run */
  end(mayStay: boolean): Promise<void>;
}

/** How a run has left the servers. They are used again only if this is in their folder. */
interface Left {
  /** the digest of the files that say how the servers are made */
  readonly made: string;
  /** of those, and of what migrates the template */
  readonly migrated: string;
  /** what was there before the first run, as DROP names it: databases, roles and users */
  readonly things: readonly string[];
}

const PROJECT = join(import.meta.dirname, '..');
const IDLE_MS = 600_000;

/** Takes this clone's servers for one run; servers for this run alone where another run has them. */
export async function takeServers(): Promise<TestServers> {
  const warm = process.env['CI'] ? undefined : await takeWarm();
  if (warm !== undefined) return warm;
  const stack = describeStack(makePlace(makeTemporaryFolder()));
  return {
    stack,
    pids: () => pidsOf(stack),
    start: () => startShared(stack),
    end: () => stopShared(stack),
  };
}

async function takeWarm(): Promise<TestServers | undefined> {
  const dir = join(tmpdir(), `chamberlain-test-${digest([PROJECT]).slice(0, 8)}`);
  let stack = makeStack(dir);
  const unlock = await tryLock(stack.place);
  if (unlock === undefined) return undefined;
  await stopServer(enderOf(stack));
  const made = digest(filesOf('{deploy,dev/servers,migrations}/**'));
  const migrated = digest([made, ...filesOf('src/**')]);
  let left = readLeft(stack);
  if (left?.made !== made || pidsOf(stack).length < SHARED.length) {
    await stopShared(stack);
    stack = makeStack(dir);
    left = undefined;
  }
  return {
    stack,
    pids: () => pidsOf(stack),
    async start() {
      const before = left;
      left = undefined;
      rmSync(leftFile(stack), { force: true });
      await startServer(enderOf(stack)); // if this run is killed
      if (before === undefined) await startShared(stack);
      else if (before.migrated !== migrated) await remakeTemplate(stack);
      left = { made, migrated, things: before?.things ?? (await thingsOf(stack)) };
    },
    async end(mayStay) {
      if (!mayStay || left === undefined) await endNow(stack);
      else {
        await leave(stack, left).catch((error: unknown) => {
          process.stderr.write(`the servers of the tests cannot stay: ${String(error)}\n`);
          return endNow(stack);
        });
      }
      unlock();
    },
  };
}

function makeStack(dir: string): Stack {
  makeOwnFolder(dir);
  chmodSync(dir, 0o755);
  return describeStack(makePlace(dir));
}

/** Takes away what the run has made and not taken away, and gives the accounts their rights and passwords again. */
async function leave(stack: Stack, left: Left): Promise<void> {
  const { dir, secrets } = stack.place;
  await endWorlds(stack);
  const ender = enderOf(stack);
  endLeftBehind(
    dir,
    [...sharedOf(stack), ender].map(({ folder }) => folder),
  );
  for (const name of readdirSync(dir).filter((each) => /^(home|chamberlain-test-.*)$/.test(each)))
    rmSync(join(dir, name), { recursive: true });
  const known = new Set(left.things);
  const drop = (things: readonly string[]): string[] =>
    things.filter((thing) => !known.has(thing)).map((thing) => `DROP ${thing};`);
  await Promise.all([
    ...[stack.replica, stack.tools].map(async ({ socket }) =>
      administer(socket, drop(await mariadbThings(socket)).join('\n')),
    ),
    asSuperuser(stack.postgres, 'postgres', async (client) => {
      for (const statement of drop(await postgresThings(stack))) await client.query(statement);
    }),
  ]);
  await startServers(stack, SHARED);
  await setRolePasswords(stack.postgres, secrets);
  writeFileSync(leftFile(stack), JSON.stringify(left));
  await stopServer(ender); // a new one begins to count the minutes
  await startServer(ender);
}

async function endNow(stack: Stack): Promise<void> {
  await stopServer(enderOf(stack));
  await stopShared(stack);
}

async function remakeTemplate(stack: Stack): Promise<void> {
  rmSync(originalsOf(stack.place.dir), { recursive: true, force: true });
  await dropDatabase(stack.postgres, TEMPLATE);
  await makeTemplate(stack);
}

async function thingsOf(stack: Stack): Promise<string[]> {
  const all = await Promise.all([
    postgresThings(stack),
    mariadbThings(stack.replica.socket),
    mariadbThings(stack.tools.socket),
  ]);
  return all.flat();
}

function postgresThings({ postgres }: Stack): Promise<string[]> {
  return asSuperuser(postgres, 'postgres', async (client) => {
    const { rows } = await client.query<{ thing: string }>(
      `SELECT format('DATABASE %I WITH (FORCE)', datname) AS thing FROM pg_database
       UNION ALL SELECT format('ROLE %I', rolname) FROM pg_roles`,
    );
    return rows.map(({ thing }) => thing);
  });
}

async function mariadbThings(socket: string): Promise<string[]> {
  const lines = await administer(
    socket,
    `SELECT CONCAT('DATABASE \`', REPLACE(schema_name, '\`', '\`\`'), '\`') FROM information_schema.schemata;
     SELECT CONCAT(IF(is_role = 'Y', 'ROLE', 'USER'), ' \`', REPLACE(user, '\`', '\`\`'), '\`',
       IF(is_role = 'Y', '', CONCAT('@\`', host, '\`'))) FROM mysql.user WHERE user <> 'PUBLIC';`,
  );
  return lines.split('\n').filter((line) => line !== '');
}

function sharedOf({ postgres, replica, tools }: Stack): Server[] {
  return [postgres, replica, tools];
}

function pidsOf(stack: Stack): number[] {
  return sharedOf(stack)
    .map(runningPid)
    .filter((pid) => pid !== undefined);
}

function readLeft(stack: Stack): Left | undefined {
  try {
    return JSON.parse(readFileSync(leftFile(stack), 'utf8')) as Left;
  } catch {
    return undefined; // none was left, or the last run was killed
  }
}

function leftFile({ place }: Stack): string {
  return join(place.dir, 'left.json');
}

/** The texts of the files of the project that a pattern names, each after its name. */
function filesOf(pattern: string): string[] {
  return globSync(pattern, { cwd: PROJECT, withFileTypes: true })
    .filter((entry) => entry.isFile())
    .map((entry) => join(entry.parentPath, entry.name))
    .sort()
    .map((file) => `${file}\0${readFileSync(file, 'utf8')}`);
}

function digest(texts: readonly string[]): string {
  return createHash('sha256').update(texts.join('\0')).digest('hex');
}

/** The process that ends servers that no run has had for ten minutes: this file, as a program. */
function enderOf({ place }: Stack): Server {
  return {
    name: 'the end of idle servers',
    folder: join(place.servers, 'ender'),
    user: 'root',
    stopSignal: 'SIGTERM',
    prepare: () => Promise.resolve(),
    command: () => [process.execPath, import.meta.filename, place.dir, String(IDLE_MS)],
    answers: () => Promise.resolve(true),
  };
}

async function endIdle(dir: string, idleMs: number): Promise<void> {
  for (;;) {
    await sleep(idleMs);
    const place = findPlace(dir);
    if (place === undefined) return endLeftBehind(dir);
    if ((await tryLock(place)) !== undefined) return stopShared(describeStack(place));
  }
}

if (import.meta.main) {
  const [, , dir = '', idleMs] = process.argv;
  await endIdle(dir, Number(idleMs));
  process.exit(); // and the lock with it
}
