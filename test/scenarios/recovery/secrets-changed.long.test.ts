/**
 * The secrets of a running realm change: by `chamberlain secret rotate`, and no login is refused, even if a run is
 * interrupted at any step and repeated; then by hand. The workers use the new secrets without a restart.
 */
import { createPublicKey } from 'node:crypto';
import { chmodSync, chownSync, readdirSync, readFileSync, rmSync, statSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, expect, test } from '@jest/globals';
import { Redis } from 'ioredis';
import pg from 'pg';
import { createMariadbAccounts } from '../../../dev/servers/mariadb.ts';
import { setRolePasswords } from '../../../dev/servers/postgres.ts';
import { ensurePassword, ensureSigningKey } from '../../../dev/servers/secret.ts';
import { finish, replaceAtOnce, rotate, rotationOf } from '../../../src/secrets/rotating.ts';
import { connectionSettings } from '../../../src/database/connection.ts';
import { adminOfPortal } from '../../../src/shared/config.ts';
import { secretsOf } from '../../../src/doctor/files.ts';
import { readAccountHealth } from '../../../src/backends/ldap/directory-health.ts';
import { onServer, openServers } from '../../../src/backends/mariadb/mariadb-connections.ts';
import { openDirectoryServers } from '../../../src/login-host/agent/directory-servers.ts';
import { sealKeyId, verifyPayload } from '../../../src/seals/seal.ts';
import { type Ended, runCli } from '../../cli/run-cli.ts';
import { administer, asSuperuser, startServer, stopServer, type World } from '../../stack.ts';
import { eventually } from '../eventually.ts';
import { type Knocker, openKnocker, whileKnocking } from './knocking.ts';
import { changeDirectory, faultsOf, query, readDirectory, settled } from '../outside.ts';
import { admit, openRunning, type Running } from '../running.ts';

let running: Running;
let world: World;

beforeAll(async () => {
  running = await openRunning('secrets changed', { own: true });
  ({ world } = running);
  await admit(running.portal, 'alice');
});
afterAll(async () => running?.close(), 60_000);

const cli = (...args: string[]): Promise<Ended> =>
  runCli(['secret', 'rotate', ...args], { config: world.configFile });

/** Every name that begins so, without `ldap-admin`, because no program logs in as it. */
const namesOf = (prefix: string): string[] =>
  secretsOf(world.config).filter((name) => name.startsWith(prefix) && name !== 'ldap-admin');

const logOf = ({ folder }: { folder: string }) => readFileSync(join(folder, 'log'), 'utf8');

/** Every refused login that PostgreSQL, MariaDB and Redis have seen, and the workers have been told of. */
async function refusals(): Promise<string[]> {
  const redis = new Redis(world.redis.urlOf('owner'));
  const ofRedis = (await redis.acl('LOG')) as string[][];
  redis.disconnect();
  const lines = [
    ...[world.postgres, world.replica, world.tools].flatMap((server) => logOf(server).split('\n')),
    ...running.log,
  ];
  const refused = /authentication failed|Access denied|WRONGPASS|password is wrong/u;
  return [
    ...lines.filter((line) => refused.test(line)),
    ...ofRedis.flatMap(([, , , reason, , , , , , user]) =>
      reason === 'auth' ? [`${reason} ${user}`] : [],
    ),
  ];
}

/** Makes tools, one after another, while `act` goes on. Each must be applied. */
async function whileAsking<T>(prefix: string, act: () => Promise<T>): Promise<T> {
  let isOver = false;
  const asking = (async () => {
    for (let n = 0; n === 0 || !isOver; n += 1) {
      const name = `${prefix}${n}`;
      await running.portal.get({ kind: 'tool.create', requestedBy: 'alice', name, title: name });
    }
  })();
  try {
    return await act();
  } finally {
    isOver = true;
    await asking;
  }
}

const said: string[] = [];
const say = (step: string) => void said.push(step);
const first = (name: string) => rotate(world.config, rotationOf(world.config, name), say);
const second = (name: string) => finish(world.config, rotationOf(world.config, name), say);
const textOf = (name: string) => readFileSync(join(world.config.secrets, name), 'utf8');
const lying = () =>
  readdirSync(world.config.secrets).filter((name) => /\.(next|old|new)$/u.test(name));

/** Of each kind some: all of them would keep a slow machine busy for longer than a login may take. */
const KNOCKING = [
  ...['postgres-owner', 'postgres-admin', 'postgres-intake', 'postgres-homes_reader'],
  ...['ldap-directory', 'ldap-keys-agent', 'mariadb-databases', 'mariadb-databases-reader'],
  ...['redis-owner', 'redis-intake', 'redis-portal.portal'],
];

test('each password, of all servers at once, while requests go on: nobody is refused', async () => {
  const twice = ['ldap-', 'mariadb-', 'redis-'].flatMap(namesOf);
  const once = namesOf('postgres-');
  const names = [...once, ...twice];
  const before = new Map(names.map((name) => [name, textOf(name)]));
  const path = join(world.config.secrets, 'redis-portal.portal');
  chmodSync(path, 0o640);
  chownSync(path, 7, 8);
  await whileAsking('going', async () => {
    await whileKnocking(world, KNOCKING, () =>
      Promise.all(
        names.map(async (name) => {
          const step = once.includes(name) ? 'rotated' : 'beside';
          expect(await first(name)).toEqual({ name, step });
        }),
      ),
    );
    // programs that have the old password can use it until --finish
    for (const name of names) {
      expect([name, textOf(name) === before.get(name)]).toEqual([name, false]);
    }
    expect(lying()).toEqual(twice.map((name) => `${name}.old`).sort());
    expect(await first('redis-intake')).toEqual({ name: 'redis-intake', step: 'beside' });
    await whileKnocking(world, KNOCKING, () =>
      Promise.all(names.map(async (name) => expect(await second(name)).toMatchObject({ name }))),
    );
  });
  expect(lying()).toEqual([]);
  const { mode, uid, gid } = statSync(path);
  expect({ mode: mode & 0o777, uid, gid }).toEqual({ mode: 0o640, uid: 7, gid: 8 });
  expect(await refusals()).toEqual([]);
  await settled(world);
  expect(await faultsOf(world, ['going0'])).toEqual([]);
});

test('by two runs at once: one is refused', async () => {
  const name = 'redis-sweep';
  const ends = await Promise.allSettled([first(name), first(name)]);
  expect(ends.map(({ status }) => status)).toEqual(['fulfilled', 'rejected']);
  expect(ends[1]).toMatchObject({ reason: { code: 'STEP_FAILED' } });
  expect(await second(name)).toEqual({ name, step: 'finished' });
});

/** Renders the users of Redis again, and loads them. */
async function renderRedis(): Promise<void> {
  const portals = world.config.portals.map(({ name }) => name);
  await world.redis.admitPortals(portals.filter((name) => adminOfPortal(name) === undefined));
}

test('the old password is taken before it is finished, and not afterwards', async () => {
  const { config } = world;
  const place = { uri: config.ldap.uri, base: config.ldap.base, realm: config.realm };
  const [server] = config.databases.servers;
  if (server === undefined) throw new Error('no database server is configured');
  const tries: Record<string, (password: string) => Promise<unknown>> = {
    'ldap-reader': (password) => readAccountHealth(place, 'reader', password),
    'mariadb-databases': async (password) => {
      const servers = openServers([server], { user: 'chamberlain_databases', password }, 1);
      await servers.use(server.name, (connection) => connection.query('SELECT 1'));
      await servers.close();
    },
    'redis-sweep': async (password) => {
      const redis = new Redis(world.redis.url(), {
        ...{ username: 'chamberlain_sweep', password },
        ...{ lazyConnect: true, retryStrategy: () => null },
      });
      redis.on('error', () => {});
      await redis.connect().finally(() => redis.disconnect());
    },
  };
  for (const [name, logIn] of Object.entries(tries)) {
    const old = textOf(name);
    await first(name);
    await renderRedis(); // also for a new portal, for example
    await logIn(old);
    await logIn(textOf(name));
    await second(name);
    await expect(logIn(old)).rejects.toThrow();
    await logIn(textOf(name));
  }
});

/** Runs an act that is cut as it says its n-th step. */
async function cutAt(n: number, act: typeof rotate, name: string): Promise<'cut' | 'ended'> {
  let count = 0;
  const cut = () => {
    count += 1;
    if (count === n) throw new Error('cut');
  };
  return act(world.config, rotationOf(world.config, name), cut).then(
    () => 'ended',
    (error: Error) => {
      if (error.message !== 'cut') throw error;
      return 'cut';
    },
  );
}

test('cut at any step and run again, it goes on, and programs log in meanwhile', async () => {
  const before = await refusals();
  const knockers = new Map<string, Knocker>();
  const knock = (name: string) => {
    const knocker = knockers.get(name) ?? openKnocker(world, name);
    knockers.set(name, knocker);
    return knocker.knock();
  };
  const twice = ['ldap-directory', 'mariadb-databases', 'redis-relay'].map(async (name) => {
    for (let n = 1; n <= 5; n += 1) {
      const cuts = { first: n <= 4 ? 'cut' : 'ended', second: n <= 3 ? 'cut' : 'ended' };
      const firstCut = await cutAt(n, rotate, name);
      await knock(name);
      await first(name);
      await knock(name);
      const secondCut = await cutAt(n, finish, name);
      await knock(name);
      await second(name);
      await knock(name);
      expect([name, n, { first: firstCut, second: secondCut }]).toEqual([name, n, cuts]);
    }
  });
  // a role for each step: each takes a second
  const once = ['intake', 'relay', 'homes', 'databases', 'sweep'].map(async (role, at) => {
    const name = `postgres-${role}`;
    expect([name, await cutAt(at + 1, rotate, name)]).toEqual([name, at < 4 ? 'cut' : 'ended']);
    await knock(name);
    await first(name);
    await knock(name);
  });
  await whileAsking('cut', () => Promise.all([...twice, ...once]));
  for (const { close } of knockers.values()) await close();
  expect(lying()).toEqual([]);
  // after an interruption between PostgreSQL and the file, only PostgreSQL knows which password is valid
  const refused = (await refusals()).filter((line) => !before.includes(line));
  expect(refused.filter((line) => !line.includes('user "chamberlain_databases"'))).toEqual([]);
  await settled(world);
  expect(await faultsOf(world, ['cut0'])).toEqual([]);
});

test('a key: what is signed goes on by the present one until the other is finished', async () => {
  const keys = ['seal-key', 'events-key'];
  const before = keys.map(textOf);
  const made = await Promise.all(
    keys.map(async (name) => {
      const { step, publicKey = '' } = await first(name);
      expect(step).toBe('announced');
      // run again, it is the same
      expect(await first(name)).toMatchObject({ publicKey });
      return publicKey;
    }),
  );
  await running.portal.get({
    kind: 'tool.create',
    requestedBy: 'alice',
    name: 'announced',
    title: 'x',
  });
  expect(keys.map(textOf)).toEqual(before);
  await settled(world);
  const [sealKey = '', eventsKey = ''] = made;
  Object.assign(world, { sealKey, eventsKey });
  // as `keys-agent status` of a login host names it
  const id = sealKeyId(createPublicKey(sealKey));
  for (const args of [['--check'], ['--finish', '--check']]) {
    const { out } = await cli('seal-key', ...args);
    expect(out.includes(`must name ${id} in its row "sealed by"`)).toBe(args.length === 2);
  }
  for (const name of keys) expect(await second(name)).toEqual({ name, step: 'finished' });
  for (const name of keys) expect(await second(name)).toEqual({ name, step: 'nothing' });
  await running.portal.get({
    kind: 'tool.create',
    requestedBy: 'alice',
    name: 'finished',
    title: 'x',
  });
  const publicKey = createPublicKey(sealKey);
  const known = new Map([[sealKeyId(publicKey), publicKey]]);
  const entries = await readDirectory(world, { filter: '(|(uid=tools.finished)(cn=chamberlain))' });
  const sealed = [...entries.values()].flatMap((entry) => entry['chamberlainSeal'] ?? []);
  expect(sealed.map((seal) => verifyPayload(seal, known).ok)).toEqual([true]);
  await eventually('a heartbeat by the new key', async () => {
    const [entry] = (await readDirectory(world, { filter: '(cn=chamberlain)' })).values();
    return entry?.['description']?.every((text) => verifyPayload(text, known).ok);
  });
  expect(lying()).toEqual([]);
});

test('a password that somebody else may know: it is refused, and what is open with it ends', async () => {
  const { config } = world;
  const [server] = config.databases.servers;
  if (server === undefined) throw new Error('no database server is configured');
  /** Each logs in, and returns what asks whether that session is still open. */
  const opens: Record<string, (password: string) => Promise<() => Promise<unknown>>> = {
    async 'postgres-homes'(password) {
      const client = new pg.Client({ ...connectionSettings(config, 'homes'), password });
      client.on('error', () => {});
      await client.connect();
      return () => client.query('SELECT 1').finally(() => void client.end());
    },
    async 'redis-homes'(password) {
      const redis = new Redis(world.redis.url(), {
        ...{ username: 'chamberlain_homes', password },
        ...{ lazyConnect: true, retryStrategy: () => null },
      });
      redis.on('error', () => {});
      await redis.connect();
      return () => redis.ping().finally(() => redis.disconnect());
    },
    'mariadb-databases-reader'(password) {
      const user = 'chamberlain_databases_reader';
      const over = Promise.withResolvers<void>();
      const session = Promise.withResolvers<() => Promise<unknown>>();
      onServer(server, { user, password }, async (connection) => {
        session.resolve(() => connection.query('SELECT 1').finally(over.resolve));
        await over.promise;
      }).catch(session.reject);
      return session.promise;
    },
  };
  for (const [name, open] of Object.entries(opens)) {
    // of a rotation that was begun, both are known
    if (!name.startsWith('postgres-')) await first(name);
    const before = textOf(name);
    const ask = await open(before);
    await replaceAtOnce(config, name, say);
    await expect(ask()).rejects.toThrow();
    await expect(open(before)).rejects.toThrow();
    await (
      await open(textOf(name))
    )();
  }
  expect(lying()).toEqual([]);
  await settled(world);
});

test("the directory's admin, by root of its machine", async () => {
  const name = 'ldap-admin';
  expect(await cutAt(3, rotate, name)).toBe('cut'); // the server has one that nobody knows
  expect(await first(name)).toEqual({ name, step: 'rotated' });
  expect((await readDirectory(world)).size).toBeGreaterThan(0);
});

test('the command says what it does, asks, and shows no secret; the audit knows who did it', async () => {
  const before = textOf('redis-sweep');
  const [unknown, unasked, checked] = await Promise.all([
    cli('redis-nobody', '--yes'),
    cli('redis-sweep'),
    cli('redis-sweep', '--check'),
  ]);
  expect(unknown).toEqual({
    ...{ exit: 2, out: '' },
    err: `USAGE: 'redis-nobody' is not a secret of this realm: see docs/install.md, step 2. See --help.\n`,
  });
  expect(unasked).toMatchObject({
    ...{ exit: 2, out: '' },
    err: expect.stringContaining('there is no terminal to confirm on'),
  });
  const path = join(world.config.secrets, 'redis-sweep');
  const what = 'redis-sweep, the password of chamberlain_sweep in Redis:\n';
  const planned =
    what +
    '- Redis accepts a new password as well as the present one; sessions continue\n' +
    `- ${path} is replaced\n- the old password stays valid until --finish\n`;
  expect(checked).toEqual({ exit: 0, out: planned, err: '' });
  expect(textOf('redis-sweep')).toBe(before);
  const begun = await cli('redis-sweep', '--yes');
  expect(begun).toMatchObject({ exit: 0, err: '' });
  expect(begun.out).toBe(
    `${planned}\nRotated: ${path} holds the new password; the old one stays valid too.\n` +
      'Replace the file on each other machine that has this secret. Then run\n' +
      '  chamberlain secret rotate redis-sweep --finish\n',
  );
  const finished = await cli('redis-sweep', '--finish', '--yes');
  expect(finished.out).toContain('\nFinished: the old password is no longer valid.\n');
  const rows = await query<{ by: string; fields: string[] }>(
    world,
    `SELECT requested_by AS by, fields FROM audit WHERE kind = 'secret.rotate' ORDER BY id DESC LIMIT 2`,
  );
  expect(rows).toEqual(
    Array.from({ length: 2 }, () => ({
      by: expect.stringMatching(/^unix:/u),
      fields: ['redis-sweep'],
    })),
  );
  const shown = [begun.out, finished.out, ...said, ...running.log].join('\n');
  for (const name of secretsOf(world.config))
    expect([name, shown.includes(textOf(name))]).toEqual([name, false]);
  expect(shown).not.toContain(before);
  expect(textOf('redis-sweep')).not.toBe(before);
});

/** Removes the files of these secrets, so that whoever makes the accounts anew makes other passwords. */
function forget(which: RegExp): string[] {
  const { secrets } = world.config;
  const files = readdirSync(secrets).filter((file) => which.test(file));
  for (const file of files) rmSync(join(secrets, file));
  expect(files).not.toEqual([]);
  return files;
}

async function changeOfDirectory(): Promise<void> {
  const accounts = forget(/^ldap-(directory|keys-agent)/).map((file) => file.replace('ldap-', ''));
  await changeDirectory(
    world,
    'ldapmodify',
    accounts
      .map((account) => {
        const password = ensurePassword(world.config.secrets, `ldap-${account}`);
        const dn = `cn=${account},ou=chamberlain,${world.config.ldap.base}`;
        return `dn: ${dn}\nchangetype: modify\nreplace: userPassword\nuserPassword: ${password}\n`;
      })
      .join('\n'),
  );
  await stopServer(world.slapd);
  await startServer(world.slapd);
}

const CHANGES: [string, () => Promise<void>][] = [
  [
    'PostgreSQL',
    async () => {
      forget(/^postgres-(?!owner)/);
      await setRolePasswords(world.postgres, world.config.secrets);
      await asSuperuser(world.postgres, 'postgres', (client) =>
        client.query(
          `SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename LIKE 'chamberlain\\_%'`,
        ),
      );
    },
  ],
  [
    'MariaDB',
    async () => {
      forget(/^mariadb-/);
      for (const server of [world.replica, world.tools]) {
        await createMariadbAccounts(server, world.config.secrets);
        await administer(
          server.socket,
          'KILL USER chamberlain_databases; KILL USER chamberlain_databases_reader;',
        );
      }
    },
  ],
  ['the directory', changeOfDirectory],
  [
    'Redis',
    async () => {
      forget(/^redis-(?!owner|portal)/);
      await renderRedis();
      const redis = new Redis(world.redis.urlOf('owner'));
      await redis.call('CLIENT', 'KILL', 'TYPE', 'normal', 'SKIPME', 'yes');
      redis.disconnect();
    },
  ],
  [
    'the keys',
    async () => {
      forget(/-key$/);
      const { secrets } = world.config;
      const sealKey = ensureSigningKey(join(secrets, 'seal-key'));
      Object.assign(world, { sealKey, eventsKey: ensureSigningKey(join(secrets, 'events-key')) });
    },
  ],
];

test.each(CHANGES)(
  '%s',
  async (server, change) => {
    await change();
    const name = server.replaceAll(/[^a-z]+/gi, '-').toLowerCase();
    const wish = { kind: 'tool.create', requestedBy: 'alice', name, title: 'After the change' };
    await running.portal.get(wish);
    await settled(world);
    expect(await faultsOf(world, [name])).toEqual([]);
    const entries = await readDirectory(world, { filter: `(uid=tools.${name})` });
    const [[seal = ''] = []] = [...entries.values()].map((entry) => entry['chamberlainSeal'] ?? []);
    const publicKey = createPublicKey(world.sealKey);
    const keys = new Map([[sealKeyId(publicKey), publicKey]]);
    expect(verifyPayload(seal, keys)).toMatchObject({ ok: true });
  },
  90_000,
);

test('the agent of a login host, by a connection that it opens after its password was changed', async () => {
  const { ldap, realm, secrets } = world.config;
  const passwordFile = join(secrets, 'ldap-keys-agent');
  const servers = openDirectoryServers({
    realm,
    ldap: { uris: [ldap.uri], base: ldap.base, passwordFile },
  });
  const countNames = async () => {
    let count = 0;
    for await (const page of servers.open().names()) count += page.length;
    return count;
  };
  const count = await countNames();
  await changeOfDirectory();
  expect(await countNames()).toBe(count);
  await servers.turnAway();
});
