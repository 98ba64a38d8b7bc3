/** An import while it writes: interrupted, concurrent with requests, and when something cannot be read. */
import { fixedConfig } from '../../src/configuration/config-in-use.ts';
import { afterAll, beforeAll, describe, expect, test } from '@jest/globals';
import { readFileSync, renameSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import pg from 'pg';
import { parse, stringify } from 'yaml';
import { startWork } from '../../workers/main.ts';
import type { Worker } from '../../src/shared/loop.ts';
import type { ImportReport } from '../../src/import/import-report.ts';
import { openLog } from '../../src/shared/log.ts';
import { endOf, runCli, startCli, type Ended } from '../cli/run-cli.ts';
import { eventually } from '../scenarios/eventually.ts';
import {
  dumpTables,
  keepCopy,
  loginWith,
  query,
  readCredentials,
  settled,
} from '../scenarios/outside.ts';
import { openPortal, type Portal } from '../scenarios/portal.ts';
import { openWorld, startServer, stopServer, type World } from '../stack.ts';
import { makeOldPlatform, type OldPlatform } from './old-platform.ts';

const ARGS = ['import', '--from-directory', '--yes'];

let world: World;
let old: OldPlatform;
let work: Worker | undefined;
let portal: Portal;
let empty: Record<string, string[]>;

beforeAll(async () => {
  world = await openWorld('writing');
  await world.chamberlain('prepare');
  old = await makeOldPlatform(world);
  portal = openPortal(world);
  empty = await dumpTables(world, []);
});

afterAll(async () => {
  await portal?.close();
  await work?.close();
  await world?.close();
});

const cli = (...args: string[]): Promise<Ended> =>
  runCli([...ARGS, ...args], { config: world.configFile });

const reportOf = ({ out }: Ended): ImportReport => JSON.parse(out) as ImportReport;

/**
 * Locks a table that an import writes late, so that it stops in the middle of its writing: names and numbers are
 * written, maintainers are not.
 */
async function holdMaintainers(): Promise<{ release(): Promise<void> }> {
  const { host, port } = world.postgres;
  const { database } = world.config.postgres;
  const holder = new pg.Client({ host, port, user: 'postgres', database });
  await holder.connect();
  await holder.query('BEGIN; LOCK TABLE maintainers IN EXCLUSIVE MODE');
  return { release: () => holder.end() };
}

/** Waits until a connection with that name waits for a lock in such a statement. */
const isHeld = (application: string, statement: string) =>
  eventually(`${application} to wait`, async () => {
    const held = await query(
      world,
      `SELECT FROM pg_stat_activity WHERE application_name = $1 AND wait_event_type = 'Lock'
         AND datname = current_database() AND query LIKE $2`,
      [application, statement],
    );
    return held.length > 0;
  });

const noOwner = () =>
  eventually('the connection of the import to end', async () => {
    const left = await query(
      world,
      `SELECT FROM pg_stat_activity
       WHERE application_name = 'chamberlain owner' AND datname = current_database()`,
    );
    return left.length === 0;
  });

test('if it is killed in the middle of its writing, nothing is written', async () => {
  const held = await holdMaintainers();
  const child = startCli([...ARGS, '--homes'], { config: world.configFile });
  const end = endOf(child);
  await isHeld('chamberlain owner', '%INSERT INTO maintainers%');
  child.kill('SIGKILL');
  expect((await end).exit).toBeNull();
  await held.release();
  await noOwner();
  expect(await dumpTables(world, [])).toEqual(empty);
});

describe('if something cannot be read', () => {
  const nothing = async ({ exit, out, err }: Ended, why: RegExp) => {
    expect({ exit, out }).toEqual({ exit: 4, out: '' });
    expect(err).toMatch(why);
    expect(err).toMatch(/^BACKEND_UNREADABLE: nothing was imported: /m);
    expect(await dumpTables(world, ['directory_heartbeat'])).toEqual({
      ...empty,
      directory_heartbeat: undefined,
    });
  };

  test('an unreachable directory: nothing is imported', async () => {
    await stopServer(world.slapd);
    try {
      await nothing(await cli(), /reading/);
    } finally {
      await startServer(world.slapd);
    }
  });

  test('an older copy of the directory: nothing is imported', async () => {
    await query(
      world,
      `UPDATE directory_heartbeat SET published_at = '2100-01-01', publishing_at = '2100-01-01'`,
    );
    try {
      await nothing(
        await cli(),
        /is an older copy; .*run `chamberlain recover`\. Then run the command again\.$/m,
      );
    } finally {
      await query(
        world,
        'UPDATE directory_heartbeat SET published_at = NULL, publishing_at = NULL',
      );
    }
  });

  test('unmounted homes: nothing is imported', async () => {
    const area = join(world.dataRoot, 'data/project');
    renameSync(area, `${area}.away`);
    try {
      await nothing(await cli('--homes'), /data\/project/);
    } finally {
      renameSync(`${area}.away`, area);
    }
  });

  test('an unreachable database server is reported, and the rest goes on', async () => {
    const config = parse(readFileSync(world.configFile, 'utf8')) as {
      databases: { servers: object[] };
    };
    config.databases.servers.push({
      ...{ name: 'third', kind: 'replica', socket: join(world.dir, 'nobody.sock') },
    });
    const file = join(world.dir, 'third.yaml');
    writeFileSync(file, stringify(config), { mode: 0o600 });
    const args = [...ARGS, '--homes', '--databases', '--check'];
    const ended = await runCli([...args, '--json'], { config: file });
    expect(ended.exit).toBe(4);
    const { taken, foreseen } = reportOf(ended);
    expect(taken.tools).toBeGreaterThan(0);
    expect(foreseen.unreadable.length).toBeGreaterThan(0);
    expect(foreseen.unreadable.every(({ sentence }) => sentence.includes('third'))).toBe(true);
    const { out } = await runCli(args, { config: file });
    expect(out).toMatch(/UNREADABLE: database-account/);
    // without homes nobody has credentials, so no account is read on any server
    const blind = await runCli([...ARGS, '--databases', '--check', '--json'], { config: file });
    expect(blind.exit).toBe(4);
    expect(reportOf(blind).foreseen.unreadable).toEqual([
      { target: 'database-account', sentence: expect.stringContaining('third') },
    ]);
  });
});

test('if more is left out by then than was listed, nothing is imported', async () => {
  const { host, port } = world.postgres;
  const holder = new pg.Client({
    ...{ host, port, user: 'postgres', database: world.config.postgres.database },
  });
  await holder.connect();
  await holder.query('BEGIN; LOCK TABLE people IN EXCLUSIVE MODE');
  const importing = endOf(startCli(ARGS, { config: world.configFile }));
  try {
    await isHeld('chamberlain owner', 'LOCK TABLE people%');
    // a maintainer's number is given to another account
    await query(world, `INSERT INTO posix_ids (id, kind) VALUES ($1, 'person')`, [
      old.uid['alice'],
    ]);
  } finally {
    await holder.end();
  }
  const { exit, out, err } = await importing;
  expect(exit).toBe(1);
  expect(out).not.toContain('Taken over');
  expect(err).toMatch(
    /^PLAN_MOVED: nothing was imported: the list that you confirmed did not name these: .*uid=alice/m,
  );
  await query(
    world,
    `ALTER TABLE posix_ids DISABLE TRIGGER USER; DELETE FROM posix_ids WHERE id = ${old.uid['alice']};
     ALTER TABLE posix_ids ENABLE TRIGGER USER`,
  );
  expect(await dumpTables(world, [])).toEqual(empty);
});

test('requests wait for it, and then cannot get its names or numbers', async () => {
  work = await startWork(fixedConfig(world.config), {
    roles: ['intake', 'relay', 'directory', 'homes', 'databases'],
    log: openLog('silent'),
  });
  const held = await holdMaintainers();
  const args = [...ARGS, '--mail-verified', '--json'];
  const importing = endOf(startCli(args, { config: world.configFile }));
  let requests: string[];
  try {
    await isHeld('chamberlain owner', '%INSERT INTO maintainers%');
    requests = await Promise.all(
      ['alice', 'dup1', 'first', 'second'].map((shellName) =>
        portal.send({
          ...{ kind: 'person.create', requestedBy: shellName, shellName },
          ...{ displayName: `New ${shellName}`, email: 'x@example.org' },
        }),
      ),
    );
    await isHeld('chamberlain intake', '%frozen%');
    // an admin who sees something go wrong does not have to wait for it
    const config = { config: world.configFile };
    expect(await runCli(['freeze', '--reason', 'x'], config)).toMatchObject({ exit: 0, err: '' });
    expect(await runCli(['thaw'], config)).toMatchObject({ exit: 0, err: '' });
    await isHeld('chamberlain intake', '%frozen%');
    expect(portal.heard).toEqual([]);
  } finally {
    await held.release();
  }
  const { exit, out } = await importing;
  expect(exit).toBe(3);
  // nothing is known about homes, so nobody has credentials
  expect(JSON.parse(out)).toMatchObject({ taken: { people: 11, tools: 19, mailVerified: 11 } });
  const verified = 'SELECT FROM people WHERE mail_verified_at > created_at - $1::interval';
  expect(await query(world, verified, ['1 minute'])).toHaveLength(11);
  const told = await Promise.all(
    requests.map((id) =>
      eventually('a verdict', () =>
        portal.heard.find(({ event, request }) => request === id && /accepted|refused/.test(event)),
      ),
    ),
  );
  expect(told.map(({ code }) => code)).toEqual([
    'NAME_TAKEN',
    'NAME_FOREIGN',
    undefined,
    undefined,
  ]);
  const given = await query<{ uid: number }>(
    world,
    `SELECT uid FROM people WHERE shell_name IN ('first', 'second')`,
  );
  expect(given).toHaveLength(2);
  expect(given.filter(({ uid }) => old.numbers.has(uid))).toEqual([]);
  await settled(world);
});

test('homes may follow later, and then valid credentials are kept', async () => {
  const rotate = { kind: 'credentials.rotate', requestedBy: 'alice', tool: 'wiki', atOnce: true };
  expect(await portal.ask(rotate)).toMatchObject({
    code: 'CREDENTIALS_NONE',
    sentence: expect.stringContaining('An operator must import the home first'),
  });
  const ended = await cli('--homes', '--databases', '--json');
  const report = reportOf(ended);
  expect(ended.exit).toBe(3);
  expect(report.taken).toMatchObject({ people: 0, tools: 0 });
  // accounts created meanwhile have no home, and do not matter
  expect(report.homes?.kept.toSorted()).toEqual(
    [
      ...['alice', 'carol', 'mike', 'tools.admin', 'tools.gone', 'tools.half'],
      ...['tools.old-mode', 'tools.roots', 'tools.wiki'],
    ].toSorted(),
  );
  const [half] = report.foreseen.steps.filter(({ account }) => account === 'tools.half');
  expect(half).toMatchObject({ target: 'database-account', effect: 'create' });

  const before = readCredentials(world, { tool: 'wiki' });
  expect(before.password).toBe(old.passwords['wiki']);
  expect(await loginWith(world, 'tools', before.path)).toBe(`s${old.uid['wiki']}@%`);
  const replaced = keepCopy(world, before);
  await portal.get(rotate);
  for (const server of ['replica', 'tools'] as const) {
    expect(await loginWith(world, server, before.path)).toBe(`s${old.uid['wiki']}@%`);
    await expect(loginWith(world, server, replaced)).rejects.toThrow('Access denied');
  }
});
