/** Credentials rotated: which passwords let in where, and when the old one dies, with its connections. */
import { randomBytes } from 'node:crypto';
import { chmodSync } from 'node:fs';
import { type Connection, createConnection } from 'mariadb';
import { afterAll, afterEach, beforeAll, describe, expect, test } from '@jest/globals';
import { realmOf } from '../../../src/shared/config.ts';
import type { ArchiveWriter } from '../../../src/archives/homes/file-archive.ts';
import { openFilesWriter } from '../../../src/backends/files/file-writer.ts';
import { openFilesReader } from '../../../src/backends/files/files.ts';
import { makePassword } from '../../../src/credentials/credentials.ts';
import { apply, survey } from '../../../src/reconcile/engine.ts';
import { recordVerifier } from '../../../src/credentials/credentials-table.ts';
import { openPool, withClient } from '../../../src/database/connection.ts';
import { readWanted } from '../../../src/reconcile/wanted-queries.ts';
import { HOMES_TARGETS } from '../../../src/roles/homes/role.ts';
import { startServer, stopServer, type World } from '../../stack.ts';
import { Death } from '../../laws-world.ts';
import { eventually } from '../eventually.ts';
import { type CredentialsSeen, query, readCredentials, settled } from '../outside.ts';
import { tool as newTool } from '../processes/outage.ts';
import type { Portal, Wish } from '../portal.ts';
import { admit, openRunning, type Running } from '../running.ts';

const SERVERS = ['replica', 'tools'] as const;
type Server = (typeof SERVERS)[number];

let running: Running;
let world: World;
let portal: Portal;
const opened: Connection[] = [];

beforeAll(async () => {
  running = await openRunning('rotation', { own: true });
  ({ world, portal } = running);
  await admit(portal, 'alice');
});
afterEach(async () => {
  await Promise.all(opened.splice(0).map((connection) => connection.end().catch(() => undefined)));
});
afterAll(async () => running?.close(), 30_000);

async function makeTool(name: string): Promise<CredentialsSeen> {
  await portal.get(newTool(name));
  return seen(name);
}
const seen = (name: string) => readCredentials(world, { tool: name });
const rotation = (name: string, more: object = {}): Wish => ({
  ...{ kind: 'credentials.rotate', requestedBy: 'alice', tool: name },
  ...more,
});

/** Which of these passwords let in, by server: 1 for one that does. */
async function lettingIn(...passwords: CredentialsSeen[]): Promise<Record<Server, string>> {
  const [replica, tools] = await Promise.all(
    SERVERS.map(async (server) => {
      const lets = await Promise.all(passwords.map((each) => letsIn(server, each)));
      return lets.map(Number).join('');
    }),
  );
  return { replica: replica ?? '', tools: tools ?? '' };
}
const onBoth = (lets: string) => ({ replica: lets, tools: lets });

async function letsIn(server: Server, credentials: CredentialsSeen): Promise<boolean> {
  try {
    await (await connect(server, credentials)).end();
    return true;
  } catch (error) {
    // any other failure says nothing of the password
    if ((error as { errno?: number }).errno !== 1045) throw error;
    return false;
  }
}

async function connect(server: Server, { user, password }: CredentialsSeen): Promise<Connection> {
  const connection = await createConnection({ socketPath: world[server].socket, user, password });
  connection.on('error', () => undefined);
  opened.push(connection);
  return connection;
}

const isOpen = (connection: Connection) =>
  connection.query('SELECT 1').then(
    () => true,
    () => false,
  );

/** As the calendar does, when the time of the password before is over. */
async function endOverlap(name: string): Promise<void> {
  await query(
    world,
    `UPDATE database_verifiers SET previous_verifier = NULL, previous_until = NULL
     WHERE account = (SELECT uid FROM tools WHERE name = $1)`,
    [name],
  );
}

async function owed(name: string): Promise<string[]> {
  const rows = await query<{ role: string; state: string; code: string }>(
    world,
    `SELECT c.role, c.state, c.code FROM convergence c JOIN tools t ON t.uid = c.subject
     WHERE t.name = $1 AND c.applied < c.wanted ORDER BY c.role`,
    [name],
  );
  return rows.map(({ role, state, code }) => `${role} ${state} ${code}`);
}

describe('as a matter of routine', () => {
  test('both passwords work, then the old one dies with its connections', async () => {
    const old = await makeTool('routine');
    const before = await connect('tools', old);
    const until = Date.now() + world.config.credentials.overlapSeconds * 1000;
    await portal.get(rotation('routine'));
    const young = seen('routine');
    expect(young.password).not.toBe(old.password);
    expect(await lettingIn(old, young)).toEqual(onBoth('11'));
    expect(await isOpen(before)).toBe(true);
    const [row] = await query<{ until: Date }>(
      world,
      `SELECT v.previous_until AS until FROM database_verifiers v JOIN tools t ON t.uid = v.account
       WHERE t.name = 'routine'`,
    );
    expect(Math.abs(row!.until.getTime() - until)).toBeLessThan(30_000);

    await endOverlap('routine');
    await settled(world);
    expect(await lettingIn(old, young)).toEqual(onBoth('01'));
    expect(await isOpen(before)).toBe(false);
    expect(seen('routine')).toEqual(young);
  });

  test('twice in turn: the oldest dies when the third is there', async () => {
    const first = await makeTool('twice');
    await portal.get(rotation('twice'));
    const second = seen('twice');
    const [of1, of2] = [await connect('replica', first), await connect('replica', second)];
    await portal.get(rotation('twice'));
    expect(await lettingIn(first, second, seen('twice'))).toEqual(onBoth('011'));
    expect([await isOpen(of1), await isOpen(of2)]).toEqual([false, false]);
  });

  test('twice before any password is made: what is in use has its overlap', async () => {
    const first = await makeTool('quick');
    await running.stopWork();
    await running.startWork(['intake', 'relay', 'databases']);
    const ids = await Promise.all([1, 2].map(() => portal.send(rotation('quick'))));
    await eventually('two epochs', async () => {
      const [row] = await query<{ epoch: number }>(
        world,
        `SELECT c.wanted_epoch AS epoch FROM credentials c JOIN tools t ON t.uid = c.account
         WHERE t.name = 'quick'`,
      );
      return row?.epoch === 3;
    });
    expect(await lettingIn(first)).toEqual(onBoth('1'));
    await running.stopWork();
    await running.startWork();
    for (const id of ids) await portal.finish(id);
    expect(await lettingIn(first, seen('quick'))).toEqual(onBoth('11'));
  });

  test('many times without waiting: the newest password and one earlier one work', async () => {
    const first = await makeTool('often');
    const ids = await Promise.all([1, 2, 3, 4, 5].map(() => portal.send(rotation('often'))));
    for (const id of ids) await portal.finish(id);
    await settled(world);
    expect(await lettingIn(seen('often'))).toEqual(onBoth('1'));
    await endOverlap('often');
    await settled(world);
    expect(await lettingIn(first, seen('often'))).toEqual(onBoth('01'));
  });

  test('cut when the verifier is recorded and the file not there: the old one lasts', async () => {
    const old = await makeTool('cut');
    await running.stopWork();
    await query(
      world,
      `UPDATE credentials SET wanted_epoch = 2, overlap_seconds = 3600
       WHERE account = (SELECT uid FROM tools WHERE name = 'cut')`,
    );
    await writeAndDie(old.uid);
    expect(seen('cut')).toEqual(old);
    // the servers learn of a password that nobody will ever have
    await running.startWork(['relay', 'databases']);
    await eventually('the verifier of it', async () => {
      const [row] = await query(
        world,
        `SELECT FROM convergence WHERE subject = $1 AND role = 'databases' AND applied = wanted`,
        [old.uid],
      );
      return row !== undefined;
    });
    expect(await lettingIn(old)).toEqual(onBoth('1'));
    await running.stopWork();
    await query(world, "SELECT touch_generation($1, 'homes')", [old.uid]);
    await running.startWork();
    await settled(world);
    expect(seen('cut').password).not.toBe(old.password);
    expect(await lettingIn(old, seen('cut'))).toEqual(onBoth('11'));
  });

  test('a file that others could read: its password has no overlap', async () => {
    const old = await makeTool('leaked');
    chmodSync(old.path, 0o444);
    await portal.get(rotation('leaked'));
    expect(await lettingIn(old, seen('leaked'))).toEqual(onBoth('01'));
  });
});

/** Like the homes role, except that it dies when the verifier is recorded. */
async function writeAndDie(uid: number): Promise<void> {
  const { config } = world;
  const pool = openPool(config, 'homes', { max: 2, durable: false });
  const reader = openFilesReader(config.files, config.archives.homes);
  const credentials = {
    newPassword: () => makePassword(randomBytes),
    async recordVerifier(made: Parameters<typeof recordVerifier>[1]) {
      await withClient(pool, (client) => recordVerifier(client, made));
      throw new Death();
    },
  };
  const noArchives = {} as ArchiveWriter;
  const writer = openFilesWriter(config.files, credentials, noArchives);
  const wanted = await readWanted(pool, 'homes', [uid]);
  const [found] = await survey(HOMES_TARGETS, wanted, realmOf(config), reader);
  expect(await apply(HOMES_TARGETS, found!, writer)).toHaveLength(1);
  await Promise.all([writer.close(), reader.close(), pool.end()]);
}

describe('at once', () => {
  test('the old password dies with its connections, in the middle of an overlap too', async () => {
    const first = await makeTool('once');
    await portal.get(rotation('once'));
    const second = seen('once');
    const connections = [await connect('replica', first), await connect('tools', second)];
    await portal.get(rotation('once', { atOnce: true }));
    expect(await lettingIn(first, second, seen('once'))).toEqual(onBoth('001'));
    expect(await Promise.all(connections.map(isOpen))).toEqual([false, false]);
  });

  test('stays dead if another rotation follows before the new one is made', async () => {
    const old = await makeTool('pending');
    await running.stopWork();
    await running.startWork(['intake', 'relay', 'databases']);
    const ids: string[] = [];
    for (const more of [{ atOnce: true }, {}]) {
      ids.push((await portal.ask(rotation('pending', more))).id);
    }
    await running.stopWork();
    await running.startWork();
    for (const id of ids) await portal.finish(id);
    expect(await lettingIn(old, seen('pending'))).toEqual(onBoth('01'));
  });

  test('every account of a server, by one request', async () => {
    const old = await Promise.all(['all-1', 'all-2', 'all-3'].map(makeTool));
    const alice = readCredentials(world, { person: 'alice' });
    const wish = { kind: 'credentials.rotate', requestedBy: 'steward', atOnce: true };
    await portal.get({ ...wish, server: 'replica' });
    for (const [index, each] of old.entries()) {
      expect(await lettingIn(each, seen(`all-${index + 1}`))).toEqual(onBoth('01'));
    }
    const young = readCredentials(world, { person: 'alice' });
    expect(await lettingIn(alice, young)).toEqual(onBoth('01'));
  });
});

describe('while a server is down', () => {
  test('the others continue; what is still to be applied is applied when it is back', async () => {
    const [routine, once] = [await makeTool('down-a'), await makeTool('down-b')];
    await stopServer(world.replica);
    const ids: string[] = [];
    try {
      ids.push(await portal.send(rotation('down-a')));
      ids.push(await portal.send(rotation('down-b', { atOnce: true })));
      await eventually('both on the other server', async () => {
        const [a, b] = [seen('down-a'), seen('down-b')];
        return (
          a.password !== routine.password &&
          b.password !== once.password &&
          (await letsIn('tools', a)) &&
          (await letsIn('tools', b))
        );
      });
      expect(await letsIn('tools', routine)).toBe(true);
      expect(await letsIn('tools', once)).toBe(false);
      for (const name of ['down-a', 'down-b']) {
        await eventually('the change to be still to be applied', async () => {
          const [row] = await owed(name);
          return row === 'databases failing BACKEND_UNREADABLE';
        });
      }
      expect(ids.map((id) => portal.told(id))).toEqual([
        ['request.accepted'],
        ['request.accepted'],
      ]);
    } finally {
      await startServer(world.replica);
    }
    for (const id of ids) await portal.finish(id);
    expect(await lettingIn(routine, seen('down-a'))).toEqual(onBoth('11'));
    expect(await lettingIn(once, seen('down-b'))).toEqual(onBoth('01'));
  });

  test('for a whole overlap: on its return the old password is dead there too', async () => {
    const old = await makeTool('down-c');
    await stopServer(world.replica);
    try {
      const id = await portal.send(rotation('down-c'));
      await eventually('it is accepted', () => portal.told(id).includes('request.accepted'));
      await eventually('a new password', () => seen('down-c').password !== old.password);
      await endOverlap('down-c');
      await eventually('the old one dead', async () => !(await letsIn('tools', old)));
    } finally {
      await startServer(world.replica);
    }
    await settled(world);
    expect(await lettingIn(old, seen('down-c'))).toEqual(onBoth('01'));
  });
});

test('a password that a tool has set itself is put right within a minute', async () => {
  const file = await makeTool('own');
  await settled(world);
  const where = `role = 'databases' AND subject = (SELECT uid FROM tools WHERE name = 'own')`;
  // longer ago than what the role itself has just done could be taken for
  await query(
    world,
    `UPDATE convergence SET next_try_at = now() - interval '1 min' WHERE ${where}`,
  );
  const [before] = await query(world, `SELECT wanted FROM convergence WHERE ${where}`);
  await (await connect('tools', file)).query(`SET PASSWORD = PASSWORD('mine alone')`);
  await eventually(
    'another look',
    async () => {
      const [now] = await query(world, `SELECT wanted FROM convergence WHERE ${where}`);
      return Number(now?.['wanted']) > Number(before?.['wanted']);
    },
    50_000,
  );
  await settled(world);
  expect(await lettingIn(file, { ...file, password: 'mine alone' })).toEqual(onBoth('10'));
});
