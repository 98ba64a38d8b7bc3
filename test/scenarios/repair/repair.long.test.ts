/**
 * `chamberlain repair` on real servers: it does what was read, where that still holds, and nothing
 * else. Each test has a tool of its own, and leaves it as wanted.
 */
import { execFile, spawn } from 'node:child_process';
import { randomUUID } from 'node:crypto';
import { chownSync, renameSync, rmSync, symlinkSync } from 'node:fs';
import { join } from 'node:path';
import { promisify, stripVTControlCharacters } from 'node:util';
import { Queue } from 'bullmq';
import { Redis } from 'ioredis';
import { afterAll, beforeAll, describe, expect, test } from '@jest/globals';
import { digestSteps } from '../../../src/reconcile/digest.ts';
import { openPool } from '../../../src/database/connection.ts';
import { eventually } from '../eventually.ts';
import { changeDirectory, homeOf, markDeleted, query, readDirectory, settled } from '../outside.ts';
import {
  DAMAGE,
  damageOf,
  openRepairWorld,
  partEnded,
  type RepairWorld,
  ROLES,
} from './repair-world.ts';
import { PROGRAM } from '../../cli/run-cli.ts';

const BASE = 'dc=example,dc=org';

const TOOLS = [
  ...['one', 'two', 'digest', 'asked', 'moved', 'other', 'mended', 'found', 'twice', 'finding'],
  ...[
    'part',
    'behind',
    'gone',
    'lost',
    'owed',
    'order',
    'parked',
    'silent',
    'hostile',
    'unmanaged',
  ],
  'nul',
];

let repairs: RepairWorld;

beforeAll(async () => {
  repairs = await openRepairWorld('repair', TOOLS);
});
afterAll(async () => repairs?.close(), 60_000);

const askedFor = () => query(repairs.world, 'SELECT id FROM repairs ORDER BY at');
const home = (tool: string) => homeOf(repairs.world, { tool });

/** The entries, but for the marker, whose beat goes on. */
async function entries() {
  const found = await readDirectory(repairs.world);
  found.delete(`cn=chamberlain,${BASE}`);
  return found;
}

describe('what was read', () => {
  test('is done, all of it and nothing else, in every role, and is in the audit', async () => {
    const before = await entries();
    await DAMAGE.shell(repairs, 'one');
    await DAMAGE.rule(repairs, 'one');
    DAMAGE.mode(repairs, 'one');
    DAMAGE.credentials(repairs, 'two');
    await DAMAGE.limit(repairs, 'two');
    const plan = await repairs.plan('--all');
    expect(plan.steps.map(({ account, target }) => [account, target])).toEqual([
      ['tools.one', 'unix-account'],
      ['tools.one', 'sudo-rule'],
      ['tools.one', 'home-directory'],
      ['tools.two', 'credentials-file'],
      ['tools.two', 'database-account'],
    ]);
    const { exit, err, ...said } = await repairs.repair('--all', '--expect', plan.digest);
    expect({ exit, err }).toEqual({ exit: 0, err: '' });
    expect(await damageOf(repairs, 'one')).toEqual([]);
    expect(await damageOf(repairs, 'two')).toEqual([]);
    expect(await entries()).toEqual(before);
    const part = (tool: string, role: string, steps: number) => ({
      ...{ subject: repairs.uids[tool], account: `tools.${tool}`, role, state: 'done', steps },
    });
    expect(said).toEqual({
      repair: expect.stringMatching(/^[0-9a-f-]{36}$/u),
      parts: [
        part('one', 'directory', 2),
        part('one', 'homes', 1),
        part('two', 'homes', 1),
        part('two', 'databases', 1),
      ],
      ...{ owed: [], withheld: [], findings: [], unreadable: [], digest: plan.digest },
      totals: {
        ...{ subjects: TOOLS.length + 4, steps: 5, findings: 0, waiting: 0, unreadable: 0 },
        ...{ create: 2, change: 2, revoke: 1, destroy: 0 },
      },
    });
    const trail = await query(
      repairs.world,
      `SELECT requested_by, subject, account, fields, verdict FROM audit WHERE kind = 'repair' ORDER BY id`,
    );
    const row = (tool: string, ...fields: string[]) => ({
      ...{ requested_by: expect.stringMatching(/^unix:.+/u), verdict: 'accepted', fields },
      ...{ subject: repairs.uids[tool], account: `tools.${tool}` },
    });
    expect(trail).toEqual([
      row('one', 'unix-account', 'sudo-rule', 'home-directory'),
      row('two', 'credentials-file', 'database-account'),
    ]);
    const second = await repairs.plan('--all');
    expect(second).toMatchObject({ exit: 0, steps: [], findings: [] });
  });

  test('with another digest nothing is done', async () => {
    await DAMAGE.shell(repairs, 'digest');
    const { digest } = await repairs.plan('digest');
    await DAMAGE.rule(repairs, 'digest');
    const before = await askedFor();
    const { exit, out, err } = await repairs.cli('repair', 'digest', '--expect', digest, '--yes');
    expect({ exit, out }).toEqual({ exit: 1, out: '' });
    expect(err).toMatch(
      /^PLAN_MOVED: the digest is [0-9a-f]{64} now, not .*; nothing was done\./mu,
    );
    expect(await askedFor()).toEqual(before);
    expect(await damageOf(repairs, 'digest')).toEqual(['shell', 'rule']);
    expect((await repairs.repair('digest', '--yes')).exit).toBe(0);
  });

  test.each([[['--all']], [['one', '--json']]])(
    'in a script without --expect and --yes no role is even asked: %j',
    async (args) => {
      const calls = () => query(repairs.world, 'SELECT id FROM surveys');
      const before = await calls();
      const { exit, out, err } = await repairs.cli('repair', ...args);
      expect({ exit, out }).toEqual({ exit: 2, out: '' });
      expect(err).toMatch(
        /^USAGE: (there is no terminal to confirm on|with --json nothing is asked); give --expect DIGEST, or --yes\./u,
      );
      expect(await calls()).toEqual(before);
    },
  );

  test('where nothing is to be done nothing is asked for, and the exit code is 0', async () => {
    const before = await askedFor();
    const { exit, out } = await repairs.cli('repair', 'one', '--yes');
    expect(exit).toBe(0);
    expect(out).toMatch(
      /^1 subject checked: nothing to do\ndigest [0-9a-f]{64}\n\nthere was nothing to do\n$/u,
    );
    expect(await askedFor()).toEqual(before);
  });
});

describe('on a terminal it shows what it asks for', () => {
  /** Runs `repair` on a terminal, and types an answer once it asks. */
  function typeInto(
    answer: string,
    ...args: string[]
  ): Promise<{ exit: number | null; out: string }> {
    const command = [process.execPath, PROGRAM, 'repair', ...args]
      .map((word) => `'${word}'`)
      .join(' ');
    return new Promise((resolve, reject) => {
      const child = spawn('script', ['-qefc', command, '/dev/null'], {
        env: { ...process.env, CHAMBERLAIN_CONFIG: repairs.world.configFile, NO_COLOR: '1' },
      });
      let out = '';
      let isTyped = false;
      child.stdout.setEncoding('utf8').on('data', (text: string) => {
        out += text;
        if (isTyped || !out.includes('[y/N]')) return;
        isTyped = true;
        child.stdin.write(answer);
      });
      child.on('error', reject);
      child.on('close', (exit) =>
        resolve({ exit, out: stripVTControlCharacters(out).replaceAll('\r\n', '\n') }),
      );
    });
  }

  test('with its marks in colour, as `plan` does', async () => {
    await DAMAGE.shell(repairs, 'asked');
    // a variable CI takes the colours away, as Node reads it
    const { NO_COLOR: _, CI: __, ...env } = process.env;
    const command = `'${process.execPath}' '${PROGRAM}' plan asked`;
    const { stdout } = await promisify(execFile)('script', ['-qfc', command, '/dev/null'], {
      env: { ...env, TERM: 'xterm', CHAMBERLAIN_CONFIG: repairs.world.configFile },
    });
    expect(stdout).toContain('  \u001b[33m~\u001b[39m unix-account  ');
  });

  test.each([
    ['no', 'n\r'],
    ['another word', 'yess\r'],
    ['Ctrl-C', '\u0003'],
    ['Ctrl-D', '\u0004'],
  ])('and where that is answered with %s, it does nothing', async (_, answer) => {
    await DAMAGE.shell(repairs, 'asked');
    const before = await askedFor();
    const { exit, out } = await typeInto(answer, 'asked');
    expect(out).toMatch(/~ unix-account {2}.* loginShell \/bin\/zsh → \/bin\/bash\n/u);
    expect(out).toMatch(/\ndigest [0-9a-f]{64}\n\nTake this step\? \[y\/N\] /u);
    expect(out).toMatch(/Nothing was done\.\n$/u);
    expect(exit).toBe(1);
    expect(await askedFor()).toEqual(before);
    expect(await damageOf(repairs, 'asked')).toEqual(['shell']);
  });

  test('and where that is answered with yes, it is done', async () => {
    await DAMAGE.shell(repairs, 'asked');
    await DAMAGE.rule(repairs, 'asked');
    const { exit, out } = await typeInto('y\r', 'asked');
    expect(out).toContain('Take these 2 steps? [y/N] ');
    expect(out).toMatch(/\n2 steps done\n$/u);
    expect(exit).toBe(0);
    expect(await damageOf(repairs, 'asked')).toEqual([]);
  });
});

describe('ground that moves after it was read', () => {
  test('that subject is refused and left as it is, the others go on', async () => {
    await DAMAGE.shell(repairs, 'moved');
    DAMAGE.mode(repairs, 'moved');
    await DAMAGE.shell(repairs, 'other');
    const release = await repairs.hold('moved', 'directory');
    const started = await repairs.startRepair('moved', 'other', '--yes');
    expect(await partEnded(repairs, started, ['other', 'directory'])).toBe('done');
    await DAMAGE.shell(repairs, 'moved', '/bin/fish');
    await release();
    const { exit, err, parts } = await started.ended;
    expect(exit).toBe(1);
    expect(err).toMatch(/^PLAN_MOVED: not done for tools\.moved\. /u);
    expect(parts.map(({ account, role, state, code }) => [account, role, state, code])).toEqual([
      ['tools.moved', 'directory', 'refused', 'PLAN_MOVED'],
      ['tools.moved', 'homes', 'done', undefined],
      ['tools.other', 'directory', 'done', undefined],
    ]);
    const entry = (await entries()).get(`uid=tools.moved,ou=people,ou=servicegroups,${BASE}`);
    expect(entry?.['loginShell']).toEqual(['/bin/fish']);
    expect(await damageOf(repairs, 'other')).toEqual([]);
    expect((await repairs.repair('moved', '--yes')).exit).toBe(0);
  });

  test('mended by another meanwhile: that is done, not refused', async () => {
    await DAMAGE.shell(repairs, 'mended');
    const release = await repairs.hold('mended', 'directory');
    const started = await repairs.startRepair('mended', '--yes');
    await DAMAGE.shell(repairs, 'mended', '/bin/bash');
    await release();
    expect(await started.ended).toMatchObject({ exit: 0, err: '' });
  });

  test('a finding came in the place of the step: refused', async () => {
    DAMAGE.mode(repairs, 'found');
    const release = await repairs.hold('found', 'homes');
    const started = await repairs.startRepair('found', '--yes');
    renameSync(home('found'), `${home('found')}.away`);
    symlinkSync('/etc', home('found'));
    await release();
    const { exit, parts } = await started.ended;
    expect({ exit, parts }).toMatchObject({
      exit: 1,
      parts: [
        {
          ...{ state: 'refused', code: 'PLAN_MOVED' },
          sentence:
            'its plan has no step left, but something new stands in the way: home-directory finding /data/project/found',
        },
      ],
    });
    rmSync(home('found'));
    renameSync(`${home('found')}.away`, home('found'));
    expect((await repairs.repair('found', '--yes')).exit).toBe(0);
  });

  test('two repairs of the same at once are both told that it is done', async () => {
    await DAMAGE.shell(repairs, 'twice');
    DAMAGE.credentials(repairs, 'twice');
    const both = await Promise.all([0, 1].map(() => repairs.repair('twice', '--yes')));
    expect(both).toMatchObject([
      { exit: 0, err: '' },
      { exit: 0, err: '' },
    ]);
    expect(await damageOf(repairs, 'twice')).toEqual([]);
  });
});

test('a value with U+0000, which PostgreSQL cannot hold, is shown and mended like any other', async () => {
  const dn = `uid=tools.nul,ou=people,ou=servicegroups,${BASE}`;
  const shell = Buffer.from('/bin/\0sh').toString('base64');
  await changeDirectory(
    repairs.world,
    'ldapmodify',
    `dn: ${dn}\nchangetype: modify\nreplace: loginShell\nloginShell:: ${shell}\n`,
  );
  const plan = await repairs.plan('nul');
  expect(plan).toMatchObject({ unreadable: [], steps: [{ target: 'unix-account' }] });
  expect(plan.steps[0]?.change).toContain('/bin/\\u0000sh');
  expect(await repairs.repair('nul', '--expect', plan.digest)).toMatchObject({ exit: 0, err: '' });
  expect(await damageOf(repairs, 'nul')).toEqual([]);
});

test('a finding withholds the steps on that very object alone, and does not count', async () => {
  const logs = join(home('finding'), 'logs');
  chownSync(logs, 0, 0);
  DAMAGE.mode(repairs, 'finding');
  DAMAGE.credentials(repairs, 'finding');
  await DAMAGE.rule(repairs, 'finding');
  const plan = await repairs.plan('finding');
  expect(plan.findings.map(({ object }) => object)).toEqual(['/data/project/finding/logs']);
  const { exit, err, parts } = await repairs.repair('finding', '--yes');
  expect({ exit, err, parts: parts.length }).toEqual({ exit: 0, err: '', parts: 2 });
  expect(await damageOf(repairs, 'finding')).toEqual([]);
  const after = await repairs.plan('finding');
  expect([after.steps, after.findings]).toEqual([[], plan.findings]);
  const uid = repairs.uids['finding'] ?? 0;
  chownSync(logs, uid, uid);
});

describe('a part of it', () => {
  test('--target and --role leave everything else as it is', async () => {
    await DAMAGE.shell(repairs, 'part');
    await DAMAGE.rule(repairs, 'part');
    DAMAGE.mode(repairs, 'part');
    expect(await repairs.repair('part', '--target', 'sudo-rule', '--yes')).toMatchObject({
      exit: 0,
      parts: [{ role: 'directory', steps: 1 }],
    });
    expect(await damageOf(repairs, 'part')).toEqual(['shell', 'mode']);
    expect(await repairs.repair('part', '--role', 'homes', '--yes')).toMatchObject({
      exit: 0,
      parts: [{ role: 'homes', steps: 1 }],
    });
    expect(await damageOf(repairs, 'part')).toEqual(['shell']);
    expect((await repairs.repair('part', '--yes')).exit).toBe(0);
  });

  test('what is behind stays so where a part of it is left out', async () => {
    const { world, uids } = repairs;
    await DAMAGE.shell(repairs, 'behind');
    await DAMAGE.rule(repairs, 'behind');
    const row = `UPDATE convergence SET wanted = wanted + $2, state = 'waiting', next_try_at = now() + $3::interval
      WHERE subject = $1 AND role = 'directory'`;
    await query(world, row, [uids['behind'], 1, '1 hour']);
    const { exit } = await repairs.repair('behind', '--target', 'sudo-rule', '--yes');
    expect(exit).toBe(0);
    expect(await damageOf(repairs, 'behind')).toEqual(['shell']);
    await query(world, row, [uids['behind'], 0, '0']);
    await settled(world);
    expect(await damageOf(repairs, 'behind')).toEqual([]);
  });

  test('what is touched while the repair waits is applied as well', async () => {
    const { world, uids } = repairs;
    await DAMAGE.shell(repairs, 'behind');
    const release = await repairs.hold('behind', 'directory');
    const started = await repairs.startRepair('behind', '--yes');
    const touch = `SELECT look_again(ARRAY[$1::int], '{directory}', false, '{false}')`;
    await query(world, touch, [uids['behind']]);
    await release();
    expect(await started.ended).toMatchObject({ exit: 0, err: '' });
    await settled(world);
    expect(await damageOf(repairs, 'behind')).toEqual([]);
  });

  test('steps that destroy are done with --destroy alone; what takes access away is done', async () => {
    await markDeleted(repairs.world, repairs.uids['gone'] ?? 0);
    const own = async () =>
      [...(await entries()).keys()].filter((dn) => /=(runas-)?tools\.gone,/u.test(dn));
    const plan = await repairs.plan('gone');
    const destroys = plan.steps.filter(({ effect }) => effect === 'destroy');
    expect(destroys.map(({ target }) => target)).toEqual(
      expect.arrayContaining(['unix-group', 'unix-account', 'database-account']),
    );
    expect(await own()).toHaveLength(3);
    const { exit, err, withheld } = await repairs.repair('gone', '--yes');
    expect(exit).toBe(1);
    expect(err).toMatch(
      /DESTROY_WITHHELD: not done for tools\.gone\. Read these steps, then give --destroy\.\n$/u,
    );
    expect(withheld).toEqual(destroys);
    expect(await own()).toHaveLength(2); // its sudo rule was access
    const left = await repairs.plan('gone');
    expect(left.steps.every(({ effect }) => effect === 'destroy')).toBe(true);
    // with nothing but what is withheld, too
    const again = await repairs.cli('repair', 'gone', '--yes');
    expect(again.exit).toBe(1);
    expect(again.out).toMatch(
      /directory +withheld +DESTROY_WITHHELD +unix-group: .*present → absent/u,
    );
    const all = await repairs.repair('gone', '--destroy', '--expect', left.digest);
    expect(all).toMatchObject({ exit: 0, err: '', withheld: [] });
    expect(await own()).toEqual([]);
    // its maintainers are in its group no more
    for (const name of ['alice', 'bob']) {
      expect(await repairs.repair(name, '--yes')).toMatchObject({ exit: 0 });
    }
  });
});

describe('credentials that were lost', () => {
  test('it ends when every server has the new verifier', async () => {
    DAMAGE.credentials(repairs, 'lost');
    // it is behind with its work when the file is written
    const release = await repairs.hold('lost', 'databases');
    const started = await repairs.startRepair('lost', '--yes');
    expect(await partEnded(repairs, started, ['lost', 'homes'])).toBe('done');
    expect(await damageOf(repairs, 'lost')).toEqual(['credentials']);
    await release();
    expect(await started.ended).toMatchObject({ exit: 0, err: '', owed: [] });
    // at once: nothing is waited for here
    expect(await damageOf(repairs, 'lost')).toEqual([]);
  });

  test('are made anew after what else was read of the database servers is done there', async () => {
    DAMAGE.credentials(repairs, 'order');
    await DAMAGE.limit(repairs, 'order');
    const redis = new Redis(repairs.world.config.redis.url);
    const jobs = async () => Number(await redis.get('bull:databases:id'));
    const before = await jobs();
    const release = await repairs.hold('order', 'databases');
    const started = await repairs.startRepair('order', '--yes');
    // its survey, its part, and its part again
    await eventually('three jobs', async () => (await jobs()) >= before + 3);
    redis.disconnect();
    const [part] = await query(
      repairs.world,
      `SELECT state FROM repair_parts WHERE repair = $1 AND role = 'homes'`,
      [started.id],
    );
    expect(part).toBeUndefined();
    await release();
    expect(await started.ended).toMatchObject({ exit: 0, err: '', owed: [] });
    expect(await damageOf(repairs, 'order')).toEqual([]);
  });

  test('what the role databases does not do in time is owed, and done later', async () => {
    DAMAGE.credentials(repairs, 'owed');
    const release = await repairs.hold('owed', 'databases');
    const { exit, out, err } = await repairs.cli('repair', 'owed', '--yes', '--timeout', '10');
    await release();
    expect(exit).toBe(1);
    expect(err).toMatch(
      /^BACKEND_UNAVAILABLE: the new verifier is not yet on every server for tools\.owed\./mu,
    );
    expect(out).toMatch(/tools\.owed +databases +behind +BACKEND_UNAVAILABLE/u);
    await settled(repairs.world);
    expect(await damageOf(repairs, 'owed')).toEqual([]);
  });
});

test('what a role has given up on is looked at again, and so is applied once its cause is gone', async () => {
  const { world, uids } = repairs;
  const state = async () => {
    const [row] = await query<{ state: string }>(
      world,
      `SELECT state FROM convergence WHERE subject = $1 AND role = 'homes'`,
      [uids['parked']],
    );
    return row?.state;
  };
  renameSync(home('parked'), `${home('parked')}.away`);
  symlinkSync('/etc', home('parked'));
  await query(world, `SELECT touch_generation($1, 'homes')`, [uids['parked']]);
  await eventually('it to be parked', async () => (await state()) === 'parked');
  // its cause is still there
  expect(await repairs.repair('parked', '--yes')).toMatchObject({ exit: 0, err: '' });
  expect(await state()).toBe('parked');
  rmSync(home('parked'));
  renameSync(`${home('parked')}.away`, home('parked'));
  const { exit, out } = await repairs.cli('repair', 'parked', '--yes');
  expect(out).toMatch(/\n0 steps done, 1 parked subject tried again\n$/u);
  expect(exit).toBe(0);
  expect(await state()).toBe('applied');
});

test('a role that does not answer is UNREADABLE or unanswered, and the others go on', async () => {
  await DAMAGE.shell(repairs, 'silent');
  DAMAGE.mode(repairs, 'silent');
  const release = await repairs.hold('silent', 'homes');
  const late = await repairs.cli('repair', 'silent', '--yes', '--timeout', '10');
  await release();
  expect(late.out).toMatch(
    /tools\.silent +homes +unanswered +BACKEND_UNAVAILABLE +no answer within 10 s/u,
  );
  expect(late.out).toMatch(/\n1 step done, 1 unanswered\n$/u);
  expect(late.err).toMatch(
    /^BACKEND_UNAVAILABLE: not done for tools\.silent\. .* and run the command again\.$/mu,
  );
  expect(late.exit).toBe(1);
  expect(await damageOf(repairs, 'silent')).toEqual(['mode']);

  await DAMAGE.shell(repairs, 'silent');
  await repairs.stopWork();
  await repairs.startWork(ROLES.filter((role) => role !== 'homes'));
  try {
    const blind = await repairs.cli('repair', 'silent', '--yes', '--timeout', '10');
    expect(blind.out).toContain('homes: no answer within 10 s');
    expect(blind.out).toMatch(/\n1 step done, something is UNREADABLE\n$/u);
    expect(blind.exit).toBe(4);
    expect(await damageOf(repairs, 'silent')).toEqual(['mode']);
  } finally {
    await repairs.stopWork();
    await repairs.startWork(ROLES);
  }
  expect((await repairs.repair('silent', '--yes')).exit).toBe(0);
});

describe('a job on the queue of a role', () => {
  let redis: Redis;
  let queue: Queue;
  beforeAll(async () => {
    redis = new Redis(repairs.world.config.redis.url);
    queue = new Queue('directory', { connection: redis });
    await repairs.stopWork();
    await repairs.startWork(ROLES.filter((role) => role !== 'relay')); // nobody else adds jobs
  });
  afterAll(async () => {
    await queue.close();
    redis.disconnect();
    await repairs.stopWork();
    await repairs.startWork(ROLES);
  });

  const add = (data: unknown) =>
    queue.add('repair', data, { removeOnComplete: true, removeOnFail: true });

  const taken = () =>
    eventually('the job to be taken', async () => {
      const counts = await queue.getJobCounts('wait', 'active', 'prioritized', 'delayed');
      return Object.values(counts).every((count) => count === 0);
    });

  /** Records a part as `repair` does; its caller waits for so long. */
  function record(id: string, tool: string, digest: string, waits: string) {
    return query(
      repairs.world,
      `WITH r AS (INSERT INTO repairs (id, asked_by, waited_until) VALUES ($1, 'unix:eve', now() + $4::interval))
       INSERT INTO repair_parts (repair, subject, role, digest) VALUES ($1, $2, 'directory', $3)`,
      [id, repairs.uids[tool], digest, waits],
    );
  }

  test('does only what is recorded, is waited for, and is as it was read', async () => {
    const { uids, world } = repairs;
    const [uid = 0, foreign = 0] = [uids['hostile'], uids['unmanaged']];
    await DAMAGE.shell(repairs, 'hostile');
    await DAMAGE.shell(repairs, 'unmanaged');
    const { steps } = await repairs.plan('hostile', 'unmanaged');
    const digestOf = (of: number) => digestSteps(steps.filter(({ subject }) => subject === of));
    const [old, fresh, other] = [randomUUID(), randomUUID(), randomUUID()];
    await record(old, 'hostile', digestOf(uid), '-1 s');
    const addEach = async (...all: unknown[]) => {
      for (const data of all) {
        await add(data);
        // side by side one would find the subject locked by another, and do nothing for that
        await taken();
      }
    };
    await addEach({ subjects: [uid, foreign] });
    await record(fresh, 'hostile', digestOf(uid), '1 min');
    await record(other, 'hostile', digestOf(foreign), '1 min');
    await addEach(
      { subjects: [foreign] },
      { subjects: `${uid}` },
      { subjects: [`${uid}`, `${uid}; DROP TABLE repairs`, 0, -1, 1.5, 1e99, {}] },
      { subjects: Array.from({ length: 101 }, () => uid) },
      {},
      null,
      'x',
      [],
    );
    const states = async () =>
      Object.fromEntries(
        (
          await query<{ repair: string; state: string }>(
            world,
            'SELECT repair, state FROM repair_parts WHERE repair = ANY ($1)',
            [[old, fresh, other]],
          )
        ).map(({ repair, state }) => [repair, state]),
      );
    expect(await states()).toEqual({ [old]: 'asked', [fresh]: 'asked', [other]: 'asked' });
    const damages = async () => [
      await damageOf(repairs, 'hostile'),
      await damageOf(repairs, 'unmanaged'),
    ];
    expect(await damages()).toEqual([['shell'], ['shell']]);
    // and what is so is done: one part by each job, the oldest first
    await addEach({ subjects: [uid, foreign] });
    expect(await states()).toEqual({ [old]: 'asked', [fresh]: 'done', [other]: 'asked' });
    expect(await damages()).toEqual([[], ['shell']]);
    await DAMAGE.shell(repairs, 'hostile');
    await addEach({ subjects: [uid, foreign] });
    expect(await states()).toEqual({ [old]: 'asked', [fresh]: 'done', [other]: 'refused' });
    expect(await damages()).toEqual([['shell'], ['shell']]);
    for (const tool of ['hostile', 'unmanaged']) await DAMAGE.shell(repairs, tool, '/bin/bash');
  });

  test('cannot make a role end what another is asked for', async () => {
    const id = randomUUID();
    await record(id, 'hostile', 'x', '1 min');
    const end = async (role: 'homes' | 'directory') => {
      const pool = openPool(repairs.world.config, role, { max: 1, durable: false });
      try {
        const sql = `UPDATE repair_parts SET state = 'done' WHERE repair = $1`;
        return (await pool.query(sql, [id])).rowCount;
      } finally {
        await pool.end();
      }
    };
    expect([await end('homes'), await end('directory')]).toEqual([0, 1]);
  });
});

test('a relay that cannot read the repairs still gives the roles all that is due', async () => {
  const right = 'SELECT (waited_until) ON repairs';
  await query(repairs.world, `REVOKE ${right} FROM chamberlain_relay`);
  try {
    const wish = { kind: 'tool.create', requestedBy: 'alice', name: 'unhindered', title: 'A tool' };
    await repairs.portal.get(wish);
  } finally {
    await query(repairs.world, `GRANT ${right} TO chamberlain_relay`);
  }
});

test('in the end nothing is to be done', async () => {
  const plan = await repairs.plan('--all');
  expect(plan).toMatchObject({ exit: 0, steps: [], findings: [], waiting: [], unreadable: [] });
});
