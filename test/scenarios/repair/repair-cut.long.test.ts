/** A repair that is cut, doubled, lost or stopped in the middle: run again, it ends right. */
import { Queue } from 'bullmq';
import { Redis } from 'ioredis';
import { afterAll, beforeAll, describe, expect, test } from '@jest/globals';
import { runningPid, signalTree, startServer } from '../../stack.ts';
import { endOf, startCli } from '../../cli/run-cli.ts';
import { endProcess, startWorkers } from '../processes/crash.ts';
import { eventually } from '../eventually.ts';
import { query, settled } from '../outside.ts';
import {
  DAMAGE,
  damageOf,
  openRepairWorld,
  partEnded,
  type RepairWorld,
  ROLES,
  verifiersOf,
} from './repair-world.ts';

const TOOLS = [
  ...['first', 'doubled', 'lost', 'flushed', 'killed', 'stalled', 'left', 'signalled', 'restarted'],
  ...['frozen', 'owing', 'away'],
];

let repairs: RepairWorld;

beforeAll(async () => {
  repairs = await openRepairWorld('repair cut', TOOLS, { own: true });
});
afterAll(async () => repairs?.close(), 60_000);

/** A queue of a role, as whoever may write to Redis has it. */
async function withQueue<T>(role: string, act: (queue: Queue) => Promise<T>): Promise<T> {
  const redis = new Redis(repairs.world.config.redis.url);
  const queue = new Queue(role, { connection: redis });
  try {
    return await act(queue);
  } finally {
    await queue.close();
    redis.disconnect();
  }
}

/** Starts a repair of a tool whose part with that role cannot end before `release`. */
async function startHeld(tool: string, role: 'directory' | 'homes' | 'databases') {
  await DAMAGE.shell(repairs, 'first');
  const release = await repairs.hold(tool, role);
  const started = await repairs.startRepair('first', tool, '--yes');
  await partEnded(repairs, started, ['first', 'directory']);
  return { started, release };
}

describe('its jobs', () => {
  test('doubled, are done once', async () => {
    const { uids, world } = repairs;
    DAMAGE.credentials(repairs, 'doubled');
    const { started, release } = await startHeld('doubled', 'homes');
    const touched = async () => {
      const [row] = await query<{ wanted: string }>(
        world,
        `SELECT wanted FROM convergence WHERE subject = $1 AND role = 'databases'`,
        [uids['doubled']],
      );
      return Number(row?.wanted);
    };
    const before = await touched();
    await withQueue('homes', async (queue) => {
      await release();
      for (let n = 0; n < 20; n += 1) {
        await queue.add('repair', { subjects: [uids['doubled']] });
      }
    });
    expect(await started.ended).toMatchObject({ exit: 0, err: '' });
    expect(await damageOf(repairs, 'doubled')).toEqual([]);
    // each new password would touch it
    expect(await touched()).toBe(before + 1);
  });

  test('lost, are added again', async () => {
    DAMAGE.mode(repairs, 'lost');
    const { started, release } = await startHeld('lost', 'homes');
    await withQueue('homes', (queue) => queue.obliterate({ force: true }));
    await release();
    expect(await started.ended).toMatchObject({ exit: 0, err: '' });
    expect(await damageOf(repairs, 'lost')).toEqual([]);
  });

  test('flushed with all that Redis holds, are added again', async () => {
    DAMAGE.credentials(repairs, 'flushed');
    const { started, release } = await startHeld('flushed', 'homes');
    const redis = new Redis(repairs.world.config.redis.url);
    await redis.flushall();
    redis.disconnect();
    await release();
    expect(await started.ended).toMatchObject({ exit: 0, err: '' });
    expect(await damageOf(repairs, 'flushed')).toEqual([]);
  });
});

describe('killed in the middle', () => {
  test('the worker: another goes on', async () => {
    const { world } = repairs;
    await repairs.stopWork();
    await repairs.startWork(ROLES.filter((role) => role !== 'homes'));
    let worker = await startWorkers(world, ['homes']);
    try {
      DAMAGE.mode(repairs, 'killed');
      DAMAGE.credentials(repairs, 'killed');
      const { started, release } = await startHeld('killed', 'homes');
      await endProcess(worker.child, 'SIGKILL');
      await release();
      worker = await startWorkers(world, ['homes']);
      expect(await started.ended).toMatchObject({ exit: 0, err: '' });
      expect(await damageOf(repairs, 'killed')).toEqual([]);
    } finally {
      await endProcess(worker.child, 'SIGTERM');
      await repairs.stopWork();
      await repairs.startWork(ROLES);
    }
  });

  test('the worker, with its writer at work: another goes on', async () => {
    const { world, uids } = repairs;
    await repairs.stopWork();
    await repairs.startWork(ROLES.filter((role) => role !== 'directory'));
    let worker = await startWorkers(world, ['directory']);
    const slapd = runningPid(world.slapd) ?? 0;
    try {
      await DAMAGE.shell(repairs, 'stalled');
      await DAMAGE.rule(repairs, 'stalled');
      const release = await repairs.hold('stalled', 'directory');
      const started = await repairs.startRepair('stalled', '--yes');
      signalTree(slapd, 'SIGSTOP');
      await release();
      await eventually('its lock', async () => {
        const locks = await query(
          world,
          `SELECT FROM pg_locks WHERE locktype = 'advisory' AND objid = $1 AND granted`,
          [uids['stalled']],
        );
        return locks.length > 0;
      });
      await endProcess(worker.child, 'SIGKILL');
      signalTree(slapd, 'SIGCONT');
      worker = await startWorkers(world, ['directory']);
      expect(await started.ended).toMatchObject({ exit: 0, err: '' });
      expect(await damageOf(repairs, 'stalled')).toEqual([]);
    } finally {
      signalTree(slapd, 'SIGCONT');
      await endProcess(worker.child, 'SIGTERM');
      await repairs.stopWork();
      await repairs.startWork(ROLES);
    }
  });

  test('the command: what it asked for is done nevertheless or is done by the next', async () => {
    DAMAGE.mode(repairs, 'left');
    await DAMAGE.shell(repairs, 'first');
    const release = await repairs.hold('left', 'homes');
    const started = await repairs.startRepairApart('first', 'left', '--yes');
    await partEnded(repairs, started, ['first', 'directory']);
    started.child.kill('SIGKILL');
    await expect(started.ended).rejects.toThrow();
    await release();
    expect(await repairs.repair('left', '--yes')).toMatchObject({ exit: 0, err: '' });
    expect(await damageOf(repairs, 'left')).toEqual([]);
    expect((await repairs.plan('left')).exit).toBe(0);
  });

  test.each(['SIGINT', 'SIGTERM'] as const)('the command, by %s: it says so', async (signal) => {
    DAMAGE.mode(repairs, 'signalled');
    const release = await repairs.hold('signalled', 'homes');
    const redis = new Redis(repairs.world.config.redis.url);
    const jobs = async () => Number(await redis.get('bull:homes:id'));
    const before = await jobs();
    const child = startCli(['repair', 'signalled', '--yes'], { config: repairs.world.configFile });
    const ended = endOf(child);
    // the first is its survey; by the second it is recorded, and it heeds signals
    await eventually('its jobs', async () => (await jobs()) >= before + 2);
    redis.disconnect();
    child.kill(signal);
    const { exit, err } = await ended;
    await release();
    expect(err).toMatch(
      /^interrupted: after ten seconds, the roles begin no more steps of repair [0-9a-f-]{36}\. .*Run the command again for the rest\.$/mu,
    );
    expect(exit).toBe(1);
    expect((await repairs.repair('signalled', '--yes')).exit).toBe(0);
    expect(await damageOf(repairs, 'signalled')).toEqual([]);
  });
});

test('PostgreSQL killed and started again in the middle: it goes on', async () => {
  const { world } = repairs;
  DAMAGE.credentials(repairs, 'restarted');
  const { started } = await startHeld('restarted', 'homes');
  signalTree(runningPid(world.postgres) ?? 0, 'SIGKILL');
  await eventually('its end', () => runningPid(world.postgres) === undefined);
  await startServer(world.postgres);
  expect(await started.ended).toMatchObject({ exit: 0, err: '' });
  expect(await damageOf(repairs, 'restarted')).toEqual([]);
});

describe('frozen', () => {
  const thaw = () => repairs.cli('thaw');

  test('in the middle: it ends, what is left is not done, and is once thawed', async () => {
    DAMAGE.mode(repairs, 'frozen');
    const { started, release } = await startHeld('frozen', 'homes');
    const freezing = repairs.cli('freeze', '--reason', 'a test');
    const { exit, err, parts } = await started.ended;
    await release(); // freezing waits for whoever holds a subject
    expect((await freezing).exit).toBe(0);
    expect(exit).toBe(1);
    expect(err).toMatch(/^FROZEN: not done for tools\.frozen\. /u);
    expect(parts.map(({ account, state, code }) => [account, state, code])).toEqual([
      ['tools.first', 'done', undefined],
      ['tools.frozen', 'unanswered', 'FROZEN'],
    ]);
    expect(await damageOf(repairs, 'frozen')).toEqual(['mode']);
    // a job that comes then does nothing
    const { uids } = repairs;
    await withQueue('homes', async (queue) => {
      await queue.add(
        'repair',
        { subjects: [uids['frozen']] },
        { removeOnComplete: true, removeOnFail: true },
      );
      await eventually('it to be taken', async () => {
        const counts = await queue.getJobCounts('wait', 'active', 'prioritized');
        return Object.values(counts).every((count) => count === 0);
      });
    });
    expect(await damageOf(repairs, 'frozen')).toEqual(['mode']);
    // and nothing is asked for
    const before = await query(repairs.world, 'SELECT FROM repairs');
    const refused = await repairs.cli('repair', 'frozen', '--yes');
    expect(refused).toMatchObject({ exit: 1, out: '' });
    expect(refused.err).toMatch(/^FROZEN: frozen by unix:.*: a test; nothing was done\. /u);
    expect(await query(repairs.world, 'SELECT FROM repairs')).toEqual(before);
    await thaw();
    // what was said not to be done is not done later either
    expect(
      await query(
        repairs.world,
        `SELECT p.state, r.waited_until <= now() AS over FROM repair_parts p JOIN repairs r ON r.id = p.repair
         WHERE r.id = $1 AND p.subject = $2`,
        [started.id, uids['frozen']],
      ),
    ).toEqual([{ state: 'asked', over: true }]);
    expect(await damageOf(repairs, 'frozen')).toEqual(['mode']);
    expect((await repairs.repair('frozen', '--yes')).exit).toBe(0);
    expect(await damageOf(repairs, 'frozen')).toEqual([]);
  });

  test('while a new verifier is on its way: it ends, and that is owed', async () => {
    DAMAGE.credentials(repairs, 'frozen');
    const release = await repairs.hold('frozen', 'databases');
    const started = await repairs.startRepair('frozen', '--yes');
    await partEnded(repairs, started, ['frozen', 'homes']);
    const freezing = repairs.cli('freeze', '--reason', 'a test');
    const { exit, err, owed } = await started.ended;
    await release();
    expect((await freezing).exit).toBe(0);
    expect({ exit, owed }).toMatchObject({ exit: 1, owed: [{ code: 'FROZEN' }] });
    expect(err).toMatch(
      /^FROZEN: the new verifier is not yet on every server for tools\.frozen\. /u,
    );
    await thaw();
    await settled(repairs.world);
    expect(await damageOf(repairs, 'frozen')).toEqual([]);
  });
});

test('a database server that is down is owed its new verifier, and has it soon after its return', async () => {
  const { world } = repairs;
  DAMAGE.credentials(repairs, 'owing');
  const [, old] = await verifiersOf(repairs, 'owing');
  signalTree(runningPid(world.tools) ?? 0, 'SIGKILL');
  let ended;
  try {
    ended = await repairs.cli('repair', 'owing', '--yes', '--timeout', '10');
  } finally {
    await startServer(world.tools);
  }
  expect(ended.exit).toBe(1);
  expect(ended.err).toMatch(
    /the new verifier is not yet on every server for tools\.owing\. Check that the server runs /u,
  );
  expect(ended.out).toMatch(/tools\.owing +databases +behind +BACKEND_UN\w+ +database-account: /u);
  await settled(world);
  expect(await damageOf(repairs, 'owing')).toEqual([]);
  const [replica, tools] = await verifiersOf(repairs, 'owing');
  expect(replica).toBe(tools);
  expect(tools).not.toBe(old);
});

test('where every server is away, one of them since the plan was read, nothing is called done', async () => {
  const { world } = repairs;
  await DAMAGE.limit(repairs, 'away');
  signalTree(runningPid(world.replica) ?? 0, 'SIGKILL');
  try {
    const release = await repairs.hold('away', 'databases');
    const started = await repairs.startRepair('away', '--yes');
    signalTree(runningPid(world.tools) ?? 0, 'SIGKILL');
    await release();
    expect(await started.ended).toMatchObject({
      exit: 1,
      parts: [{ role: 'databases', state: 'failed', code: 'BACKEND_UNREADABLE' }],
    });
  } finally {
    await startServer(world.replica);
    await startServer(world.tools);
  }
  expect(await damageOf(repairs, 'away')).toEqual(['limit']);
  expect((await repairs.repair('away', '--yes')).exit).toBe(0);
  expect(await damageOf(repairs, 'away')).toEqual([]);
});

test('in the end nothing is to be done', async () => {
  const plan = await repairs.plan('--all');
  expect(plan).toMatchObject({ exit: 0, steps: [], findings: [], waiting: [], unreadable: [] });
});
