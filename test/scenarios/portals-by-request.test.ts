/** Portals that are added, changed and removed by request, on real servers: over HTTP and by queue, without a restart. */
import { execFile } from 'node:child_process';
import { createPublicKey, generateKeyPairSync, type KeyObject, randomUUID } from 'node:crypto';
import { mkdtempSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { afterAll, beforeAll, expect, test } from '@jest/globals';
import type { EventEmitter } from 'node:events';
import { Queue, QueueEvents, Worker } from 'bullmq';
import { Redis } from 'ioredis';
import { parse, stringify } from 'yaml';
import { portalWith, type StackConfig } from '../../dev/servers/config.ts';
import { openQueues, type Queues } from '../../src/backends/redis/queue.ts';
import { openPool, type Pool } from '../../src/database/connection.ts';
import { signToken } from '../../src/requests/token.ts';
import { ADMINS_QUEUE } from '../../src/shared/config.ts';
import { fingerprintOf, lineOf } from '../../src/ssh-keys/ed25519-key.ts';
import { type ApiWorld, openApiWorld, type PortalName } from '../api/api-world.ts';
import { readBatch } from '../api/event-reader.ts';
import { runCli } from '../cli/run-cli.ts';
import { blockOf } from '../page-blocks.ts';
import { eventually } from './eventually.ts';

let api: ApiWorld;
let owner: Pool;
let queues: Queues;
const ownKey = newKey();
const PEM = { type: 'spki', format: 'pem' } as const;

type Wish = { kind: string } & Record<string, unknown>;

function newKey(): KeyObject {
  return generateKeyPairSync('ed25519').privateKey;
}

beforeAll(async () => {
  api = await openApiWorld('portals by request', {
    ...{ needs: ['postgres', 'redis'], roles: ['intake', 'relay'], reloads: true },
  });
  owner = openPool(api.world.config, 'owner', { max: 2, durable: false });
  queues = openQueues(api.world.config, 'admin');
  const requestedBy = 'steward';
  for (const wish of [
    { kind: 'person.create', shellName: 'second', displayName: 'S', email: 's2@example.org' },
    { kind: 'access.grant', person: 'second' },
    { kind: 'maintainer.add', tool: 'admin', person: 'second' },
  ]) {
    const body = api.requestToken('admin.steward', { requestedBy, ...wish });
    const how = { as: 'admin.steward', type: 'application/jwt', body } as const;
    expect((await api.call('POST', '/v1/requests?wait=verdict', how)).body).toMatchObject({
      verdict: 'accepted',
    });
  }
  await owner.query(
    `INSERT INTO admin_keys (fingerprint, person, line, label, expires_at, added_by, approved_by, added_at)
     SELECT $1, uid, $2, 'test', now() + interval '1 day', 'x', 'y', now() FROM people WHERE shell_name = 'second'`,
    [fingerprintOf(ownKey), lineOf(ownKey)],
  );
  await owner.query('DELETE FROM admin_additions');
});
afterAll(async () => {
  await queues.close();
  await owner.end();
  await api.close();
});

function tokenOf(portal: string, key: KeyObject, kid: string, jti: string, request: Wish) {
  const sub = String(request['requestedBy']);
  const realm = api.world.config.realm;
  return signToken(key, { ...{ portal, realm, kid, jti, sub, request }, now: new Date() });
}

/** The code of a request's verdict; '' is accepted. */
async function codeOf(jti: string): Promise<string> {
  return await eventually(`the verdict on ${jti}`, async () => {
    const { rows } = await owner.query<{ code: string | null }>(
      'SELECT code FROM requests WHERE jti = $1',
      [jti],
    );
    return rows[0] && { code: rows[0].code ?? '' };
  }).then(({ code }) => code);
}

/** A request of an admin. Returns its id. */
async function send(admin: 'steward' | 'second', wish: Wish, urgent = false): Promise<string> {
  const jti = randomUUID();
  const request = { requestedBy: admin, ...wish };
  const isSecond = admin === 'second';
  const token = isSecond
    ? await tokenOf('admin.second', ownKey, fingerprintOf(ownKey), jti, request)
    : api.requestToken('admin.steward', request, { jti });
  await queues.addRequest(isSecond ? ADMINS_QUEUE : 'admin.steward', token, urgent);
  return jti;
}

async function must(admin: 'steward' | 'second', wish: Wish): Promise<string> {
  const jti = await send(admin, wish);
  expect([wish, await codeOf(jti)]).toEqual([wish, '']);
  return jti;
}

/** What an admin asks for, and another approves. */
async function agreed(wish: Wish): Promise<void> {
  const request = await must('steward', wish);
  await must('second', { kind: 'request.approve', request });
}

const pub = (key: KeyObject, kid: string) => ({ kid, publicKey: lineOf(key) });

/** A call of the API by a portal that the test's configuration does not know. */
function as(name: string, key: KeyObject, kid: string) {
  return { as: name as PortalName, key, header: { kid } };
}

/** Sends a request over HTTP, and waits for its verdict. */
async function post(name: string, key: KeyObject, kid: string, wish: Wish) {
  const body = await tokenOf(name, key, kid, randomUUID(), wish);
  const how = { ...as(name, key, kid), type: 'application/jwt', body };
  return await api.call('POST', '/v1/requests?wait=verdict', how);
}

const addition = (name: string, key: KeyObject, rest = {}): Wish => ({
  ...{ kind: 'portal.add', name, keys: [pub(key, `${name}-1`)] },
  ...{ kinds: ['person.create', 'access.request'], ...rest },
});
let people = 0;
const person = (): Wish => {
  const shellName = `person${(people += 1)}`;
  const email = `${shellName}@example.org`;
  return {
    kind: 'person.create',
    requestedBy: shellName,
    shellName,
    displayName: shellName,
    email,
  };
};
/** Until the API uses what was decided. */
const until = (name: string, key: KeyObject, kid: string, status: number) =>
  eventually(`${status} for ${name}`, async () => {
    const reply = await api.get('/v1/events?after=0&seconds=0', as(name, key, kid));
    return reply.status === status;
  });

test('a portal is added, works over HTTP, gets another key, and is removed', async () => {
  const [first, next] = [newKey(), newKey()];
  await agreed(addition('bridge', first, { reads: ['own'] }));
  await until('bridge', first, 'bridge-1', 204);
  const sent = await post('bridge', first, 'bridge-1', person());
  expect(sent).toMatchObject({ status: 200, body: { verdict: 'accepted' } });
  const events = await api.get('/v1/events?after=0&seconds=20', as('bridge', first, 'bridge-1'));
  const { events: got } = readBatch(api, 'bridge', events.text);
  expect(got[0]).toMatchObject({ seq: 1, event: 'request.accepted' });

  // another key: what the old one signs is refused, also where it waits already
  const jti = randomUUID();
  await api.world.chamberlain('freeze', '--reason', 'a test');
  const approved = await send('steward', {
    ...{ kind: 'portal.update', name: 'bridge', keys: [pub(next, 'bridge-2')] },
  });
  await api.world.chamberlain('thaw');
  expect(await codeOf(approved)).toBe('');
  await must('second', { kind: 'request.approve', request: approved });
  await queues.addRequest(
    'bridge',
    await tokenOf('bridge', first, 'bridge-1', jti, person()),
    false,
  );
  await until('bridge', first, 'bridge-1', 401);
  await until('bridge', next, 'bridge-2', 200);
  const { rows } = await owner.query('SELECT verdict FROM requests WHERE jti = $1', [jti]);
  expect(rows.filter(({ verdict }) => verdict === 'accepted')).toEqual([]);
  expect((await post('bridge', first, 'bridge-1', person())).status).toBe(401);
  expect((await post('bridge', next, 'bridge-2', person())).body).toMatchObject({
    verdict: 'accepted',
  });

  await must('steward', { kind: 'portal.remove', name: 'bridge', reason: 'Not needed.' });
  expect((await post('bridge', next, 'bridge-2', person())).status).toBe(401);
  const listed = (await api.get('/v1/portals', { as: 'admin.steward' })).body.items as {
    name: string;
  }[];
  expect(listed.find(({ name }) => name === 'bridge')).toMatchObject({
    ...{ keys: [{ kid: 'bridge-2', fingerprint: fingerprintOf(next) }], events: 'http' },
    ...{ addedBy: 'steward', approvedBy: 'second', changedBy: 'steward', removedBy: 'steward' },
    removedWhy: 'Not needed.',
  });
  const { portals } = JSON.parse(await api.world.chamberlain('list', 'portals', '--json'));
  expect(portals).toEqual(listed);
  expect(await api.world.chamberlain('list', 'portals')).toMatch(/^bridge .* steward +second /mu);
  const { rows: audit } = await owner.query(
    `SELECT kind, account, fields FROM audit WHERE kind = 'portal.remove' AND 'portal bridge' = ANY (fields) ORDER BY id`,
  );
  expect(audit).toEqual([
    {
      ...{ kind: 'portal.remove', account: 'steward' },
      fields: ['portal bridge', 'removed', `-${fingerprintOf(next)}`],
    },
  ]);
});

test('a portal has a limit of calls of its own', async () => {
  const key = newKey();
  await agreed(addition('slow', key, { mostCallsPerMinute: 60 }));
  await until('slow', key, 'slow-1', 204);
  const calls = await Promise.all(
    Array.from({ length: 30 }, () => api.get('/v1/kinds', as('slow', key, 'slow-1'))),
  );
  const refused = calls.find(({ status }) => status === 429);
  expect(refused?.body.detail).toContain('The portal slow may make 60 calls in a minute');
});

test('the command line sends a portal from a file, and shows what another admin decides on', async () => {
  const [file, key] = [join(api.world.dir, 'typed.json'), newKey()];
  writeFileSync(file, JSON.stringify(addition('typed', key)));
  const words = ['submit', '--file', file, '--portal-key', api.world.adminKey, '--wait'];
  const { exit, out } = await runCli(words, { config: api.world.configFile });
  expect(exit).toBe(3);
  const shown = await api.world.chamberlain('requests');
  expect(shown.replaceAll(/\s+/gu, ' ')).toContain(`portal typed: key ${fingerprintOf(key)}`);
  await must('second', { kind: 'request.approve', request: out.trim() });
});

test('the options of the command line take rights away from a portal', async () => {
  await agreed(
    addition('narrowed', newKey(), {
      ...{ kinds: 'all', reads: ['own'], speaksForAdmins: true, subjectEvents: true },
    }),
  );
  await api.world.chamberlain(
    ...['submit', 'portal.update', '--name', 'narrowed', '--kinds', 'access.request,person.create'],
    ...['--speaksForAdmins', 'false', '--subjectEvents=false', '--reads', ''],
    ...['--portal-key', api.world.adminKey, '--wait'],
  );
  const { rows } = await owner.query(`SELECT settings FROM portals WHERE name = 'narrowed'`);
  expect(rows).toMatchObject([
    {
      settings: {
        ...{ kinds: ['access.request', 'person.create'], reads: [] },
        ...{ speaksForAdmins: false, subjectEvents: false },
      },
    },
  ]);
});

test('a portal is removed in a batch in which 30 of its requests are: none after that is accepted', async () => {
  const key = newKey();
  await agreed(addition('batch', key, { speaksForAdmins: true }));
  await until('batch', key, 'batch-1', 204);
  await api.world.chamberlain('freeze', '--reason', 'a test');
  const ids: string[] = [];
  for (let n = 0; n < 30; n += 1) {
    const jti = randomUUID();
    await queues.addRequest('batch', await tokenOf('batch', key, 'batch-1', jti, person()), false);
    ids.push(jti);
  }
  const removal = await send('steward', { kind: 'portal.remove', name: 'batch' }, true);
  await api.world.chamberlain('thaw');
  expect(await codeOf(removal)).toBe('');
  // what was taken with the removal is refused; the rest is never taken, and is closed with the queue
  await until('batch', key, 'batch-1', 401);
  const { rows } = await owner.query<{ code: string | null }>(
    `SELECT code FROM requests WHERE jti = ANY ($1)`,
    [ids],
  );
  expect(rows.length).toBeGreaterThan(0);
  expect(new Set(rows.map(({ code }) => code))).toEqual(new Set(['PORTAL_DEAD']));
});

/** What an admin asks for, and the owner of the database approves once the portal has not changed since. */
async function handOverByOwner(wish: Wish): Promise<void> {
  const { configFile: config } = api.world;
  const approve = (request: string) => runCli(['bootstrap', '--approve', request], { config });
  await owner.query(
    `INSERT INTO admin_additions (person, by, at)
     SELECT p.uid, b.uid, now() FROM people p, people b WHERE p.shell_name = 'second' AND b.shell_name = 'steward'`,
  );
  const late = await must('steward', wish);
  await must('second', { kind: 'portal.update', name: wish['to'], mostCallsPerMinute: 100 });
  // without the hint of the code, which says the same again
  expect((await approve(late)).err).toMatch(
    /^PORTAL_CHANGED: second has changed the portal heir .* steward can send it again\.\n$/u,
  );
  await must('steward', { kind: 'request.reject', request: late, reason: 'It is too late.' });
  expect(await approve(await must('steward', wish))).toMatchObject({
    out: 'approved: portal.hand-over of steward, about leaver\n',
  });
  expect(await api.world.chamberlain('requests')).toMatch(
    /portal\.hand-over +steward +leaver +done/u,
  );
  await owner.query('DELETE FROM admin_additions');
}

test('another portal gets the events that a removed one has not taken, once another admin has approved', async () => {
  const [key, heir] = [newKey(), newKey()];
  await agreed(addition('leaver', key));
  await agreed(addition('heir', heir));
  await until('leaver', key, 'leaver-1', 204);
  const wish = person();
  await post('leaver', key, 'leaver-1', wish);
  const told = await api.get('/v1/events?after=0&seconds=20', as('leaver', key, 'leaver-1'));
  const [first] = readBatch(api, 'leaver', told.text).events;
  await must('steward', { kind: 'portal.remove', name: 'leaver' });
  await until('leaver', key, 'leaver-1', 401);
  await handOverByOwner({ kind: 'portal.hand-over', name: 'leaver', to: 'heir' });
  const given = await api.get('/v1/events?after=0&seconds=20', as('heir', heir, 'heir-1'));
  const [again] = readBatch(api, 'heir', given.text).events;
  expect(again).toMatchObject({ seq: 1, event: 'request.accepted' });
  expect(again).toEqual({ ...first, seq: 1 });
});

test('the fingerprint of a key in PEM, as docs/portals.md computes it', async () => {
  const [key, cwd] = [newKey(), mkdtempSync(join(api.world.dir, 'pem-'))];
  writeFileSync(join(cwd, 'portal.pem'), key.export({ type: 'pkcs8', format: 'pem' }));
  const shell = promisify(execFile)('sh', ['-ec', blockOf('portal:fingerprint')], { cwd });
  expect((await shell).stdout).toBe(`${fingerprintOf(key)}\n`);
});

/** A password as docs/portals.md makes it, and what its request says of it. */
async function newPassword() {
  const cwd = mkdtempSync(join(api.world.dir, 'portal-'));
  const args = ['-ec', blockOf('portal:password')];
  const { stdout } = await promisify(execFile)('bash', args, { cwd });
  const password = readFileSync(join(cwd, 'redis-password'), 'utf8');
  expect(password).toMatch(/^[\w-]{43}$/u); // it cannot be taken for its hash, and fits into a URL
  return { password, redisPasswordSha256: stdout.trim() };
}

function urlFor(name: string, password: string): string {
  return `redis://portal.${name}:${password}@${new URL(api.world.redis.url()).host}/0`;
}

/** A portal that knows its name, its key and its password of Redis, and nothing else of the realm. */
function queuePortal(name: string, key: KeyObject, password: string) {
  const connection = { url: urlFor(name, password), maxRetriesPerRequest: null };
  const heard: { seq: number; event: string; request: string | null }[] = [];
  const [queue, verdicts, worker] = [
    new Queue(`requests.${name}`, { connection }),
    new QueueEvents(`requests.${name}`, { connection }),
    new Worker(
      `events.${name}`,
      async ({ data }) => {
        const { events } = readBatch(api, name, (data as { token: string }).token);
        for (const each of events)
          if (each.seq > (heard.at(-1)?.seq ?? 0)) heard.push(each as never);
        return { have: heard.at(-1)?.seq ?? 0 };
      },
      { connection, concurrency: 1 },
    ),
  ];
  for (const each of [queue, verdicts, worker] as EventEmitter[]) each.on('error', () => {});
  return {
    heard,
    async send(wish: Wish): Promise<{ jti: string; verdict: unknown }> {
      const jti = randomUUID();
      const job = await queue.add('request', {
        token: await tokenOf(name, key, `${name}-1`, jti, wish),
      });
      return { jti, verdict: await job.waitUntilFinished(verdicts, 20_000) };
    },
    close: () => Promise.allSettled([queue.close(), verdicts.close(), worker.close(true)]),
  };
}

/** What Redis answers to a login: PONG, or the first word of its refusal. */
async function login(name: string, password: string): Promise<string> {
  const redis = new Redis(urlFor(name, password), {
    lazyConnect: true,
    retryStrategy: null,
    enableReadyCheck: false,
  });
  redis.on('error', () => {});
  try {
    // without the login, ioredis asks without one
    return await redis.ping();
  } catch (error) {
    return (error as Error).message.split(' ')[0] ?? '';
  } finally {
    redis.disconnect();
  }
}

const redisUsers = async (...words: string[]) => {
  const { exit, out } = await runCli(['redis-users', ...words, '--json'], {
    config: api.world.configFile,
  });
  return { exit, ...(JSON.parse(out) as Partial<Record<string, string[]>>) } as {
    exit: number | null;
    differs?: string[];
  };
};
const statusSays = async () => {
  const { out } = await runCli(['status'], { config: api.world.configFile });
  return out.replaceAll(/\s+/gu, ' ');
};
const NOTHING = { exit: 0, made: [], changed: [], removed: [] };

test('a portal with a queue makes its own password, of which only the hash travels', async () => {
  const [key, other] = [newKey(), newKey()];
  const [first, next] = [await newPassword(), await newPassword()];
  await agreed(addition('http', other, { subjectEvents: true }));
  const { redisPasswordSha256 } = first;
  const rest = { events: 'queue', redisPasswordSha256, subjectEvents: true };
  await agreed(addition('cask', key, rest));

  // while it has no user of Redis, its events wait, and delay no other portal
  await until('http', other, 'http-1', 204);
  expect((await post('http', other, 'http-1', person())).body).toMatchObject({
    verdict: 'accepted',
  });
  const got = await api.get('/v1/events?after=0&seconds=20', as('http', other, 'http-1'));
  expect(readBatch(api, 'http', got.text).events[0]).toMatchObject({ event: 'request.accepted' });
  expect(await redisUsers()).toEqual({
    exit: 3,
    differs: ['it has no user portal.cask'],
  });
  expect(await statusSays()).toContain(
    'it has no user portal.cask. Run `chamberlain redis-users --apply`',
  );
  expect(await login('cask', first.password)).not.toBe('PONG');
  const redis = new Redis(api.world.redis.urlOf('owner'));
  // the relay has only the portal's rights there
  expect(await redis.keys('bull:events.cask:*')).toEqual([]);

  expect(await redisUsers('--apply')).toEqual({ ...NOTHING, made: ['portal.cask'] });
  expect(await redisUsers('--apply')).toEqual(NOTHING);
  expect(await redisUsers()).toEqual({ exit: 0, differs: [] });
  const portal = queuePortal('cask', key, first.password);
  const sent = await portal.send(person());
  expect(sent.verdict).toEqual({ verdict: 'accepted' });
  await eventually('its event', () => portal.heard.some(({ request }) => request === sent.jti));

  // the password by which our own programs log in is another one
  const rotate = async (...words: string[]) =>
    (
      await runCli(['secret', 'rotate', 'redis-portals', '--yes', ...words], {
        config: api.world.configFile,
      })
    ).exit;
  expect([await rotate(), await redisUsers(), await rotate('--finish')]).toEqual([
    ...[0, { exit: 0, differs: [] }, 0],
  ]);
  expect(await redisUsers('--apply')).toEqual(NOTHING);
  expect((await portal.send(person())).verdict).toEqual({ verdict: 'accepted' });

  // another password: who has the old one is disconnected, and refused from then on
  const { redisPasswordSha256: hash } = next;
  await agreed({ kind: 'portal.update', name: 'cask', redisPasswordSha256: hash });
  expect(await login('cask', first.password)).toBe('PONG');
  expect((await redisUsers()).differs).toEqual([
    'the user portal.cask does not have the password that was approved',
  ]);
  await portal.close();
  const open = new Redis(urlFor('cask', first.password), { retryStrategy: null });
  const ended = new Promise((resolve) => open.once('end', resolve));
  await open.ping();
  expect(await redisUsers('--apply')).toEqual({ ...NOTHING, changed: ['portal.cask'] });
  await ended;
  expect(await login('cask', first.password)).toBe('WRONGPASS');
  const again = queuePortal('cask', key, next.password);
  const later = await again.send(person());
  expect(later.verdict).toEqual({ verdict: 'accepted' });
  await eventually('its event', () => again.heard.some(({ request }) => request === later.jti));

  // Redis has written the users into its file
  const file = String(await redis.acl('LIST'));
  await redis.acl('LOAD');
  expect(String(await redis.acl('LIST'))).toBe(file);
  await again.close();

  await must('steward', { kind: 'portal.remove', name: 'cask', reason: 'Not needed.' });
  expect((await redisUsers()).differs).toEqual([
    'there is a user portal.cask, but no portal needs it',
  ]);
  expect(await statusSays()).toContain('there is a user portal.cask');
  expect(await redisUsers('--apply')).toEqual({ ...NOTHING, removed: ['portal.cask'] });
  expect(await login('cask', next.password)).toBe('WRONGPASS');
  expect(await redis.acl('USERS')).not.toContain('portal.cask');
  redis.disconnect();

  // nobody is shown more than the first digits
  const said = await Promise.all(
    ['list portals', 'audit', 'requests', 'requests --all'].flatMap((words) =>
      [[], ['--json']].map((json) =>
        runCli([...words.split(' '), ...json], { config: api.world.configFile }),
      ),
    ),
  );
  const text = said.map(({ out, err }) => out + err).join('\n');
  expect(text).toContain(hash.slice(0, 20));
  expect(text).not.toContain(hash.slice(0, 21));
  expect(text).not.toContain(redisPasswordSha256.slice(0, 21));
}, 40_000);

test('the file lists a name: its secret is missed, and the name comes by request with a user only', async () => {
  const { configFile, config } = api.world;
  const before = readFileSync(configFile, 'utf8');
  const list = (name: string) => {
    const file = parse(before) as StackConfig;
    const key = createPublicKey(newKey()).export(PEM).toString();
    const portals = [...file.portals, portalWith(name, key)];
    writeFileSync(configFile, stringify({ ...file, portals }));
  };
  // only intake knows it
  list('reloaded');
  await api.world.chamberlain('reload');
  list('filed');
  await api.world.chamberlain('reload');
  const lacks =
    '`redis-users --apply` would fail on this machine, which lacks these secrets: redis-portal.filed';
  expect(await redisUsers()).toEqual({ exit: 3, differs: [lacks, 'it has no user portal.filed'] });
  expect(await statusSays()).toContain(lacks);
  const { err } = await runCli(['redis-users', '--apply'], { config: configFile });
  expect(err).toContain('redis-portal.filed');
  // only redis-users knows it
  list('unread');
  writeFileSync(`${config.secrets}/redis-portal.unread`, 'a password of a portal', { mode: 0o600 });
  expect(await redisUsers('--apply')).toMatchObject({ exit: 0, made: ['portal.unread'] });
  writeFileSync(configFile, before);
  await api.world.chamberlain('reload');
  for (const name of ['reloaded', 'filed', 'unread']) {
    const jti = await send('steward', addition(name, newKey()));
    expect([name, await codeOf(jti)]).toEqual([name, 'REQUEST_INVALID']);
  }
  expect(await redisUsers('--apply')).toMatchObject({ exit: 0, removed: ['portal.unread'] });
}, 40_000);

test('without Redis, redis-users says where it does not answer', async () => {
  const config = join(api.world.dir, 'no-redis.yaml');
  const file = parse(readFileSync(api.world.configFile, 'utf8')) as StackConfig;
  writeFileSync(config, stringify({ ...file, redis: { url: 'redis://127.0.0.1:1' } }));
  for (const words of [[], ['--apply']]) {
    const { err } = await runCli(['redis-users', ...words], { config });
    expect(err).toMatch(/^BACKEND_UNAVAILABLE: .*does not answer at 127\.0\.0\.1:1.*ECONNREFUSED/u);
  }
}, 20_000);
