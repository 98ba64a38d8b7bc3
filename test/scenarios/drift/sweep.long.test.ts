/** The sweep, with real servers: what it touches, what it leaves, when it holds, and that it is one. */
import { fixedConfig } from '../../../src/configuration/config-in-use.ts';
import { execFile } from 'node:child_process';
import {
  chmodSync,
  chownSync,
  cpSync,
  lstatSync,
  readFileSync,
  rmSync,
  writeFileSync,
} from 'node:fs';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { afterAll, afterEach, beforeAll, describe, expect, test } from '@jest/globals';
import { loadConfig } from '../../../src/shared/config.ts';
import { describeError } from '../../../src/shared/errors.ts';
import { openLog } from '../../../src/shared/log.ts';
import type { Sweep } from '../../../src/drift/sweeps-table.ts';
import type { Worker } from '../../../src/shared/loop.ts';
import { startSweep } from '../../../workers/sweep.ts';
import { type Ended, endOf, runCli } from '../../cli/run-cli.ts';
import { runningPid, signalTree, startServer, stopServer } from '../../stack.ts';
import { endProcess, startWorkers } from '../processes/crash.ts';
import { eventually } from '../eventually.ts';
import {
  changeDirectory,
  faultsOf,
  homeOf,
  markDeleted,
  query,
  readDirectory,
  settled,
} from '../outside.ts';
import { admit, openRunning, type Running } from '../running.ts';

const TOOLS = Array.from({ length: 9 }, (_, index) => `t${index}`);
const ALL_BUT_SWEEP = ['intake', 'relay', 'directory', 'homes', 'databases'];
const BASE = 'dc=example,dc=org';

let running: Running;
let sweep: Worker | undefined;
const log: string[] = [];

beforeAll(async () => {
  running = await openRunning('sweep', {
    adjust: (config) => ({
      ...config,
      sweep: { everyMinutes: 43_200, mostShare: 0.1, atLeast: 2 },
    }),
  });
  await admit(running.portal, 'alice');
  await Promise.all(
    TOOLS.map((name) =>
      running.portal.get({ kind: 'tool.create', requestedBy: 'alice', name, title: 'A tool' }),
    ),
  );
  await running.stopWork();
  await running.startWork(ALL_BUT_SWEEP);
  beginSweeping();
});

afterAll(async () => {
  await sweep?.close();
  await running?.close();
});

/** With less patience than for real. */
function beginSweeping(): void {
  const { config } = running.world;
  const written = openLog('trace', { write: (line) => void log.push(line) });
  sweep = startSweep(fixedConfig(config), written, { askAgainMs: 500, silentMs: 8000 });
}

const cli = (...args: string[]): Promise<Ended> =>
  runCli(args, { config: running.world.configFile });

/** What was touched within the last second counts as in motion: makes it longer ago. */
async function atRest(): Promise<void> {
  await query(
    running.world,
    `UPDATE convergence SET since = since - interval '1 hour' WHERE since > now() - interval '5 s'`,
  );
}

/** Asks for a sweep as `sweep now` and `sweep release` do, and returns it when it has ended. */
async function sweepNow(digest: string | null = null): Promise<Sweep> {
  const { world } = running;
  await atRest();
  const [asked] = await query<{ id: string }>(
    world,
    `INSERT INTO sweep_releases (digest, by) VALUES ($1, 'a test') RETURNING id`,
    [digest],
  );
  return endOfSweep(asked?.id);
}

async function endOfSweep(asked: string | undefined): Promise<Sweep> {
  return eventually('the end of a sweep', async () => {
    const rows = await query<Sweep>(
      running.world,
      'SELECT s.* FROM sweeps s JOIN sweep_releases r ON r.sweep = s.id WHERE r.id = $1',
      [asked],
    );
    return rows[0];
  });
}

/** What `sweep now` or `sweep release` says. */
async function sweepByCli(...args: string[]): Promise<Sweep & { exit: number | null }> {
  await atRest();
  const { exit, out, err } = await cli('sweep', ...args, '--json');
  if (out === '') throw new Error(err);
  return { ...(JSON.parse(out) as Sweep), exit };
}

async function planAll(): Promise<{ steps: { effect: string }[]; digest: string }> {
  return JSON.parse((await cli('plan', '--all', '--json')).out) as {
    steps: { effect: string }[];
    digest: string;
  };
}

const home = (name: string) => homeOf(running.world, { tool: name });
const modeOf = (name: string) => lstatSync(home(name)).mode & 0o7777;
const spoil = (...names: string[]) => {
  for (const name of names) chmodSync(home(name), 0o777);
};

async function uidOf(name: string): Promise<number> {
  const rows = await query<{ uid: number }>(
    running.world,
    'SELECT uid FROM tools WHERE name = $1',
    [name],
  );
  return rows[0]?.uid ?? 0;
}

/** What is wanted by which generation. */
async function generations(): Promise<unknown> {
  return query(running.world, 'SELECT subject, role, wanted FROM convergence ORDER BY 1, 2');
}

/** The directory but for the marker, whose beat goes on. */
async function entries(): Promise<unknown> {
  const directory = await readDirectory(running.world);
  directory.delete(`cn=chamberlain,${BASE}`);
  return [...directory].toSorted(([one], [other]) => (one < other ? -1 : 1));
}

async function driftsOf(name: string): Promise<{ what: string; since: Date }[]> {
  return query(running.world, 'SELECT what, since FROM drifts WHERE subject = $1 ORDER BY what', [
    await uidOf(name),
  ]);
}

/** Every test leaves all as wanted. */
async function expectAllWell(): Promise<void> {
  await settled(running.world);
  expect(await faultsOf(running.world, TOOLS)).toEqual([]);
  // a directory that was away is believed again after a beat of its marker
  await eventually('no doubt', async () => (await sweepNow()).state !== 'unreadable');
  expect(await sweepNow()).toMatchObject({ state: 'clean', touched: 0, digest: null });
  expect(await query(running.world, 'SELECT * FROM drifts')).toEqual([]);
}

afterEach(async () => {
  const rows = await query<{ sweeps: unknown }>(
    running.world,
    `SELECT array_agg(s.began_at) AS sweeps FROM sweeps s
     WHERE EXISTS (SELECT FROM sweeps o WHERE o.id <> s.id AND o.began_at >= s.began_at
                     AND (s.ended_at IS NULL OR o.began_at < s.ended_at))`,
  );
  expect(rows).toEqual([{ sweeps: null }]); // never two at once
});

/** Puts an access rule before all others, as root on the directory's machine. */
async function restrict(rule: string): Promise<void> {
  await changeRules(`add: olcAccess\nolcAccess: ${rule}\n`);
}
/** Takes the first access rule away. */
async function unrestrict(): Promise<void> {
  await changeRules('delete: olcAccess\nolcAccess: {0}\n');
}
async function changeRules(change: string): Promise<void> {
  const { uri } = running.world.slapd;
  const child = execFile('ldapmodify', ['-Q', '-Y', 'EXTERNAL', '-H', uri]);
  const ldif = `dn: olcDatabase={1}mdb,cn=config\nchangetype: modify\n${change}`;
  expect(await endOf(child, ldif)).toMatchObject({ exit: 0 });
}

test('what was changed by hand is touched, and the roles mend it; what is as wanted is left', async () => {
  spoil('t0');
  await changeDirectory(
    running.world,
    'ldapmodify',
    `dn: cn=runas-tools.t1,ou=sudoers,cn=tools,ou=projects,${BASE}\nchangetype: delete\n`,
  );
  const before = await query(running.world, 'SELECT subject, role FROM convergence ORDER BY 1, 2');
  const { digest } = await planAll();

  const swept = await sweepByCli('now');
  expect(swept).toMatchObject({
    ...{ state: 'touched', exit: 0, drifted: 2, touched: 2, unreadable: 0, left: [], digest },
    ...{ subjects: TOOLS.length + 3, sentence: null },
  });
  expect(modeOf('t0')).toBe(0o2775);
  expect(await faultsOf(running.world, TOOLS)).toEqual([]);
  const touched = await query<{ subject: number; role: string }>(
    running.world,
    'SELECT subject, role FROM convergence WHERE since >= $1 ORDER BY role',
    [swept.beganAt],
  );
  expect(touched).toEqual([
    { subject: await uidOf('t1'), role: 'directory' },
    { subject: await uidOf('t0'), role: 'homes' },
  ]);
  expect(await query(running.world, 'SELECT subject, role FROM convergence ORDER BY 1, 2')).toEqual(
    before,
  );
  expect((await driftsOf('t0')).map(({ what }) => what)).toEqual(['mode 0777 → 2775']);
  await expectAllWell();
});

test('more than the share is held: nothing is touched until the very digest is released', async () => {
  const { world, portal } = running;
  const held = () => portal.heard.filter(({ event }) => event === 'sweep.held');
  spoil('t0', 't1', 't2');
  const wanted = await generations();
  const { digest } = await planAll();

  const first = await sweepByCli('now');
  expect(first).toMatchObject({
    ...{ state: 'held', exit: 3, drifted: 3, touched: 0, steps: 3, digest },
    sentence: expect.stringContaining(`chamberlain sweep release --expect ${digest}`),
  });
  expect(await generations()).toEqual(wanted);
  expect(['t0', 't1', 't2'].map(modeOf)).toEqual([0o777, 0o777, 0o777]);

  const { seq, id, at, ...event } = await portal.hear('sweep.held');
  expect(event).toEqual({
    event: 'sweep.held',
    data: { sweep: first.id, subjects: TOOLS.length + 3, drifted: 3, steps: 3, digest },
  });
  const other = portal.heard[0];
  expect([typeof seq, id.length, Number.isNaN(Date.parse(at))]).toEqual([
    ...[typeof other?.seq, other?.id.length, false],
  ]);
  // it is told once, however often it is found again
  expect(await sweepNow()).toMatchObject({ state: 'held', digest });
  await portal.get({ kind: 'tool.update', requestedBy: 'alice', tool: 't8', title: 'Another' });
  expect(held()).toHaveLength(1);

  const status = await cli('status');
  expect(status).toMatchObject({
    exit: 3,
    out: expect.stringContaining('The sweep is held: 3 of '),
  });
  // on a busy machine it may find that a server does not answer in its two seconds
  const doctor = await eventually('doctor to see the work', async () => {
    const { out } = await cli('doctor');
    return out.includes('no answer within') ? undefined : out;
  });
  expect(doctor).toContain('the sweep is held: 3 of ');
  expect(doctor).toContain(`chamberlain sweep release --expect ${digest}`);
  const shown = await cli('sweep');
  expect(shown.exit).toBe(3);
  expect(shown.out).toMatch(
    /^Held: 3 of 12 subjects have drifted, but a sweep may correct only 2 without a release/m,
  );

  const wrong = await cli('sweep', 'release', '--expect', 'f'.repeat(64));
  expect(wrong).toMatchObject({ exit: 1, out: '' });
  expect(wrong.err).toMatch(
    new RegExp(
      `^PLAN_MOVED: .*${digest}\\. .* give the digest that .chamberlain sweep. shows`,
      'm',
    ),
  );
  // what comes to it was not read
  spoil('t3');
  await atRest();
  const moved = await cli('sweep', 'release', '--expect', digest);
  expect(moved).toMatchObject({ exit: 1, out: '' });
  const [, again = ''] = /^PLAN_MOVED: .*digest ([0-9a-f]{64})/m.exec(moved.err) ?? [];
  expect(['', digest]).not.toContain(again);
  await eventually('the second event', () => held().length === 2);
  expect(modeOf('t0')).toBe(0o777);

  expect(await sweepByCli('release', '--expect', again)).toMatchObject({
    ...{ state: 'touched', exit: 0, drifted: 4, touched: 4, left: [], digest: again },
  });
  expect(['t0', 't1', 't2', 't3'].map(modeOf)).toEqual([0o2775, 0o2775, 0o2775, 0o2775]);
  expect((await cli('status')).exit).toBe(0);
  expect(await cli('sweep', 'release', '--expect', again)).toMatchObject({
    ...{ exit: 0, out: 'No sweep is held.\n' },
  });
  // a word is heeded once
  spoil('t0', 't1', 't2', 't3');
  expect(await sweepNow()).toMatchObject({ state: 'held', digest: again, touched: 0 });
  expect(await sweepNow(again)).toMatchObject({ state: 'touched', touched: 4 });
  const acts = await query(
    world,
    `SELECT verdict, requested_by LIKE 'unix:%' AS unix FROM audit WHERE kind = 'sweep.release'`,
  );
  expect(acts).toEqual([
    { verdict: 'accepted', unix: true },
    { verdict: 'accepted', unix: true },
  ]);
  expect(portal.disorder).toEqual([]);
  await expectAllWell();
});

test.each([
  ['mostShare: 5', 'sweep.mostShare: must be a share of all subjects, from 0 to 1, such as 0.05'],
  ['everyMinutes: 0', 'sweep.everyMinutes: must be at least 1 (line '],
  ['atLeast: 1.5', 'sweep.atLeast: must be a whole number'],
  ['minutes: 5', 'sweep: "minutes" is unknown here'],
])('a configuration with sweep: {%s} is refused, and the line is named', (setting, sentence) => {
  const file = join(running.world.dir, 'refused.yaml');
  const written = readFileSync(running.world.configFile, 'utf8');
  writeFileSync(file, written.replace(/^sweep:\n(  .*\n)+/m, `sweep: {${setting}}\n`));
  let refusal: unknown;
  try {
    loadConfig(file);
  } catch (error) {
    refusal = error;
  }
  expect(refusal).toMatchObject({ code: 'CONFIG_INVALID' });
  expect(describeError(refusal)).toContain(sentence);
});

test('what somebody has touched a moment ago is left to them', async () => {
  spoil('t0');
  await atRest();
  const { world } = running;
  await query(world, `UPDATE convergence SET since = now() WHERE role = 'homes' AND subject = $1`, [
    await uidOf('t0'),
  ]);
  const [asked] = await query<{ id: string }>(
    world,
    `INSERT INTO sweep_releases (by) VALUES ('a test') RETURNING id`,
  );
  expect(await endOfSweep(asked?.id)).toMatchObject({
    ...{ state: 'moving', drifted: 0, touched: 0 },
    sentence: 'one subject is being worked on',
  });
  expect(modeOf('t0')).toBe(0o777);
  expect(await sweepNow()).toMatchObject({ state: 'touched', drifted: 1, touched: 1 });
  await expectAllWell();
});

test('a frozen realm touches nothing; thawed, it does', async () => {
  const { world } = running;
  await query(world, `UPDATE frozen SET frozen_at = now(), frozen_by = 'a test'`);
  spoil('t0');
  const wanted = await generations();
  expect(await sweepByCli('now')).toMatchObject({
    state: 'frozen',
    exit: 3,
    drifted: 1,
    touched: 0,
  });
  expect(await generations()).toEqual(wanted);
  expect((await cli('status')).out).toMatch(/^last sweep: frozen, \d+ (?:s|min) ago$/m);
  await query(world, 'UPDATE frozen SET frozen_at = NULL, frozen_by = NULL');
  expect(await sweepNow()).toMatchObject({ state: 'touched', touched: 1 });
  await expectAllWell();
});

describe('a directory that', () => {
  /** No row is touched, and no entry is changed. */
  async function expectNothing(swept: Partial<Sweep>): Promise<void> {
    const wanted = await generations();
    const seen = await entries();
    expect(await sweepNow()).toMatchObject({ touched: 0, ...swept });
    expect(await generations()).toEqual(wanted);
    expect(await entries()).toEqual(seen);
  }

  test('hangs is unreadable', async () => {
    const pid = runningPid(running.world.slapd) ?? 0;
    const wanted = await generations();
    signalTree(pid, 'SIGSTOP');
    try {
      expect(await sweepByCli('now')).toMatchObject({
        ...{ state: 'unreadable', exit: 4, drifted: 0, touched: 0 },
        sentence: expect.stringContaining('reading all of dc=example,dc=org'),
      });
    } finally {
      signalTree(pid, 'SIGCONT');
    }
    expect(await generations()).toEqual(wanted);
    await expectAllWell();
  });

  test('shows half, by an access rule, changes nothing', async () => {
    await restrict(
      `{0}to dn.regex="^uid=[^,]+,ou=people,ou=servicegroups,${BASE}$" ` +
        `by dn.exact="cn=directory-reader,ou=chamberlain,${BASE}" none by * break`,
    );
    await expectNothing({ state: 'held', drifted: TOOLS.length + 1 });
    await unrestrict();
    await expectAllWell();
  });

  test('lost half of its entries changes nothing', async () => {
    const { world } = running;
    const lost = [...(await readDirectory(world))].filter(([dn]) =>
      dn.endsWith(`,ou=people,ou=servicegroups,${BASE}`),
    );
    const ldif = (change: 'add' | 'delete') =>
      lost
        .map(([dn, entry]) => {
          const values = Object.entries(entry).flatMap(([name, of]) =>
            of.map((value) => `${name}: ${value}`),
          );
          return [`dn: ${dn}`, `changetype: ${change}`, ...(change === 'add' ? values : [])].join(
            '\n',
          );
        })
        .join('\n\n');
    expect(lost).toHaveLength(TOOLS.length + 1);
    await changeDirectory(world, 'ldapmodify', ldif('delete'));
    await expectNothing({ state: 'held', drifted: TOOLS.length + 1 });
    await changeDirectory(world, 'ldapmodify', ldif('add'));
    await expectAllWell();
  });

  test.each([
    ['answers with nothing but its empty tree', 'seeded anew'],
    ['came back as an older copy', 'older'],
  ])(
    '%s changes nothing',
    async (_, how) => {
      const { world, portal } = running;
      const { slapd } = world;
      const data = join(slapd.folder, 'data');
      const kept = { older: join(world.dir, 'older'), newer: join(world.dir, 'newer') };
      const restoreCopies = async (copy: string) => {
        rmSync(data, { recursive: true });
        cpSync(copy, data, { recursive: true });
        await startServer(slapd);
      };
      await settled(world);
      await stopServer(slapd);
      cpSync(data, kept.older, { recursive: true });
      const [{ at } = { at: undefined }] = await query<{ at: Date }>(world, 'SELECT now() AS at');
      await startServer(slapd);
      // a copy that is older by less than a beat of the marker nobody can tell
      await eventually('a beat', async () => {
        const sql = 'SELECT FROM directory_heartbeat WHERE published_at > $1';
        return (await query(world, sql, [at])).length === 1;
      });
      // one subject's change, so that it is less than the share
      await portal.get({
        kind: 'maintainer.add',
        requestedBy: 'alice',
        tool: 't0',
        person: 'steward',
      });
      await stopServer(slapd);
      cpSync(data, kept.newer, { recursive: true });
      if (how === 'older') {
        await restoreCopies(kept.older);
      } else {
        rmSync(join(slapd.folder, 'seeded'));
        await startServer(slapd);
      }
      spoil('t1');
      await atRest();
      const seen = await entries();
      expect(await sweepNow()).toMatchObject({
        ...{ state: 'touched', drifted: 1, touched: 1 }, // the home, and nothing else
        sentence: expect.stringContaining('is an older copy'),
      });
      expect(await entries()).toEqual(seen);
      expect((await cli('status')).exit).toBe(3);
      await stopServer(slapd);
      await restoreCopies(kept.newer);
      await portal.get({
        kind: 'maintainer.remove',
        requestedBy: 'alice',
        tool: 't0',
        person: 'steward',
      });
      for (const copy of Object.values(kept)) rmSync(copy, { recursive: true });
      await expectAllWell();
    },
    120_000,
  );
});

test('a role that is away is unreadable, and the others are judged', async () => {
  await running.stopWork();
  await running.startWork(ALL_BUT_SWEEP.filter((role) => role !== 'databases'));
  spoil('t0');
  expect(await sweepNow()).toMatchObject({
    ...{ state: 'touched', touched: 1, unreadable: 1 },
    sentence: expect.stringMatching(
      /^databases: no answer for \d+ s; is `chamberlain work databases` running\?$/u,
    ),
  });
  await running.stopWork();
  await running.startWork(ALL_BUT_SWEEP);
  await expectAllWell();
  expect(modeOf('t0')).toBe(0o2775);
});

test('a role that cannot look says why at once', async () => {
  const { world } = running;
  spoil('t0');
  await query(world, 'REVOKE SELECT ON credentials FROM chamberlain_homes_reader');
  try {
    expect(await sweepNow()).toMatchObject({
      ...{ state: 'unreadable', touched: 0, unreadable: 1 },
      sentence: expect.stringMatching(/^homes: .*permission denied for table credentials/),
    });
  } finally {
    await query(world, 'GRANT SELECT ON credentials TO chamberlain_homes_reader');
  }
  expect(await sweepNow()).toMatchObject({ state: 'touched', touched: 1 });
  await expectAllWell();
});

test('a hold that no sweep has made is shown with its reason, also when it is over', async () => {
  await query(
    running.world,
    `INSERT INTO sweeps (id, ended_at, state, sentence) VALUES (gen_random_uuid(), now(), 'held', 'read it first')`,
  );
  const shown = await cli('sweep');
  expect(shown).toMatchObject({ exit: 3, out: expect.stringMatching(/^Held: read it first\.\n/) });
  expect(shown.out.match(/read it first/g)).toHaveLength(1);
  expect(await sweepNow()).toMatchObject({ state: 'clean' });
  expect(await cli('sweep')).toMatchObject({
    exit: 0,
    out: expect.stringMatching(/ held .* read it first$/m),
  });
});

test('what is in motion is left, what was given up is tried again, what an admin must decide is known since when', async () => {
  const { world, portal } = running;
  const uid = await uidOf('t0');
  chownSync(home('t0'), 0, 0);
  // a finding is reported, and keeps its time
  expect(await sweepNow()).toMatchObject({ state: 'clean', findings: 1, touched: 0 });
  const [since] = await driftsOf('t0');
  expect(since).toMatchObject({ what: 'PATH_FOREIGN' });
  expect(await sweepNow()).toMatchObject({ state: 'clean', findings: 1 });
  expect(await driftsOf('t0')).toEqual([since]);

  // a role gives up on it, and the sweep does not change that as long as it is so
  await portal.send({ kind: 'credentials.rotate', requestedBy: 'alice', tool: 't0' });
  const standing = () =>
    query(world, `SELECT state, wanted FROM convergence WHERE subject = $1 AND role = 'homes'`, [
      uid,
    ]);
  await eventually('it to be parked', async () => (await standing())[0]?.['state'] === 'parked');
  const parked = await standing();
  expect(await sweepNow()).toMatchObject({ findings: 1, touched: 0 });
  expect(await standing()).toEqual(parked);

  // in motion: due in an hour
  chownSync(home('t0'), uid, uid);
  spoil('t0');
  await query(
    world,
    `UPDATE convergence SET state = 'failing', next_try_at = now() + interval '1 hour'
     WHERE subject = $1 AND role = 'homes'`,
    [uid],
  );
  expect(await sweepByCli('now')).toMatchObject({
    state: 'moving',
    exit: 3,
    drifted: 0,
    touched: 0,
  });
  expect(modeOf('t0')).toBe(0o777);
  expect(await driftsOf('t0')).toEqual([since]); // what was not seen at rest stays

  // given up, and now there is no reason any more
  await query(
    world,
    `UPDATE convergence SET state = 'parked' WHERE subject = $1 AND role = 'homes'`,
    [uid],
  );
  expect(await sweepNow()).toMatchObject({ state: 'touched', drifted: 0, touched: 1 });
  await settled(world);
  expect(modeOf('t0')).toBe(0o2775);
  await expectAllWell();
});

test('what would be destroyed is reported, and not touched', async () => {
  const { world } = running;
  const uid = await uidOf('t0');
  const undelete = await markDeleted(world, uid);
  // its maintainer is in its group no more: nothing of her is destroyed by that
  expect(await sweepNow()).toMatchObject({ state: 'touched', touched: 1 });
  await settled(world);
  const { steps } = await planAll();
  expect(new Set(steps.map(({ effect }) => effect))).toContain('destroy');
  const wanted = await generations();
  const seen = await entries();
  expect(await sweepNow()).toMatchObject({ state: 'clean', touched: 0 });
  expect(await generations()).toEqual(wanted);
  expect(await entries()).toEqual(seen);
  expect((await driftsOf('t0')).length).toBeGreaterThan(0);
  await undelete();
  expect(await sweepNow()).toMatchObject({ state: 'touched', touched: 1 });
  await settled(world);
  await expectAllWell();
});

describe('in the middle of a sweep', () => {
  /** A sweep that has begun, and does not end, since a role is away. */
  async function begun(): Promise<{ ended: Promise<Ended>; id: string }> {
    await atRest();
    await running.stopWork();
    await running.startWork(ALL_BUT_SWEEP.filter((role) => role !== 'homes'));
    const ended = cli('sweep', 'now', '--json');
    const id = await eventually('a sweep', async () => {
      const rows = await query<{ id: string }>(
        running.world,
        `SELECT s.id FROM sweeps s WHERE s.state = 'running'
           AND 2 = (SELECT count(*) FROM reports r WHERE r.survey = s.id)`,
      );
      return rows[0]?.id;
    });
    return { ended, id };
  }

  async function homesReturns(): Promise<void> {
    await running.stopWork();
    await running.startWork(ALL_BUT_SWEEP);
  }

  test('Redis may lose its data', async () => {
    spoil('t0');
    const { ended } = await begun();
    const { stdout } = await promisify(execFile)('redis-cli', [
      ...['-u', running.world.config.redis.url, 'FLUSHALL'],
    ]);
    expect(stdout).toBe('OK\n');
    await homesReturns();
    expect(JSON.parse((await ended).out)).toMatchObject({ state: 'touched', touched: 1 });
    await expectAllWell();
  });

  test('its connection may be lost: that sweep is cut, and done again', async () => {
    spoil('t0');
    const { ended, id } = await begun();
    await query(
      running.world,
      `SELECT pg_terminate_backend(pid) FROM pg_stat_activity
       WHERE application_name = 'chamberlain sweep' AND datname = current_database()`,
    );
    await eventually('it to be cut', async () => (await stateOf(id)) === 'cut');
    await homesReturns();
    const swept = JSON.parse((await ended).out) as Sweep;
    expect(swept).toMatchObject({ state: 'touched', touched: 1 });
    expect(swept.id).not.toBe(id);
    await expectAllWell();
  });

  test('its process may be killed: another takes over, and does it again', async () => {
    const { world } = running;
    await sweep?.close();
    const started = performance.now();
    const first = await startWorkers(world, ['sweep']);
    await eventually('the first', isHeld);
    const second = await startWorkers(world, ['sweep']);
    try {
      spoil('t0');
      const { ended, id } = await begun();
      expect(await countRunning()).toBe(1);
      // only the timer is to bring it again
      await query(world, 'DELETE FROM sweep_releases WHERE sweep IS NULL');
      await endProcess(first.child, 'SIGKILL');
      await eventually('it to be cut', async () => (await stateOf(id)) === 'cut');
      await homesReturns();
      await eventually('the other to have swept', async () => {
        const [last] = await query<{ id: string; state: string }>(
          world,
          'SELECT id, state FROM sweeps ORDER BY began_at DESC LIMIT 1',
        );
        return last?.id !== id && last?.state === 'touched';
      });
      await settled(world);
      expect(modeOf('t0')).toBe(0o2775);
      await eventually('its log', () => second.log.join('').includes('"msg":"swept"'));
      expect(first.log.join('')).not.toContain('"msg":"swept"');
      expect((await ended).exit).toBe(1); // what it had asked for is gone
      await endProcess(second.child, 'SIGTERM');
      const late = await cli('sweep', 'now', '--timeout', '1');
      expect(late).toMatchObject({ exit: 5, out: '' });
      expect(late.err).toMatch(
        /^TIMEOUT: no sweep has begun; is `chamberlain work sweep` running\?/m,
      );
      expect((await cli('sweep')).out).toContain(
        'No worker runs sweeps: start `chamberlain work sweep`.',
      );
      const page = (await cli('status')).out;
      expect(page).toMatch(/^last sweep: \w+, \d+ (?:s|min) ago$/m);
      expect(page).toMatch(/^no process works as sweep: start `chamberlain work sweep`$/m);
    } finally {
      await endProcess(first.child, 'SIGKILL');
      await endProcess(second.child, 'SIGKILL');
      beginSweeping();
      process.stdout.write(
        `taken over and tried in ${Math.round(performance.now() - started)} ms\n`,
      );
    }
    await expectAllWell();
  });

  async function stateOf(id: string): Promise<string | undefined> {
    const rows = await query<{ state: string }>(
      running.world,
      'SELECT state FROM sweeps WHERE id = $1',
      [id],
    );
    return rows[0]?.state;
  }

  async function countRunning(): Promise<number> {
    return (await query(running.world, `SELECT FROM sweeps WHERE state = 'running'`)).length;
  }

  async function isHeld(): Promise<boolean> {
    const rows = await query(
      running.world,
      `SELECT FROM leases l JOIN pg_stat_activity a USING (pid)
       WHERE l.name = 'sweep' AND a.usename = 'chamberlain_sweep' AND a.datname = current_database()`,
    );
    return rows.length === 1;
  }
});

test('what cannot be mended is named, and the exit says so', async () => {
  // while the role looks, its steps are refused: the account there that writes lost its right to
  await restrict(
    `{0}to dn.subtree="ou=sudoers,cn=tools,ou=projects,${BASE}" by dn.exact="cn=directory,ou=chamberlain,${BASE}" read by * break`,
  );
  try {
    await changeDirectory(
      running.world,
      'ldapmodify',
      `dn: cn=runas-tools.t1,ou=sudoers,cn=tools,ou=projects,${BASE}\nchangetype: delete\n`,
    );
    spoil('t0');
    await atRest();
    const ended = cli('sweep', 'now');
    const standing = (state: string) =>
      eventually(`it to be ${state}`, async () => {
        const sql = `SELECT FROM convergence WHERE applied < wanted AND state = $1`;
        return (await query(running.world, sql, [state])).length === 1;
      });
    const parked = async () => {
      await standing('failing');
      // as if it had been tried long enough
      await query(running.world, 'UPDATE convergence SET attempts = 7 WHERE applied < wanted');
      await standing('parked');
    };
    await parked();
    expect(await ended).toEqual({
      exit: 1,
      out: 'touched: 12 checked, 2 drifted, 0 findings.\n1 corrected, 1 not.\n',
      err: expect.stringMatching(
        /^(.*,? \d+ s\n)*STEP_FAILED: tools\.t1, directory: sudo-rule: .*\n$/,
      ),
    });
    // so it is where it has been given up for long, is tried again, and cannot be mended still
    await atRest();
    const tried = cli('sweep', 'now');
    await parked();
    expect(await tried).toEqual({
      exit: 1,
      out: 'touched: 12 checked, 0 drifted, 0 findings.\n1 parked subject tried again, 1 not corrected.\n',
      err: expect.stringMatching(
        /^(.*,? \d+ s\n)*STEP_FAILED: tools\.t1, directory: sudo-rule: .*\n$/,
      ),
    });
  } finally {
    await unrestrict();
  }
  const again = await cli('sweep', 'now');
  expect(again).toMatchObject({
    exit: 0,
    out: 'touched: 12 checked, 0 drifted, 0 findings.\n1 parked subject tried again.\n',
  });
  await expectAllWell();
});
