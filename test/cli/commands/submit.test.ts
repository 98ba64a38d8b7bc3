/**
 * The command line against a real PostgreSQL and a real Redis, with the real intake and relay. The
 * roles are simulated by the test, so that each can be slow, fail or be silent on demand.
 */
import type { ChildProcess } from 'node:child_process';
import { generateKeyPairSync } from 'node:crypto';
import { once } from 'node:events';
import { copyFileSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { type AddressInfo, createServer } from 'node:net';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { afterAll, beforeAll, describe, expect, test } from '@jest/globals';
import { Redis } from 'ioredis';
import { EXIT } from '../../../src/cli/exit.ts';
import { requestsQueue } from '../../../src/backends/redis/queue.ts';
import { REQUEST_KINDS } from '../../../src/requests/kinds.ts';
import { openPool, type Pool } from '../../../src/database/connection.ts';
import { eventually } from '../../scenarios/eventually.ts';
import { openWorld, type World } from '../../stack.ts';
import { pretendWork } from '../pretend-work.ts';
import { endOf, runCli, startCli, type Ended } from '../run-cli.ts';

const UUID = /^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$/u;

let world: World;
let owner: Pool;
let workers: ChildProcess;

beforeAll(async () => {
  world = await openWorld('command line', { needs: ['postgres', 'redis'] });
  owner = openPool(world.config, 'owner', { max: 2, durable: false });
  await run('bootstrap', 'steward');
  workers = startCli(['work', 'intake', 'relay'], { config: world.configFile });
  workers.stderr?.resume();
});

afterAll(async () => {
  const ended = endOf(workers);
  workers.kill('SIGTERM');
  await ended;
  await owner.end();
  await world.close();
});

function run(...args: string[]): Promise<Ended> {
  return runCli(args, { config: world.configFile });
}

function runWith(input: string, ...args: string[]): Promise<Ended> {
  return runCli(args, { config: world.configFile, input });
}

/** How many requests the admin has put into a queue so far: BullMQ numbers them. */
async function countSent(): Promise<number> {
  const redis = new Redis(world.redis.urlOf('owner'));
  try {
    const queues = [false, true].map((urgent) => requestsQueue('admin.steward', urgent));
    const last = await redis.mget(queues.map((queue) => `bull:${queue}:id`));
    return last.reduce((sum, number) => sum + Number(number ?? 0), 0);
  } finally {
    redis.disconnect();
  }
}

/** Acts as the roles: all that the relay has given them is applied. */
async function applyAll(): Promise<void> {
  await owner.query(
    `UPDATE convergence SET applied = wanted, state = 'applied', leased_until = NULL
     WHERE applied < wanted AND (leased_until IS NOT NULL OR state = 'waiting')`,
  );
}

/** Acts as the roles for as long as `act` takes. */
async function withRoles<T>(act: Promise<T>): Promise<T> {
  const done = new AbortController();
  const playing = (async () => {
    while (!done.signal.aborted) {
      await applyAll();
      await sleep(50);
    }
  })();
  try {
    return await act;
  } finally {
    done.abort();
    await playing;
  }
}

/** Waits until a query returns a row. */
async function until(query: string, ...values: unknown[]): Promise<void> {
  await eventually(query, async () => (await owner.query(query, values)).rows.length > 0);
}

const VERDICT = 'SELECT FROM requests WHERE jti = $1';

const PERSON = (name: string) => [
  'person.create',
  '--shellName',
  name,
  '--displayName',
  name,
  '--email',
  `${name}@example.org`,
];

describe('submit', () => {
  test('prints only the id, under which the request has its verdict', async () => {
    const { exit, out, err } = await run('submit', ...PERSON('alice'));
    expect({ exit, err }).toEqual({ exit: 0, err: '' });
    const id = out.trim();
    expect(id).toMatch(UUID);
    await until(VERDICT, id);
    const { out: shown } = await run('requests', id, '--json');
    expect(JSON.parse(shown)).toMatchObject({
      id,
      portal: 'admin.steward',
      kind: 'person.create',
      requestedBy: 'steward',
      approvedBy: 'steward',
      account: 'alice',
      verdict: 'accepted',
      open: [{ account: 'alice', role: 'directory', applied: false }],
    });
  });

  test('on a terminal it says how to see the verdict', async () => {
    const { out } = await runCli(['submit', ...PERSON('told')], {
      config: world.configFile,
      terminal: true,
    });
    const [id = '', hint] = out.trimEnd().split('\r\n');
    expect(id).toMatch(UUID);
    expect(hint).toContain(`sent; \`chamberlain requests ${id}\` shows the verdict`);
  });

  test('--wait follows until all is applied, and ticks off each role on standard error', async () => {
    const args = ['submit', 'access.grant', '--person', 'alice', '--wait'];
    const child = startCli(args, { config: world.configFile });
    const ended = endOf(child);
    let told = '';
    child.stderr?.on('data', (text: string) => (told += text));
    const isTold = (what: string) =>
      eventually(`${what} to be ticked off`, () => {
        if (!told.includes(`✓ ${what}`)) throw new Error(`${child.exitCode} ${told}`);
        return true;
      });
    // it sees then what is touched; afterwards it could not, because the directory was behind before
    await isTold('accepted');
    await owner.query(
      `UPDATE convergence SET applied = wanted, state = 'applied', leased_until = NULL
       WHERE role = 'directory'`,
    );
    await isTold('directory');
    await until(
      `SELECT count(*) FROM convergence JOIN people ON uid = subject AND shell_name = 'alice'
       WHERE role IN ('homes', 'databases') AND applied < wanted
         AND (leased_until IS NOT NULL OR convergence.state = 'waiting') HAVING count(*) = 2`,
    );
    expect(told).not.toMatch(/homes|databases/u);
    await applyAll();
    const { exit, out, err } = await ended;
    expect(exit).toBe(0);
    expect(out.trim()).toMatch(UUID);
    expect(err).toMatch(/^ {2}✓ accepted \d+ ms\n {2}✓ directory \d+ ms\n/u);
    expect(err).toMatch(/✓ homes \d+ ms\n/u);
    expect(err).toMatch(/✓ databases \d+ ms\n/u);
    expect(err).toMatch(/✓ applied \d+ ms\n$/u);
  });

  test('--wait ends with 1, code and sentence for what is refused', async () => {
    const { exit, err } = await run('submit', ...PERSON('root'), '--wait');
    expect(exit).toBe(1);
    expect(err).toMatch(/^NAME_(RESERVED|TAKEN): .+\n$/u);
    const { exit: again, out } = await run('submit', ...PERSON('root'), '--wait', '--json');
    expect(again).toBe(1);
    expect(JSON.parse(out)).toMatchObject({
      kind: 'person.create',
      verdict: 'refused',
      done: false,
      code: expect.stringMatching(/^NAME_/u),
      sentence: expect.stringContaining('root'),
    });
  });

  test('--wait ends with 5 after --timeout, and says what is missing', async () => {
    const { exit, err } = await run('submit', ...PERSON('slow'), '--wait', '--timeout', '5');
    expect(exit).toBe(5);
    expect(err).toContain('TIMEOUT: the role directory is not done with slow\n');
  });

  test('--wait ends with 1 when a role has given up', async () => {
    const waiting = run('submit', ...PERSON('parked'), '--wait');
    await until(`SELECT FROM people WHERE shell_name = 'parked'`);
    await owner.query(
      `UPDATE convergence SET state = 'parked', code = 'STEP_FAILED', sentence = 'adding uid=parked'
       WHERE subject = (SELECT uid FROM people WHERE shell_name = 'parked')`,
    );
    const { exit, err } = await waiting;
    expect(exit).toBe(1);
    expect(err).toContain('STEP_FAILED: directory has given up on parked: adding uid=parked.');
    const status = await run('status', 'parked');
    expect(status.exit).toBe(3);
    expect(status.out).toContain('STEP_FAILED: adding uid=parked');
    await owner.query(
      `UPDATE convergence SET applied = wanted, state = 'applied' WHERE state = 'parked'`,
    );
  });

  test('speaks for a person through a portal, with the approver as sub', async () => {
    const { out } = await withRoles(
      run(
        'submit',
        'tool.create',
        '--name=bridgebot',
        '--title=A bridge',
        '--portal=portal',
        `--portal-key=${world.portalKey}`,
        '--requestedBy=alice',
        '--approvedBy=steward',
        '--wait',
        '--json',
      ),
    );
    const { id, verdict, done } = JSON.parse(out) as Record<string, string>;
    expect({ verdict, done }).toEqual({ verdict: 'accepted', done: true });
    const { rows } = await owner.query(
      'SELECT portal, requested_by, approved_by FROM requests WHERE jti = $1',
      [id],
    );
    expect(rows).toEqual([{ portal: 'portal', requested_by: 'alice', approved_by: 'steward' }]);
  });

  describe('as a portal, with its key and its account of Redis alone:', () => {
    /** where no other secret is than the portal's */
    function configOfPortal(): string {
      const secrets = join(world.dir, 'secrets-of-portal');
      mkdirSync(secrets, { recursive: true });
      copyFileSync(
        join(world.config.secrets, 'redis-portal.portal'),
        join(secrets, 'redis-portal.portal'),
      );
      const file = join(world.dir, 'of-portal.yaml');
      const text = readFileSync(world.configFile, 'utf8');
      writeFileSync(file, text.replace(/^secrets: .*$/mu, `secrets: ${secrets}`));
      return file;
    }
    const ask = (...args: string[]) =>
      runCli(['submit', ...args, '--portal=portal', `--portal-key=${world.portalKey}`, '--wait'], {
        config: configOfPortal(),
      });

    test('it is followed until all is applied', async () => {
      const { exit, err } = await withRoles(
        ask(...PERSON('by-portal'), '--requestedBy=by-portal', '--timeout=60'),
      );
      expect(err).toMatch(/^ {2}✓ accepted \d+ ms\n {2}✓ applied \d+ ms\n$/u);
      expect(exit).toBe(0);
      const redis = new Redis(world.redis.urlOf('owner'));
      try {
        const keys = await redis.keys('bull:requests.portal:news:*');
        expect(keys.length).toBeGreaterThan(0);
        for (const key of keys) {
          const seconds = await redis.ttl(key);
          expect(seconds).toBeGreaterThan(3000);
          expect(seconds).toBeLessThanOrEqual(3600);
        }
      } finally {
        redis.disconnect();
      }
    });

    test('what is refused, what a role has given up on, and what an admin must approve is said', async () => {
      const refused = await ask(...PERSON('root'), '--requestedBy=root');
      expect(refused).toMatchObject({ exit: 1, err: expect.stringMatching(/^NAME_\w+: .+\n$/u) });
      const stuck = ask(...PERSON('stuck'), '--requestedBy=stuck', '--timeout=60');
      await until(`SELECT FROM people WHERE shell_name = 'stuck'`);
      await owner.query(
        `UPDATE convergence SET state = 'parked', code = 'STEP_FAILED', sentence = 'adding uid=stuck'
         WHERE subject = (SELECT uid FROM people WHERE shell_name = 'stuck')`,
      );
      expect(await stuck).toMatchObject({
        exit: 1,
        err: expect.stringContaining(
          'STEP_FAILED: directory has given up on it: adding uid=stuck.',
        ),
      });
      await owner.query(
        `UPDATE convergence SET applied = wanted, state = 'applied' WHERE state = 'parked'`,
      );
      const waits = await ask(
        ...['person.delete', '--person=by-portal', '--reason=Enough', '--requestedBy=by-portal'],
        '--timeout=60',
      );
      await run(
        ...['submit', 'request.reject', '--request', waits.out.trim(), '--reason=No', '--wait'],
      );
      expect(waits).toMatchObject({
        exit: 3,
        err: expect.stringMatching(
          /^WAITING: Another admin must approve .+\. To approve it, another admin runs `chamberlain submit request\.approve --request \S+`\. If no other admin can, the owner of PostgreSQL runs `chamberlain bootstrap --approve \S+`\.$/mu,
        ),
      });
    });

    test('what is not done in time is said', async () => {
      const late = await ask(...PERSON('late'), '--requestedBy=late', '--timeout=8');
      expect(late.exit).toBe(5);
      expect(late.err).toMatch(/^TIMEOUT: it is accepted, but the relay has not reported/mu);
    });
  });

  test.each<[string, string[], string]>([
    ['tool.create', [], 'name is missing; title is missing'],
    [
      'person.suspend',
      ['--until', 'tomorrow'],
      'reason is missing; until: this must be a time, such as 2026-12-31T12:00:00Z; the request must have exactly one of person and people',
    ],
    [
      'maintainer.add',
      ['--person', 'alice', '--maintainers', 'alice,bob'],
      'tool is missing; the request must have exactly one of person and maintainers',
    ],
    [
      'tool.create',
      ['--foo', '1', '--titel', 'x', '--bar=2', '--name', 'Bad_Name'],
      "unknown option '--foo'; unknown option '--titel' (did you mean --title?); unknown option '--bar'",
    ],
    [
      'person.create',
      ['--shelName', 'bob', '--displayName', '', '--email', 'not-mail'],
      "unknown option '--shelName' (did you mean --shellName?); displayName is empty; email: this is not a mail address of ASCII characters",
    ],
    [
      'access.grant',
      ['--id', 'x', '--approvedBy', 'x y'],
      "person is missing; id: 'x' is not a UUID; approvedBy: it is not the name of a person",
    ],
    [
      'portal.update',
      ['--name', 'Outlet', '--kinds', 'tool.craete,tool.update', '--verifiesMail', 'no'],
      `name: must begin with one of a-z, and have at most 63 of the characters a-z 0-9 . -; kinds: must be all, or a list of these: ${REQUEST_KINDS.join(', ')}; verifiesMail: must be true or false`,
    ],
  ])('tells every problem of a %s, and sends nothing', async (kind, flags, problems) => {
    const before = await countSent();
    expect(await run('submit', kind, ...flags)).toEqual({
      exit: EXIT.usage,
      out: '',
      err: `USAGE: ${problems}. See --help.\n`,
    });
    expect(await countSent()).toBe(before);
  });

  test('a tool that is named as an account is told what to be called', async () => {
    const { err } = await run('submit', 'tool.enable', '--tool', 'tools.bridgebot', '--wait');
    expect(err).toMatch(/^TOOL_UNKNOWN: .* without the prefix of the realm: bridgebot\.\n$/u);
  });

  test('--wait says what may be wrong where intake does not know the portal yet', async () => {
    const changed = join(world.dir, 'changed.yaml');
    const text = readFileSync(world.configFile, 'utf8');
    writeFileSync(changed, text.replaceAll(/\bname: portal\b/gu, 'name: newcomer'));
    const words = [
      'submit',
      ...PERSON('early'),
      '--requestedBy',
      'early',
      '--wait',
      '--timeout',
      '2',
    ];
    const { exit, err } = await runCli(
      [...words, '--portal', 'newcomer', '--portal-key', world.portalKey],
      { config: changed },
    );
    expect(exit).toBe(EXIT.timeout);
    expect(err).toMatch(
      /^TIMEOUT: it has no verdict yet; .* does its configuration list this portal\?\n$/u,
    );
  });

  test('--wait says that PostgreSQL is away, where it is', async () => {
    const changed = join(world.dir, 'away.yaml');
    const { host } = world.config.postgres;
    writeFileSync(changed, readFileSync(world.configFile, 'utf8').replaceAll(host, world.dir));
    const words = ['submit', ...PERSON('away'), '--wait', '--timeout', '1'];
    const { exit, err } = await runCli(words, { config: changed });
    expect([exit, err]).toEqual([
      EXIT.timeout,
      expect.stringMatching(/^TIMEOUT: the outcome cannot be read from PostgreSQL: .+\n$/u),
    ]);
  });

  test('lists are comma separated, and urgent kinds go to the urgent queue by themselves', async () => {
    await withRoles(run('submit', ...PERSON('bob'), '--wait'));
    await withRoles(run('submit', 'access.grant', '--person', 'bob', '--wait'));
    const added = await withRoles(
      run(
        'submit',
        'maintainer.add',
        '--tool',
        'bridgebot',
        '--maintainers',
        'bob, steward',
        '--wait',
      ),
    );
    expect(added.exit).toBe(0);
    const removed = await withRoles(
      run('submit', 'maintainer.remove', '--tool', 'bridgebot', '--person', 'bob', '--wait'),
    );
    // on the other queue intake would have refused it, or taken it as not urgent
    expect(removed.exit).toBe(0);
    const { rows } = await owner.query(
      `SELECT urgent FROM requests WHERE kind = 'maintainer.remove' AND verdict = 'accepted'`,
    );
    expect(rows).toEqual([{ urgent: true }]);
  });
});

describe('a slow command shows on a terminal what it waits for, and erases that:', () => {
  /** Everything that is written on the terminal; `during` runs when that text appears. */
  async function watch(said: RegExp, config: string, args: string[], during = applyAll) {
    const child = startCli(args, { config, terminal: true });
    let out = '';
    child.stdout?.on('data', (text: Buffer) => (out += text.toString()));
    const ended = endOf(child);
    await eventually(`${args[0]} to say ${said}`, () => said.test(out));
    const playing = setInterval(() => void during(), 200);
    await ended;
    clearInterval(playing);
    // later output must be on a line of its own
    const drawn = out.split('\r\u001B[K').filter((part) => said.test(part));
    for (const part of drawn) expect(part).toMatch(/ \d+ s$/u);
    return out;
  }

  test('with a PostgreSQL that hangs', async () => {
    const silent = createServer(() => {}).listen(0, '127.0.0.1');
    await once(silent, 'listening');
    const { port } = silent.address() as AddressInfo;
    const config = join(world.dir, 'hangs.yaml');
    const text = readFileSync(world.configFile, 'utf8');
    writeFileSync(
      config,
      text.replace(
        /^postgres:\n( +host: ).*\n( +port: ).*$/mu,
        `postgres:\n$1127.0.0.1\n$2${port}`,
      ),
    );
    const name = String.raw`PostgreSQL at 127\.0\.0\.1:${port}`;
    const commands = [
      'status',
      'requests',
      'audit',
      'list unmanaged',
      'thaw',
      'bootstrap x',
      'migrate',
    ];
    const outs = await Promise.all(
      commands.map((command) =>
        watch(
          new RegExp(`(reading|writing to|connecting to) ${name} \\d s`, 'u'),
          config,
          command.split(' '),
        ),
      ),
    );
    for (const out of outs) {
      expect(out).toMatch(
        new RegExp(`BACKEND_UNAVAILABLE: connecting to ${name}|PostgreSQL cannot be used at `, 'u'),
      );
      expect(out).toMatch(/: it does not answer\. /u);
    }
    silent.close();
  });

  test('submit --wait, until the roles have applied it', async () => {
    const args = ['submit', ...PERSON('watched'), '--wait', '--timeout', '20'];
    const said = /waiting for the roles to apply person\.create, 1 of 1 \d+ s/u;
    const out = await watch(said, world.configFile, args);
    expect(out).toMatch(/✓ accepted \d+ ms[^]*✓ applied \d+ ms/u);
  });
});

describe('submit --file', () => {
  test('sends JSON lines in order, follows each, and ends with the worst', async () => {
    const lines = [
      { kind: 'person.create', shellName: 'carol', displayName: 'Carol', email: 'c@example.org' },
      { kind: 'access.grant', person: 'carol' },
      { kind: 'access.grant', person: 'nobody' },
      {
        kind: 'tool.create',
        requestedBy: 'steward',
        name: 'carolbot',
        title: 'Of Carol',
        maintainers: ['carol'],
      },
    ];
    const { exit, out, err } = await withRoles(
      runWith(
        `\n${lines.map((line) => JSON.stringify(line)).join('\n')}\n`,
        'submit',
        '--file=-',
        '--wait',
        '--json',
      ),
    );
    expect(exit).toBe(1);
    const answers = out
      .trimEnd()
      .split('\n')
      .map((line) => JSON.parse(line) as Record<string, unknown>);
    expect(answers.map(({ kind, verdict, code }) => [kind, verdict, code])).toEqual([
      ['person.create', 'accepted', undefined],
      ['access.grant', 'accepted', undefined],
      ['access.grant', 'refused', 'PERSON_UNKNOWN'],
      ['tool.create', 'accepted', undefined],
    ]);
    expect(
      err
        .trimEnd()
        .split('\n')
        .map((line) => line.split(':')[0]),
    ).toEqual(['PERSON_UNKNOWN']);
  });

  test('sent again with the same ids, it changes nothing and gets the first verdicts', async () => {
    const id = '5f0c4c1e-0b6d-4f0e-9a57-0c3f6a1f2b11';
    const line = JSON.stringify({
      id,
      kind: 'person.create',
      shellName: 'dave',
      displayName: 'Dave',
      email: 'd@example.org',
    });
    const answers = [];
    for (let time = 0; time < 2; time += 1) {
      const { out } = await withRoles(runWith(line, 'submit', '--file', '-', '--wait', '--json'));
      answers.push(JSON.parse(out) as Record<string, unknown>);
    }
    expect(answers.map((answer) => [answer['id'], answer['verdict'], answer['done']])).toEqual([
      [id, 'accepted', true],
      [id, 'accepted', true],
    ]);
    const { rows } = await owner.query('SELECT count(*)::int FROM requests WHERE jti = $1', [id]);
    expect(rows).toEqual([{ count: 1 }]);
  });

  test('sends nothing if a line is wrong, and lists every problem of every line', async () => {
    const before = await countSent();
    const lines = [
      '{"kind": "access.grant", "person": "alice"}',
      '{"kind":',
      '{"kind": "tool.create", "maintainers": ["a b", "c d", "e f", "g h", "i j"]}',
      '',
      '{"kind": "tool.craete"}',
      '["tool.create"]',
      '{"name": "x"}',
      '{"kind": "person.create", "shellName": "", "displayName": "", "email": "x@example.org"}',
      '{"kind": "tool.enable", "tool": "x", "why": "", "requestedBy": 7}',
    ];
    const { exit, out, err } = await runWith(lines.join('\n'), 'submit', '--file', '-');
    expect({ exit, out }).toEqual({ exit: EXIT.usage, out: '' });
    const name = 'a name may contain only letters, digits, dots, dashes and underscores';
    expect(err.split('\n')).toEqual([
      expect.stringMatching(/^line 2 of standard input: it is not JSON: ./u),
      `line 3 of standard input: name is missing; title is missing; ${[0, 1, 2, 3, 4]
        .map((at) => `maintainers.${at}: ${name}`)
        .join('; ')}`,
      "line 5 of standard input: unknown kind 'tool.craete' (did you mean tool.create?)",
      'line 6 of standard input: it is not a JSON object',
      'line 7 of standard input: kind is missing',
      'line 8 of standard input: shellName is empty; displayName is empty',
      'line 9 of standard input: requestedBy: must be a string; "why" is unknown here',
      'USAGE: 7 of 8 requests are wrong, so nothing was sent. See --help.',
      '',
    ]);
    expect(await countSent()).toBe(before);
    const one = await runWith(`${lines[0]}\n${lines[1]}\n`, 'submit', '--file', '-');
    expect(one).toMatchObject({ exit: EXIT.usage, out: '' });
    expect(one.err).toMatch(/^USAGE: line 2 of standard input: it is not JSON: .*\n$/u);
  });

  test('refuses a line that is not UTF-8, so that no letter of a name is lost', async () => {
    const before = await countSent();
    const file = join(world.dir, 'latin1.jsonl');
    const line = '{"kind": "person.update", "person": "alice", "displayName": "José"}\n';
    writeFileSync(file, Buffer.concat([Buffer.from(line), Buffer.from(line, 'latin1')]));
    expect(await run('submit', '--file', file)).toMatchObject({
      exit: EXIT.usage,
      out: '',
      err: expect.stringMatching(/^USAGE: line 2 of .*latin1.jsonl: it is not UTF-8\./u),
    });
    expect(await countSent()).toBe(before);
  });
});

/** A signing key that no configuration knows. */
function strange(): string {
  const file = join(world.dir, 'strange.pem');
  const { privateKey } = generateKeyPairSync('ed25519');
  writeFileSync(file, privateKey.export({ type: 'pkcs8', format: 'pem' }), { mode: 0o600 });
  return file;
}

describe('a key', () => {
  test.each<[string, () => string[], RegExp]>([
    [
      "that is no admin's",
      () => ['--portal-key', strange()],
      /^USAGE: neither the configuration nor an accepted admin-key\.add has the key .* for any admin/u,
    ],
    [
      "that is another portal's",
      () => ['--portal', 'portal', '--portal-key', world.adminKey, '--requestedBy', 'alice'],
      /^USAGE: the configuration does not list the key .* for the portal portal/u,
    ],
    ['that is missing', () => ['--portal', 'portal'], /^USAGE: --portal needs --portal-key FILE/u],
    [
      'of nobody',
      () => ['--portal', 'portal', '--portal-key', world.portalKey],
      /^USAGE: requestedBy is missing\. See --help\./u,
    ],
    [
      'of no such portal',
      () => ['--portal', 'protal'],
      /^USAGE: .*'protal' \(did you mean portal\?\)/u,
    ],
    [
      'that is no key',
      () => ['--portal-key', world.configFile],
      /^CONFIG_INVALID: the signing key .* is not an Ed25519 key in the format of OpenSSH, or in PEM without a passphrase\. Name the right file: `chamberlain admin-key new`/u,
    ],
    [
      'that is nowhere',
      () => ['--portal-key', '/nowhere.pem'],
      /^CONFIG_INVALID: reading the signing key \/nowhere\.pem: there is no such file \(ENOENT\)\. Name the right file, or create it\.$/u,
    ],
  ])('%s is refused before anything is sent', async (_, flags, message) => {
    const { exit, out, err } = await run('submit', 'access.grant', '--person', 'alice', ...flags());
    expect({ exit, out }).toEqual({ exit: 2, out: '' });
    expect(err.trimEnd()).toMatch(message);
    expect(err.trimEnd()).not.toContain('\n');
  });
});

describe('requests', () => {
  test('for an id without a verdict, says where to look', async () => {
    const id = '00000000-0000-4000-8000-00000000abcd';
    expect(await run('requests', id)).toEqual({
      exit: EXIT.usage,
      out: '',
      err:
        `USAGE: no request ${id} has a verdict. Check the id. ` +
        'If the request was sent, `chamberlain status` shows what it waits for.\n',
    });
  });

  test('shows first what waits for approval, then verdicts, newest first', async () => {
    await withRoles(run('submit', ...PERSON('erin'), '--wait'));
    const asks = [
      ...['submit', 'access.request', '--reason=I have a bot\tto run', '--requestedBy=erin'],
      ...['--portal=portal', `--portal-key=${world.portalKey}`, '--wait'],
    ];
    const asked = await withRoles(run(...asks));
    expect(asked).toMatchObject({
      exit: 0,
      err: expect.stringMatching(/^ {2}… an admin must grant or refuse the access$/mu),
    });
    const id = asked.out.trim();
    expect((await run('requests', id)).out).toMatch(
      /verdict +waiting\n +why +An admin must grant or refuse the access\.\n(.*\n)* +done +-\n/u,
    );
    const { out } = await run('requests', '--limit', '2');
    expect(out).toMatch(
      /^Waiting for access\nperson .*\nerin +erin +\d+ s +portal +I have a bot\?to run\n\n/u,
    );
    const { waiting, requests } = JSON.parse(
      (await run('requests', '--limit', '2', '--json')).out,
    ) as {
      waiting: { person: string }[];
      requests: { kind: string }[];
    };
    expect(waiting.map(({ person }) => person)).toEqual(['erin']);
    expect(requests.map(({ kind }) => kind)).toEqual(['access.request', 'person.create']);
    const refusal = ['access.refuse', '--person', 'erin', '--reason', 'No bots', '--wait'];
    expect((await run('submit', ...refusal)).exit).toBe(0);
    expect((await run('requests', id)).out).toMatch(
      /verdict +rejected\n +why +refused by steward: No bots\n/u,
    );
  });
});

test('a refusal is listed with the person or the tool that it names, if there is one', async () => {
  const refused = async (...args: string[]): Promise<string> => {
    const { exit, out } = await run('submit', ...args, '--wait');
    expect(exit).toBe(EXIT.failed);
    return (await run('requests', out.trim())).out;
  };
  expect(await refused('person.reinstate', '--person', 'alice')).toMatch(/^ +subject +alice$/mu);
  expect(await refused('tool.enable', '--tool', 'bridgebot')).toMatch(
    /^ +subject +tools\.bridgebot$/mu,
  );
  const { rows } = await owner.query(
    `SELECT subject, account FROM audit WHERE verdict = 'refused' ORDER BY id DESC LIMIT 2`,
  );
  expect(rows).toEqual(['tools.bridgebot', 'alice'].map((account) => ({ subject: null, account })));
  expect(await refused('tool.enable', '--tool', 'jane.doe')).toMatch(/^ +subject +-$/mu);
});

test('an admin decides on a request that waits by its number, and its page shows why', async () => {
  await withRoles(run('submit', ...PERSON('fred'), '--wait'));
  const asked = await run(
    ...['submit', 'person.delete', '--requestedBy=fred', '--person=fred', '--reason=I go'],
    ...['--portal=portal', `--portal-key=${world.portalKey}`, '--wait'],
  );
  expect(asked.exit).toBe(EXIT.pending);
  const id = asked.out.trim();
  const { toApprove } = JSON.parse((await run('requests', '--json')).out) as {
    toApprove: { id: string; request: string; number: string }[];
  };
  expect(toApprove).toEqual([
    expect.objectContaining({ id, request: id, number: expect.stringMatching(/^\d+$/u) }),
  ]);
  const number = toApprove[0]?.number ?? '';
  expect((await run('requests')).out).toMatch(
    new RegExp(`^Waiting for an admin\nnumber +id .*\n${number} +${id} `, 'u'),
  );
  const reject = ['submit', 'request.reject', '--reason', 'Not now', '--wait', '--request'];
  expect(await run(...reject, '999999')).toMatchObject({
    exit: EXIT.usage,
    err: 'USAGE: no request has the number 999999. See --help.\n',
  });
  expect(await run(...reject, '1')).toMatchObject({
    exit: EXIT.usage,
    err: 'USAGE: the request 1 was sent by no portal, so nobody decides about it. See --help.\n',
  });
  expect(await run(...reject, number)).toMatchObject({ exit: 0 });
  expect((await run('requests', id)).out).toMatch(
    /verdict +rejected\n +why +rejected by steward: Not now\n/u,
  );
});

describe('status', () => {
  test('ends with 0 if nothing fails, and finds a person by name and uid, a tool by name and account', async () => {
    await withRoles(until(`SELECT FROM convergence HAVING every(applied = wanted)`));
    await pretendWork(owner);
    const all = await run('status', '--json');
    expect(all.exit).toBe(0);
    expect(JSON.parse(all.out)).toMatchObject({ behind: [] });
    const [byName, byAccount] = [
      await run('status', 'bridgebot'),
      await run('status', 'tools.bridgebot'),
    ];
    expect(byName.exit).toBe(0);
    expect(byName.out).toContain('tools.bridgebot  tool ');
    expect(byAccount.out.split('\n')[0]).toBe(byName.out.split('\n')[0]);
    const person = JSON.parse((await run('status', 'alice', '--json')).out) as { uid: number };
    expect(person).toMatchObject({
      kind: 'person',
      realmMember: true,
      maintains: ['tools.bridgebot'],
    });
    expect(JSON.parse((await run('status', String(person.uid), '--json')).out)).toEqual(person);
  });

  test('of nobody ends with 1', async () => {
    for (const command of [['status'], ['audit', '--subject']]) {
      expect(await run(...command, 'alicia')).toEqual({
        exit: 1,
        out: '',
        err: "PERSON_UNKNOWN: no person or tool is called 'alicia' (did you mean alice?). Check the name.\n",
      });
    }
  });

  test('suggests the right name for one with a capital letter', async () => {
    const { err } = await run('submit', 'access.grant', '--person', 'Alice', '--wait');
    expect(err).toBe(
      'PERSON_UNKNOWN: There is no person named Alice. Shell names have no capital letters. Use alice.\n',
    );
  });
});

describe('plan', () => {
  /** Answers every survey in the place of these roles, in the table of reports. */
  async function answering<T>(reports: Record<string, object>, act: Promise<T>): Promise<T> {
    const done = new AbortController();
    const playing = (async () => {
      while (!done.signal.aborted) {
        for (const [role, report] of Object.entries(reports)) {
          await owner.query(
            `INSERT INTO reports (survey, role, report) SELECT id, $1, $2 FROM surveys FOR KEY SHARE
             ON CONFLICT DO NOTHING`,
            [role, JSON.stringify({ ...NOTHING, ...report })],
          );
        }
        await sleep(20);
      }
    })();
    try {
      return await act;
    } finally {
      done.abort();
      await playing;
    }
  }
  const NOTHING = { steps: [], findings: [], waiting: [], unreadable: [], subjects: 1 };
  const STEP = {
    target: 'unix-group',
    subject: 50_001,
    account: 'tools.x',
    object: 'cn=tools.x',
    effect: 'create',
    change: 'absent → present',
    because: 'it does not exist',
    action: {},
  };

  test('ends with 0 if no role has anything to do, and deletes the survey', async () => {
    const reports = { directory: {}, homes: {}, databases: {} };
    const { exit, out } = await answering(reports, run('plan', 'alice'));
    expect(exit).toBe(0);
    expect(out).toMatch(/^1 subject checked: nothing to do\ndigest [0-9a-f]{64}\n$/u);
    expect((await owner.query('SELECT count(*)::int FROM surveys')).rows).toEqual([{ count: 0 }]);
  });

  test('ends with 3 if there is a step or a finding', async () => {
    const reports = { directory: { steps: [STEP] }, homes: {}, databases: {} };
    const { exit, out } = await answering(reports, run('plan', '--all', '--json'));
    expect(exit).toBe(3);
    expect(JSON.parse(out)).toMatchObject({ steps: [STEP], totals: { steps: 1, create: 1 } });
    const finding = {
      target: 'x',
      subject: 1,
      account: 'x',
      object: 'x',
      code: 'PATH_FOREIGN',
      sentence: 'x',
    };
    const found = { homes: { findings: [finding] } };
    expect((await answering(found, run('plan', '--role', 'homes'))).exit).toBe(3);
  });

  test('ends with 4 if a role does not answer, whatever the others say', async () => {
    const reports = { directory: { steps: [STEP] }, homes: {} };
    const { exit, out } = await answering(reports, run('plan', '--timeout', '3'));
    expect(exit).toBe(4);
    expect(out).toContain(
      'databases: no answer within 3 s; is `chamberlain work databases` running?',
    );
    expect(out).toContain('+ unix-group');
  });

  test('names the subjects in the survey', async () => {
    const planning = run('plan', 'alice', 'bridgebot', 'tools.bridgebot', '--timeout', '5');
    const asked = await eventually('the survey of two subjects', async () => {
      const { rows } = await owner.query<{ subjects: number }>(
        `SELECT cardinality(subjects) AS subjects FROM surveys WHERE subjects IS NOT NULL`,
      );
      return rows[0];
    });
    expect(asked).toEqual({ subjects: 2 });
    await planning;
  });
});

test('an access that is revoked and granted again: who revoked it, and that an admin is an admin again', async () => {
  const ask = (...args: string[]) => withRoles(run('submit', ...args, '--wait'));
  await ask(...PERSON('gwen'));
  expect((await ask('access.grant', '--person', 'gwen')).err).not.toContain('admin');
  expect((await run('explain', 'gwen')).out).not.toContain('revoked');
  await ask('maintainer.add', '--tool', 'admin', '--person', 'gwen');
  expect(await ask('access.revoke', '--person', 'gwen')).toMatchObject({ exit: 0 });
  expect((await run('explain', 'gwen')).out).toMatch(
    /^ +realm member +no, access revoked 2\d{3}-\S+ \S+Z by steward$/mu,
  );
  const again = await ask('access.grant', '--person', 'gwen');
  expect(again).toMatchObject({
    exit: 0,
    err: expect.stringMatching(
      /^ {2}! gwen is an admin again: they have stayed a maintainer of the tool admin$/mu,
    ),
  });
  expect((await run('explain', 'gwen')).out).toMatch(/^ +realm member +since /mu);
});

test('bootstrap in a realm with people names the command with which an admin makes another admin', async () => {
  expect(await run('bootstrap', 'alice')).toEqual({
    exit: EXIT.failed,
    out: '',
    err:
      'NOT_ALLOWED: the realm already has people. To add another admin, an admin runs ' +
      '`chamberlain submit maintainer.add --tool admin --person alice --wait`.\n',
  });
});

test('migrate may be run again at any time', async () => {
  const err = expect.stringMatching(/^(.*, \d+ s\n)*$/u); // progress, on a busy machine
  expect(await run('migrate')).toEqual({ exit: 0, out: 'up to date\n', err });
  const [one, two] = await Promise.all([run('migrate', '--json'), run('migrate', '--json')]);
  expect([one, two].map(({ exit, out }) => [exit, out])).toEqual(
    [0, 1].map(() => [0, '{"applied":[]}\n']),
  );
});

test('work ends with 0 within 5 s of SIGTERM, and logs that', async () => {
  const child = startCli(['work', 'intake', 'relay'], { config: world.configFile });
  const ended = endOf(child);
  await new Promise<void>((resolve) => {
    child.stderr?.on('data', (text: string) => {
      if (text.includes('"msg":"working"')) resolve();
    });
  });
  const start = performance.now();
  child.kill('SIGTERM');
  const { exit, out, err } = await ended;
  // it ends itself after 5 s, whatever work is in progress
  expect(performance.now() - start).toBeLessThan(20_000);
  expect({ exit, out }).toEqual({ exit: 0, out: '' });
  expect(err).toContain('"msg":"ended"');
});
