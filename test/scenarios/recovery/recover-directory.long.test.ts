/**
 * The directory came back from a backup: what docs/recovery.md says of it, done on a real one with slapcat and
 * slapadd.
 */
import { mkdirSync, renameSync, rmdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { parseMarker, signShortMarker } from '../../../src/seals/heartbeat.ts';
import { markerName, readSealKey } from '../../../src/shared/config.ts';
import { openLog } from '../../../src/shared/log.ts';
import type { Open, Taking } from '../../../src/recovery/taking.ts';
import { describeTaking } from '../../../src/recovery/render.ts';
import { afterAll, beforeAll, expect, test } from '@jest/globals';
import { runCli, type Ended } from '../../cli/run-cli.ts';
import { newKey } from '../../login-host/agent-world.ts';
import {
  restoreDatabaseCopy,
  restoreDirectoryCopy,
  dumpDatabase,
  dumpDirectory,
  markerOf,
} from './backup.ts';
import { eventually } from '../eventually.ts';
import { confirmRecovery } from './recovering.ts';
import { type Entry, query, readDirectory, settled } from '../outside.ts';
import { admit, openRunning, type Running } from '../running.ts';
import { administer } from '../../stack.ts';
import { DATABASES, openDatabasesMarkers } from '../../../src/roles/databases/worker.ts';
import { HOMES, openHomesMarkers } from '../../../src/roles/homes/worker.ts';
import { startPlaceMarkers } from '../../../src/seals/publish-place-markers.ts';

let running: Running;
let base: string;
/** of the directory, before alice lost a key, bob his access, and carol came */
let backup: string;
const keys = { lost: newKey(), kept: newKey() };

const cli = (...args: string[]): Promise<Ended> =>
  runCli(args, { config: running.world.configFile });

const person = (name: string) => `uid=${name},ou=people,${base}`;

/** What every role but the marker's beat has written. */
async function readEntries(): Promise<Map<string, Entry>> {
  const entries = await readDirectory(running.world);
  entries.delete(`cn=chamberlain,${base}`);
  return entries;
}

async function publishedAt(): Promise<string> {
  const entry = (await readDirectory(running.world)).get(`cn=chamberlain,${base}`);
  return parseMarker(entry?.['description']?.[0] ?? '')?.at ?? '';
}

async function nextBeat(): Promise<void> {
  const before = await publishedAt();
  await eventually('a beat', async () => (await publishedAt()) > before);
}

const readMarker = () =>
  query<{ doubt: string | null; accepted: boolean }>(
    running.world,
    'SELECT doubt, accepted_at IS NOT NULL AS accepted FROM directory_heartbeat',
  ).then(([row]) => row);

const doubted = () => eventually('the doubt', async () => (await readMarker())?.doubt ?? undefined);

beforeAll(async () => {
  running = await openRunning('recover-directory');
  const { world, portal } = running;
  base = world.config.ldap.base;
  await admit(portal, 'alice', 'bob');
  for (const key of Object.values(keys)) {
    await portal.get({ kind: 'key.add', requestedBy: 'alice', person: 'alice', key });
  }
  await portal.get({ kind: 'tool.create', requestedBy: 'bob', name: 'botty', title: 'A bot' });
  await settled(world);
  await nextBeat();
  backup = dumpDirectory(world);

  const [{ fingerprint } = { fingerprint: '' }] = await query<{ fingerprint: string }>(
    world,
    'SELECT fingerprint FROM ssh_keys WHERE line = $1',
    [keys.lost],
  );
  await portal.get({ kind: 'key.remove', requestedBy: 'alice', person: 'alice', fingerprint });
  await portal.get({ kind: 'access.revoke', requestedBy: 'steward', person: 'bob', reason: 'x' });
  await admit(portal, 'carol');
  await settled(world);
  await nextBeat();
});

afterAll(() => running.close());

test('an older copy is seen: login hosts are told nothing, and a sweep mends nothing', async () => {
  const { world } = running;
  await restoreDirectoryCopy(world, backup);
  expect(await doubted()).toMatch(/^the directory has the heartbeat of .* older copy/);
  const last = await publishedAt();
  const status = await cli('status');
  expect(status).toMatchObject({
    exit: 3,
    out: expect.stringContaining('In doubt: the directory'),
  });
  const swept = await cli('sweep', 'now', '--json');
  expect(swept.exit).toBe(4);
  expect((await readDirectory(world)).has(person('carol'))).toBe(false);
  expect(await publishedAt()).toBe(last);
  // the realm goes on: nothing is frozen
  const [{ frozen } = {}] = await query<{ frozen?: boolean }>(
    world,
    'SELECT frozen_at IS NOT NULL AS frozen FROM frozen',
  );
  expect(frozen).toBe(false);
});

test('after the recovery, the roles look at everybody again, first at those who lose access', async () => {
  const { world } = running;
  // without the relay nobody is given work, so what was touched can be seen
  await running.stopWork();
  await running.startWork(['directory']);
  const { exit, err } = await confirmRecovery(running.world, '--json', '--timeout', '10');
  expect(exit).toBe(5);
  expect(err).toMatch(/^TIMEOUT: still behind: 6 of 6 subjects; /m);
  expect(await readMarker()).toMatchObject({ accepted: true });
  const urgent = await query(
    world,
    `SELECT n.name FROM convergence c JOIN names n USING (subject)
     WHERE c.role = 'directory' AND c.applied < c.wanted AND c.urgent ORDER BY 1`,
  );
  expect(urgent).toEqual([{ name: 'alice' }, { name: 'bob' }, { name: 'tools.botty' }]);
  const last = await publishedAt();
  await running.stopWork();
  await running.startWork();
  await settled(world);
  await eventually('login hosts to be told', async () => (await publishedAt()) > last);
  expect(await readMarker()).toEqual({ doubt: null, accepted: false });
});

test('then nothing differs, and what was taken away is gone', async () => {
  const { world } = running;
  const entries = await readDirectory(world);
  expect(entries.get(person('alice'))?.['sshPublicKey']).toEqual([keys.kept]);
  expect(entries.get(`cn=project-tools,ou=groups,${base}`)?.['member']).not.toContain(
    person('bob'),
  );
  expect(entries.has(person('carol'))).toBe(true);
  // bob alone maintained a tool
  const plan = await cli('plan', '--all');
  expect(plan).toMatchObject({ exit: 3, out: expect.stringContaining('TOOL_ORPHANED') });
  expect(plan.out).toContain('no step, 1 finding');
});

test('run again, nothing is older, and it changes nothing', async () => {
  const { world } = running;
  const before = await readEntries();
  const again = await cli('recover');
  expect(again).toMatchObject({ exit: 0, out: expect.stringMatching(/^No server is older /) });
  expect(await readEntries()).toEqual(before);
  const [act] = await query(
    world,
    `SELECT kind, fields, requested_by LIKE 'unix:%' AS unix FROM audit ORDER BY id DESC LIMIT 1`,
  );
  expect(act).toEqual({ kind: 'recover', fields: ['directory'], unix: true });
});

test('where both came back, one after the other is accepted', async () => {
  const { world } = running;
  await running.stopWork();
  // of the two that come back, the database is the newer
  const database = await dumpDatabase(world);
  await running.startWork();
  await admit(running.portal, 'dora');
  await settled(world);
  await running.stopWork();
  await restoreDirectoryCopy(world, backup);
  await restoreDatabaseCopy(world, database);
  await running.startWork();
  expect(await doubted()).toMatch(/^the directory has the heartbeat of/);
  const { exit, out } = await confirmRecovery(running.world, '--database', '--json');
  expect(exit).toBe(0);
  expect(JSON.parse(out)).toMatchObject({ recovered: true, directoryIsOlder: true });
  // it did not take the directory for up to date
  expect((await readMarker())?.doubt).toMatch(/^the directory has the heartbeat of/);
  // frozen, nothing is accepted
  expect(await cli('freeze', '--reason', 'a test')).toMatchObject({ exit: 0 });
  const refused = await confirmRecovery(running.world);
  expect(refused).toMatchObject({ exit: 1 });
  expect(refused.err).toMatch(
    /^FROZEN: no worker acts while the realm is frozen, so nothing was done\. Run `chamberlain thaw`, and then this command again\.$/m,
  );
  expect(await readMarker()).toMatchObject({ accepted: false });
  expect(await cli('thaw')).toMatchObject({ exit: 0 });
  expect((await confirmRecovery(running.world)).exit).toBe(0);
  expect(await readMarker()).toEqual({ doubt: null, accepted: false });
  await settled(world);
  expect((await readDirectory(world)).has(person('carol'))).toBe(true);
  // skipped event numbers do not count as events that wait
  await eventually('no event to be left', async () => {
    const { portals } = JSON.parse((await cli('status', '--json')).out) as {
      portals: { last: string; outstanding: string }[];
    };
    expect(portals.map(({ last }) => Number(last) > 1_000_000)).toEqual([true]);
    return portals.every(({ outstanding }) => outstanding === '0');
  });
});

test('where both came back of one moment, database servers and login hosts show what was decided since', async () => {
  const { world, portal } = running;
  await admit(portal, 'erin');
  await settled(world);
  await running.stopWork();
  const [database, directory] = [await dumpDatabase(world), dumpDirectory(world)];
  await running.startWork();
  await portal.get({ kind: 'key.remove', requestedBy: 'alice', person: 'alice', key: keys.kept });
  await portal.get({ kind: 'person.suspend', requestedBy: 'steward', person: 'erin', reason: 'x' });
  await settled(world);
  // as a login host keeps them
  const seals = [...(await readDirectory(world)).values()].flatMap(
    (entry) => entry['chamberlainSeal'] ?? [],
  );
  const file = join(world.dir, 'host.seals');
  writeFileSync(file, `${seals.join('\n')}\n\0\0`);
  await running.stopWork();
  await restoreDirectoryCopy(world, directory);
  await restoreDatabaseCopy(world, database);
  await running.startWork();

  const list = async (...args: string[]) => {
    const { out } = await cli('recover', '--database', '--json', ...args);
    const { takings } = JSON.parse(out) as { takings: Taking[] };
    return takings.map(
      (taking) => `${taking.account} ${describeTaking(taking)} ${taking.by.join()}`,
    );
  };
  const alone = [expect.stringMatching(/^erin suspended u\d+ on (replica|tools)/)];
  expect(await list()).toEqual(alone);
  expect(await list('--keep', 'erin')).toEqual([]);
  expect(await list('--seals', file)).toEqual([
    expect.stringMatching(/^alice without the key SHA256:\S+ its seal \d+ on host.seals$/),
    expect.stringMatching(/^erin suspended its seal \d+ on host.seals$/),
  ]);
  const { exit } = await confirmRecovery(world, '--database', '--seals', file);
  expect(exit).toBe(0);
  await settled(world);
  const entry = (await readDirectory(world)).get(person('alice'));
  expect(entry?.['sshPublicKey']).toBeUndefined();
  const erin = await query(world, `SELECT state FROM people WHERE shell_name = 'erin'`);
  expect(erin).toEqual([{ state: 'suspended' }]);
});

test('where both came back of two moments, the directory gives nothing that was taken back since', async () => {
  const { world, portal } = running;
  const key = newKey();
  await admit(portal, 'gus');
  await portal.get({ kind: 'tool.create', requestedBy: 'alice', name: 'gadget', title: 'A tool' });
  await settled(world);
  await nextBeat();
  const database = await dumpDatabase(world);
  const gus = { requestedBy: 'alice', tool: 'gadget', person: 'gus' };
  await portal.get({ kind: 'key.add', requestedBy: 'alice', person: 'alice', key });
  await portal.get({ kind: 'maintainer.add', ...gus });
  await settled(world);
  await nextBeat();
  const directory = dumpDirectory(world);
  await portal.get({ kind: 'key.remove', requestedBy: 'alice', person: 'alice', key });
  await portal.get({ kind: 'maintainer.remove', ...gus });
  await settled(world);
  await nextMarkers();
  await running.stopWork();
  await restoreDirectoryCopy(world, directory);
  await restoreDatabaseCopy(world, database);
  await running.startWork();
  expect(await doubted()).toMatch(
    /^the directory has the heartbeat of .* PostgreSQL .* older copy/,
  );

  const { exit, out } = await cli('recover', '--json');
  expect(exit).toBe(3);
  const { takings, open } = JSON.parse(out) as { takings: Taking[]; open: Open[] };
  expect(takings).toEqual([]);
  expect(open).toContainEqual({
    account: 'directory',
    sentence: expect.stringMatching(/may be an older copy too, .* are not restored$/),
  });
  await whileOnlyServersAgree(await publishedAt(), async () => {
    const unread = JSON.parse((await cli('recover', '--json')).out) as { open: Open[] };
    expect(unread.open).toContainEqual({
      account: 'directory',
      sentence: expect.stringMatching(
        /cannot be read may be newer \(reading the marker of \S+\/home: .*Before you confirm/,
      ),
    });
  });
  expect((await confirmRecovery(world)).exit).toBe(0);
  await settled(world);
  const entries = await readDirectory(world);
  expect(entries.get(person('alice'))?.['sshPublicKey'] ?? []).not.toContain(key);
  expect(entries.get(`cn=tools.gadget,ou=servicegroups,${base}`)?.['member']).not.toContain(
    person('gus'),
  );
});

/** As if the servers had come back with the directory; of the homes, which have newer markers, one cannot be read. */
async function whileOnlyServersAgree(at: string, act: () => Promise<void>): Promise<void> {
  const { world } = running;
  const { config, dataRoot } = world;
  const marker = signShortMarker({ realm: config.realm, at: new Date(at) }, readSealKey(config));
  for (const { socket } of [world.tools, world.replica]) {
    const set = `UPDATE mysql.chamberlain_marker SET marker = '${marker}' WHERE ${markerOf(world)}`;
    await administer(socket, set);
  }
  const file = `${dataRoot}${config.files.personHomes}/.chamberlain/marker.${markerName(config)}`;
  renameSync(file, `${file}.aside`);
  mkdirSync(file);
  try {
    await act();
  } finally {
    rmdirSync(file);
    renameSync(`${file}.aside`, file);
  }
}

/** Until each server and each area has a new marker, which the program's own loops write every 20 s. */
async function nextMarkers(): Promise<void> {
  const { world } = running;
  const [now] = await query<{ at: Date }>(world, 'SELECT clock_timestamp() AS at');
  const log = openLog('error', { write: () => {} });
  const markers = [
    startPlaceMarkers(DATABASES, openDatabasesMarkers(world.config), world.config, log, 200),
    startPlaceMarkers(HOMES, openHomesMarkers(world.config), world.config, log, 200),
  ];
  try {
    await eventually('every place to have a new marker', async () => {
      const told = 'SELECT FROM place_markers WHERE published_at > $1';
      return (await query(world, told, [now?.at])).length === 4;
    });
  } finally {
    await Promise.all(markers.map((each) => each.close()));
  }
}
