/**
 * The drill of a recovery: each server, each pair of servers and all of them come back from backups that are 0,
 * 1 and 50 changes old, in one realm that lives through everything. What everybody may do is read from the
 * servers themselves, before the loss and afterwards: nobody has more.
 *
 * - 50 changes take long: only the backups of single servers, of all servers, and of PostgreSQL with any other
 *   server are that old.
 * - If PostgreSQL and the directory are equally old, they show nothing of what was taken away since. So the
 *   operator gives `recover` what the login host remembers, in a copy that was made before the loss. If that is
 *   lost, too, nothing shows it.
 * - A request that waits in the queue reinstates `alice`, who has one key and keeps it: nothing shows which
 *   keys a suspended person had.
 */
import { setTimeout as sleep } from 'node:timers/promises';
import { spawn } from 'node:child_process';
import { randomUUID } from 'node:crypto';
import { afterAll, beforeAll, expect, test } from '@jest/globals';
import { randomFrom } from '../processes/crash.ts';
import { eventually } from '../eventually.ts';
import { inOrder } from '../in-order.ts';
import { addLoginHost, type Login } from '../login/login.ts';
import { query, settled } from '../outside.ts';
import type { Wish } from '../portal.ts';
import { openRunning } from '../running.ts';
import { changesOf, type Changes, newPerson, newTool, PEOPLE, TOOLS } from './recovery-changes.ts';
import {
  accountOf,
  accountsOf,
  type Checker,
  type Look,
  openChecker,
  wrongEvents,
} from './recovery-checker.ts';
import { PLACES_TO_LOSE, realmOf, type Lost, type Realm } from './recovery-losses.ts';
import { PROGRAM } from '../../cli/run-cli.ts';

const KILLS = 30;

let login: Login;
let realm: Realm;
let checker: Checker;
let changes: Changes;
let overGranted = 0;
let databaseLosses = 0;
let probes = 0;
const unlessFailed = inOrder();

beforeAll(async () => {
  const seed = Number(process.env['CHAMBERLAIN_SEED'] ?? Date.now() % 1_000_000);
  process.stdout.write(`recovery: CHAMBERLAIN_SEED=${seed}\n`);
  const running = await openRunning('recovery drill', {
    adjust: (config) => ({
      ...config,
      credentials: { overlapSeconds: 0 },
      leaving: { mostSuspensionsPerHour: 100_000 },
      sweep: { everyMinutes: 43_200, mostShare: 1, atLeast: 10_000 },
    }),
  });
  login = await addLoginHost(running);
  realm = realmOf(login);
  checker = openChecker(login);
  changes = changesOf(login, randomFrom(seed));
  for (const name of PEOPLE) {
    await login.create(name);
    await login.admit(name);
  }
  await login.portal.get({
    ...{ kind: 'maintainer.add', requestedBy: 'steward', tool: 'admin', person: 'mallory' },
  });
  for (const name of TOOLS) await login.portal.get(newTool(name, 'bob', 'erin'));
  await realm.stopWork();
  await realm.startWork();
}, 180_000);

afterAll(async () => {
  process.stdout.write(`over_granted ${overGranted}\n`);
  await realm?.stopWork();
  await login?.close();
});

const PAIRS = PLACES_TO_LOSE.flatMap((one, n) =>
  PLACES_TO_LOSE.slice(n + 1).map((other): Lost[] => [one, other]),
);
const LOSSES: Lost[][] = [...PLACES_TO_LOSE.map((one): Lost[] => [one]), ...PAIRS, PLACES_TO_LOSE];
const ROUNDS = LOSSES.flatMap((lost) =>
  [0, 1, 50].flatMap((age) =>
    age === 50 && lost.length === 2 && !lost.includes('database')
      ? []
      : [
          {
            lost,
            of: lost.length === PLACES_TO_LOSE.length ? 'everything' : lost.join(' + '),
            age,
          },
        ],
  ),
);

test.each(ROUNDS)(
  'lost: $of, and the backup is $age changes old',
  ({ lost, of, age }) => unlessFailed(`${of}, ${age}`, () => round(lost, age)),
  600_000,
);

async function round(lost: readonly Lost[], age: number): Promise<void> {
  const { world, portal } = login;
  const has = (each: Lost) => lost.includes(each);
  await changes.reopen();
  await settled(world);
  if (age > 0 || has('database')) await changes.suspendUntil();
  await settled(world);
  await realm.nextBeat();
  await realm.stopWork();
  const restoreCopies = await realm.backUp(lost);
  await realm.startWork();
  const { people, tools, keys } = changes.made;
  for (const list of [people, tools, keys]) list.length = 0;
  await changes.make(age);
  await settled(world);
  // a state that came back within one heartbeat cannot be distinguished from the present one
  await realm.nextBeat();
  await realm.hostSettled();
  const before = await checker.lookBeforeLoss();
  const seals = realm.copySeals();

  // events that nobody has fetched, and requests that nobody has taken, are lost with Redis, or wait
  await portal.pause();
  await portal.send(steward('tool.update', { tool: 'one', title: `Title ${probes}` }));
  await settled(world);
  await realm.stopWork();
  const waiting = waitingRequests();
  for (const { wish, id } of waiting) await portal.send(wish, { id });
  await restoreCopies();
  if (has('database')) {
    databaseLosses += 1;
    await changes.letDatesPass();
    expect(await realm.cli('freeze', '--reason', 'a drill')).toMatchObject({ exit: 0 });
  }
  await realm.startWork();
  // as portals do if they have received no verdict
  if (has('redis')) for (const { wish, id } of waiting) await portal.send(wish, { id });
  await portal.resume();

  const list = await recoverFrom(lost, seals);
  await settled(world);
  for (const { id } of waiting) await verdictOn(id);
  await settled(world);
  if (has('mariadb') || has('homes')) await expectPlacesMended(before);
  await realm.hostSettled();
  const after = await checker.look();
  expectNoMore(before, after);
  const isNamed = (account: string) =>
    list.includes(`"${account}"`) || list.includes(` ${account} `);
  const notListed = checker
    .less(before, after)
    .filter((line) => !accountsOf(line).some((account) => isNamed(account)));
  expect({ notListed }).toEqual({ notListed: [] });
  // a second new password is made 90 s after a maintainer lost access in an earlier round, which may be now
  await eventually('files and servers to have the same passwords', async () => {
    await settled(world);
    const wrong = await checker.wrongCredentials(await checker.look(), tried());
    if (wrong.length === 0) return true;
    throw new Error(wrong.join('\n'));
  });
  await expectNewOnes(before, lost);
  await expectEvents();
}

const steward = (kind: string, fields: object): Wish => ({
  kind,
  requestedBy: 'steward',
  ...fields,
});

const tried = () => [...PEOPLE, ...TOOLS.map((name) => `tools.${name}`)];

/** What both portals' admins have requested before anybody knew of the loss. */
function waitingRequests(): { wish: Wish; id: string }[] {
  return [
    steward('person.reinstate', { person: 'alice' }),
    { kind: 'maintainer.add', requestedBy: 'mallory', tool: 'four', person: 'carol' },
  ].map((wish) => ({ wish, id: randomUUID() }));
}

async function verdictOn(id: string): Promise<void> {
  await eventually('a verdict', () =>
    login.portal.heard.some(
      ({ request, event }) => request === id && /^request\.(accepted|refused)$/.test(event),
    ),
  );
}

/** Does as the documents say; returns everything that an admin was shown. */
async function recoverFrom(lost: readonly Lost[], seals: string): Promise<string> {
  const has = (each: Lost) => lost.includes(each);
  const lists: unknown[] = [];
  if (has('database') && has('directory')) {
    lists.push(await realm.recover('--database', '--seals', seals));
  } else if (has('database')) lists.push(await realm.recover());
  const isOlder = () =>
    query<{ older: string | null }>(login.world, 'SELECT older FROM directory_heartbeat').then(
      ([row]) => row?.older === 'directory',
    );
  // if everything comes from backups of one moment, none is the older
  if (has('directory') && !has('database')) {
    await eventually('the doubt', isOlder);
    lists.push(await realm.recover());
  }
  return JSON.stringify(lists);
}

/** The roles take away what an older server gives; the sweep gives what it lacks. */
async function expectPlacesMended(before: Look): Promise<void> {
  await eventually('no place to be in doubt', async () => {
    const doubted = await query(login.world, 'SELECT FROM place_markers WHERE older IS NOT NULL');
    return doubted.length === 0;
  });
  await settled(login.world);
  await realm.hostSettled(); // it follows the directory, which was repaired a moment ago
  expectNoMore(before, await checker.look());
  const swept = await realm.cli('sweep', 'now');
  expect([swept.exit, swept.exit === 0 ? '' : swept.err + swept.out]).toEqual([0, '']);
  await settled(login.world);
}

function expectNoMore(before: Look, after: Look): void {
  const wasAdmin = before.access.has('mallory is in the directory a member of tools.admin');
  const isAskedFor = (line: string) =>
    (accountOf(line) === 'alice' && !line.endsWith(' by an old password')) ||
    (wasAdmin &&
      /^carol is \S+( the login host| the directory| seal) a member of tools\.four$/.test(line));
  const more = checker.more(before, after).filter((line) => !isAskedFor(line));
  overGranted += new Set(more.map(accountOf)).size;
  expect({ more }).toEqual({ more: [] });
  expect(checker.twice).toEqual([]);
}

/** Nobody new gets what somebody else has had, as far as anything that is left shows it. */
async function expectNewOnes(before: Look, lost: readonly Lost[]): Promise<void> {
  const { world, portal } = login;
  probes += 1;
  const name = `probe${probes}`;
  await Promise.all([portal.get(newPerson(name)), portal.get(newTool(name))]);
  const rows = await query<{ id: number }>(
    world,
    'SELECT subject AS id FROM names WHERE name = ANY ($1)',
    [[name, `tools.${name}`]],
  );
  expect(rows.filter(({ id }) => checker.isKnown(id))).toEqual([]);
  // only the login host knows of both: the keys of the people that it lets in
  const isLost = lost.includes('database') && lost.includes('directory');
  const shown = [...before.access].filter((line) => !isLost || line.includes(' by seal the key '));
  const keys = changes.made.keys.filter((key) => shown.some((line) => line.includes(key)));
  const given = await Promise.all(
    [
      ...changes.made.people.map((each) => newPerson(each)),
      ...changes.made.tools.map((each) => newTool(each)),
      ...keys.map((key) => ({ kind: 'key.add', requestedBy: name, person: name, key })),
    ].map(async (wish) => ((await portal.ask(wish)).verdict === 'accepted' ? [wish] : [])),
  );
  expect(given.flat()).toEqual([]);
}

async function expectEvents(): Promise<void> {
  await eventually('all events to be received', async () => {
    const [row] = await query<{ last: string }>(
      login.world,
      `SELECT coalesce(max(seq), 0) AS last, count(*) FILTER (WHERE seq IS NULL) AS left FROM events WHERE portal = 'portal'`,
    );
    return Number(row?.last) === login.portal.heard.at(-1)?.seq;
  });
  expect(await wrongEvents(login, databaseLosses)).toEqual([]);
}

test(`killed at ${KILLS} moments and run again, it takes everything or nothing`, async () => {
  const { world, portal } = login;
  await changes.reopen();
  await settled(world);
  await realm.nextBeat();
  await realm.stopWork();
  const restoreCopies = await realm.backUp(['database']);
  await realm.startWork();
  await portal.get({ kind: 'person.suspend', requestedBy: 'steward', person: 'bob', reason: 'x' });
  await settled(world);
  await realm.stopWork();
  await restoreCopies();
  await realm.startWork();
  const read = () =>
    query<{ frozen: boolean; state: string }>(
      world,
      `SELECT (SELECT frozen_at IS NOT NULL FROM frozen) AS frozen, state FROM people WHERE shell_name = 'bob'`,
    ).then(([row]) => row);
  await eventually('the freeze', async () => (await read())?.frozen);
  const { digest } = JSON.parse((await realm.cli('recover', '--json')).out) as {
    digest: string;
  };
  const begin = performance.now();
  await realm.cli('recover', '--json');
  const wholeMs = performance.now() - begin;
  for (let n = 0; n < KILLS && (await read())?.frozen === true; n += 1) {
    const child = spawn(process.execPath, [PROGRAM, 'recover', '--expect', digest], {
      env: { ...process.env, CHAMBERLAIN_CONFIG: world.configFile },
      stdio: 'ignore',
    });
    const ended = new Promise((resolve) => child.once('exit', resolve));
    await Promise.race([ended, sleep((wholeMs * (n + 1)) / KILLS, undefined, { ref: false })]);
    child.kill('SIGKILL');
    await ended;
    const now = await read();
    expect([
      { frozen: true, state: 'active' },
      { frozen: false, state: 'suspended' },
    ]).toContainEqual(now);
  }
  if ((await read())?.frozen === true) await realm.recover();
  expect(await read()).toEqual({ frozen: false, state: 'suspended' });
}, 600_000);
