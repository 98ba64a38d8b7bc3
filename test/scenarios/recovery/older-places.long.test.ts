/**
 * A MariaDB server, an area of homes, or PostgreSQL came back from a backup: the markers show it. On real
 * servers.
 */
import { execFileSync } from 'node:child_process';
import { chmodSync, renameSync, statSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, expect, test } from '@jest/globals';
import { openLog } from '../../../src/shared/log.ts';
import { readPlaceDoubts } from '../../../src/seals/place-markers-table.ts';
import { openPool } from '../../../src/database/connection.ts';
import { DATABASES, openDatabasesMarkers } from '../../../src/roles/databases/worker.ts';
import { HOMES, openHomesMarkers } from '../../../src/roles/homes/worker.ts';
import type { Worker } from '../../../src/shared/loop.ts';
import { serveMetrics } from '../../../src/shared/metrics.ts';
import { startPlaceMarkers } from '../../../src/seals/publish-place-markers.ts';
import { startRole } from '../../../src/reconcile/role.ts';
import { runCli, type Ended } from '../../cli/run-cli.ts';
import { administer } from '../../stack.ts';
import {
  restoreDatabaseCopy,
  restoreDirectoryCopy,
  restoreServerCopy,
  dumpDatabase,
  dumpDirectory,
  dumpServer,
  markerOf,
} from './backup.ts';
import { eventually } from '../eventually.ts';
import { confirmRecovery } from './recovering.ts';
import { homeOf, query, readAccounts, readCredentials, settled } from '../outside.ts';
import { hold } from '../repair/repair-world.ts';
import { admit, openRunning, type Running } from '../running.ts';

let running: Running;
/** the program's own loops in this process, which look at once; those of a second process look every 20 s */
let markers: Worker[] = [];
const log: string[] = [];
const backup = { server: '', area: '' };

const cli = (...args: string[]): Promise<Ended> =>
  runCli(args, { config: running.world.configFile });

function startMarkers(): void {
  const { config } = running.world;
  const own = openLog('info', { write: (line) => void log.push(line) });
  markers = [
    startPlaceMarkers(DATABASES, openDatabasesMarkers(config), config, own, 200),
    startPlaceMarkers(HOMES, openHomesMarkers(config), config, own, 200),
  ];
}

async function stopMarkers(): Promise<void> {
  await Promise.all(markers.map((each) => each.close()));
}

async function readMetrics(): Promise<Map<string, number>> {
  const served = await serveMetrics('127.0.0.1:0');
  try {
    const text = await (await fetch(`http://127.0.0.1:${served.port}/metrics`)).text();
    const lines = [...text.matchAll(/^(chamberlain\S+) (\S+)$/gm)];
    return new Map(lines.map(([, name = '', value]) => [name, Number(value)]));
  } finally {
    await served.close();
  }
}

/** Until each place carries a marker that is newer than now. */
async function nextMarkers(): Promise<void> {
  const [{ now } = { now: new Date(0) }] = await query<{ now: Date }>(
    running.world,
    'SELECT clock_timestamp() AS now',
  );
  await eventually('every place to have a new marker', async () => {
    const rows = await query(running.world, 'SELECT FROM place_markers WHERE published_at > $1', [
      now,
    ]);
    return rows.length === 4;
  });
}

const userOf = (name: string) =>
  query<{ user: string }>(
    running.world,
    `SELECT CASE kind WHEN 'tool' THEN 's' ELSE 'u' END || id AS user
     FROM names JOIN posix_ids ON id = subject WHERE name = $1`,
    [name],
  ).then(([row]) => row?.user ?? '');

const isLockedOn = async (server: 'replica' | 'tools', user: string) =>
  (await readAccounts(running.world, server)).get(user)?.locked;

const frozenBy = () =>
  query<{ by: string | null; reason: string | null }>(
    running.world,
    'SELECT frozen_by AS by, reason FROM frozen',
  ).then(([row]) => row);

const inDoubt = async () =>
  (
    await query<{ place: string }>(
      running.world,
      'SELECT place FROM place_markers WHERE older IS NOT NULL',
    )
  ).map(({ place }) => place);

const newPerson = (shellName: string) => ({
  ...{ requestedBy: shellName, shellName, displayName: `The ${shellName}` },
  email: `${shellName}@example.org`,
});

const toolHomes = () =>
  join(running.world.config.files.root + running.world.config.files.toolHomes);

beforeAll(async () => {
  running = await openRunning('older-places', {
    // nothing may be repaired except by taking access away
    adjust: (config) => ({
      ...config,
      sweep: { everyMinutes: 43_200, mostShare: 0, atLeast: 0 },
    }),
  });
  const { world, portal } = running;
  await admit(portal, 'alice', 'bob', 'carol');
  await portal.get({ kind: 'tool.create', requestedBy: 'alice', name: 'botty', title: 'A bot' });
  await settled(world);
  const home = homeOf(world, { tool: 'botty' });
  chmodSync(home, 0o2777);
  startMarkers();
  await nextMarkers();
  backup.server = dumpServer(world);
  backup.area = `${toolHomes()}.older`;
  execFileSync('cp', ['-a', toolHomes(), backup.area]);

  chmodSync(home, 0o2775);
  await portal.get({
    kind: 'person.suspend',
    requestedBy: 'steward',
    person: 'carol',
    reason: 'x',
  });
  await portal.get({ kind: 'access.revoke', requestedBy: 'steward', person: 'bob', reason: 'x' });
  await portal.get({
    kind: 'credentials.rotate',
    requestedBy: 'alice',
    tool: 'botty',
    atOnce: true,
  });
  await admit(portal, 'late');
  await settled(world);
  await nextMarkers();
});

afterAll(async () => {
  await stopMarkers();
  await running.close();
});

test('an older copy of a server is named; it gives nothing new, and what it should not give is taken away', async () => {
  const { world, portal } = running;
  const [alice, bob, carol, botty, late] = await Promise.all(
    ['alice', 'bob', 'carol', 'tools.botty', 'late'].map(userOf),
  );
  // so that not everything is taken away before it was checked
  const release = await hold(world, Number(bob?.slice(1)), 'databases');
  await restoreServerCopy(world, backup.server);
  let dora = '';
  try {
    await eventually('carol to be locked', () => isLockedOn('tools', carol ?? ''));
    await eventually('the old password to be taken away', async () => {
      const verifierOn = async (server: 'replica' | 'tools') =>
        (await readAccounts(world, server)).get(botty ?? '')?.verifier;
      return (await verifierOn('tools')) === (await verifierOn('replica'));
    });
    expect(await isLockedOn('tools', bob ?? '')).toBe(false);

    const status = await cli('status');
    expect(status.exit).toBe(3);
    expect(status.out).toMatch(
      /^In doubt: the server toolsdb has the marker of \S+, but the last one was published at \S+: the server toolsdb is an older copy, by \d+ (s|min); /m,
    );
    // on a busy machine its checks may have no time to answer
    await eventually('doctor to say so', async () =>
      (await cli('doctor')).out.includes('the server toolsdb has the marker of'),
    );
    const metrics = await readMetrics();
    expect(
      metrics.get('chamberlain_place_older_seconds{role="databases",place="toolsdb"}'),
    ).toBeGreaterThan(0);
    expect(metrics.get('chamberlain_place_older_seconds{role="databases",place="replica"}')).toBe(
      0,
    );

    // nothing is delayed on other servers
    await portal.get({ kind: 'person.create', ...newPerson('dora') });
    await portal.ask({ kind: 'access.grant', requestedBy: 'steward', person: 'dora' });
    dora = await userOf('dora');
    await eventually('dora on the other server', async () =>
      (await readAccounts(world, 'replica')).has(dora),
    );
    await eventually('her row to say why', async () => {
      const [row] = await query<{ sentence: string | null }>(
        world,
        `SELECT sentence FROM convergence WHERE subject = $1 AND role = 'databases'`,
        [Number(dora.slice(1))],
      );
      return row?.sentence?.includes('the server toolsdb is an older copy of itself');
    });
    expect((await readAccounts(world, 'tools')).has(dora)).toBe(false);
    expect(await inDoubt()).toEqual(['toolsdb']);
  } finally {
    await release();
  }
  await eventually('the doubt to end', async () => (await inDoubt()).length === 0);
  expect(await isLockedOn('tools', bob ?? '')).toBe(true);
  await eventually('dora to be given hers', async () =>
    (await readAccounts(world, 'tools')).has(dora),
  );
  await settled(world);
  // what else it lacks is drift like any other, within the limits of the sweep
  expect(await isLockedOn('tools', alice ?? '')).toBe(false);
  expect((await readAccounts(world, 'tools')).has(late ?? '')).toBe(false);
});

test('a step that gives access checks first, even if no loop has noticed that the server is older', async () => {
  const { world, portal } = running;
  const { config } = world;
  const doubt = () =>
    query<{ older: string; sentence: string }>(
      world,
      `SELECT older, doubt AS sentence FROM place_markers WHERE place = 'toolsdb' AND older IS NOT NULL`,
    ).then(([row]) => row);
  const forget = () =>
    query(world, 'UPDATE place_markers SET doubt = NULL, older = NULL, doubted_at = NULL');
  const late = await userOf('late');
  await stopMarkers();
  await running.stopWork();
  await running.startWork(['intake', 'relay', 'directory', 'homes']);
  // only the role, without the loops that maintain markers
  const role = startRole(DATABASES, config, openLog('info', { write: () => {} }));
  try {
    await restoreServerCopy(world, backup.server);
    const repaired = await cli('repair', 'late', '--yes');
    expect(repaired.exit).not.toBe(0);
    expect((await readAccounts(world, 'tools')).has(late)).toBe(false);
    expect(await doubt()).toMatchObject({
      older: 'place',
      sentence: expect.stringContaining('the server toolsdb has the marker of'),
    });

    await forget();
    await portal.get({ kind: 'person.create', ...newPerson('erin') });
    await portal.ask({ kind: 'access.grant', requestedBy: 'steward', person: 'erin' });
    const erin = await userOf('erin');
    await eventually('erin on the other server', async () =>
      (await readAccounts(world, 'replica')).has(erin),
    );
    await eventually('her row to say why', async () => {
      const [row] = await query<{ sentence: string | null }>(
        world,
        `SELECT sentence FROM convergence WHERE subject = $1 AND role = 'databases'`,
        [Number(erin.slice(1))],
      );
      return row?.sentence?.includes('toolsdb is');
    });
    expect((await readAccounts(world, 'tools')).has(erin)).toBe(false);
    expect((await doubt())?.older).toBe('place');

    // as if our database had come back, and not the server: nothing is given because of that either
    await query(
      world,
      `UPDATE place_markers SET doubt = NULL, older = NULL, doubted_at = NULL,
         publishing_at = '2020-01-01', published_at = '2020-01-01' WHERE place = 'toolsdb'`,
    );
    await eventually('the freeze', async () => (await frozenBy())?.by === 'the role databases');
    expect((await readAccounts(world, 'tools')).has(erin)).toBe(false);
  } finally {
    await role.close();
    await running.stopWork();
    await query(
      world,
      `UPDATE place_markers p SET doubt = NULL, older = NULL, doubted_at = NULL,
         publishing_at = d.published_at, published_at = d.published_at FROM directory_heartbeat d WHERE place = 'toolsdb'`,
    );
    await query(world, 'UPDATE frozen SET frozen_at = NULL, frozen_by = NULL, reason = NULL');
    await running.startWork();
    startMarkers();
  }
  await eventually('the doubt to end', async () => (await inDoubt()).length === 0);
  await settled(world);
  const erin = await userOf('erin');
  expect((await readAccounts(world, 'tools')).has(erin)).toBe(true);
});

test('a server that has lost its marker is an older copy, too, and a forged marker of the future freezes nothing', async () => {
  const { world } = running;
  const change = (sql: string) => administer(world.tools.socket, sql);
  // another process might notice it first, and write the marker again
  await running.stopWork();
  await running.startWork(['intake', 'relay', 'directory', 'homes']);
  log.length = 0;
  await change(`DELETE FROM mysql.chamberlain_marker WHERE ${markerOf(world)};`);
  await eventually('it to be said', () =>
    log.some((line) => line.includes('the server toolsdb has no marker')),
  );
  await eventually('the doubt to end', async () => (await inDoubt()).length === 0);
  await change(
    `UPDATE mysql.chamberlain_marker SET marker = REGEXP_REPLACE(marker, '"at":"2', '"at":"8')
     WHERE ${markerOf(world)};`,
  );
  await nextMarkers();
  expect(await frozenBy()).toMatchObject({ by: null });
  await running.stopWork();
  await running.startWork();
});

test('an older copy of an area of homes is named, and lets in only people who may log in', async () => {
  const { world } = running;
  const mode = () => statSync(homeOf(world, { tool: 'botty' })).mode & 0o7777;
  const now = readCredentials(world, { tool: 'botty' }).password;
  log.length = 0;
  renameSync(toolHomes(), `${toolHomes()}.gone`);
  renameSync(backup.area, toolHomes());
  expect(mode()).toBe(0o2777);
  await eventually('the mode', () => mode() === 0o2775);
  // the other process may have noticed it before these loops did
  await eventually('it to be said', () =>
    /the area \S+\/data\/project has the marker of \S+, but the last one was published at \S+/.test(
      log.join('\n'),
    ),
  );
  await eventually('the doubt to end', async () => (await inDoubt()).length === 0);
  await settled(world);
  // a new password is left to the sweep
  expect(readCredentials(world, { tool: 'botty' }).password).not.toBe(now);
});

test('a PostgreSQL that is older than the servers freezes the realm, even if the directory is as old', async () => {
  const { world } = running;
  await running.stopWork();
  const [database, directory] = [await dumpDatabase(world), dumpDirectory(world)];
  await running.startWork();
  await nextMarkers();
  await stopMarkers();
  await running.stopWork();
  await restoreDirectoryCopy(world, directory);
  await restoreDatabaseCopy(world, database);
  await running.startWork();
  startMarkers();
  const { reason } = await eventually('the freeze', async () => {
    const now = await frozenBy();
    return /^the role (homes|databases)$/.test(now?.by ?? '') && now;
  });
  expect(reason).toMatch(
    /^the (server|area) \S+ has the marker of \S+, but PostgreSQL knows none after \S+: PostgreSQL is an older copy, by /,
  );
  expect(await cli('thaw')).toMatchObject({
    exit: 1,
    err: expect.stringMatching(/^DATABASE_OLDER: /),
  });
  const pool = openPool(world.config, 'admin', { max: 1, durable: true });
  try {
    await eventually('each place to say so', async () => {
      const doubts = await readPlaceDoubts(pool);
      return doubts.filter(({ older }) => older === 'database').length === 4;
    });
  } finally {
    await pool.end();
  }
  expect(await confirmRecovery(world)).toMatchObject({ exit: 0 });
  await nextMarkers();
  expect(await inDoubt()).toEqual([]);
  expect(await frozenBy()).toMatchObject({ by: null });
});
