/** PostgreSQL came back from a backup: what docs/recovery.md says of it, done on real servers with a true backup. */
import type { Report } from '../../../src/reconcile/report.ts';
import { parseMarker } from '../../../src/seals/heartbeat.ts';
import { spawn } from 'node:child_process';
import { createHash } from 'node:crypto';
import { stripVTControlCharacters } from 'node:util';
import { afterAll, beforeAll, expect, test } from '@jest/globals';
import { openPool, withClient } from '../../../src/database/connection.ts';
import { readPublishing, writeDoubt } from '../../../src/seals/heartbeat-table.ts';
import { lookAtWork } from '../../../src/doctor/work.ts';
import type { Open, Taking } from '../../../src/recovery/taking.ts';
import { describeTaking } from '../../../src/recovery/render.ts';
import { PROGRAM, runCli, type Ended } from '../../cli/run-cli.ts';
import { newKey } from '../../login-host/agent-world.ts';
import { restoreDatabaseCopy, dumpDatabase } from './backup.ts';
import { eventually } from '../eventually.ts';
import {
  addUnmanagedEntry,
  changeDirectory,
  type CredentialsSeen,
  faultsOf,
  keepCopy,
  loginWith,
  query,
  readCredentials,
  readDirectory,
  settled,
} from '../outside.ts';
import { confirmRecovery } from './recovering.ts';
import { admit, openRunning, type Running } from '../running.ts';

let running: Running;
/** what was made after the backup, and is not in it */
let since: { numbers: Map<string, number>; lastEvent: number; rotated: CredentialsSeen };
/** bob's, taken away after the backup */
let revokedKey: string;
/** a number of tools that was another's before the backup, the last but one of its range */
let unmanagedNumber: number;
/** when the suspension of dave ends, as the backup has it */
let dueAt: number;
/** sent while the realm was frozen */
let waiting: { tool: string; byMallory: string };

const cli = (...args: string[]): Promise<Ended> =>
  runCli(args, { config: running.world.configFile });

const makeTool = (name: string, requestedBy = 'alice') =>
  running.portal.get({ kind: 'tool.create', requestedBy, name, title: `Tool ${name}` });

async function numbersOf(...names: string[]): Promise<Map<string, number>> {
  const rows = await query<{ name: string; subject: number }>(
    running.world,
    'SELECT name, subject FROM names WHERE name = ANY ($1)',
    [names],
  );
  return new Map(rows.map(({ name, subject }) => [name, subject]));
}

async function publishedAt(): Promise<string> {
  const { base } = running.world.config.ldap;
  const entry = (await readDirectory(running.world)).get(`cn=chamberlain,${base}`);
  return parseMarker(entry?.['description']?.[0] ?? '')?.at ?? '';
}

const readFrozen = () =>
  query<{ frozen_by: string | null; reason: string | null }>(
    running.world,
    'SELECT frozen_by, reason FROM frozen',
  ).then(([row]) => row);

/** All that a restoration moves. */
const readMoved = () =>
  Promise.all(
    [
      'SELECT kind, first, next FROM id_ranges ORDER BY first',
      'SELECT portal, last FROM event_sequences ORDER BY portal',
      'SELECT account, wanted_epoch FROM credentials ORDER BY account',
      'SELECT publishing_at, published_at FROM directory_heartbeat',
    ].map((sql) => query(running.world, sql)),
  );

/** Runs it on a terminal (script(1)), and answers its question. */
function onTerminal(
  answer: string,
  ...args: string[]
): Promise<{ exit: number | null; out: string }> {
  const command = [process.execPath, PROGRAM, ...args].map((word) => `'${word}'`).join(' ');
  const child = spawn('script', ['-qec', command, '/dev/null'], {
    env: { ...process.env, CHAMBERLAIN_CONFIG: running.world.configFile, NO_COLOR: '1' },
    stdio: ['pipe', 'pipe', 'inherit'],
  });
  return new Promise((resolve) => {
    let out = '';
    let answered = false;
    child.stdout.setEncoding('utf8').on('data', (text: string) => {
      out += text;
      if (answered || !out.includes('[y/N] ')) return;
      answered = true;
      child.stdin.write(answer);
    });
    child.on('close', (exit) => resolve({ exit, out }));
  });
}

const removeOfKey = () => ({
  ...{ kind: 'key.remove', requestedBy: 'bob', person: 'bob' },
  fingerprint: fingerprintOf(revokedKey),
});

/** As `SHA256:<base64>` (ssh-keygen(1)). */
function fingerprintOf(key: string): string {
  const blob = Buffer.from(key.split(' ')[1] ?? '', 'base64');
  return `SHA256:${createHash('sha256').update(blob).digest('base64').replace(/=+$/, '')}`;
}

const keysOfBob = async () =>
  (await readDirectory(running.world)).get(`uid=bob,ou=people,${running.world.config.ldap.base}`)?.[
    'sshPublicKey'
  ];

/** Lets the roles see a number of tools, the one before the old stranger's, that is gone when they look again. */
async function showGoneNumber(): Promise<void> {
  const { world } = running;
  const { base } = world.config.ldap;
  const dn = `cn=gone-stranger,ou=servicegroups,${base}`;
  await addUnmanagedEntry(
    world,
    `dn: ${dn}\nobjectClass: groupOfNames\nobjectClass: posixGroup\ncn: gone-stranger\n` +
      `gidNumber: ${unmanagedNumber - 1}\nmember: uid=alice,ou=people,${base}\n`,
  );
  await cli('survey', '--all', '--role', 'directory');
  await changeDirectory(world, 'ldapmodify', `dn: ${dn}\nchangetype: delete\n`);
  const seen = await query(world, 'SELECT FROM unmanaged_sightings WHERE id = $1', [
    unmanagedNumber - 1,
  ]);
  expect(seen).toHaveLength(1);
}

interface Said {
  recovered: boolean;
  digest: string;
  takings: Taking[];
  open: Open[];
  ranges: { kind: string; first: number; last: number; from: number; to: number }[];
  exhausted: string[];
  names: string[];
  credentials: { account: string; epoch: number }[];
  events: { portal: string; from: number; to: number }[];
  directoryIsOlder: boolean;
}

/** Reads the list, and confirms it. */
async function recovered(): Promise<Said> {
  const { exit, out, err } = await confirmRecovery(running.world, '--json');
  expect({ exit, err }).toEqual({ exit: 0, err: expect.anything() });
  return JSON.parse(out) as Said;
}

const asSteward = (kind: string, fields: object) =>
  running.portal.get({ kind, requestedBy: 'steward', ...fields });

/** What each taking changes, by account. */
const takenOf = (takings: readonly Taking[]) =>
  Object.fromEntries(takings.map((taking) => [taking.account, describeTaking(taking)]));

beforeAll(async () => {
  running = await openRunning('recover', {
    adjust: (config) => ({
      ...config,
      portals: config.portals.map((portal) =>
        portal.name === 'portal' ? { ...portal, subjectEvents: true } : portal,
      ),
    }),
  });
  const { world, portal } = running;
  await admit(portal, 'alice', 'bob', 'carol', 'dave', 'mallory');
  for (const name of ['before', 'calm', 'shut', 'opened']) await makeTool(name);
  await asSteward('maintainer.add', { tool: 'admin', person: 'mallory' });
  await asSteward('maintainer.add', { tool: 'calm', person: 'bob' });
  await asSteward('tool.delete', { tool: 'opened' });
  revokedKey = newKey();
  await portal.get({ kind: 'key.add', requestedBy: 'bob', person: 'bob', key: revokedKey });
  unmanagedNumber = (world.config.ids.tools.at(-1)?.last ?? 0) - 1;
  await addUnmanagedEntry(
    world,
    `dn: cn=old-stranger,ou=servicegroups,${world.config.ldap.base}\nobjectClass: groupOfNames\n` +
      `objectClass: posixGroup\ncn: old-stranger\ngidNumber: ${unmanagedNumber}\nmember: uid=alice,ou=people,${world.config.ldap.base}\n`,
  );
  await settled(world);
  expect((await cli('plan', '--all')).exit).toBe(3);
  const ignored = await cli('ignore', 'cn=old-stranger,ou=servicegroups', '--reason', 'is old');
  expect(ignored.exit).toBe(0);
  expect((await cli('plan', '--all')).exit).toBe(0);
  // as if nobody had looked at the realm's own group before
  await query(world, `DELETE FROM unmanaged_sightings WHERE name = 'project-tools'`);
  // the marker is told after that survey, and the backup holds both
  const before = await publishedAt();
  await eventually('a beat', async () => (await publishedAt()) > before);
  dueAt = Date.now() + 30_000;
  await asSteward('person.suspend', {
    person: 'dave',
    reason: 'x',
    until: new Date(dueAt).toISOString(),
  });
  const backup = await dumpDatabase(world);

  await admit(portal, 'dora');
  await Promise.all(['since1', 'since2', 'since3'].map((name) => makeTool(name)));
  const add = { kind: 'key.add', requestedBy: 'alice', person: 'alice', key: newKey() };
  await portal.get(add);
  await portal.get(removeOfKey());
  await portal.get({ kind: 'credentials.rotate', requestedBy: 'alice', tool: 'before' });
  await asSteward('person.suspend', { person: 'dave', reason: 'x', until: '2099-01-01T00:00:00Z' });
  await asSteward('person.suspend', { people: ['carol', 'mallory'], reason: 'x' });
  await asSteward('maintainer.remove', { tool: 'calm', person: 'bob' });
  await asSteward('tool.disable', { tool: 'shut', reason: 'x' });
  await asSteward('tool.enable', { tool: 'opened' });
  await settled(world);
  since = {
    numbers: await numbersOf('dora', 'tools.since1', 'tools.since2', 'tools.since3'),
    lastEvent: portal.heard.at(-1)?.seq ?? 0,
    rotated: readCredentials(world, { tool: 'before' }),
  };
  expect(since.numbers.size).toBe(4);
  const later = await publishedAt();
  await eventually('a beat', async () => (await publishedAt()) > later);

  await running.stopWork();
  await restoreDatabaseCopy(world, backup);
});

afterAll(() => running.close());

test('started on it, the workers freeze by themselves, whoever has frozen before, and `thaw` does not end it', async () => {
  const { portal } = running;
  const last = await publishedAt();
  // so that no verdict falls before the role directory has looked
  expect(await cli('freeze', '--reason', 'a backup')).toMatchObject({ exit: 0 });
  await running.startWork();
  const frozen = await eventually('the freeze', async () => {
    const now = await readFrozen();
    return now?.frozen_by === 'the role directory' && now;
  });
  expect(frozen.reason).toMatch(/^the directory has the heartbeat of .* older copy/);

  waiting = {
    tool: await portal.send({
      ...{ kind: 'tool.create', requestedBy: 'alice', name: 'since1', title: 'Once more' },
    }),
    byMallory: await portal.send({
      ...{ kind: 'person.reinstate', requestedBy: 'mallory', person: 'carol' },
    }),
  };
  const thaw = await cli('thaw');
  expect(thaw.exit).toBe(1);
  expect(thaw.err).toMatch(/^DATABASE_OLDER: .*chamberlain recover/);
  expect((await cli('status')).out).toMatch(
    /^The realm is frozen \(since \S+ \S+, by the role directory\): the directory has the heartbeat of .*; run `chamberlain recover`\.\n\nrole /,
  );
  const acts = await query(
    running.world,
    `SELECT kind, requested_by LIKE 'unix:%' AS unix FROM audit
     WHERE kind IN ('freeze', 'thaw', 'recover') ORDER BY id`,
  );
  expect(acts).toEqual([
    { kind: 'freeze', unix: true },
    { kind: 'freeze', unix: false },
  ]);
  expect(await publishedAt()).toBe(last);
  expect(portal.told(waiting.tool)).toEqual([]);
});

test('a role that does not answer is named, and nothing is moved or thawed', async () => {
  const before = await readMoved();
  await running.stopWork();
  await running.startWork(['intake', 'relay', 'directory', 'databases']);
  try {
    const { exit, out, err } = await cli('recover', '--timeout', '10');
    expect(exit).toBe(4);
    // on a busy machine lines of progress stand before it
    expect(err).toMatch(/^BACKEND_UNREADABLE: homes: no answer within 10 s.*\n$/m);
    expect(out).toBe(
      'Nothing was done; the realm stays frozen. Correct this, and run the command again.\n',
    );
    expect(await readMoved()).toEqual(before);
    expect(await readFrozen()).toMatchObject({ frozen_by: 'the role directory' });
  } finally {
    await running.stopWork();
    await running.startWork();
  }
});

test('without a terminal the list is shown, and nothing is done before its digest is named', async () => {
  const before = await readMoved();
  const listed = await cli('recover');
  expect(listed.exit).toBe(3);
  expect(listed.out).toMatch(
    /\ndigest [0-9a-f]{64}\n\nNothing was done; the realm stays frozen\. /,
  );
  const other = await cli('recover', '--expect', 'f'.repeat(64));
  expect(other).toMatchObject({ exit: 1, out: '' });
  expect(other.err).toMatch(
    /^PLAN_MOVED: the digest is [0-9a-f]{64} now, not f+; nothing was done, /m,
  );
  expect(await readMoved()).toEqual(before);
});

test('on a terminal it shows the list; after a no nothing is done, and it stays frozen', async () => {
  await showGoneNumber();
  const before = await readMoved();
  const { exit, out } = await onTerminal('n\n', 'recover');
  expect(exit).toBe(1);
  // lines of progress are written over, each by the next
  const lines = stripVTControlCharacters(out).split(/[\r\n]+/);
  const dora = since.numbers.get('dora') ?? 0;
  expect(lines).toEqual(
    expect.arrayContaining([
      'Will be changed because of what the servers show:',
      expect.stringMatching(/^carol +suspended +its seal \d+$/),
      expect.stringMatching(
        /^tools\.calm +without the maintainer bob +its seal \d+, the directory$/,
      ),
      'For you to decide. None of this happens unless you run the command in its row:',
      expect.stringMatching(
        /^dave was to be reinstated at .* +chamberlain submit person\.reinstate --person dave$/,
      ),
      expect.stringMatching(new RegExp(`^numbers +person .*: continue at ${dora + 101}, not at `)),
      expect.stringMatching(/^names +treated as unmanaged: dora, gone-stranger, tools\.since1, /),
      expect.stringMatching(/^passwords +new for tools\.before$/),
      expect.stringMatching(/^events +of portal: continue at \d{13}$/),
      expect.stringMatching(
        /^Lost: everything requested after the backup \(its last change was made at \d{4}-.*Z\), except /,
      ),
      'Nothing was done; the realm stays frozen.',
    ]),
  );
  expect(lines).not.toContainEqual(expect.stringMatching(/^Nothing shows whose access /));
  expect(await readMoved()).toEqual(before);
  expect(await readFrozen()).toMatchObject({ frozen_by: 'the role directory' });
  const pool = openPool(running.world.config, 'admin', { max: 1, durable: false });
  try {
    const seen = await withClient(pool, (client) =>
      lookAtWork(client, running.world.config, new Date()),
    );
    expect(seen.filter(({ what }) => what.startsWith('frozen since '))).toEqual([
      expect.objectContaining({ todo: expect.stringContaining('Run `chamberlain recover`') }),
    ]);
  } finally {
    await pool.end();
  }
});

test('confirmed, it takes what was decided since, moves numbers on, and thaws', async () => {
  const { world, portal } = running;
  await eventually('a date of the backup to pass', () => Date.now() > dueAt);
  const said = await recovered();
  const dora = since.numbers.get('dora') ?? 0;
  const highestTool = Math.max(...since.numbers.values());
  expect(said).toMatchObject({ recovered: true, exhausted: [], directoryIsOlder: false });
  expect(takenOf(said.takings)).toEqual({
    alice: expect.stringMatching(/^with the key SHA256:\S+$/),
    bob: `without the key ${fingerprintOf(revokedKey)}`,
    carol: 'suspended',
    mallory: 'suspended',
    'tools.calm': 'without the maintainer bob',
    'tools.shut': 'disabled',
    'tools.opened': 'active',
  });
  expect(said.open.map(({ account, command }) => ({ account, command }))).toEqual([
    { account: 'carol', command: 'submit person.reinstate --person carol' },
    { account: 'mallory', command: 'submit person.reinstate --person mallory' },
    { account: 'tools.shut', command: 'submit tool.enable --tool shut' },
    { account: 'dave', command: 'submit person.reinstate --person dave' },
    // what dave lost since
    { account: 'people', command: undefined },
  ]);
  expect(said.names).toEqual([
    'dora',
    'gone-stranger',
    'tools.since1',
    'tools.since2',
    'tools.since3',
  ]);
  // what was another's before the backup moves nothing, nor does what is gone
  expect(said.ranges.map(({ kind, to }) => ({ kind, to }))).toEqual([
    { kind: 'person', to: dora + 101 },
    { kind: 'tool', to: highestTool + 101 },
  ]);
  expect(said.credentials).toEqual([
    expect.objectContaining({ account: 'tools.before', epoch: 2 }),
  ]);
  expect(said.events).toEqual([
    { portal: 'portal', from: expect.any(Number), to: expect.any(Number) },
  ]);
  expect(said.events[0]?.to).toBeGreaterThan(dueAt);
  expect(await readFrozen()).toMatchObject({ frozen_by: null });

  // who waited hears now, by a number that no portal skips
  const refused = await portal.hear('request.refused', waiting.tool);
  expect(refused).toMatchObject({ code: 'NAME_FOREIGN' });
  expect(refused.seq).toBeGreaterThan(since.lastEvent);
  expect(refused.seq).toBeGreaterThan(dueAt);
  // whom the evidence suspends is an admin no more before any request is taken
  expect(await portal.hear('request.refused', waiting.byMallory)).toMatchObject({
    code: 'PERSON_SUSPENDED',
  });
  await settled(world);
  // the marker goes on
  const told = await publishedAt();
  await eventually('a beat', async () => (await publishedAt()) > told);
  const [{ doubt } = { doubt: '' }] = await query<{ doubt: string | null }>(
    world,
    'SELECT doubt FROM directory_heartbeat',
  );
  expect(doubt).toBeNull();
  expect(await readFrozen()).toMatchObject({ frozen_by: null });
});

test('nobody has more than before: no date of the backup reinstates anybody, and every server is as wanted', async () => {
  const { world } = running;
  const states = await query(
    world,
    `SELECT shell_name AS name, state, suspended_until FROM people WHERE state <> 'active'
     UNION ALL SELECT name, state, NULL FROM tools WHERE state <> 'active' ORDER BY 1`,
  );
  expect(states).toEqual([
    { name: 'carol', state: 'suspended', suspended_until: null },
    { name: 'dave', state: 'suspended', suspended_until: null },
    { name: 'mallory', state: 'suspended', suspended_until: null },
    { name: 'shut', state: 'disabled', suspended_until: null },
  ]);
  expect(await keysOfBob()).toBeUndefined();
  const { exit, out: left } = await cli('plan', '--all', '--json');
  expect(exit).toBe(3);
  // what was made since is another's now, and listed
  const { steps, findings, unmanaged } = JSON.parse(left) as Report;
  expect([steps, findings]).toEqual([[], []]);
  expect(new Set(unmanaged?.map(({ kind }) => kind))).toEqual(
    new Set(['account', 'member', 'group', 'rule', 'home', 'database user']),
  );
});

test('who is made then gets a number that nobody had', async () => {
  const { world, portal } = running;
  await admit(portal, 'erin');
  await makeTool('after');
  const given = await numbersOf('erin', 'tools.after');
  expect(given.get('erin')).toBe((since.numbers.get('dora') ?? 0) + 101);
  expect(given.get('tools.after')).toBe(Math.max(...since.numbers.values()) + 101);
  for (const name of ['since2', 'tools.since2']) {
    const wish = { kind: 'tool.create', requestedBy: 'alice', name: 'since2', title: name };
    expect(await portal.ask(wish)).toMatchObject({ verdict: 'refused', code: 'NAME_FOREIGN' });
  }
  await settled(world);
  expect(await faultsOf(world, ['before', 'calm', 'after'])).toEqual([]);
});

test('the password of since the backup is nobody’s any more, and the file’s is that of both servers', async () => {
  const { world } = running;
  const { path, user, password } = readCredentials(world, { tool: 'before' });
  expect(password).not.toBe(since.rotated.password);
  for (const server of ['replica', 'tools'] as const) {
    expect(await loginWith(world, server, path)).toBe(`${user}@%`);
    const old = keepCopy(world, since.rotated);
    await expect(loginWith(world, server, old)).rejects.toThrow(/Access denied/);
  }
});

test('each step of it is in the audit', async () => {
  const acts = await query(
    running.world,
    `SELECT kind, account, fields FROM audit WHERE kind IN ('recover', 'thaw') ORDER BY id`,
  );
  const seal = expect.stringMatching(/^as its seal \d+ shows$/);
  expect(acts).toEqual([
    {
      ...{ kind: 'recover', account: null },
      fields: ['ids', 'names', 'credentials', 'events', 'evidence'],
    },
    { kind: 'recover', account: 'alice', fields: ['keysAdded', seal] },
    { kind: 'recover', account: 'bob', fields: ['keysRemoved', seal, 'as the directory shows'] },
    { kind: 'recover', account: 'carol', fields: ['state', seal] },
    { kind: 'recover', account: 'mallory', fields: ['state', seal] },
    {
      kind: 'recover',
      account: 'tools.calm',
      fields: ['membersRemoved', seal, 'as the directory shows'],
    },
    { kind: 'recover', account: 'tools.shut', fields: ['state', seal] },
    { kind: 'recover', account: 'tools.opened', fields: ['state', seal] },
    { kind: 'recover', account: 'tools.before', fields: ['credentials'] },
    { kind: 'thaw', account: null, fields: [] },
  ]);
});

test('run again, it finds nothing older; told that all came back, it takes nothing more', async () => {
  const before = await readMoved();
  expect(await cli('recover')).toMatchObject({
    exit: 0,
    out: expect.stringMatching(/^No server is older than another, /),
  });
  expect((await readMoved()).slice(0, 3)).toEqual(before.slice(0, 3));
  expect(await readFrozen()).toMatchObject({ frozen_by: null });
  const { out } = await cli('recover', '--database', '--json');
  const said = JSON.parse(out) as Said;
  // a script that forgets an option is not told that all is done
  expect(await cli('recover', '--expect', said.digest)).toMatchObject({
    exit: 1,
    out: '',
    err: expect.stringMatching(
      /^PLAN_MOVED: no server is older .*; nothing was done, and the realm stays frozen\. /m,
    ),
  });
  expect((await cli('recover')).out).toMatch(
    /\nThe realm stays frozen\. If not all of them were restored, nothing was lost: run `chamberlain thaw`\.\n$/,
  );
  // where no server is newer, it says what cannot be seen
  expect((await cli('recover', '--database')).out).toMatch(
    /^Lost: .*\nNothing shows which keys .*\n.*\nNothing shows whose access was revoked after the backup, so these people will have access again\. /m,
  );
  expect(said).toMatchObject({ takings: [], names: [], credentials: [] });
  // what was given since may be lost everywhere
  expect(said.ranges.map(({ from, to }) => to - from)).toEqual([100, 100]);
  expect((await cli('thaw')).exit).toBe(0);
});

test('a doubt that was settled meanwhile freezes nothing', async () => {
  const pool = openPool(running.world.config, 'directory', { max: 1, durable: false });
  try {
    const publishing = await readPublishing(pool);
    const stale = { ...publishing, publishingAt: new Date(0) };
    await writeDoubt(pool, { older: 'database', sentence: 'it is older' }, stale);
    expect(await readFrozen()).toMatchObject({ frozen_by: null });
  } finally {
    await pool.end();
  }
});

test('`import` takes back what was made since, with its numbers', async () => {
  const { world } = running;
  const imported = await cli('import', '--from-directory', '--homes', '--yes', '--json');
  expect(imported.err).toBe('');
  expect(await numbersOf(...since.numbers.keys())).toEqual(since.numbers);
  await settled(world);
  expect(await faultsOf(world, ['before', 'since1', 'since2', 'since3', 'after'])).toEqual([]);
});
