/**
 * Two processes on one realm: the leading one is killed, hangs, wakes up again, or vanishes from the network,
 * and the other goes on.
 */
import { spawn } from 'node:child_process';
import { join } from 'node:path';
import { afterAll, afterEach, beforeAll, describe, expect, test } from '@jest/globals';
import pg from 'pg';
import {
  type FarMachine,
  openFarMachine,
  serveFarMachine,
} from '../../../dev/servers/far-machine.ts';
import { rotate, rotationOf } from '../../../src/secrets/rotating.ts';
import { readSecret } from '../../../src/shared/config.ts';
import { lookAtWaiting, lookAtWork } from '../../../src/doctor/work.ts';
import { connectionSettings } from '../../../src/database/connection.ts';
import { runCli } from '../../cli/run-cli.ts';
import { type World } from '../../stack.ts';
import { endProcess, startWorkers } from './crash.ts';
import { eventually } from '../eventually.ts';
import { tool } from './outage.ts';
import { query } from '../outside.ts';
import type { Portal } from '../portal.ts';
import { admit, openRunning, type Running } from '../running.ts';

const LEADING = ['intake', 'relay', 'sweep'];

/** `status` names a leader that hangs, and a request that waits, 15 s later; each look takes some time. */
const UNTIL_NAMED_MS = 120_000;

let running: Running;
let world: World;
let portal: Portal;
let workers: Awaited<ReturnType<typeof startWorkers>>[] = [];

beforeAll(async () => {
  running = await openRunning('leader lost', { own: true });
  ({ world, portal } = running);
  await admit(portal, 'alice');
  await running.stopWork();
  await running.startWork(['directory', 'homes', 'databases']);
});
afterEach(async () => {
  await Promise.all(workers.map(({ child }) => endProcess(child, 'SIGKILL')));
  workers = [];
});
afterAll(async () => {
  await running?.close();
});

type Worker = (typeof workers)[number];

/** Starts one that leads. */
async function startLeader(at: Parameters<typeof startWorkers>[0] = world): Promise<Worker> {
  const worker = await startWorkers(at, LEADING);
  workers.push(worker);
  await eventually('it to lead', async () => (await leaders()).length === LEADING.length);
  return worker;
}

/** Starts one next to the leading one. */
async function startOther(): Promise<Worker> {
  const worker = await startWorkers(world, LEADING);
  workers.push(worker);
  return worker;
}

/** The numbers of the leases whose leaders' sessions are alive. */
function leaders(): Promise<{ work: string; epoch: string }[]> {
  return query(
    world,
    `SELECT l.name AS work, l.epoch FROM leases l JOIN pg_stat_activity a USING (pid)
     WHERE a.usename = 'chamberlain_' || l.name AND a.datname = current_database()
       AND l.name = ANY ($1) ORDER BY 1`,
    [LEADING],
  );
}

/** Until a request sent now has its verdict, for a minute at most. */
async function untilVerdict(name: string): Promise<void> {
  expect(await portal.ask(tool(name))).toMatchObject({ verdict: 'accepted' });
}

test('a leader that is killed is replaced at once, not when its lease expires', async () => {
  await query(world, `UPDATE leases SET lasts = '5 min' WHERE name = ANY ($1)`, [LEADING]);
  const first = await startLeader();
  await startOther();
  await untilVerdict('killed-before');
  first.child.kill('SIGKILL');
  await untilVerdict('killed-after'); // it does not take that long
  await query(world, `UPDATE leases SET lasts = '10 s' WHERE name = ANY ($1)`, [LEADING]);
});

test('a leader that hangs is replaced when its lease has expired, and changes nothing when it wakes up', async () => {
  const first = await startLeader();
  const other = await startOther();
  const before = new Map((await leaders()).map(({ work, epoch }) => [work, epoch]));
  const ids = await Promise.all(
    Array.from({ length: 40 }, (_, n) => portal.send(tool(`hung-${n}`))),
  );
  await eventually('the first verdict', () =>
    ids.some((id) => portal.told(id).includes('request.accepted')),
  );
  first.child.kill('SIGSTOP');
  await untilVerdict('hung-after');
  for (const id of ids) await portal.finish(id);
  const led = await eventually('the other to lead everything', async () => {
    const now = await leaders();
    const areNew = now.every(({ work, epoch }) => epoch !== before.get(work));
    return areNew && now.length === LEADING.length && now;
  });
  first.child.kill('SIGCONT');
  await eventually('it to find out', () => {
    const given = ['intake', 'relay', 'sweep'].filter((role) =>
      new RegExp(`"role":"${role}".*"gave up the lease"`, 'u').test(first.log.join('')),
    );
    expect([given, first.log.slice(-20)]).toEqual([
      ['intake', 'relay', 'sweep'],
      expect.anything(),
    ]);
    return true;
  });
  await untilVerdict('woken');
  expect(await leaders()).toEqual(led);
  expect(other.log.join('')).not.toContain('"gave up the lease"');
  for (const id of ids) {
    expect(portal.told(id)).toEqual(['request.accepted', 'tool.ready', 'request.done']);
  }
  expect(portal.disorder).toEqual([]);
  const verify = await runCli(['audit', 'verify'], { config: world.configFile });
  expect(verify).toMatchObject({ exit: 0 });
}, 180_000);

test('status and doctor name a leader that hangs, and the request that waits for it', async () => {
  const { child } = await startLeader();
  // during its start it might hang within a transaction, which PostgreSQL ends, together with the session
  await eventually('it to be at rest', async () => {
    const [row] = await query<{ count: number }>(
      world,
      'SELECT count(*)::int FROM leases WHERE renewed_at > since AND name = ANY ($1)',
      [LEADING],
    );
    return row?.count === LEADING.length;
  });
  child.kill('SIGSTOP');
  const late = await portal.send(tool('late'));
  const page = await eventually(
    'status to say so',
    async () => {
      const { exit, out } = await runCli(['status'], { config: world.configFile });
      expect(exit === 3 && out.includes('No verdicts') ? '' : out).toBe(''); // its output is then in the failure
      return out;
    },
    UNTIL_NAMED_MS,
  );
  expect(page).toMatch(
    /^No verdicts: a request of the portal portal has waited since \S+ \S+Z; intake \(PostgreSQL process \d+, since \S+ \S+Z\) made its last progress at \S+ \S+Z\. Look at the log of `chamberlain work intake`\.$/m,
  );
  expect(page).toMatch(
    /^Hangs: the leader of intake \(.*\) has made no progress since \S+ \S+Z; the leader of relay .* See their logs\. .* `chamberlain work intake relay sweep`, which takes over\.$/m,
  );
  expect(page).not.toMatch(/^(intake|relay|sweep) /m);
  const admin = new pg.Client(connectionSettings(world.config, 'admin'));
  await admin.connect();
  try {
    const now = new Date();
    const lines = [
      ...(await lookAtWork(admin, world.config, now)),
      ...(await lookAtWaiting(admin, world.config, now)),
    ].filter(({ state }) => state === 'fix');
    expect(lines.map(({ what }) => what)).toEqual(
      expect.arrayContaining([
        expect.stringMatching(/^the leader of intake .* has made no progress since /),
        expect.stringMatching(/^no verdicts: a request of the portal portal has waited since /),
      ]),
    );
  } finally {
    await admin.end();
  }
  child.kill('SIGCONT');
  await portal.hear('request.accepted', late);
}, 240_000);

describe('a machine that vanishes from the network', () => {
  let far: FarMachine;
  let at: { configFile: string; prefix: readonly string[] };

  beforeAll(async () => {
    await running.stopWork();
    far = await openFarMachine();
    const configFile = join(world.dir, 'far.yaml');
    const folder = join(world.dir, 'certificates');
    await serveFarMachine(world, far, { folder, from: world.configFile, to: configFile });
    at = { configFile, prefix: far.prefix };
    await running.startWork(['directory', 'homes', 'databases']);
  });
  afterAll(() => far?.close());

  test('releases its locks, and another leads, within a minute, with a notification on its way there', async () => {
    await startLeader(at);
    await startOther();
    await untilVerdict('vanish-before');
    const { options, user, database } = connectionSettings(world.config, 'directory');
    const password = readSecret(world.config, 'postgres', 'directory');
    const [psql, ...words] = [...far.prefix, 'psql', '-h', far.here, '-U', `${user}`];
    const locker = spawn(psql, [...words, `${database}`], {
      stdio: ['pipe', 'pipe', 'inherit'],
      env: { ...process.env, PGPASSWORD: password, PGOPTIONS: `${options}` },
    });
    let said = '';
    locker.stdout.on('data', (text: Buffer) => (said += text.toString()));
    locker.stdin.write(`LISTEN chamberlain;\nSELECT lock_subjects('{4711}');\n`);
    const here = new pg.Client(connectionSettings(world.config, 'directory'));
    await here.connect();
    try {
      await eventually('the lock to be taken', () => said.includes('4711'));
      const rotation = rotationOf(world.config, 'postgres-directory');
      await expect(rotate(world.config, rotation, () => {})).rejects.toThrow(
        /^chamberlain_directory is also logged in from [0-9.]+, and /u,
      );
      await far.vanish();
      await query(world, `NOTIFY chamberlain, 'due'`);
      // TCP alone would try for a quarter of an hour
      await untilVerdict('vanish-after');
      await eventually('the lock to be free', async () => {
        const { rowCount } = await here.query(`SELECT lock_subjects('{4711}')`);
        return rowCount === 1;
      });
    } finally {
      locker.kill('SIGKILL');
      await here.end();
    }
  }, 180_000);
});
