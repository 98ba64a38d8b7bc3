/** Freezing and thawing: with real servers, and the whole system under load. */
import { execFileSync } from 'node:child_process';
import { chmodSync, statSync } from 'node:fs';
import { afterAll, beforeAll, expect, test } from '@jest/globals';
import { Queue } from 'bullmq';
import { Redis } from 'ioredis';
import { parseMarker, type Marker } from '../../../src/seals/heartbeat.ts';
import { thaw } from '../../../src/database/freeze.ts';
import { openPool, withClient } from '../../../src/database/connection.ts';
import { runCli, type Ended } from '../../cli/run-cli.ts';
import { administer, asSuperuser } from '../../stack.ts';
import { eventually } from '../eventually.ts';
import { faultsOf, homeOf, query, readDirectory, readStillDirectory, settled } from '../outside.ts';
import { admit, openRunning, type Running } from '../running.ts';

let running: Running;

beforeAll(async () => {
  running = await openRunning('freeze', {
    adjust: (config) => ({
      ...config,
      portals: config.portals.map((portal) =>
        portal.name === 'portal' ? { ...portal, subjectEvents: true } : portal,
      ),
    }),
  });
  await admit(running.portal, 'alice');
  await settled(running.world);
});
afterAll(() => running.close());

const cli = (...args: string[]): Promise<Ended> =>
  runCli(args, { config: running.world.configFile });

const freeze = (...args: string[]): Promise<Ended> => cli('freeze', '--reason', 'a test', ...args);

/**
 * Everything that roles change, except the heartbeats and markers, which go on; and every verdict. One line
 * each.
 */
async function snapshot(): Promise<Set<string>> {
  const { world } = running;
  const directory = await readStillDirectory(world);
  const files = execFileSync('find', [
    world.dataRoot,
    // the areas' markers are written here
    ...['-name', '.chamberlain', '-prune', '-o', '-printf', '%p %m %U %G %s %T@ %C@\\n'],
  ]);
  const ranges = [...world.config.ids.people, ...world.config.ids.tools];
  const accounts = await Promise.all(
    (['replica', 'tools'] as const).map((server) =>
      administer(
        world[server].socket,
        // others use the servers, too
        `SELECT * FROM mysql.global_priv WHERE ${ranges
          .map(({ first, last }) => `substr(User, 2) BETWEEN ${first} AND ${last}`)
          .join(' OR ')} ORDER BY User, Host;`,
      ),
    ),
  );
  const rows = await query(world, 'SELECT id, verdict FROM requests ORDER BY id');
  const standing = await query(
    world,
    'SELECT subject, role, wanted, applied, state FROM convergence ORDER BY 1, 2',
  );
  return new Set([
    ...[...directory, ...rows, ...standing].map((each) => JSON.stringify(each)),
    ...[files.toString(), ...accounts].flatMap((text) => text.split('\n')),
  ]);
}

test('frozen under load, nothing changes any more; thawed, everything is done and nothing is lost', async () => {
  const { world, portal } = running;
  const names = Array.from({ length: 50 }, (_, index) => `load${index}`);
  const ids = await Promise.all(
    names.map((name) =>
      portal.send({ kind: 'tool.create', requestedBy: 'alice', name, title: 'A tool' }),
    ),
  );
  await eventually('some verdicts', () => ids.some((id) => portal.told(id).length > 0));
  const frozen = await cli('freeze', '--reason', 'a test', '--json');
  expect(frozen).toMatchObject({ exit: 0, err: '' });
  expect(JSON.parse(frozen.out)).toMatchObject({ already: false, acting: [], reason: 'a test' });
  const before = await snapshot();

  // requests that come now wait, too; even those that take access away
  const late = await portal.send(
    { kind: 'key.remove', requestedBy: 'alice', person: 'alice', fingerprint: 'SHA256:x' },
    { queue: 'requests.urgent' },
  );
  const { at } = await beat();
  const submitted = await cli(
    ...['submit', 'tool.create', '--portal', 'portal', '--portal-key', world.portalKey],
    ...['--requestedBy', 'alice', '--name', 'waits', '--title', 'x', '--wait', '--timeout', '1'],
  );
  expect(submitted.exit).toBe(5);
  expect(submitted.err).toMatch(
    /TIMEOUT: it waits: the realm is frozen \(since .*, by unix:.*\): a test\n/,
  );

  // the restarted workers do nothing
  await running.stopWork();
  await running.startWork();
  // the heartbeat goes on, and surveys are answered
  await eventually('a heartbeat', async () => (await beat()).at > at);
  const planned = await cli('plan', 'steward');
  expect(planned.exit).toBe(0);
  expect([...(await snapshot()).symmetricDifference(before)]).toEqual([]);
  expect(portal.told(late)).toEqual([]);

  const status = await cli('status');
  expect(status.exit).toBe(3);
  expect(status.out).toMatch(
    /^The realm is frozen \(since .*, by unix:.*\): a test\. `chamberlain thaw` ends the freeze\. After a restore from a backup, run `chamberlain recover` instead\.$/m,
  );

  expect(await cli('thaw')).toMatchObject({ exit: 0, err: '' });
  const thawed = performance.now();
  await eventually('a verdict', () => portal.told(late).includes('request.refused'));
  const tookMs = performance.now() - thawed;
  for (const id of ids) await portal.finish(id);
  await settled(world);
  expect({ faults: await faultsOf(world, [...names, 'waits']), disorder: portal.disorder }).toEqual(
    {
      faults: [],
      disorder: [],
    },
  );
  // half a second; the machine may be busy
  expect(tookMs).toBeLessThan(20_000);
  const acts = await query(
    world,
    `SELECT kind, verdict, requested_by LIKE 'unix:%' AS unix FROM audit
     WHERE kind IN ('freeze', 'thaw') ORDER BY id`,
  );
  expect(acts).toEqual([
    { kind: 'freeze', verdict: 'accepted', unix: true },
    { kind: 'thaw', verdict: 'accepted', unix: true },
  ]);
});

test.each([
  ['none', [], "required option '--reason <text>' not specified"],
  ['an empty one', ['--reason', ' '], '--reason is empty: say why'],
])('it requires a reason, and refuses %s', async (_, args, sentence) => {
  const { exit, out, err } = await cli('freeze', ...args);
  expect({ exit, out, err }).toEqual({
    exit: 2,
    out: '',
    err: `USAGE: ${sentence}. See --help.\n`,
  });
  expect((await cli('status')).out).not.toContain('frozen');
});

test('if it is frozen already, the new reason is recorded and audited, and the previous one is shown', async () => {
  const { world } = running;
  const acts = () =>
    query(
      world,
      `SELECT fields FROM audit WHERE kind = 'freeze' AND verdict = 'accepted' ORDER BY id`,
    );
  const before = await acts();
  await freeze();
  const [first] = await query(world, 'SELECT frozen_at FROM frozen');
  const again = await cli('freeze', '--reason', 'another');
  expect(again).toMatchObject({ exit: 0, err: '' });
  expect(again.out).toMatch(
    /^The realm is already frozen \(since .*, by unix:\S+\): another\.\nThe reason was: a test \(unix:\S+\)\.\n$/,
  );
  expect(await query(world, 'SELECT frozen_at, reason FROM frozen')).toEqual([
    { ...first, reason: 'another' },
  ]);
  expect((await acts()).slice(before.length)).toEqual([{ fields: [] }, { fields: ['reason'] }]);
  const json = JSON.parse((await cli('freeze', '--reason', 'a third', '--json')).out);
  expect(json).toMatchObject({ already: true, reason: 'a third', was: { reason: 'another' } });
  expect((await cli('thaw')).out).toContain(': a third.');
});

async function beat(): Promise<Marker> {
  const { base } = running.world.config.ldap;
  const entry = (await readDirectory(running.world)).get(`cn=chamberlain,${base}`);
  return parseMarker(entry?.['description']?.[0] ?? '') as Marker;
}

test('freezing and thawing twice is not an error, and is reported differently', async () => {
  expect(await freeze()).toMatchObject({ exit: 0, out: expect.stringContaining('Frozen: ') });
  const again = await freeze();
  expect(again).toMatchObject({ exit: 0, err: '' });
  expect(again.out).toMatch(/^The realm is already frozen \(since .*, by unix:\S+\): a test\.\n$/);
  expect((await cli('thaw')).out).toMatch(/^Thawed\. The realm was frozen \(since /);
  expect(await cli('thaw')).toMatchObject({ exit: 0, out: 'The realm was not frozen.\n' });
  expect(JSON.parse((await cli('thaw', '--json')).out)).toEqual({ thawed: false, was: null });
});

test('it waits for work in progress, and says who does it', async () => {
  const { postgres, config } = running.world;
  // like a role that works on a subject, as long as its connection lives
  await asSuperuser(postgres, config.postgres.database, async (client) => {
    await client.query('SELECT pg_advisory_lock(102, 4711)');
    const waiting = await freeze('--timeout', '1');
    expect(waiting.exit).toBe(5);
    expect(waiting.out).toContain('Still at work: homes (1 subject).');
  });
  expect(await freeze()).toMatchObject({ exit: 0 });
  // it also waits for a verdict in progress
  await asSuperuser(postgres, config.postgres.database, async (client) => {
    await client.query('BEGIN; SELECT FROM frozen FOR KEY SHARE');
    const waiting = await freeze('--timeout', '1');
    expect(waiting).toMatchObject({ exit: 5, out: expect.stringContaining('at work: intake.') });
  });
  expect(await freeze()).toMatchObject({ exit: 0 });
  expect(await cli('thaw')).toMatchObject({ exit: 0 });
});

test('drift meanwhile is noticed and left, even by a job that was in the queue; later it is repaired at once', async () => {
  const { world } = running;
  const home = homeOf(world, { tool: 'load0' });
  const [tool] = await query<{ uid: number }>(world, `SELECT uid FROM tools WHERE name = 'load0'`);
  const uid = tool?.uid ?? 0;
  expect(await freeze()).toMatchObject({ exit: 0 });
  chmodSync(home, 0o700);
  await query(world, `SELECT touch_generation($1, 'homes')`, [uid]);

  const connection = new Redis(world.config.redis.url, { maxRetriesPerRequest: null });
  const queue = new Queue('homes', { connection });
  try {
    await queue.add('converge', { subjects: [uid] }, { removeOnComplete: true });
    await eventually('the job to be taken', async () => {
      const { waiting, active } = await queue.getJobCounts('waiting', 'active');
      return waiting === 0 && active === 0;
    });
  } finally {
    await queue.close();
    connection.disconnect();
  }
  const survey = await cli('survey', 'load0', '--role', 'homes');
  expect(survey).toMatchObject({ exit: 3, out: expect.stringContaining('home-directory') });
  const repair = await cli('repair', 'load0', '--yes');
  expect(repair.exit).toBe(1);
  expect(repair.err).toMatch(/^FROZEN: frozen by unix:\S+: a test; nothing was done\. /);
  // the relay has looked several times by now
  const row = `SELECT state, applied < wanted AS behind, leased_until FROM convergence
               WHERE subject = $1 AND role = 'homes'`;
  expect(await query(world, row, [uid])).toEqual([
    { state: 'due', behind: true, leased_until: null },
  ]);
  expect(statSync(home).mode & 0o7777).toBe(0o700);

  const admin = openPool(world.config, 'admin', { max: 1, durable: true });
  try {
    const start = performance.now();
    await withClient(admin, (client) => thaw(client, 'unix:test'));
    await eventually('the home to be repaired', () => (statSync(home).mode & 0o7777) === 0o2775);
    // a poll comes every second; after a failure, the next attempts come later and later
    expect(performance.now() - start).toBeLessThan(10_000);
  } finally {
    await admin.end();
  }
  await settled(world);
});

test('the program’s own freeze is not thawed, even if it comes while an admin thaws', async () => {
  const { world } = running;
  const { postgres, config } = world;
  expect(await freeze()).toMatchObject({ exit: 0 });
  const admin = openPool(config, 'admin', { max: 1, durable: true });
  try {
    await asSuperuser(postgres, config.postgres.database, async (client) => {
      await client.query('BEGIN');
      await client.query(
        `SELECT freeze_older('it is an older copy', publishing_at) FROM directory_heartbeat`,
      );
      const thawing = withClient(admin, (each) => thaw(each, 'unix:test')).catch(
        (error: unknown) => error,
      );
      await eventually('the thaw to wait', async () => {
        const waits = await query(
          world,
          `SELECT FROM pg_stat_activity WHERE usename = 'chamberlain_admin' AND wait_event_type = 'Lock'
             AND datname = current_database()`,
        );
        return waits.length > 0;
      });
      await client.query('COMMIT');
      expect(await thawing).toMatchObject({ code: 'DATABASE_OLDER' });
    });
    const again = await cli('freeze', '--reason', 'another');
    expect(again.out).toMatch(/by the role directory\): .*\. Your reason is not recorded: /);
    const refused = await cli('thaw');
    expect(refused.exit).toBe(1);
    expect(refused.err).toMatch(/^DATABASE_OLDER: it is an older copy/);
    const frozen = 'SELECT frozen_by, reason FROM frozen';
    expect(await query(world, frozen)).toEqual([
      { frozen_by: 'the role directory', reason: 'it is an older copy' },
    ]);
  } finally {
    await admin.end();
    await query(world, 'UPDATE frozen SET frozen_at = NULL, frozen_by = NULL, reason = NULL');
  }
});
