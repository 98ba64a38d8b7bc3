/**
 * 500 people are suspended in one request, while a portal creates tools: all lose access, even on a login host.
 * Before that, they are suspended one by one, and most of them wait for an admin's release.
 */
import { existsSync, readdirSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { afterAll, beforeAll, expect, test } from '@jest/globals';
import { PLACES } from '../../../src/login-host/places.ts';
import { verifierOf } from '../../../src/credentials/credentials.ts';
import { runCli } from '../../cli/run-cli.ts';
import type { World } from '../../stack.ts';
import { eventually } from '../eventually.ts';
import { newKey } from '../../login-host/seals.ts';
import { processesOf } from '../login/access.ts';
import { LEAVING_ROLES, type LeavingWorld, openLeavingWorld } from './leaving-world.ts';
import { addLoginHost, type Login, untilSound } from '../login/login.ts';
import { admit } from '../running.ts';
import { difference, filesBySeals, filesOf } from '../drift/sealed-files.ts';
import {
  type CredentialsSeen,
  query,
  readAccounts,
  readCredentials,
  readDirectory,
  settled,
} from '../outside.ts';

const PEOPLE = 500;
/** Each has five of the people among its maintainers. */
const TOOLS = 100;
const MOST = 20;
const EVERY_MS = 150;
/** Twelve seconds, and much longer on a busy machine. */
const REVOKED_MS = 90_000;

let leaving: LeavingWorld;
let login: Login;
let world: World;
const names = Array.from({ length: PEOPLE }, (_, n) => `many-${n}`);
/** of the tools, before anybody is suspended */
const old = new Map<number, CredentialsSeen>();
let first: { person: number; tool: number };

beforeAll(async () => {
  leaving = await openLeavingWorld('many suspended', {
    adjust: (config) => ({ ...config, leaving: { mostSuspensionsPerHour: MOST } }),
  });
  ({ world } = leaving);
  await leaving.stopWork();
  await leaving.startWork(LEAVING_ROLES);
  await admit(leaving.portal, 'carol');
  const { people, tools } = world.config.ids;
  first = { person: (people[1]?.first ?? 0) + 1000, tool: (tools[0]?.first ?? 0) + 1000 };
  await wantMany();
  await settled(world, 120_000);
  login = await addLoginHost(leaving);
  await eventually('everybody on the login host', async () => {
    return difference(filesOf(login), await filesBySeals(login)) === undefined;
  });
  for (let n = 0; n < TOOLS; n += 1) old.set(n, readCredentials(world, { tool: `many-${n}` }));
}, 180_000);

afterAll(async () => (login ?? leaving)?.close(), 60_000);

/** As many requests would, without their history. */
async function wantMany(): Promise<void> {
  await query(
    world,
    `WITH p AS (SELECT n, $1::int + n AS uid, 'many-' || n AS name FROM generate_series(0, $2::int - 1) AS n),
       id AS (INSERT INTO posix_ids (id, kind) SELECT uid, 'person' FROM p),
       name AS (INSERT INTO names (name, subject) SELECT name, uid FROM p),
       person AS (INSERT INTO people (uid, shell_name, display_name, display_name_key, email, admitted_at)
         SELECT uid, name, 'The ' || name, 'the ' || name, name || '@example.org', now() FROM p),
       member AS (INSERT INTO realm_members (person) SELECT uid FROM p)
     INSERT INTO credentials (account) SELECT uid FROM p`,
    [first.person, PEOPLE],
  );
  await query(
    world,
    `WITH t AS (SELECT n, $1::int + n AS uid, 'many-' || n AS name FROM generate_series(0, $2::int - 1) AS n),
       id AS (INSERT INTO posix_ids (id, kind) SELECT uid, 'tool' FROM t),
       name AS (INSERT INTO names (name, subject) SELECT 'tools.' || name, uid FROM t),
       tool AS (INSERT INTO tools (uid, name, account, title) SELECT uid, name, 'tools.' || name, name FROM t),
       maintainer AS (INSERT INTO maintainers (tool, maintainer)
         SELECT uid, $3::int + (n * 5 + m) % $4::int FROM t, generate_series(0, 4) AS m
         UNION ALL SELECT uid, (SELECT uid FROM people WHERE shell_name = 'bob') FROM t)
     INSERT INTO credentials (account) SELECT uid FROM t`,
    [first.tool, TOOLS, first.person, PEOPLE],
  );
  await query(
    world,
    `INSERT INTO ssh_keys (person, line, fingerprint)
     SELECT $1::int + n - 1, line, 'SHA256:' || n FROM unnest($2::text[]) WITH ORDINALITY AS k (line, n)`,
    [first.person, names.map(newKey)],
  );
  await query(
    world,
    `SELECT touch_generation(uid, role) FROM unnest(ARRAY['directory', 'homes', 'databases']) AS role,
       (SELECT uid FROM people WHERE uid >= $1 AND uid < $1 + $3
        UNION ALL SELECT uid FROM tools WHERE uid >= $2 AND uid < $2 + $4) AS s`,
    [first.person, first.tool, PEOPLE, TOOLS],
  );
}

async function statesOfMany(): Promise<Record<string, number>> {
  const rows = await query<{ state: string; count: number }>(
    world,
    `SELECT state, count(*)::int FROM people WHERE shell_name LIKE 'many-%' GROUP BY 1`,
  );
  return Object.fromEntries(rows.map(({ state, count }) => [state, count]));
}

/** How much of everything that was requested is not applied yet. */
async function countTouches(): Promise<number> {
  const [row] = await query<{ count: number }>(
    world,
    'SELECT count(*)::int AS count FROM request_touches',
  );
  return row?.count ?? 0;
}

/**
 * Creates tools at a steady rate until `act` has ended; returns how long each took until everything was there.
 */
async function makingTools(prefix: string, act: () => Promise<unknown>): Promise<number[]> {
  const { portal } = leaving;
  const over = new AbortController();
  const making: Promise<number>[] = [];
  const throttle = (async () => {
    while (!over.signal.aborted) {
      const wish = { kind: 'tool.create', requestedBy: 'alice', title: 'A tool' };
      const began = performance.now();
      const name = `${prefix}-${making.length}`;
      const made = portal.get({ ...wish, name }).then(() => performance.now() - began);
      made.catch(() => {}); // reported when all are awaited
      making.push(made);
      // the rate of a portal: it does not wait
      await sleep(EVERY_MS, undefined, { signal: over.signal }).catch(() => {});
    }
  })();
  try {
    await act();
  } finally {
    over.abort();
    await throttle;
  }
  return Promise.all(making);
}

const isOfMany = (uid: number) => uid >= first.person && uid < first.person + PEOPLE;

/**
 * Lets everybody who is not suspended run something on the login host; returns their processes, by this
 * machine's /proc.
 */
async function startProcesses(): Promise<string[]> {
  const active = await query<{ uid: number }>(
    world,
    `SELECT uid FROM people WHERE shell_name LIKE 'many-%' AND state = 'active'`,
  );
  const uids = active.map(({ uid }) => uid).join(' ');
  const script = `for uid in ${uids}; do setpriv --reuid $uid --clear-groups sleep 4000 & done`;
  const { machine } = login.host;
  await machine.must(['/bin/sh', '-c', `{ ${script}; } >/dev/null 2>&1 </dev/null`]);
  return await eventually('all processes', () => {
    const theirs = processesOf(login).filter(
      ({ uid, command }) => isOfMany(uid) && command === 'sleep 4000',
    );
    if (theirs.length < active.length) return undefined;
    return theirs.map(({ pid }) => join(machine.root, 'proc', String(pid)));
  });
}

const keyFiles = () =>
  readdirSync(join(login.host.machine.root, PLACES.keys)).filter((name) =>
    name.startsWith('many-'),
  );

/**
 * From `began` until nothing is left, in milliseconds. It looks rarely, because the workers run in this
 * process, too.
 */
async function untilNone(left: () => readonly string[], began: number): Promise<number> {
  const deadline = began + REVOKED_MS;
  while (left().length > 0) {
    if (performance.now() > deadline) throw new Error(`still there: ${left().join(' ')}`);
    await sleep(100);
  }
  return Math.round(performance.now() - began);
}

const median = (of: number[]) => Math.round(of.toSorted((a, b) => a - b)[of.length >> 1] ?? 0);

test('500 one by one: beyond the hourly limit they wait, and an admin releases them', async () => {
  const { portal } = leaving;
  // the requester may not release
  const promotion = { kind: 'maintainer.add', requestedBy: 'steward', tool: 'admin' };
  await portal.get({ ...promotion, person: 'alice' });
  // a week ago, so that each counts as another admin for the other
  await query(world, `UPDATE admin_additions SET at = at - interval '8 days'`);
  const ids = await Promise.all(
    names.map((person) =>
      portal.send(
        { kind: 'person.suspend', requestedBy: 'alice', person, reason: 'one by one' },
        { queue: 'requests.urgent' },
      ),
    ),
  );
  await eventually('500 verdicts', async () => {
    const [row] = await query(
      world,
      `SELECT count(*)::int AS count FROM requests WHERE jti = ANY ($1)`,
      [ids],
    );
    return row?.['count'] === PEOPLE;
  });
  expect(await statesOfMany()).toEqual({ active: PEOPLE - MOST, suspended: MOST });
  const { out } = await runCli(['requests', '--json'], { config: world.configFile });
  const { toApprove } = JSON.parse(out) as { toApprove: { request: string; account: string }[] };
  expect(toApprove).toHaveLength(PEOPLE - MOST);
  const [released] = toApprove;
  await leaving.askAsAdmin({ kind: 'request.approve', request: released?.request });
  const [row] = await query(world, 'SELECT state FROM people WHERE shell_name = $1', [
    released?.account,
  ]);
  expect(row).toEqual({ state: 'suspended' });
  expect(await statesOfMany()).toEqual({ active: PEOPLE - MOST - 1, suspended: MOST + 1 });
}, 60_000);

test('500 in one request: all access is revoked, and nothing else is slowed down', async () => {
  const { portal } = leaving;
  await settled(world);
  const running = await startProcesses();
  // the host hears of a suspension a moment after the directory
  await eventually('keys of these alone', () => keyFiles().length === running.length);
  // what is measured is a rate
  const before = await makingTools('before', () => sleep(EVERY_MS * 20));
  let tookMs = 0;
  const waiting: number[] = [];
  let [noKeyMs, noProcessMs] = [0, 0];
  const meanwhile = await makingTools('meanwhile', async () => {
    const began = performance.now();
    const wish = {
      kind: 'person.suspend',
      requestedBy: 'steward',
      people: names,
      reason: 'a raid',
    };
    const id = await portal.send(wish, { queue: 'requests.urgent' });
    const onHost = Promise.all([
      untilNone(keyFiles, began),
      untilNone(() => running.filter((path) => existsSync(path)), began),
    ]);
    onHost.catch(() => {}); // awaited below
    await eventually('the verdict', () => portal.told(id).length > 0);
    waiting.push(await countTouches());
    await portal.get({ kind: 'access.revoke', requestedBy: 'steward', person: 'carol' });
    waiting.push(await countTouches());
    await eventually(
      'all access to be revoked',
      () => portal.told(id).includes('request.done'),
      REVOKED_MS,
    );
    tookMs = Math.round(performance.now() - began);
    [noKeyMs, noProcessMs] = await onHost;
  });
  process.stdout.write(
    `500 suspended in ${tookMs} ms; a tool took ${median(before)} ms before (of ${before.length}), ` +
      `${median(meanwhile)} ms meanwhile (of ${meanwhile.length}); ` +
      `on the login host the last key was gone after ${noKeyMs} ms, the last process after ${noProcessMs} ms\n`,
  );
  await eventually('the state of the seals, on the login host', async () => {
    return difference(filesOf(login), await filesBySeals(login)) === undefined;
  });
  const closed = login.file(join(PLACES.login, 'closed')).split('\n');
  expect(closed.filter((name) => name.startsWith('many-'))).toEqual(names.toSorted());
  await untilSound(login);

  // a single suspension meanwhile has not waited for the many
  const [atFirst = 0, afterwards = 0] = waiting;
  expect(afterwards).toBeGreaterThan(atFirst / 2);
  expect(await statesOfMany()).toEqual({ suspended: PEOPLE });
  const { base } = world.config.ldap;
  const directory = await readDirectory(world, { operational: true });
  const open = names.filter((name) => {
    const entry = directory.get(`uid=${name},ou=people,${base}`);
    return entry?.['pwdAccountLockedTime'] === undefined;
  });
  expect(open).toEqual([]);
  const members = [...directory.values()].flatMap(({ member = [] }) => member);
  expect(members.filter((dn) => dn.startsWith('uid=many-'))).toEqual([]);
  for (const server of ['replica', 'tools'] as const) {
    const accounts = await readAccounts(world, server);
    expect(names.filter((_, n) => accounts.get(`u${first.person + n}`)?.locked !== true)).toEqual(
      [],
    );
    // the password that they could read lets nobody in
    const alive = [...old.values()].filter(({ user, password }) =>
      accounts.get(user)?.verifier.includes(verifierOf(password)),
    );
    expect(alive).toEqual([]);
  }
  // 90 s after the suspensions, the tools get a second new password: between its file and the servers, they differ
  await eventually('files and servers to have the same passwords', async () => {
    await settled(world);
    const servers = [await readAccounts(world, 'replica'), await readAccounts(world, 'tools')];
    const unlike = [...old.keys()].filter((n) => {
      const { user, password } = readCredentials(world, { tool: `many-${n}` });
      return servers.some((accounts) => accounts.get(user)?.verifier !== verifierOf(password));
    });
    if (unlike.length === 0) return true;
    throw new Error(`of other passwords: ${unlike.join(' ')}`);
  });
  const told = portal.heard.filter(({ event }) => event === 'person.suspended');
  expect(new Set(told.map(({ data }) => data['account'])).size).toBe(PEOPLE);
  expect(portal.disorder).toEqual([]);
}, 240_000);
