/** The import of an old platform on real servers: what is imported, what is not, and that nothing is changed there. */
import { fixedConfig } from '../../src/configuration/config-in-use.ts';
import { afterAll, beforeAll, describe, expect, test } from '@jest/globals';
import { execFileSync } from 'node:child_process';
import { startWork } from '../../workers/main.ts';
import type { Worker } from '../../src/shared/loop.ts';
import type { ImportReport } from '../../src/import/import-report.ts';
import { verifierOf } from '../../src/credentials/credentials.ts';
import { openLog } from '../../src/shared/log.ts';
import type { Report } from '../../src/reconcile/report.ts';
import { readDueMoves } from '../../src/lifecycle/calendar-queries.ts';
import { openOwner } from '../../src/database/connection.ts';
import { areOrphansOtherwise } from '../../src/lifecycle/orphans.ts';
import { runCli, type Ended } from '../cli/run-cli.ts';
import { expectGolden } from '../golden.ts';
import { keyOf } from '../scenarios/drift/drift-world.ts';
import {
  changeDirectory,
  dumpTables,
  keepCopy,
  loginWith,
  query,
  readAccounts,
  readCredentials,
  readDirectory,
  settled,
  type Entry,
} from '../scenarios/outside.ts';
import { openPortal, type Portal } from '../scenarios/portal.ts';
import { administer, openWorld, type World } from '../stack.ts';
import {
  FUTURE_TIME,
  makeOldPlatform,
  OLD_TIME,
  PRIVATE_KEY,
  type OldPlatform,
} from './old-platform.ts';

let world: World;
let old: OldPlatform;
let work: Worker | undefined;
let portal: Portal;
let first: Awaited<ReturnType<typeof runImport>>;
let before: Outside;

const ROLES = ['intake', 'relay', 'directory', 'homes', 'databases'];

beforeAll(async () => {
  world = await openWorld('import');
  await world.chamberlain('prepare');
  old = await makeOldPlatform(world);
  portal = openPortal(world);
  before = await dumpOutside();
});

afterAll(async () => {
  await portal?.close();
  await work?.close();
  await world?.close();
});

interface Outside {
  directory: Map<string, Entry>;
  files: string[];
  accounts: string[];
}

/** The first and the last number, because other worlds have accounts on the same database servers. */
function numbersOfWorld(): [number, number] {
  const { people, tools } = world.config.ids;
  return [people[0]?.first ?? 0, tools[0]?.last ?? 0];
}

/** All tables except the audit, without sightings of other worlds. */
async function dumpKnown(): Promise<Record<string, string[]>> {
  const tables = await dumpTables(world, ['audit', 'audit_unsealed', 'unmanaged_sightings']);
  const seen = await query<{ row: string }>(
    world,
    `SELECT to_jsonb(f)::text AS row FROM unmanaged_sightings f
     WHERE name <> '' OR id BETWEEN $1 AND $2 ORDER BY 1`,
    numbersOfWorld(),
  );
  return { ...tables, unmanaged_sightings: seen.map(({ row }) => row) };
}

/** Everything outside PostgreSQL: entries with their CSNs, files with contents and times, accounts. */
async function dumpOutside(): Promise<Outside> {
  const directory = await readDirectory(world, { operational: true });
  const find = [
    // the folder of the areas' markers
    ...['-name', '.chamberlain', '-prune', '-o'],
    ...[
      '-printf',
      '%p %y %m %U:%G %s %T@ %C@ %l %i\n',
      '-type',
      'f',
      '-exec',
      'sha256sum',
      '{}',
      ';',
    ],
  ];
  const files = execFileSync('find', [world.dataRoot, ...find], { encoding: 'utf8' });
  const [lowest, highest] = numbersOfWorld();
  const ours = `WHERE User REGEXP '^[su][0-9]+$' AND SUBSTR(User, 2) BETWEEN ${lowest} AND ${highest}`;
  const tables = ['global_priv', 'roles_mapping', 'db'].map(
    (table) => `SELECT * FROM mysql.${table} ${ours} ORDER BY User, Host;`,
  );
  const accounts = await Promise.all(
    [world.replica, world.tools].map(({ socket }) => administer(socket, tables.join('\n'))),
  );
  expect(accounts.every((text) => text.includes(`s${old.uid['wiki']}`))).toBe(true);
  return { directory, files: files.split('\n').toSorted(), accounts };
}

/** Without the heartbeat, which the directory role writes every few seconds, and what depends on it. */
function withoutMarker({ directory, ...rest }: Outside): unknown {
  const entries = new Map(directory);
  entries.delete(`cn=chamberlain,${world.config.ldap.base}`);
  entries.delete(world.config.ldap.base); // its contextCSN
  return { directory: entries, ...rest };
}

/** And without what the directory role signed for login hosts. */
function withoutSeals(outside: Outside): unknown {
  const { directory, ...rest } = withoutMarker(outside) as Outside;
  const written = ['chamberlainSeal', 'entryCSN', 'modifyTimestamp', 'modifiersName'];
  const entries = [...directory].map(([dn, entry]) => {
    const others = Object.entries(entry).filter(([name]) => !written.includes(name));
    const classes = (entry['objectClass'] ?? []).filter((name) => name !== 'chamberlainSealed');
    return [dn, { ...Object.fromEntries(others), objectClass: classes }];
  });
  return { directory: new Map(entries as [string, Entry][]), ...rest };
}

const cli = (...args: string[]): Promise<Ended> => runCli(args, { config: world.configFile });

async function runImport(...args: string[]): Promise<ImportReport & { exit: number | null }> {
  const { exit, out, err } = await cli('import', '--from-directory', '--yes', '--json', ...args);
  if (out === '') throw new Error(err);
  return { ...(JSON.parse(out) as ImportReport), exit };
}

async function readPlan(...args: string[]): Promise<Report> {
  return JSON.parse((await cli('plan', '--all', '--json', ...args)).out) as Report;
}

/** `part CODE entry`, sorted, without the part of the entry that says where. */
const refused = ({ refusals }: ImportReport) =>
  refusals.map(({ part, code, object }) => `${part} ${code} ${object.split(',')[0]}`).toSorted();

/** `effect target account`, sorted. */
const linesOf = (steps: readonly { effect: string; target: string; account: string }[]) =>
  steps.map(({ effect, target, account }) => `${effect} ${target} ${account}`).toSorted();

/** `CODE account`, sorted. */
const undecided = (findings: Report['findings']) =>
  findings.map(({ code, account }) => `${code} ${account}`).toSorted();

/** Numbers as if people began at 10,000 and tools at 50,000, because each world has its own numbers. */
function withoutNumbers(text: string): string {
  const [people, tools] = [old.uid['alice'] ?? 0, old.uid['wiki'] ?? 0].map((uid) => uid - 1);
  return text.replaceAll(/(?<=\b[su]?)\d{7}\b/g, (digits) =>
    Number(digits) < (tools ?? 0)
      ? String(Number(digits) - (people ?? 0) + 10_000)
      : String(Number(digits) - (tools ?? 0) + 50_000),
  );
}

/** The time of the import, and the day to which it delays a deletion. */
function withoutTimes(text: string): string {
  return text
    .replace(new RegExp(`(?<=${OLD_TIME}  )[0-9-]+ [0-9:]+Z`), '(in 41 days)')
    .replace(new RegExp(`(?<=${OLD_TIME} → )[0-9]{14}Z`), '(now)');
}

const orphaned = (tool: string) => `TOOL_ORPHANED tools.${tool}`;

/** What only an admin can decide. */
const UNDECIDED = [
  ...['ID_FOREIGN tools.gid', 'PATH_FOREIGN tools.moved'],
  // tools that nobody maintains, or that maintain only each other
  ...['emptied', 'gid', 'gone', 'half', 'linked', 'loop-a', 'loop-b', 'loose', 'moved'].map(
    orphaned,
  ),
  ...['old-mode', 'others', 'roots'].map(orphaned),
];

/** Only for imported subjects. */
const LEFT_OUT = [
  ...['KEY_MALFORMED', 'KEY_MALFORMED', 'KEY_MALFORMED', 'KEY_PRIVATE', 'KEY_KNOWN_BAD'].map(
    (code) => `key ${code} uid=judy`,
  ),
  ...['KEY_WEAK', 'KEY_TYPE', 'KEY_OPTION'].map((code) => `key ${code} uid=judy`),
  'key KEY_TAKEN uid=kim',
  'key KEY_TAKEN uid=kim2',
  'name ENTRY_INCOMPLETE uid=hugo',
  'mail ENTRY_INCOMPLETE uid=rita',
  'mail ENTRY_INCOMPLETE uid=rita',
  ...Array.from({ length: 4 }, () => 'member MEMBER_UNKNOWN cn=tools.member'),
  ...Array.from({ length: 2 }, () => 'member MEMBER_UNKNOWN cn=project-tools'),
  'member ADMIN_TOOL cn=tools.admin',
  'deletion DELETION_UNDATED uid=tools.gone',
];

test('--check does everything, rolls it back, and prints a report', async () => {
  const tables = await dumpTables(world, []);
  const { exit, out, err } = await cli(
    ...['import', '--from-directory', '--homes', '--databases', '--check'],
  );
  expect({ exit, err: err.replaceAll(/^[a-z].*, \d+ s\n/gm, '') }).toEqual({ exit: 3, err: '' });
  expectGolden('import.txt', withoutTimes(withoutNumbers(out)));
  expect(out).not.toContain(PRIVATE_KEY.slice(24, 40));
  expect(await dumpTables(world, [])).toEqual(tables);
  expect(await dumpOutside()).toEqual(before);
});

test('left out members, and people without a key, are listed before anything is written', async () => {
  const tables = await dumpTables(world, []);
  const args = ['import', '--from-directory'];
  const unasked = await cli(...args);
  expect(unasked.exit).toBe(2);
  expect(unasked.err).toMatch(/^USAGE: .* give --yes, or --check/m);
  const asked = await runCli(args, {
    config: world.configFile,
    input: 'n\n',
    terminal: true,
  });
  expect(asked.exit).toBe(1);
  expect(asked.out).toMatch(/Import the rest anyway\? \[y\/N\] [^]*Nothing was imported\./);
  for (const { out } of [unasked, asked]) {
    expect(out).not.toContain('Imported');
    expect(out.match(/^ .*(MEMBER_UNKNOWN|ADMIN_TOOL) .* left out: /gm)).toHaveLength(7);
    expect(out).toMatch(/^Without any key: 2 people\. .*\r?\n.*\r?\n {2}kim\r?\n {2}kim2\r?$/m);
  }
  expect(await dumpTables(world, [])).toEqual(tables);
});

test('imports what is valid, and gives a reason for everything else', async () => {
  first = await runImport('--homes', '--databases');
  expect(first.foreseen.unreadable).toEqual([]);
  expect(first.exit).toBe(3);
  expect(first.taken).toEqual({
    ...{ people: 11, suspended: 3, realmMembers: 3, tools: 19, disabled: 4 },
    ...{ keys: 5, maintainers: 12, mailAddresses: 11, mailVerified: 0 },
  });
  expect(refused(first)).toEqual(
    [
      'person NAME_INVALID uid=Eve',
      'person NAME_INVALID uid=frank2',
      'person NAME_INVALID uid=mallory',
      'person NAME_INVALID uid=oscar',
      'person NAME_INVALID cn=laura of old',
      'person NAME_RESERVED uid=docker',
      'person NAME_TAKEN uid=frank',
      'person NAME_TAKEN uid=frank3',
      'person NAME_TAKEN uid=gina',
      'person NAME_TAKEN uid=gina2',
      'person ID_TAKEN uid=dup1',
      'person ID_TAKEN uid=dup2',
      'person ID_OUT_OF_RANGE uid=outside',
      'person ENTRY_INCOMPLETE uid=ivan',
      'person ENTRY_INCOMPLETE uid=nora',
      'tool NAME_INVALID cn=tools.twenty-seven-characters-xxx',
      'tool NAME_INVALID cn=tools.Mixed',
      'tool NAME_INVALID uid=tools.deep',
      'tool NAME_RESERVED cn=tools.root',
      'tool ID_TAKEN uid=tools.dupnum',
      'tool ENTRY_INCOMPLETE cn=tools.differ',
      'tool ENTRY_INCOMPLETE cn=tools.solo-group',
      'tool ENTRY_INCOMPLETE uid=tools.solo-account',
      ...LEFT_OUT,
    ].toSorted(),
  );
  expect(JSON.stringify(first)).not.toContain(PRIVATE_KEY.slice(24, 40));
  expect(first.homes?.kept.toSorted()).toEqual(
    [
      ...['alice', 'carol', 'mike', 'tools.admin', 'tools.gone', 'tools.half'],
      ...['tools.old-mode', 'tools.roots', 'tools.wiki'],
    ].toSorted(),
  );
  expect(first.homes?.lost).toEqual([
    { account: 'bob_b', why: 'the file names the user u1' },
    { account: 'tools.old_bot', why: 'there is no credentials file' },
    ...['kept', 'dated', 'dated-ahead'].map((name) => ({
      ...{ account: `tools.${name}`, why: 'there is no home' },
    })),
    { account: 'tools.member', why: 'there is no home' },
    { account: 'tools.loop-a', why: 'there is no home' },
    { account: 'tools.loop-b', why: 'there is no home' },
    { account: 'tools.gid', why: 'there is no home' },
    { account: 'tools.linked', why: 'instead of the credentials file there is a symbolic link' },
    {
      account: 'tools.emptied',
      why: 'instead of the credentials file there is a file that does not hold credentials',
    },
    { account: 'tools.others', why: `the file names the user s${(old.uid['others'] ?? 0) + 1}` },
    { account: 'tools.moved', why: 'the home belongs to another account' },
    { account: 'tools.loose', why: 'others can read or change the file' },
  ]);
  expect(first.keyless).toEqual(['kim', 'kim2']);
  expect(first.adminless).toBeUndefined();
});

test('a countdown of the old platform begins again: not sooner, and with every warning still to come', async () => {
  expect(first.deletions.map(({ account, was }) => [account, was])).toEqual([
    ['tools.dated', OLD_TIME],
    ['tools.dated-ahead', FUTURE_TIME],
  ]);
  const rows = await query(
    world,
    `SELECT name, state, delete_requested_at BETWEEN now() - interval '5 min' AND now() AS now,
       extract(epoch FROM delete_after - delete_requested_at) / 86400 AS days, days_warned AS told
     FROM tools WHERE name IN ('gone', 'kept', 'dated', 'dated-ahead') ORDER BY name`,
  );
  const left = { state: 'disabled', now: null, days: null, told: null };
  const leaves = { state: 'disabled', days: expect.stringMatching(/^41\.0*$/), told: null };
  expect(rows).toEqual([
    { ...leaves, name: 'dated', now: true },
    { ...leaves, name: 'dated-ahead', now: false },
    { ...left, name: 'gone' },
    { ...left, name: 'kept' },
  ]);
  // with a clock of the calendar that advances day by day
  const owner = await openOwner(world.config);
  const [{ at } = { at: new Date(0) }] = await query<{ at: Date }>(
    world,
    `SELECT delete_requested_at AS at FROM tools WHERE name = 'dated'`,
  );
  const due = async (day: number) => {
    const now = new Date(at.getTime() + day * 86_400_000);
    const moves = await readDueMoves(owner, now, { except: [], most: 9 });
    return moves
      .filter(({ move }) => move !== 'seals.renew')
      .map(({ move, account, days }) => `${move} ${account} ${days}`);
  };
  expect(await due(10.9)).toEqual([]);
  expect(await due(11)).toEqual(['tool.warn tools.dated 30']);
  // a subject without a warning gets one first, however late it is
  expect(await due(400)).toEqual(['tool.warn tools.dated 1']);
  await owner.end();
  const [act] = await query<{ fields: string[] }>(
    world,
    `SELECT fields FROM audit WHERE kind = 'import' AND subject = $1`,
    [old.uid['dated']],
  );
  expect(act?.fields).toEqual(['deletion', `maintainer=${old.uid['alice']}`]);
});

test('each maintainer of a tool is in the audit, with the tool', async () => {
  const rows = await query<{ fields: string[] }>(
    world,
    `SELECT fields FROM audit WHERE kind = 'import' AND subject = $1`,
    [old.uid['wiki']],
  );
  const maintainers = ['alice', 'bob_b'].map((name) => `maintainer=${old.uid[name]}`);
  expect(rows.map(({ fields }) => fields.toSorted())).toEqual([maintainers]);
});

test('nothing outside PostgreSQL changes, and workers only write seals', async () => {
  expect(await dumpOutside()).toEqual(before);
  const behind = await query(
    world,
    `SELECT role, targets, count(*)::int FROM convergence
     WHERE applied <> wanted OR state <> 'applied' GROUP BY role, targets`,
  );
  const { people, tools } = first.taken;
  expect(behind).toEqual([{ role: 'directory', targets: ['seal'], count: people + tools }]);
  // the calendar finds nothing to touch either
  const owner = await openOwner(world.config);
  const isOtherwise = await areOrphansOtherwise(owner);
  await owner.end();
  work = await startWork(fixedConfig(world.config), { roles: ROLES, log: openLog('warn') });
  expect(isOtherwise).toBe(false);
  await settled(world);
  // other differences wait as well
  expect(withoutSeals(await dumpOutside())).toEqual(withoutSeals(before));
});

test('the plan of the roles is exactly what the import predicted', async () => {
  const { steps, findings, waiting, unreadable } = await readPlan();
  const { foreseen } = first;
  const shown = steps.map((step) => ({ ...step, action: undefined }));
  expect({ steps: shown, findings, waiting, unreadable }).toEqual({
    ...{ steps: foreseen.steps, findings: foreseen.findings },
    ...{ waiting: foreseen.waiting, unreadable: [] },
  });
  // the old platform has no memberOf
  const says = steps.filter(({ change }) =>
    /^(objectClass \+chamberlainMember; )?memberOf \+[^;]*$/.test(change),
  );
  expect(says.map(({ target }) => target)).toEqual(Array(19).fill('unix-account'));
  expect(linesOf(steps.filter((step) => !says.includes(step)))).toEqual(
    [
      // left out values, and the values of locked accounts and unmanaged numbers
      'revoke ssh-keys carol',
      'revoke ssh-keys judy',
      'revoke ssh-keys kim',
      'revoke ssh-keys kim2',
      'revoke realm-membership carol',
      'revoke unix-group tools.admin',
      'revoke unix-group tools.member',
      'revoke unix-group tools.old_bot',
      'change unix-account hugo',
      'change unix-account rita',
      // locked otherwise than we lock
      'revoke unix-account dora',
      'change unix-account dora',
      'revoke unix-account tina',
      // no countdown ends before ours, and none runs that we do not know
      'change unix-account tools.dated',
      'change unix-account tools.gone',
      // locked, but with the EVENT right
      'revoke database-account carol',
      'revoke database-account mike',
      'revoke database-account tools.gone',
      // others could read the password
      'revoke credentials-file tools.loose',
      // missing or wrong
      ...['kept', 'dated', 'dated-ahead'].flatMap((name) =>
        ['home-directory', 'credentials-file'].map((target) => `create ${target} tools.${name}`),
      ),
      'create home-directory tools.gid',
      'create home-directory tools.loop-a',
      'create home-directory tools.loop-b',
      'create home-directory tools.member',
      'create credentials-file tools.gid',
      'create credentials-file tools.loop-a',
      'create credentials-file tools.loop-b',
      'create credentials-file tools.member',
      'create credentials-file tools.old_bot',
      'change credentials-file bob_b',
      'change credentials-file tools.emptied',
      'change credentials-file tools.linked',
      'change credentials-file tools.others',
      'change credentials-file tools.old-mode',
      'change credentials-file tools.roots',
      'create database-account tools.half',
      // another password works
      'revoke database-account tools.admin',
    ].toSorted(),
  );
  expect(undecided(findings)).toEqual(UNDECIDED);
  expect(withoutSeals(await dumpOutside())).toEqual(withoutSeals(before));
});

describe('requests afterwards', () => {
  const personNamed = (shellName: string, displayName = `New ${shellName}`) => ({
    ...{ kind: 'person.create', requestedBy: 'alice', shellName, displayName },
    email: 'x@example.org',
  });
  const toolNamed = (name: string) => ({
    ...{ kind: 'tool.create', requestedBy: 'alice', name, title: 'A tool' },
  });

  test.each([
    ['the name of an imported person', personNamed('bob_b'), 'NAME_TAKEN'],
    ['a name that another account has', personNamed('dup1'), 'NAME_FOREIGN'],
    [
      'a display name in another case',
      personNamed('zed', 'ALICE  of old'.replace('  ', ' ')),
      'NAME_TAKEN',
    ],
    ['the name of an imported tool', toolNamed('wiki'), 'NAME_TAKEN'],
    ['a group without an account', toolNamed('solo-group'), 'NAME_FOREIGN'],
    ['an account without a group', toolNamed('solo-account'), 'NAME_FOREIGN'],
    ['the name of an existing home', toolNamed('unmanaged'), 'NAME_FOREIGN'],
  ])('cannot have %s', async (_, wish, code) => {
    expect(await portal.ask(wish)).toMatchObject({ verdict: 'refused', code });
  });

  test('get numbers that neither imported nor other subjects have', async () => {
    await portal.get(personNamed('zoe'));
    await portal.get(toolNamed('newbot'));
    await portal.get(toolNamed('newbot2'));
    const rows = await query<{ name: string; subject: number }>(
      world,
      `SELECT name, subject FROM names WHERE name IN ('zoe', 'tools.newbot', 'tools.newbot2')`,
    );
    const given = Object.fromEntries(rows.map(({ name, subject }) => [name, subject]));
    const free = (from: number): number => (old.numbers.has(from) ? free(from + 1) : from);
    const [person, tool] = [old.uid['alice'] ?? 0, old.uid['wiki'] ?? 0];
    const one = free(tool - 1);
    expect(given).toEqual({
      zoe: free(person - 1),
      'tools.newbot': one,
      'tools.newbot2': free(one + 1),
    });
  });

  test('of the imported admin have an admin’s rights', async () => {
    const wish = { kind: 'access.grant', requestedBy: 'alice', person: 'dora' };
    expect(await portal.ask(wish)).toMatchObject({ code: 'PERSON_SUSPENDED' });
    await portal.get({ kind: 'access.grant', requestedBy: 'alice', person: 'hugo' });
  });
});

describe('for imported subjects', () => {
  /** Checks that the passwords in the files of these accounts work on both servers. */
  async function loginsOf(...names: string[]): Promise<string[]> {
    const files = names.map((name) => readCredentials(world, { tool: name }));
    const logins = files.flatMap(({ path }) =>
      (['replica', 'tools'] as const).map((server) => loginWith(world, server, path)),
    );
    return Promise.all(logins);
  }

  test('requests work as for any other', async () => {
    const by = { requestedBy: 'alice' };
    const wiki = old.uid['wiki'] ?? 0;
    const replaced = keepCopy(world, readCredentials(world, { tool: 'wiki' }));
    expect(await loginsOf('wiki')).toEqual([`s${wiki}@%`, `s${wiki}@%`]);
    await portal.get({ kind: 'tool.update', ...by, tool: 'wiki', title: 'A wiki' });
    await portal.get({ kind: 'maintainer.add', ...by, tool: 'wiki', person: 'hugo' });
    await portal.get({ kind: 'maintainer.remove', ...by, tool: 'wiki', person: 'bob_b' });
    await portal.get({ kind: 'key.add', ...by, person: 'alice', key: keyOf('alice new') });
    await portal.get({ kind: 'credentials.rotate', ...by, tool: 'wiki', atOnce: true });
    const directory = await readDirectory(world);
    const { base } = world.config.ldap;
    expect(directory.get(`cn=tools.wiki,ou=servicegroups,${base}`)?.['member']).toEqual([
      `uid=alice,ou=people,${base}`,
      `uid=hugo,ou=people,${base}`,
      `uid=tools.wiki,ou=people,ou=servicegroups,${base}`,
    ]);
    expect(directory.get(`uid=alice,ou=people,${base}`)?.['sshPublicKey']).toEqual(
      // compared by the key, so an old comment stays
      [`${keyOf('alice')} alice@laptop`, keyOf('alice new')].toSorted(),
    );
    expect(await loginsOf('wiki')).toEqual([`s${wiki}@%`, `s${wiki}@%`]);
    await expect(loginWith(world, 'replica', replaced)).rejects.toThrow('Access denied');
  });

  test('a repair corrects everything except what an admin must decide, and changes no entry that was not imported', async () => {
    const entries = await readDirectory(world, { operational: true });
    const passwords = ['admin', 'half', 'roots', 'old-mode'];
    const { exit, err } = await cli('repair', '--all', '--yes');
    expect({ exit, err: err.replaceAll(/^[a-z].*, \d+ s\n/gm, '') }).toEqual({ exit: 0, err: '' });
    await settled(world);
    const { steps, findings, waiting } = await readPlan();
    expect({ steps, findings: undecided(findings) }).toEqual({ steps: [], findings: UNDECIDED });
    expect(waiting.map(({ account }) => account)).toEqual(['tools.moved']);
    // a valid file keeps its password, even if a server lacked it or had another
    for (const name of passwords) {
      expect(readCredentials(world, { tool: name })).toMatchObject({
        ...{ password: old.passwords[name], uid: old.uid[name], mode: 0o440 },
      });
    }
    expect(await loginsOf(...passwords, 'old_bot', 'member', 'loose', 'linked')).toHaveLength(16);
    const replica = await readAccounts(world, 'replica');
    expect(replica.get(`s${old.uid['gone']}`)).toEqual({
      ...{ verifier: verifierOf(old.passwords['gone'] ?? ''), locked: true },
    });
    const after = await readDirectory(world, { operational: true });
    const { base } = world.config.ldap;
    const timeOf = (name: string) =>
      after.get(`uid=tools.${name},ou=people,ou=servicegroups,${base}`)?.['pwdAccountLockedTime'];
    const [dated] = await query<{ at: string }>(
      world,
      `SELECT to_char(delete_requested_at AT TIME ZONE 'UTC', 'YYYYMMDDHH24MISS"Z"') AS at
       FROM tools WHERE uid = $1`,
      [old.uid['dated']],
    );
    expect({ gone: timeOf('gone'), kept: timeOf('kept') }).toEqual({});
    expect([timeOf('dated'), timeOf('dated-ahead')]).toEqual([[dated?.at], [FUTURE_TIME]]);
    const others = first.refusals.filter(({ part }) => part === 'person' || part === 'tool');
    for (const { object } of others) {
      const dn = object.endsWith(base) ? object : `${object},${base}`;
      expect({ dn, entry: after.get(dn) }).toEqual({ dn, entry: entries.get(dn) });
      expect(entries.get(dn)).toBeDefined();
    }
  });
});

describe('run again', () => {
  test('it imports corrected entries, and leaves known subjects as they are', async () => {
    await changeDirectory(
      world,
      'ldapmodify',
      `dn: uid=dup2,ou=people,${world.config.ldap.base}\nchangetype: modify\nreplace: uidNumber\n` +
        `uidNumber: ${(old.uid['dup2'] ?? 0) + 1}\n`,
    );
    // somebody who can write to the directory adds people to groups of known tools
    const { base } = world.config.ldap;
    for (const [group, member] of [
      ['cn=tools.admin,ou=servicegroups', 'hugo'],
      ['cn=tools.member,ou=servicegroups', 'dup1'],
      ['cn=project-tools,ou=groups', 'rita'],
    ] as const) {
      await changeDirectory(
        world,
        'ldapmodify',
        `dn: ${group},${base}\nchangetype: modify\nadd: member\nmember: uid=${member},ou=people,${base}\n`,
      );
    }
    const known = await dumpTables(world);
    const report = await runImport('--homes', '--databases');
    expect(report.taken).toMatchObject({ people: 2, tools: 0, realmMembers: 0, maintainers: 0 });
    expect(report.known).toEqual({ people: 12, tools: 21 });
    // left out values are repaired by now; new subjects are as wanted, or the report says how they differ
    expect(refused(report).filter((line) => !/^(?:person|tool) /.test(line))).toEqual([
      'member MAINTAINER_UNKNOWN cn=tools.admin',
      'member MAINTAINER_UNKNOWN cn=tools.member',
      'member MEMBER_UNKNOWN cn=project-tools',
      'member MEMBER_UNKNOWN cn=project-tools',
      'member PERSON_NOT_REALM_MEMBER cn=project-tools',
    ]);
    expect(refused(report).filter((line) => / uid=dup\d/.test(line))).toEqual([]);
    const unmanaged = await query(world, `SELECT FROM unmanaged_sightings WHERE name LIKE 'dup%'`);
    expect(unmanaged).toEqual([]);
    // every row of a known subject is unchanged
    const now = await dumpTables(world);
    for (const table of ['people', 'tools', 'ssh_keys', 'credentials', 'database_verifiers']) {
      expect(now[table]).toEqual(expect.arrayContaining(known[table] ?? []));
    }
    for (const table of ['maintainers', 'realm_members']) expect(now[table]).toEqual(known[table]);
  });

  test('without anything new it writes only its row in the audit', async () => {
    // so that no new heartbeat and seals are written
    await work?.close();
    work = undefined;
    const tables = await dumpKnown();
    const outside = await dumpOutside();
    const report = await runImport('--homes', '--databases');
    expect(report.taken).toMatchObject({ people: 0, tools: 0, keys: 0, maintainers: 0 });
    expect(await dumpKnown()).toEqual(tables);
    expect(await dumpOutside()).toEqual(outside);
    const acts = await query<{ fields: string[] }>(
      world,
      `SELECT fields FROM audit WHERE kind = 'import' ORDER BY id DESC LIMIT 1`,
    );
    expect(acts[0]?.fields).toContain('people=0');
  });
});
