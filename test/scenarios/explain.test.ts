/** `explain`: everything that is known about a word, on real servers, and what it says when it cannot know. */
import { execFile, spawn, type ChildProcess } from 'node:child_process';
import {
  chmodSync,
  copyFileSync,
  mkdirSync,
  readFileSync,
  renameSync,
  rmSync,
  writeFileSync,
} from 'node:fs';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { afterAll, beforeAll, describe, expect, test } from '@jest/globals';
import { explain } from '../../src/explain/explaining.ts';
import { loadConfig } from '../../src/shared/config.ts';
import { openPool } from '../../src/database/connection.ts';
import type { Explanation, SubjectPage } from '../../src/explain/explanation.ts';
import { PROGRAM, runCli } from '../cli/run-cli.ts';
import type { World } from '../stack.ts';
import { eventually } from './eventually.ts';
import { addUnmanagedEntry, changeDirectory, homeOf, query, settled } from './outside.ts';
import type { Portal } from './portal.ts';
import { admit, openRunning, type Running } from './running.ts';

const ROLES = ['directory', 'homes', 'databases'];
const BASE = 'dc=example,dc=org';
const DEEP = 'uid=tools.deep,ou=people,ou=servicegroups';
const RULES = `ou=sudoers,cn=tools,ou=projects,${BASE}`;
const KEYS = {
  alice: 'ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIND0k9UN/Drd9ADbQRf/x4MAWO3WcOIkixt20iCch4JR laptop',
  bob: 'ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIHKUwH8v/5b4GYB8M7oRkUEjfDDPGJmKzYnxo5Cd2yqn',
};
/** Far more than an idle role needs: the machine may be busy. */
const PATIENT_MS = 60_000;

let running: Running;
let world: World;
let portal: Portal;
const uids: Record<string, number> = {};
const fingerprints: Record<string, string> = {};

const about = (word: string, timeoutMs = PATIENT_MS): Promise<Explanation> =>
  explain(world.config, word, { timeoutMs, now: new Date() });
const run = (...args: string[]) =>
  runCli(['explain', '--timeout', `${PATIENT_MS / 1000}`, ...args], { config: world.configFile });

async function page(word: string): Promise<SubjectPage> {
  const { subjects } = await about(word);
  expect(subjects).toHaveLength(1);
  return subjects[0] as SubjectPage;
}
const target = ({ targets }: SubjectPage, name: string) =>
  targets.find((each) => each.target === name);
const states = ({ targets }: SubjectPage) => [...new Set(targets.map(({ state }) => state))];

beforeAll(async () => {
  running = await openRunning('explain', {
    adjust: (config) => ({ ...config, reservedNames: ['keeper'] }),
  });
  ({ world, portal } = running);
  await admit(portal, 'alice', 'bob', 'carol');
  for (const [person, key] of Object.entries(KEYS)) {
    await portal.get({ kind: 'key.add', requestedBy: person, person, key });
  }
  const make = (name: string, requestedBy: string, maintainers?: string[]) =>
    portal.get(
      {
        kind: 'tool.create',
        requestedBy,
        name,
        title: name,
        ...(maintainers ? { maintainers } : {}),
      },
      { approvedBy: 'steward' },
    );
  await make('relay', 'bob');
  await make('bridgebot', 'alice');
  await make('deep', 'carol');
  await make('alice', 'alice');
  const add = (tool: string, person: string, requestedBy: string) =>
    portal.get({ kind: 'maintainer.add', requestedBy, tool, person });
  await add('bridgebot', 'tools.relay', 'alice');
  await add('relay', 'tools.bridgebot', 'bob');
  await add('deep', 'tools.bridgebot', 'carol');
  await settled(world);
  const rows = await query<{ name: string; subject: number }>(world, 'SELECT * FROM names');
  for (const { name, subject } of rows) uids[name] = subject;
  const keys = await query<{ fingerprint: string; shell_name: string }>(
    world,
    'SELECT fingerprint, shell_name FROM ssh_keys JOIN people ON uid = person',
  );
  for (const { shell_name, fingerprint } of keys) fingerprints[shell_name] = fingerprint;
}, 180_000);

afterAll(async () => {
  await running?.close();
});

describe('what a word names', () => {
  test.each([
    ['a shell name', () => 'bob', ['bob']],
    ['a display name, in any case', () => 'the BOB', ['bob']],
    ['a mail address, in any case', () => 'Bob@Example.org', ['bob']],
    ['a tool', () => 'bridgebot', ['tools.bridgebot']],
    ['its account', () => 'tools.bridgebot', ['tools.bridgebot']],
    ['a person and a tool', () => 'alice', ['alice', 'tools.alice']],
    ['a uid', () => String(uids['tools.deep']), ['tools.deep']],
    ["a tool's database user", () => `s${uids['tools.deep']}`, ['tools.deep']],
    ["a person's database user", () => `u${uids['bob']}`, ['bob']],
    ['a database', () => `s${uids['tools.deep']}__stuff`, ['tools.deep']],
    ["a tool's home", () => '/data/project/bridgebot', ['tools.bridgebot']],
    ['a path in it', () => '/data/project/bridgebot/logs/x', ['tools.bridgebot']],
    ['the same on this machine', () => homeOf(world, { tool: 'alice' }), ['tools.alice']],
    ["a person's home", () => '/home/alice/.profile', ['alice']],
    ['a fingerprint', () => fingerprints['bob'] ?? '', ['bob']],
    ['a whole key', () => `${KEYS.bob} somebody@somewhere`, ['bob']],
    ['the DN of a person', () => `uid=bob,ou=people,${BASE}`, ['bob']],
    ['of a tool’s account, without the base', () => DEEP, ['tools.deep']],
    ['of its group, in any case', () => `CN=Tools.Deep, OU=servicegroups, ${BASE}`, ['tools.deep']],
    ['of its rule', () => `cn=runas-tools.deep,${RULES}`, ['tools.deep']],
    ['of a person among tools', () => `uid=bob,ou=people,ou=servicegroups,${BASE}`, []],
    ['of nobody', () => `uid=eve,ou=people,${BASE}`, []],
    ['a database user of the other kind', () => `u${uids['tools.deep']}`, []],
    ['another case', () => 'Bridgebot', []],
  ])('%s', async (_what, word, accounts) => {
    const { subjects } = await about(word());
    expect(subjects.map(({ account }) => account)).toEqual(accounts);
  });

  test('a path and a database are described', async () => {
    const said = async (word: string) => (await about(word)).known.join('\n');
    expect(await said('/data/project/deep')).toContain('is the home of tools.deep');
    expect(await said('/home/alice/replica.my.cnf')).toContain('the credentials file of alice');
    expect(await said('/data/project/deep/src')).toContain(
      `${uids['tools.deep']}:${uids['tools.deep']}`,
    );
    expect(await said(`s${uids['tools.deep']}__x`)).toContain('a database of tools.deep');
    expect(await said('bob@example.org')).toContain('is the mail address of bob');
    expect(await said(`s${uids['tools.deep']}`)).toContain('the database user of tools.deep');
  });
});

test('the realm group is the same by its name, its number and its DN', async () => {
  const dn = `cn=project-tools,ou=groups,${BASE}`;
  for (const word of ['project-tools', '500', dn, 'cn=project-tools,ou=groups']) {
    expect(await about(word)).toMatchObject({
      known: [
        `project-tools is the realm group, whose members are all realm members: number 500, ${dn}.`,
      ],
      subjects: [],
    });
  }
});

test('a page says where the account is in the directory, and a tool’s group', async () => {
  expect((await page('bob')).dns).toEqual([`uid=bob,ou=people,${BASE}`]);
  expect((await page('deep')).dns).toEqual([
    `${DEEP},${BASE}`,
    `cn=tools.deep,ou=servicegroups,${BASE}`,
  ]);
});

test.each([
  ['bridgbot', 'bridgebot'],
  ['tools.dep', 'tools.deep'],
  [`uid=bb,ou=people,${BASE}`, 'bob'],
  ['/data/project/bridgebt/logs', 'bridgebot'],
])('of %s only the possible matches are known', async (word, meant) => {
  const { known, subjects } = await about(word);
  expect([known.at(-1), subjects]).toEqual([`Did you mean ${meant}?`, []]);
});

describe('survey and plan', () => {
  const ask = (...args: string[]) => runCli(args, { config: world.configFile });

  test('accept every name of a subject, and show each subject once', async () => {
    const tool = String(uids['tools.bridgebot']);
    const survey = await ask('survey', 'bridgebot', 'tools.bridgebot', tool, 'alice');
    // a person and a tool are called alice
    expect([survey.exit, survey.out]).toEqual([0, '3 subjects checked: all as wanted\n']);
    const plan = await ask('plan', 'tools.alice');
    expect(plan.exit).toBe(0);
    expect(plan.out).toMatch(/^1 subject checked: nothing to do\ndigest [0-9a-f]{64}\n$/u);
  });

  test('of a target that none of the subjects can have, there is nothing to see: exit 2', async () => {
    const { exit, out, err } = await ask('survey', 'bob', '--target', 'sudo-rule');
    expect({ exit, out }).toEqual({ exit: 2, out: '' });
    expect(err).toBe('USAGE: bob: this subject can never have the target sudo-rule. See --help.\n');
    // a person and a tool are called alice
    expect((await ask('survey', 'alice', '--target', 'sudo-rule')).exit).toBe(0);
  });

  test.each([
    ['bridgbot', ' (did you mean bridgebot?)'],
    ['tools.dep', ' (did you mean tools.deep?)'],
    ['brid', ' (did you mean bridgebot?)'],
    ['no-such-thing', ''],
    ['99999999999', ''],
    ['\u001b[2J', ''],
  ])('of %s there is nothing to see: exit 1, with the possible matches', async (word, meant) => {
    const { exit, out, err } = await ask('survey', 'alice', word);
    const shown = word === '\u001b[2J' ? '' : word;
    const code = word.includes('.') ? 'TOOL_UNKNOWN' : 'PERSON_UNKNOWN';
    expect({ exit, out }).toEqual({ exit: 1, out: '' });
    expect(err).toBe(`${code}: no person or tool is called '${shown}'${meant}. Check the name.\n`);
  });
});

describe('a page', () => {
  test('everything as wanted: exit 0, with requester and approver', async () => {
    const begin = performance.now();
    const { exit, out, err } = await run('tools.bridgebot', '--json');
    // it ends with the last answer, not when its time is over
    expect(performance.now() - begin).toBeLessThan(PATIENT_MS / 2);
    expect({ exit, err }).toEqual({ exit: 0, err: '' });
    const [tool] = (JSON.parse(out) as Explanation).subjects as [SubjectPage];
    expect(states(tool)).toEqual(['as wanted']);
    expect(tool.targets.map((each) => each.target)).toEqual([
      'unix-group',
      'unix-account',
      'seal',
      'sudo-rule',
      'home-directory',
      'credentials-file',
      'database-account',
    ]);
    expect(target(tool, 'unix-group')?.wanted).toContain('3 members');
    expect(tool.history[0]).toMatchObject({
      kind: 'tool.create',
      requestedBy: 'alice',
      approvedBy: 'steward',
      portal: 'portal',
      verdict: 'accepted',
    });
    expect(tool.credentials).toMatchObject({ wantedEpoch: 1, recordedEpoch: 1 });
    expect(tool.maintainers).toEqual(['alice', 'tools.relay']);
  });

  test('a person: keys, access, accounts', async () => {
    const bob = await page('bob');
    expect(bob).toMatchObject({ displayName: 'The bob', databaseUser: `u${uids['bob']}` });
    expect(bob.realmMember?.since).toEqual(expect.any(String));
    expect(bob.keys).toMatchObject([{ fingerprint: fingerprints['bob'], stops: [] }]);
    expect(bob.becomes).toMatchObject([
      { account: 'tools.bridgebot', path: ['bob', 'tools.relay', 'tools.bridgebot'], stops: [] },
      {
        account: 'tools.deep',
        path: ['bob', 'tools.relay', 'tools.bridgebot', 'tools.deep'],
        stops: [],
      },
      { account: 'tools.relay', path: ['bob', 'tools.relay'], stops: [] },
    ]);
  });

  test('who can get in, through two tools and in spite of a cycle, and by which key', async () => {
    const { entrants = [] } = await page('deep');
    expect(entrants.map(({ person, open }) => [person, open])).toEqual([
      ['alice', true],
      ['bob', true],
      ['carol', false],
    ]);
    const [alice, bob, carol] = entrants;
    expect(alice?.ways.map(({ path }) => path)).toEqual([
      ['alice', 'tools.bridgebot', 'tools.deep'],
    ]);
    expect(bob?.ways.map(({ path }) => path)).toEqual([
      ['bob', 'tools.relay', 'tools.bridgebot', 'tools.deep'],
    ]);
    expect(alice?.keys).toMatchObject([{ fingerprint: fingerprints['alice'], label: 'laptop' }]);
    expect(carol?.ways).toMatchObject([{ stops: ['carol has no key'] }]);
  });

  test('for people, without characters that control a terminal', async () => {
    const title = (text: string) =>
      query(world, `UPDATE tools SET title = $1 WHERE name = 'bridgebot'`, [text]);
    await title('A \u001b[2J\u202ebridge\nas wanted');
    const { out } = await run('bridgebot');
    await title('bridgebot');
    expect(out).toMatch(/^ {2}title +A \?\[2J\?bridge\?as wanted$/mu);
    expect(out).toContain(`tools.bridgebot  tool ${uids['tools.bridgebot']}, active`);
    expect(out).toMatch(/as wanted +home-directory +\/data\/project\/bridgebot/u);
    expect(out).toMatch(/bob +through tools\.relay, since/u);
    expect(out.replaceAll('\n', '')).not.toMatch(/\p{C}/u);
  });
});

/** The lines that a command writes on a terminal with so many columns. */
async function onTerminal(columns: number, words: string, color = 'NO_COLOR'): Promise<string[]> {
  const command = `stty cols ${columns}; '${process.execPath}' '${PROGRAM}' ${words}`;
  const env = { ...process.env, CHAMBERLAIN_CONFIG: world.configFile, [color]: '1' };
  const { stdout } = await promisify(execFile)('script', ['-qec', command, '/dev/null'], { env });
  return stdout.split('\r\n');
}

test('no line is wider than the terminal', async () => {
  const lines = await onTerminal(100, `explain alice --timeout ${PATIENT_MS / 1000}`);
  expect(lines.filter((line) => line.length > 100)).toEqual([]);
  // what follows stays in its column
  expect(lines).toContainEqual(expect.stringMatching(/^ {32}\S/u));
});

test.each(['audit', 'requests'])('nor is one of `%s`', async (word) => {
  const isWide = (line: string) => line.length > 80;
  expect((await onTerminal(80, word)).filter(isWide)).toEqual([]);
  const { out } = await runCli([word], { config: world.configFile });
  expect(out.split('\n').some(isWide)).toBe(true);
});

describe('what differs', () => {
  // without relay and sweep nothing is repaired meanwhile
  beforeAll(async () => {
    await running.stopWork();
    await running.startWork(ROLES);
  });
  afterAll(async () => {
    await running.stopWork();
    await running.startWork();
    await query(world, 'SELECT touch_generation(subject, role) FROM convergence');
    await settled(world);
  });

  test('each system is named, with the reason, and since when it is known', async () => {
    await changeDirectory(
      world,
      'ldapmodify',
      `dn: uid=tools.relay,ou=people,ou=servicegroups,${BASE}\nchangetype: modify\nreplace: loginShell\nloginShell: /bin/zsh\n`,
    );
    chmodSync(homeOf(world, { tool: 'relay' }), 0o2777);
    writeFileSync(join(homeOf(world, { tool: 'relay' }), 'replica.my.cnf'), '');
    const [drift] = await query<{ since: Date }>(
      world,
      `INSERT INTO drifts (subject, role, target, object, what, since)
       VALUES ($1, 'homes', 'home-directory', '/data/project/relay', 'x', now() - interval '3 d')
       RETURNING since`,
      [uids['tools.relay']],
    );
    const appliedDaysAgo = (days: number) =>
      query(
        world,
        `UPDATE convergence SET next_try_at = now() - make_interval(days => $2)
         WHERE subject = $1 AND role = 'homes'`,
        [uids['tools.relay'], days],
      );
    // the sweep's difference was repaired a day later: this one is another
    await appliedDaysAgo(2);
    expect(target(await page('relay'), 'home-directory')).toMatchObject({
      state: 'differs',
      trouble: [{ mark: '-', since: null }],
    });
    await appliedDaysAgo(4);
    const relay = await page('relay');
    expect(target(relay, 'unix-account')).toMatchObject({
      state: 'differs',
      trouble: [{ mark: '~', what: expect.stringContaining('/bin/zsh → /bin/bash'), since: null }],
    });
    expect(target(relay, 'home-directory')).toMatchObject({
      state: 'differs',
      trouble: [{ mark: '-', since: drift?.since.toISOString() }],
    });
    expect(target(relay, 'credentials-file')?.state).toBe('differs');
    expect(target(relay, 'unix-group')?.state).toBe('as wanted');
    expect((await run('relay')).exit).toBe(3);
  });

  test('a role that is behind differs since it was touched, or since it was seen if that is earlier', async () => {
    for (const role of ['directory', 'homes']) {
      await query(world, 'SELECT touch_generation($1, $2)', [uids['tools.relay'], role]);
    }
    const [row] = await query<{ touched: Date; drifted: Date }>(
      world,
      `SELECT c.since AS touched, d.since AS drifted FROM convergence c JOIN drifts d USING (subject)
       WHERE subject = $1 AND c.role = 'directory'`,
      [uids['tools.relay']],
    );
    const relay = await page('relay');
    expect(target(relay, 'unix-account')?.trouble[0]?.since).toBe(row?.touched.toISOString());
    // a sweep had seen this one before it was touched
    expect(target(relay, 'home-directory')?.trouble[0]?.since).toBe(row?.drifted.toISOString());
    expect(target(relay, 'credentials-file')?.trouble[0]?.since).not.toBe(
      row?.drifted.toISOString(),
    );
  });

  test('a target that was not checked, because one that it needs has a finding, is not reported as wanted', async () => {
    const home = homeOf(world, { tool: 'deep' });
    renameSync(home, `${home}.away`);
    writeFileSync(home, '');
    const entry = `uid=carol,ou=people,${BASE}`;
    const number = (uid: number) =>
      changeDirectory(
        world,
        'ldapmodify',
        `dn: ${entry}\nchangetype: modify\nreplace: uidNumber\nuidNumber: ${uid}\n`,
      );
    try {
      await number((world.config.ids.people.at(-1)?.last ?? 0) - 7);
      const deep = await page('deep');
      expect(target(deep, 'home-directory')?.state).toBe('finding');
      expect(target(deep, 'credentials-file')).toMatchObject({
        state: 'waiting',
        trouble: [{ mark: '…', what: 'withheld: see home-directory' }],
      });
      expect((await run('deep')).out).toMatch(/^ +… withheld: see home-directory$/mu);
      const carol = await page('carol');
      expect(carol.targets.map((each) => [each.target, each.state])).toEqual([
        ['unix-account', 'finding'],
        ['seal', 'waiting'],
        ['ssh-keys', 'waiting'],
        ['realm-membership', 'waiting'],
        ['home-directory', 'as wanted'],
        ['credentials-file', 'as wanted'],
        ['database-account', 'as wanted'],
      ]);
    } finally {
      rmSync(home);
      renameSync(`${home}.away`, home);
      await number(uids['carol'] ?? 0);
    }
    // a file in place of a folder of the home hides nothing of the credentials
    const logs = join(home, 'logs');
    renameSync(logs, `${logs}.away`);
    writeFileSync(logs, '');
    const deep = await page('deep');
    expect(target(deep, 'home-directory')?.state).toBe('finding');
    expect(target(deep, 'credentials-file')?.state).toBe('as wanted');
    rmSync(logs);
    renameSync(`${logs}.away`, logs);
  });

  test('a suspended person has no access by any chain, and is locked nowhere yet', async () => {
    await query(world, `UPDATE people SET state = 'suspended' WHERE shell_name = 'bob'`);
    try {
      const { entrants = [] } = await page('deep');
      expect(entrants.find(({ person }) => person === 'bob')).toMatchObject({
        open: false,
        ways: [{ stops: ['bob is suspended'] }],
      });
      const bob = await page('bob');
      expect(bob.stops).toEqual(['bob is suspended']);
      expect(bob.becomes.every(({ stops }) => stops.includes('bob is suspended'))).toBe(true);
      expect(target(bob, 'unix-account')?.wanted).toMatch(/, locked$/u);
      expect(target(bob, 'unix-account')?.trouble).toMatchObject([{ mark: '-' }]);
      expect(target(bob, 'ssh-keys')?.trouble).toMatchObject([{ mark: '-' }]);
    } finally {
      await query(world, `UPDATE people SET state = 'active' WHERE shell_name = 'bob'`);
    }
  });

  test('nor has a person who is not a realm member, whose keys have expired, or behind a disabled tool', async () => {
    const stopsOf = async (person: string) =>
      (await page('deep')).entrants?.find((each) => each.person === person)?.ways[0]?.stops;
    await query(world, 'DELETE FROM realm_members WHERE person = $1', [uids['alice']]);
    await query(world, `UPDATE ssh_keys SET expires_at = now() WHERE person = $1`, [uids['bob']]);
    await query(world, `UPDATE tools SET state = 'disabled' WHERE name = 'relay'`);
    try {
      expect(await stopsOf('alice')).toEqual(['alice is not a realm member']);
      expect(await stopsOf('bob')).toEqual([
        'every key of bob has expired',
        'tools.relay is disabled',
      ]);
      const { key } = await about(fingerprints['bob'] ?? '');
      expect(key).toMatchObject({ holder: 'bob', stops: ['expired'] });
    } finally {
      await query(world, 'INSERT INTO realm_members (person) VALUES ($1)', [uids['alice']]);
      await query(world, 'UPDATE ssh_keys SET expires_at = NULL');
      await query(world, `UPDATE tools SET state = 'active'`);
    }
  });
});

describe('keys', () => {
  test('a removed key: its holder, since when, and that it gives no access', async () => {
    const fingerprint = fingerprints['bob'] ?? '';
    await portal.get({ kind: 'key.remove', requestedBy: 'bob', person: 'bob', fingerprint });
    const { key, subjects } = await about(fingerprint);
    expect(key).toMatchObject({ holder: 'bob', stops: ['removed'], knownBad: null });
    expect(key?.removedAt).toEqual(expect.any(String));
    expect(subjects[0]?.becomes[0]?.stops).toEqual(['bob has no key']);
    const { out } = await run(fingerprint);
    expect(out).toMatch(/gives access +to nothing: removed/u);
  });

  test('a key that nobody has, and one that is publicly known', async () => {
    const { exit, out } = await run('SHA256:WkvqjnyPAeC0cbPErYiGP9vqHdgL1MqqvPdIe3lvHgI');
    expect(exit).toBe(1);
    expect(out).toContain("Vagrant's insecure key");
    expect((await about('ssh-ed25519 AAAAthis is none')).known).toEqual([
      expect.stringContaining('KEY_MALFORMED'),
    ]);
  });
});

describe('unknown words: exit 1, and what is known', () => {
  test('unmanaged names and numbers, since when they were seen', async () => {
    const uid = (world.config.ids.people.at(-1)?.last ?? 0) - 5;
    await addUnmanagedEntry(
      world,
      [
        `dn: uid=olaf,ou=people,${BASE}`,
        ...['person', 'inetOrgPerson', 'posixAccount'].map((each) => `objectClass: ${each}`),
        ...['uid: olaf', 'cn: olaf of old', 'sn: old', `uidNumber: ${uid}`, 'gidNumber: 500'],
        ...['homeDirectory: /srv/olaf', ''],
      ].join('\n'),
    );
    await world.chamberlain('plan', '--all').catch(() => {});
    for (const word of ['olaf', String(uid)]) {
      const { exit, out, err } = await run(word);
      expect({ exit, err }).toEqual({ exit: 1, err: '' });
      expect(out).toMatch(
        /^ *olaf, number \d+, was not made by Chamberlain\. It was first seen at 20\S+ \S+Z in the directory, in an area of homes or on a database server, and may be gone by now: see `chamberlain list unmanaged`\.$/mu,
      );
    }
    await expect(about('olaf')).resolves.toMatchObject({
      known: expect.arrayContaining([expect.stringContaining('something unmanaged had the name')]),
    });
  });

  test('free, reserved, refused', async () => {
    const said = async (word: string) => (await about(word)).known.join('\n');
    expect(await said('newcomer')).toContain(
      'no person newcomer, and there never was; no sweep has looked yet for anything unmanaged with the name.',
    );
    for (const name of ['docker', 'keeper']) {
      expect(await said(name)).toContain('the name is reserved');
    }
    expect(await said('No-Such!')).toContain('has a form that is not allowed');
    await portal.ask({
      kind: 'person.create',
      requestedBy: 'docker',
      shellName: 'docker',
      displayName: 'D',
      email: 'd@example.org',
    });
    expect(await said('docker')).toContain('NAME_RESERVED');
  });

  test('numbers: never given, out of all ranges, a group, never to be given', async () => {
    const said = async (word: number) => (await about(String(word))).known.join('\n');
    const { people, realmGid } = world.config.ids;
    expect(await said((people[0]?.last ?? 0) - 1)).toMatch(
      /was never assigned; .* unmanaged with the number\. The next number/u,
    );
    expect(await said((people[0]?.last ?? 0) + 1)).toContain('not in any range');
    expect(await said(realmGid)).toContain('project-tools is the realm group');
    expect(await said(0)).toContain('no account may have');
    expect(await said(65_534)).toContain('no account may have');
  });

  test.each([
    ['a control character', 'ali\u001b[2Jce'],
    ['a newline', 'alice\nbob'],
    ['nothing', ''],
    ['SQL', "x' OR '1'='1"],
    ['a pattern', '%'],
    ['a path elsewhere', '/etc/../home'],
    ['the id of a request', '0B0E7D0A-1c5b-4c5e-9f43-2f7d7d0c1a11'],
    ['100 kB', 'a'.repeat(100_000)],
  ])('%s', async (_what, word) => {
    const { exit, out, err } = await run('--', word);
    expect({ exit, err }).toEqual({ exit: 1, err: '' });
    expect(out.replaceAll('\n', '')).not.toMatch(/\p{C}/u);
    expect(out.length).toBeLessThan(1000);
  });
});

describe('a role that does not answer', () => {
  let homes: ChildProcess | undefined;
  afterAll(async () => {
    homes?.kill('SIGKILL');
    await running.stopWork();
    await running.startWork();
  });

  test('is shown as such, in time, together with the rest: exit 4', async () => {
    await running.stopWork();
    await running.startWork(['directory', 'databases']);
    homes = spawn(process.execPath, [PROGRAM, 'work', 'homes'], {
      env: { ...process.env, CHAMBERLAIN_CONFIG: world.configFile },
      stdio: 'ignore',
    });
    await eventually('homes', async () =>
      (await about('bridgebot', 1000)).subjects[0]?.targets.every(
        ({ state }) => state === 'as wanted',
      ),
    );
    homes.kill('SIGSTOP');
    const begin = performance.now();
    // far more than the others need, and far less than an unlimited wait for homes
    const tool = await about('bridgebot', 10_000);
    expect(performance.now() - begin).toBeLessThan(50_000);
    expect(tool.subjects[0]?.targets.map(({ role, state }) => [role, state])).toEqual([
      ...Array.from({ length: 4 }, () => ['directory', 'as wanted']),
      ...Array.from({ length: 2 }, () => ['homes', 'no answer']),
      ['databases', 'as wanted'],
    ]);
    const { exit, out } = await runCli(['explain', 'bridgebot', '--timeout', '0.5'], {
      config: world.configFile,
    });
    expect(exit).toBe(4);
    expect(out.match(/homes: no answer within 500 ms/gu)).toHaveLength(1);
    const survey = (seconds: string, ...args: string[]) =>
      runCli(['survey', 'bridgebot', '--timeout', seconds, ...args], { config: world.configFile });
    const silent = await survey('10');
    expect(silent.exit).toBe(4);
    expect(silent.out).toMatch(/^UNREADABLE: homes \(.*\n {2}no answer within 10 s; is/u);
    expect((await survey('3', '--role', 'homes', '--json')).exit).toBe(4);
    expect((await survey('3', '--target', 'home-directory')).exit).toBe(4);
    expect((await survey('20', '--role', 'directory')).exit).toBe(0);
    homes.kill('SIGCONT');
    await eventually('homes', async () => states(await page('bridgebot')).join() === 'as wanted');
  });

  test('a role that has lost its connection when it is called is called again', async () => {
    const listening = `FROM pg_stat_activity
      WHERE query = 'LISTEN chamberlain_surveys' AND datname = current_database()`;
    await eventually('every role to listen', async () => {
      return (await query(world, `SELECT ${listening}`)).length === 3;
    });
    await query(world, `SELECT pg_terminate_backend(pid) ${listening}`);
    expect(states(await page('bridgebot'))).toEqual(['as wanted']);
  });
});

describe('rights', () => {
  test('it needs only the PostgreSQL role admin: no other secret, and no Redis', async () => {
    const secrets = join(world.dir, 'admin-only');
    mkdirSync(secrets);
    copyFileSync(join(world.config.secrets, 'postgres-admin'), join(secrets, 'postgres-admin'));
    const file = join(world.dir, 'admin-only.yaml');
    const text = readFileSync(world.configFile, 'utf8')
      .replace(/^secrets: .*$/mu, `secrets: ${secrets}`)
      .replace(/redis:\/\/\S+/u, 'redis://127.0.0.1:1/0');
    writeFileSync(file, text);
    const config = loadConfig(file);
    expect([config.secrets, config.redis.url]).toEqual([secrets, 'redis://127.0.0.1:1/0']);
    await eventually('the roles', async () => {
      const { subjects } = await explain(config, 'bridgebot', { timeoutMs: 1000, now: new Date() });
      return subjects[0]?.targets.every(({ state }) => state === 'as wanted');
    });
  });

  test('no verifier is shown, nor can the role read one', async () => {
    const rows = await query<{ verifier: string }>(
      world,
      'SELECT verifier FROM database_verifiers',
    );
    expect(rows.length).toBeGreaterThan(3);
    const told = JSON.stringify([await about('alice'), await about('bridgebot')]);
    for (const { verifier } of rows) expect(told).not.toContain(verifier.slice(1));
    const pool = openPool(world.config, 'admin', { max: 1, durable: false });
    try {
      await expect(pool.query('SELECT verifier FROM database_verifiers')).rejects.toThrow(
        'permission denied',
      );
    } finally {
      await pool.end();
    }
  });

  test('the answers of the roles leave nothing behind', async () => {
    const read = () => query(world, 'SELECT id FROM surveys ORDER BY id');
    const before = await read();
    expect(states(await page('bridgebot'))).toEqual(['as wanted']);
    expect(await read()).toEqual(before);
  });
});
